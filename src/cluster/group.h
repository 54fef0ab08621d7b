// Ranks that send each other messages: the hosts of one run, or one host alone.
//
// Messages between two ranks arrive whole and, on one channel, in order. A transport (MPI, threads
// of one process) is one file that implements these calls; nothing else knows which one it is.
// Several threads may call at once, each channel to and from a rank by one thread at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "aster/status.h"

namespace aster {

using Bytes = std::vector<std::byte>;
using SharedBytes = std::shared_ptr<const Bytes>;
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
  // The same without a copy, which a transport may have to make of a message that is not its own.
  virtual Status SendShared(int to, Channel channel, const SharedBytes& message) {
    return Send(to, channel, *message);
  }
  // The oldest message from that rank. Errors: kWorld, naming the rank, when it is gone, has sent
  // nothing for as long as patience lasts, or is not alive.
  virtual Result<Bytes> Receive(int from, Channel channel, Patience patience) = 0;
  // Whether ranks give signs of life while they compute, so that nobody need be impatient.
  virtual bool TellsLife() const { return false; }
  // What this rank is at from now on, for messages: "encoding". The text is to live for ever.
  virtual void SetPhase(const char*) {}
  // Rank 0 and every other rank mind each other's life. From now on this one minds that of these
  // too, which are to call this as well; before, none of them need have. None: of rank 0 alone.
  virtual void MindAlso(std::span<const int> /*ranks*/) {}
  // Errors: kWorld, naming the rank, when one has given no sign of life for too long.
  virtual Status Alive() { return Ok(); }
  // Whether Receive would return at once.
  virtual bool HasMessage(int from, Channel channel) = 0;
};

// How long to wait for what another rank is at work on.
inline Patience WorkPatience(const Group& group, Patience patience) {
  return group.TellsLife() ? kForever : patience;
}

}  // namespace aster
