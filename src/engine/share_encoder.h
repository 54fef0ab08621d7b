// One host's share of a context, encoded into its store: alone, or with keys that come from other
// hosts and go to them at each layer.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <vector>

#include "aster/model.h"
#include "aster/profile.h"
#include "aster/spread.h"
#include "aster/status.h"
#include "engine/key_route.h"
#include "kvstore/kv_store.h"

namespace aster::internal {

class ModelState;

struct ShareWork {
  Spread spread = Spread::kRecompute;
  std::span<const HostShare> shares;  // of all hosts that have one, in order
  std::size_t place = 0;              // of this host among them
  std::int64_t anchor_size = 0;
  std::uint64_t context = 0;
  KeyRoute* route = nullptr;  // null where no pass exchanges
  // After each pass and, in one that exchanges, after each layer: how much of that pass is done.
  std::function<Status(std::size_t pass, double done)> on_progress;
  // Called now and then while keys are waited for. Its error, and on_progress's, end the work.
  std::function<Status()> look = [] { return Ok(); };
  std::stop_token stop;

  const HostShare& own() const { return shares[place]; }
  bool exchanges() const;
};

// Most tokens of one pass.
inline constexpr std::int64_t kMostPassTokens = 65536;

// tokens: of the whole context. The store ends up with the share's tokens, and maybe the anchor.
// Errors: kCancelled after a stop; kWorld for memory, for a share too large for one pass, and what
// the route, on_progress and look return.
Status EncodeShare(ModelState& model, std::span<const Token> tokens, const ShareWork& work,
                   KvStore& store, Profile* profile);

}  // namespace aster::internal
