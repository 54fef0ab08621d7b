// Keys and values on their way from host to host while the hosts compute: to the next, from the
// previous one. See aster/spread.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "aster/status.h"
#include "cluster/group.h"

namespace aster::internal {

// What a message of keys begins with; the rest is KvStore's CopyOut.
struct KeysHeader {
  std::uint64_t context = 0;
  std::int32_t layer = 0;
  std::int32_t owner = 0;  // the host that computed them, by its place among those with a share
  std::uint64_t n_bytes = 0;
  bool operator==(const KeysHeader&) const = default;
};

class KeyRoute {
 public:
  virtual ~KeyRoute() = default;

  // Returns at once, unless two are on their way already. Errors: of an earlier one.
  virtual Status Send(SharedBytes message) = 0;
  // The next message, which is to begin with `expected`. Meanwhile `look` is called now and then;
  // its error ends the waiting. Errors: kWorld when the host before is gone, sends something else,
  // or nothing for too long; kCancelled when it has stopped.
  virtual Result<SharedBytes> Receive(const KeysHeader& expected,
                                      const std::function<Status()>& look) = 0;
  // After the last message, or after a stop: the neighbours hear that this was all, and what the
  // one before still sends is thrown away. Both do this at about the same time.
  virtual Status Close() = 0;
};

// Ranks, or -1 for none: a chain's ends have one neighbour, a ring's members two.
struct Neighbours {
  int previous = -1;
  int next = -1;
};

// patience: how long the host before may send nothing while its message is waited for; where the
// group tells life, how long a neighbour may give no sign of it.
std::unique_ptr<KeyRoute> MakeKeyRoute(Group& group, const Neighbours& neighbours,
                                       Patience patience);

}  // namespace aster::internal
