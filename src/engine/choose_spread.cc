// How a plan is spread, by the cost model, from what this machine and its links were seen to do.
#include <algorithm>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/system.h"
#include "engine/host_messages.h"
#include "engine/host_speed.h"
#include "engine/hosts.h"
#include "engine/model_state.h"
#include "engine/share_encoder.h"

namespace aster::internal {
namespace {

// Seconds of a message of n bytes to a rank and an empty one back.
Result<double> RoundTrip(Group& group, int rank, std::size_t n_bytes, Patience patience) {
  Bytes message;
  Writer(Kind::kPing, &message);
  message.resize(std::max(message.size(), n_bytes));
  const auto start = Clock::now();
  if (Status sent = group.Send(rank, Channel::kTalk, message); !sent) return sent.error();
  const Result<Bytes> answer = group.Receive(rank, Channel::kTalk, patience);
  if (!answer) return answer.error();
  Reader reader(*answer);
  const Kind kind = KindOf(&reader);
  if (kind == Kind::kFailed) return Failed(rank, reader.Text());
  if (kind != Kind::kPong || reader.left() > 0)
    return Garbled(rank, "expected an answer to a ping");
  return SecondsSince(start);
}

// The link to the first context host; the others are taken to be like it.
Status MeasureLink(Group& group, Patience patience, HostSpeed* speed) {
  constexpr std::size_t kSmall = 64, kLarge = 1 << 20;
  constexpr int kRounds = 8;
  double small = 1e9, large = 1e9;  // the best of them: what the link can do
  for (int round = 0; round < kRounds; ++round) {
    for (const bool is_large : {false, true}) {
      Result<double> seconds = RoundTrip(group, 1, is_large ? kLarge : kSmall, patience);
      if (!seconds) return seconds.error();
      double& best = is_large ? large : small;
      best = std::min(best, *seconds);
    }
  }
  speed->link_seconds = small / 2;
  speed->link_bytes_per_second = static_cast<double>(kLarge) / std::max(large - small, 1e-6);
  return Ok();
}

std::string Seconds(double seconds) {
  const auto tenths = static_cast<long>(seconds * 10 + 0.5);
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

}  // namespace

Result<SpreadChoice> HostTeam::Choose(ModelState& model, const Plan& plan) {
  SpreadChoice choice;
  const int n_hosts = size();
  if (n_hosts > 1 && plan.attention == Attention::kRing) {
    if (!options.weights.empty()) {
      return InvalidArgument(
          "host weights with attention ring: expected none, its parts are equal");
    }
    choice.spread = Spread::kRing;
    choice.shares = DealShares(plan, choice.spread, n_hosts, {});
    for (const HostShare& share : choice.shares) {
      if (share.most_tokens() <= kMostPassTokens) continue;
      return InvalidArgument("attention ring of " + std::to_string(plan.n_context) + " tokens on " +
                             std::to_string(n_hosts) + " hosts: expected at most " +
                             std::to_string(kMostPassTokens) + " a host");
    }
    return choice;
  }
  const bool spreads = n_hosts > 1 && plan.attention == Attention::kStar;
  if (!spreads) {
    choice.shares.resize(static_cast<std::size_t>(n_hosts));
    choice.shares.front() = DealShares(plan, choice.spread, 1, {}).front();
    return choice;
  }
  if (Status shareable = CheckSpread(plan); !shareable) return shareable.error();
  const auto deal = [&](Spread spread) {
    return DealShares(plan, spread, n_hosts, options.weights);
  };
  choice.shares = deal(Spread::kRecompute);
  const auto n_active = std::count_if(choice.shares.begin(), choice.shares.end(),
                                      [](const HostShare& s) { return !s.passes.empty(); });
  if (options.anchor == AnchorFrom::kRecompute || plan.anchor_size == 0 || n_active < 2) {
    return choice;
  }
  std::vector<HostShare> following = deal(Spread::kBroadcast);
  if (options.anchor == AnchorFrom::kAuto) {
    std::int64_t most = 0;
    for (const HostShare& share : following) most = std::max(most, share.most_tokens());
    if (most > kMostPassTokens) {
      choice.reason = "a block of " + std::to_string(most) + " tokens is too large for one pass";
      return choice;
    }
    if (!speed) {
      HostSpeed measured = MeasureSpeed(model);
      if (Status link = MeasureLink(*group, WorkPatience(*group, patience), &measured); !link)
        return link.error();
      speed = measured;
    }
    const std::int64_t needed = LargePassBytes(model, most), available = AvailableMemory();
    if (available > 0 && needed > available) {
      choice.reason = "one pass of " + std::to_string(most) + " tokens would need " +
                      FormatBytes(needed) + " of memory";
      return choice;
    }
    const double anew = EncodeSeconds(choice.shares, Spread::kRecompute, plan.anchor_size, *speed);
    const double sent = EncodeSeconds(following, Spread::kBroadcast, plan.anchor_size, *speed);
    choice.reason = "expected " + Seconds(sent) + " by broadcast, " + Seconds(anew) + " recomputed";
    if (anew <= sent) return choice;
  }
  choice.spread = Spread::kBroadcast;
  choice.shares = std::move(following);
  return choice;
}

}  // namespace aster::internal
