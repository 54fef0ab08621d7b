// How a plan is spread over hosts: who encodes what, who sends keys to whom, and what it costs.
// Pure functions, like plans.
//
// Star needs no talk: each host encodes the anchor anew, drops it, and goes on with its blocks. Or
// the anchor's K and V flow from their owner while the others follow one layer behind, so that
// nobody computes them twice. A ring is exact: each host's keys go around all of them, layer by
// layer. Sources: Star Attention, arXiv 2411.17116; Ring Attention, arXiv 2310.01889; its balanced
// (zigzag) assignment, Striped Attention, arXiv 2311.09431, and Llama 3, arXiv 2407.21783, 3.3.2.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "aster/key_range.h"
#include "aster/plan.h"
#include "aster/status.h"

namespace aster {

enum class Spread {
  kRecompute,  // star, each host encodes the anchor
  kBroadcast,  // star, the anchor's keys are sent from host to host
  kRing,       // exact, all keys are sent from host to host
};

// "recompute", "broadcast", "ring".
std::string_view SpreadName(Spread spread);

// One pass of a host through the model.
struct HostPass {
  std::vector<KeyRange> tokens;   // ascending, disjoint; they see each other causally
  std::vector<KeyRange> visible;  // keys before them that they see, and that this host has
  bool exchanges = false;         // keys come and go at each layer; see Spread

  std::int64_t n_tokens() const;
};

// What one host encodes of a context, and keeps.
struct HostShare {
  std::vector<KeyRange> held;  // ascending, disjoint: tokens whose KV stays
  std::vector<HostPass> passes;
  std::int64_t n_held() const;
  std::int64_t n_encoded() const;  // of all passes, with an anchor that is encoded anew
  // Of a pass of this share: its tokens if their KV stays, 0 if they are an anchor's.
  std::int64_t n_kept(const HostPass& pass) const;
  std::int64_t most_tokens() const;  // of one pass
};

// Whole blocks dealt to hosts: contiguous runs of block numbers in the order of the hosts, as even
// by weight as whole blocks allow, so that a host's run may be empty. Missing weights are 1.
// REQUIRES: n_hosts >= 1; weights positive, at most n_hosts.
std::vector<KeyRange> DealBlocks(std::int64_t n_blocks, int n_hosts,
                                 std::span<const double> weights);

// The tokens of a run of blocks.
KeyRange TokensOfBlocks(const Plan& plan, KeyRange run);

// Errors: kInvalidArgument for a plan of star that several hosts cannot share: one with a window,
// an overlap or an anchor larger than a block.
Status CheckSpread(const Plan& plan);

// Star: of the host that has a run of blocks, which may be empty.
// REQUIRES: a plan that CheckSpread takes.
HostShare ShareOfBlocks(const Plan& plan, Spread spread, KeyRange run);

// Of each host. Star: runs of blocks, by DealBlocks. A ring: of 2 n pieces of the context host i
// has pieces i and 2n - 1 - i, which makes everybody's work equal; weights play no part. A context
// of fewer than two tokens a host leaves the last ones without any. One host: the plan's steps.
// REQUIRES: star on several hosts: as ShareOfBlocks.
std::vector<HostShare> DealShares(const Plan& plan, Spread spread, int n_hosts,
                                  std::span<const double> weights);

// The ring that the Star Attention paper measured against: contiguous pieces, so that the last host
// has nearly twice the balanced work. For comparisons.
std::vector<HostShare> DealContiguousRing(std::int64_t n_context, int n_hosts);

// Causal (query, key) pairs that a host computes. `ring`: each token sees all before it.
double CausalPairs(const HostShare& share, bool ring);

// What the cost model knows of hosts that are alike.
struct HostSpeed {
  double seconds_per_token = 0;  // all but attention, a token
  double seconds_per_pair = 0;   // attention, a (query, key) pair, all layers
  double link_bytes_per_second = 0;
  double link_seconds = 0;  // one way, of an empty message
  int n_layers = 1;
  double kv_bytes_per_token = 0;
};

// Seconds until the last host is done.
double EncodeSeconds(std::span<const HostShare> shares, Spread spread, std::int64_t anchor_size,
                     const HostSpeed& speed);

}  // namespace aster
