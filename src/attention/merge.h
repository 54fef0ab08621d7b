// The merge of two partial attentions: the vocabulary of Star Attention's phase 2.
//
//   out   [n_rows, head_dim_v]  f32, row-major, already divided by the softmax's sum
//   lse   [n_rows]              f32, natural log of sum_j exp(score_j)
//
// Nothing seen: out = 0 and lse = -inf, the identity of Merge. An attention sink is a state too:
// out = 0 and lse = the sink's logit.
// Precision: a part's weight is the exponential of a difference of two f32 LSEs, so it is good to
// |lse| * 2^-23: 1e-6 at an LSE of 10, 1e-3 at 1e4.
// Threads: Merge writes only `dst`; calls on disjoint rows may run in parallel.
// Source: Milakov & Gimelshein 2018 (online softmax); Star Attention, arXiv 2411.17116, phase 2.
#pragma once

#include <cstddef>
#include <span>

namespace aster {

struct AttentionState {
  std::span<float> out;
  std::span<float> lse;
};

struct ConstAttentionState {
  std::span<const float> out;
  std::span<const float> lse;
};

// Folds `src` into `dst`: afterwards `dst` is the attention over the union of both key sets.
// Commutative and associative up to rounding; no NaN for any two LSEs below +inf.
// REQUIRES: both states have the same shape, and their key sets are disjoint.
void Merge(AttentionState dst, ConstAttentionState src, std::size_t head_dim_v) noexcept;

}  // namespace aster
