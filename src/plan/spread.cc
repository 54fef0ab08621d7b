#include "aster/spread.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

namespace aster {
namespace {

std::int64_t Sum(std::span<const KeyRange> ranges) {
  std::int64_t n = 0;
  for (const KeyRange& range : ranges) n += range.size();
  return n;
}

HostPass OfStep(const Step& step) { return {{step.tokens}, step.visible, false}; }

// The anchor, encoded anew unless block 1 is the host's own, then the blocks of `run`.
HostShare Recomputing(const Plan& plan, KeyRange run) {
  HostShare share;
  const KeyRange own = TokensOfBlocks(plan, run);
  share.held = {own};
  for (const Step& step : plan.steps) {
    if (step.tokens.begin >= own.begin && step.tokens.begin < own.end) {
      share.passes.push_back(OfStep(step));
    } else if (step.tokens.begin < std::min(plan.anchor_size, own.begin)) {
      Step anchor = step;
      anchor.tokens.end = std::min(anchor.tokens.end, plan.anchor_size);
      share.passes.push_back(OfStep(anchor));
    }
  }
  return share;
}

// The first block in one pass, so that its layers follow those of the anchor's owner.
HostShare Following(const Plan& plan, KeyRange run) {
  HostShare share;
  const KeyRange own = TokensOfBlocks(plan, run);
  const KeyRange first = TokensOfBlocks(plan, {run.begin, run.begin + 1});
  share.held = {own};
  HostPass whole{{first}, {}, true};
  if (first.begin > 0) whole.visible.push_back({0, plan.anchor_size});
  share.passes.push_back(std::move(whole));
  for (const Step& step : plan.steps) {
    const bool is_later = step.tokens.begin >= first.end && step.tokens.begin < own.end;
    if (is_later) share.passes.push_back(OfStep(step));
  }
  return share;
}

// Keys of a ring pass go around: what a host does not have itself is not in `visible`.
HostShare InOnePass(std::vector<KeyRange> held) {
  HostShare share;
  share.held = std::move(held);
  if (!share.held.empty()) share.passes.push_back({share.held, {}, true});
  return share;
}

KeyRange Piece(std::int64_t n_tokens, std::int64_t n_pieces, std::int64_t i) {
  return {n_tokens * i / n_pieces, n_tokens * (i + 1) / n_pieces};
}

std::vector<HostShare> DealZigzag(std::int64_t n_context, int n_hosts) {
  const auto n_active = std::clamp<std::int64_t>(n_context / 2, 1, n_hosts);
  std::vector<HostShare> shares;
  for (std::int64_t host = 0; host < n_active; ++host) {
    const KeyRange first = Piece(n_context, 2 * n_active, host);
    const KeyRange last = Piece(n_context, 2 * n_active, 2 * n_active - 1 - host);
    const bool touch = first.end == last.begin;
    shares.push_back(InOnePass(touch ? std::vector<KeyRange>{{first.begin, last.end}}
                                     : std::vector<KeyRange>{first, last}));
  }
  shares.resize(static_cast<std::size_t>(n_hosts));
  return shares;
}

double Triangle(double n) { return n * (n + 1) / 2; }

// Pairs of the ring's own keys: before any come from another host.
double OwnPairs(const HostShare& share) {
  double pairs = 0, before = 0;
  for (const KeyRange& range : share.held) {
    const auto n = static_cast<double>(range.size());
    pairs += Triangle(n) + n * before;
    before += n;
  }
  return pairs;
}

}  // namespace

std::int64_t HostPass::n_tokens() const { return Sum(tokens); }
std::int64_t HostShare::n_held() const { return Sum(held); }
std::int64_t HostShare::n_encoded() const {
  std::int64_t n = 0;
  for (const HostPass& pass : passes) n += pass.n_tokens();
  return n;
}
std::int64_t HostShare::n_kept(const HostPass& pass) const {
  return pass.tokens.front().begin >= held.front().begin ? pass.n_tokens() : 0;
}
std::int64_t HostShare::most_tokens() const {
  std::int64_t most = 0;
  for (const HostPass& pass : passes) most = std::max(most, pass.n_tokens());
  return most;
}

std::string_view SpreadName(Spread spread) {
  switch (spread) {
    case Spread::kRecompute:
      return "recompute";
    case Spread::kBroadcast:
      return "broadcast";
    case Spread::kRing:
      return "ring";
  }
  return "unknown";
}

std::vector<KeyRange> DealBlocks(std::int64_t n_blocks, int n_hosts,
                                 std::span<const double> given) {
  std::vector<double> weights(given.begin(), given.end());
  weights.resize(static_cast<std::size_t>(n_hosts), 1.0);
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<KeyRange> runs;
  double before = 0;
  for (const double weight : weights) {
    const std::int64_t begin = runs.empty() ? 0 : runs.back().end;
    before += weight;
    // Rounded up: the first hosts, of which one has no anchor to encode anew, take the odd blocks.
    const double share = before / all * static_cast<double>(n_blocks);
    const auto end = static_cast<std::int64_t>(std::ceil(share - 1e-9));
    runs.push_back({begin, std::clamp(end, begin, n_blocks)});
  }
  runs.back().end = n_blocks;
  return runs;
}

KeyRange TokensOfBlocks(const Plan& plan, KeyRange run) {
  return {std::min(run.begin * plan.block_size, plan.n_context),
          std::min(run.end * plan.block_size, plan.n_context)};
}

Status CheckSpread(const Plan& plan) {
  if (plan.window <= 0 && plan.overlap <= 0 && plan.anchor_size <= plan.block_size) return Ok();
  return InvalidArgument((plan.window > 0    ? "window " + std::to_string(plan.window)
                          : plan.overlap > 0 ? "overlap " + std::to_string(plan.overlap)
                                             : "anchor size " + std::to_string(plan.anchor_size)) +
                         " on several hosts: expected no window, no overlap and an anchor of at "
                         "most a block");
}

HostShare ShareOfBlocks(const Plan& plan, Spread spread, KeyRange run) {
  if (run.size() == 0) return {};
  // Without an anchor there is nothing to send.
  const bool follows = spread == Spread::kBroadcast && plan.anchor_size > 0;
  return follows ? Following(plan, run) : Recomputing(plan, run);
}

std::vector<HostShare> DealShares(const Plan& plan, Spread spread, int n_hosts,
                                  std::span<const double> weights) {
  std::vector<HostShare> shares;
  if (spread == Spread::kRing) {
    shares = DealZigzag(plan.n_context, n_hosts);
  } else {
    for (const KeyRange run : DealBlocks(plan.n_blocks, n_hosts, weights)) {
      shares.push_back(ShareOfBlocks(plan, spread, run));
    }
  }
  // One that has it all exchanges nothing.
  for (HostShare& share : shares) {
    if (share.n_held() < plan.n_context) continue;
    share.passes.clear();
    for (const Step& step : plan.steps) share.passes.push_back(OfStep(step));
    break;
  }
  return shares;
}

std::vector<HostShare> DealContiguousRing(std::int64_t n_context, int n_hosts) {
  std::vector<HostShare> shares;
  const auto n_active = std::clamp<std::int64_t>(n_context, 1, n_hosts);
  for (std::int64_t host = 0; host < n_active; ++host) {
    shares.push_back(InOnePass({Piece(n_context, n_active, host)}));
  }
  shares.resize(static_cast<std::size_t>(n_hosts));
  return shares;
}

double CausalPairs(const HostShare& share, bool ring) {
  double pairs = 0;
  if (ring) {
    for (const KeyRange& range : share.held) {
      pairs +=
          Triangle(static_cast<double>(range.end)) - Triangle(static_cast<double>(range.begin));
    }
    return pairs;
  }
  for (const HostPass& pass : share.passes) {
    for (const KeyRange& tokens : pass.tokens) pairs += CausalPairs({Step{tokens, pass.visible}});
  }
  return pairs;
}

double EncodeSeconds(std::span<const HostShare> shares, Spread spread, std::int64_t anchor_size,
                     const HostSpeed& speed) {
  const auto n_active = std::count_if(shares.begin(), shares.end(),
                                      [](const HostShare& s) { return !s.passes.empty(); });
  const bool ring = spread == Spread::kRing;
  const auto layer_seconds = [&](double n_tokens) {
    return speed.link_seconds +
           n_tokens * speed.kv_bytes_per_token / speed.n_layers / speed.link_bytes_per_second;
  };
  double slowest = 0;
  int n_before = 0;  // hosts that the anchor's keys pass on their way
  for (const HostShare& share : shares) {
    if (share.passes.empty()) continue;
    const double pairs = CausalPairs(share, ring);
    double seconds = static_cast<double>(share.n_encoded()) * speed.seconds_per_token;
    if (ring && n_active > 1) {
      const double own = OwnPairs(share);
      const auto n_hops = static_cast<double>(n_active - 1);
      const double hop = (pairs - own) / n_hops * speed.seconds_per_pair / speed.n_layers;
      const double sent = layer_seconds(static_cast<double>(share.n_held()));
      seconds += own * speed.seconds_per_pair + speed.n_layers * n_hops * std::max(hop, sent);
    } else {
      seconds += pairs * speed.seconds_per_pair;
    }
    if (spread == Spread::kBroadcast && anchor_size > 0 && n_active > 1) {
      const double layer = layer_seconds(static_cast<double>(anchor_size));
      seconds = std::max(seconds, speed.n_layers * layer) + n_before * layer;
    }
    slowest = std::max(slowest, seconds);
    ++n_before;
  }
  return slowest;
}

}  // namespace aster
