// What is encoded when, and what it may see. A plan is a pure function of a few numbers; it knows
// no model and no memory.
//
// The context's tokens are numbered 0..n_context-1, which are also their positions and their places
// in the KV store. Star Attention (arXiv 2411.17116), phase 1, in one process is the static mask
//   key j visible to query i  iff  j <= i and (j < anchor_size or j >= seen_from(i)),
//   seen_from(i) = (block(i) - window) * block_size - overlap,
// with the anchor's KV computed once, as part of block 1: recomputing it gives the same numbers.
// The paper has anchor_size <= block_size, window 0 and overlap 0; a larger anchor is encoded as
// dense attention would, and a window of blocks or an overlap of tokens lets each block see what is
// right before it as that was encoded.
// docs/accuracy.md shows what each of them keeps of dense attention's accuracy.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aster/key_range.h"
#include "aster/status.h"

namespace aster {

enum class Attention {
  kAuto,   // star where it saves work, dense where not; the plan says which and why
  kDense,  // every token sees all earlier ones: exact
  kStar,   // every token sees the anchor, its own block and a window of what is before that
  kRing,   // dense, the keys passed around several hosts: exact; on one host it is dense
  kLlama,  // llama.cpp's own attention and KV cache, our device off: the oracle
};

// "auto", "dense", "star", "ring", "llama".
std::string_view AttentionName(Attention attention);
Result<Attention> ParseAttention(std::string_view name);

// One pass through the model: the tokens to encode, and the earlier keys all of them see. Each also
// sees the step's own tokens up to itself.
struct Step {
  KeyRange tokens;
  std::vector<KeyRange> visible;  // disjoint, ascending, all before tokens.begin, none empty

  bool operator==(const Step&) const = default;
};

inline constexpr std::int64_t kAutoWindow = -1;
inline constexpr std::int64_t kMostWindow = 1024;  // that commands and requests may ask for

struct PlanOptions {
  Attention attention = Attention::kAuto;
  std::int64_t block_size = 0;        // tokens; 0 = auto, see AutoBlockSize
  std::int64_t anchor_size = -1;      // tokens; -1 = block_size, 0 = no anchor
  std::int64_t window = kAutoWindow;  // earlier blocks that each block sees besides
  std::int64_t overlap = 0;           // tokens right before those that it sees, too
  std::int64_t ubatch_size = 512;     // most tokens in one step, >= 1

  // `auto` is a window of 1 where the block size is auto, too, and no overlap takes its place; who
  // names a block size gets the paper's star.
  std::int64_t chosen_window() const {
    return window != kAutoWindow ? window : block_size == 0 && overlap == 0 ? 1 : 0;
  }
};

inline constexpr std::int64_t kMinBlockSize = 16;

struct Plan {
  Attention attention = Attention::kDense;  // never kAuto
  std::int64_t n_context = 0;
  std::int64_t block_size = 0;   // dense: n_context
  std::int64_t anchor_size = 0;  // dense: 0
  std::int64_t window = 0;       // blocks; dense: 0
  std::int64_t overlap = 0;      // tokens; dense: 0
  std::int64_t n_blocks = 0;     // the last may be shorter; 0 for an empty context
  std::vector<Step> steps;       // in order, covering 0..n_context-1; empty for kLlama
  double work_share = 1.0;       // causal (query, key) pairs to compute, of dense attention's
  std::string reason;            // why auto chose as it did; empty when the caller chose
};

// With a window or an overlap: an eighth of the context, from 512 tokens; with neither the paper's
// quarter, from 1024. Both are rounded up to a multiple of 256 and at most 32768.
std::int64_t AutoBlockSize(std::int64_t n_context, const PlanOptions& options);

// The options with what auto means on so many hosts: several have no window, since a block would
// need keys that another host is still computing.
PlanOptions ForHosts(PlanOptions options, int n_hosts);

// Errors, kInvalidArgument: a block below kMinBlockSize or larger than the context, an anchor
// larger than the context or negative, a negative window or overlap, star with less than one token.
// kAuto never fails for a short context: it takes dense. Options that dense does not use (sizes, a
// window and an overlap with kDense, kRing or kLlama) are refused.
Result<Plan> MakePlan(std::int64_t n_context, const PlanOptions& options);

// Whether both let a token see the same keys, as far as both contexts reach: exact both, or star
// with the same sizes.
bool SameRule(const Plan& a, const Plan& b);

// Tokens before this one see all earlier ones under the plan; n_context where all do.
std::int64_t DenseExtent(const Plan& plan);

// Tokens before this one have the same keys and values under both plans, if they are the same. The
// largest number where both are exact: what follows a context is seen whole, and sees everything.
std::int64_t AlikeExtent(const Plan& a, const Plan& b);

// The steps that are left to do when the first n tokens are there.
std::vector<Step> StepsFrom(const std::vector<Step>& steps, std::int64_t n);

// Causal (query, key) pairs that the plan's steps compute: the unit of attention work.
double CausalPairs(const std::vector<Step>& steps);

// "4096", "4K", "4k" -> 4096; "1M" -> 1048576. Errors name the text and the form expected.
Result<std::int64_t> ParseTokenCount(std::string_view text);

}  // namespace aster
