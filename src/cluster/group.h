// Ranks that send each other messages: the hosts of one run, or one host alone.
//
// Messages between two ranks arrive whole and in order. A transport (MPI, threads of one process)
// is one file that implements these calls; nothing else knows which one it is.
#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <vector>

#include "aster/status.h"

namespace aster {

using Bytes = std::vector<std::byte>;
using Patience = std::chrono::duration<double>;
inline constexpr Patience kForever = Patience::max();

class Group {
 public:
  virtual ~Group() = default;
  virtual int rank() const = 0;  // 0 is the query host
  virtual int size() const = 0;

  // Errors: kWorld, naming the rank, when it is gone.
  virtual Status Send(int to, std::span<const std::byte> message) = 0;
  // The oldest message from that rank. Errors: kWorld, naming the rank, when it is gone or has sent
  // nothing for as long as patience lasts.
  virtual Result<Bytes> Receive(int from, Patience patience) = 0;
  // Whether a message from that rank is there.
  virtual bool HasMessage(int from) = 0;
};

}  // namespace aster
