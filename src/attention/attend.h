// Attention of one ubatch over ranges of one layer's KV store: what the engine is built on.
//
// Row (t, h) is query token t of head h at position first_position + t. It sees key j iff
//   j lies in one of `ranges`,  j <= first_position + t,  and j >= WindowBegin(window, position).
// out = softmax(softcap(scale * q.K^T)) V, lse = natural log of the sum of exp of the scaled scores
// (sinks included). A row that sees nothing gets out = 0 and lse = -inf (with a sink: lse = sink).
// Rows of the heads that share a KV head (GQA) are stacked, so one stream of K and V serves them.
//
// Source: online softmax, Milakov & Gimelshein 2018; flash attention, Dao et al. 2022.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "aster/key_range.h"
#include "attention/kernels.h"
#include "kvstore/layout.h"

namespace aster {

// Sliding windows as llama.cpp defines them; size 0 = none.
struct Window {
  std::int64_t size = 0;
  bool chunked = false;  // only keys of the same size-aligned chunk (llama4), not the last `size`
};

// First position that a row at `position` may see.
constexpr std::int64_t WindowBegin(const Window& window, std::int64_t position) {
  if (window.size == 0) return 0;
  if (window.chunked) return position / window.size * window.size;
  return position < window.size ? 0 : position - window.size + 1;
}

struct AttendCall {
  // Element (token, head, dim) at q + token * q_token_stride + head * q_head_stride + dim.
  const float* q = nullptr;
  std::int64_t q_token_stride = 0;
  std::int64_t q_head_stride = 0;
  std::int64_t n_tokens = 0;
  int n_heads = 0;     // a multiple of kv.size()
  int head_dim = 0;    // 1..256
  int head_dim_v = 0;  // 1..256

  std::span<const KvView> kv;        // one per KV head; head h reads kv[h / group_size]
  std::span<const KeyRange> ranges;  // disjoint, ascending, within the store
  std::int64_t first_position = 0;
  Window window;

  float scale = 1.0f;
  float softcap = 0.0f;          // 0 = none; else scores become softcap * tanh(score / softcap)
  const float* sinks = nullptr;  // [n_heads] logits that take part in the sum only; or null

  // Strides as for q. lse is [n_tokens, n_heads] row-major, or null when not wanted.
  float* out = nullptr;
  std::int64_t out_token_stride = 0;
  std::int64_t out_head_stride = 0;
  float* lse = nullptr;

  int n_threads = 0;  // fewer than the Attender's: the same bits by fewer threads; 0 = all
};

// Lets a call's result go to out [n_tokens, n_heads, head_dim_v] and lse [n_tokens, n_heads], both
// row-major, which get that size.
void SetRowMajorOut(AttendCall& call, std::vector<float>& out, std::vector<float>& lse);

// Merges what the same queries found in other keys into call.out and call.lse: out is [n_tokens,
// n_heads, head_dim_v], lse [n_tokens, n_heads], both row-major. At most n_threads work on it.
void MergeInto(const AttendCall& call, std::span<const float> out, std::span<const float> lse,
               int n_threads);

// Scratch memory and threads for Attend; made once, used for every call, by one thread at a time.
class Attender {
 public:
  Attender(const Kernels& kernels, int n_threads);
  ~Attender();
  Attender(Attender&&) noexcept;
  Attender& operator=(Attender&&) noexcept;

  void Attend(const AttendCall& call) { Attend(std::span(&call, 1)); }
  // Several at once: the next tokens of several sessions, each over its own KV. Each gets the bits
  // that it gets alone. REQUIRES: the same n_threads in all.
  void Attend(std::span<const AttendCall> calls);
  const Kernels& kernels() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace aster
