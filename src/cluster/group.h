// Ranks that send each other messages: the hosts of one run, or one host alone.
//
// Messages between two ranks arrive whole and, on one channel, in order. A transport (MPI, threads
// of one process) is one file that implements these calls; nothing else knows which one it is.
// Several threads may call at once, each channel to and from a rank by one thread at a time.
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

enum class Channel {
  kTalk,  // requests and answers
  kKeys,  // keys and values, while the hosts compute
};

class Group {
 public:
  virtual ~Group() = default;
  virtual int rank() const = 0;  // 0 is the query host
  virtual int size() const = 0;

  // Errors: kWorld, naming the rank, when it is gone.
  virtual Status Send(int to, Channel channel, std::span<const std::byte> message) = 0;
  // The oldest message from that rank. Errors: kWorld, naming the rank, when it is gone or has sent
  // nothing for as long as patience lasts.
  virtual Result<Bytes> Receive(int from, Channel channel, Patience patience) = 0;
  // Errors: kWorld, naming the rank, when one has shown no sign of life for too long. It may be
  // computing meanwhile: a thread of its own sends the signs.
  virtual Status Alive() { return Ok(); }
  // Whether Receive would return at once.
  virtual bool HasMessage(int from, Channel channel) = 0;
};

}  // namespace aster
