// The KV store of one context: pages of packed bf16 K and V per layer and KV head (see layout.h).
//
// Token i of the store is the token at position i. A page holds kPageTokens tokens of every layer;
// pages are taken from the system as tokens come and given back by Truncate and the destructor.
// A fork shares whole pages with the store it came from; a page that two stores share is never
// written. Threads: Append to different layers may not overlap with Reserve, Truncate or each
// other; views may be read by many threads while nothing writes. Stores that share pages may be
// used by different threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "aster/key_range.h"
#include "aster/status.h"
#include "kvstore/layout.h"

namespace aster {

struct LayerShape {
  int n_kv_heads = 0;
  int head_dim = 0;
  int head_dim_v = 0;

  bool operator==(const LayerShape&) const = default;
};

// Rows of K or V of one ubatch: element (token, head, dim) lies at
// data + token * token_stride + head * head_stride + dim, in elements.
struct Bf16Rows {
  const std::uint16_t* data = nullptr;
  std::size_t token_stride = 0;
  std::size_t head_stride = 0;
};

class KvStore {
 public:
  explicit KvStore(std::vector<LayerShape> layers);
  ~KvStore();
  KvStore(const KvStore&) = delete;
  KvStore& operator=(const KvStore&) = delete;

  // A store of tokens [0, n_tokens) of this one. Whole pages are shared; what is left of the last
  // one is copied. Errors: kWorld, when there is no memory for that copy. REQUIRES: n_tokens <=
  // size(); none of them was skipped.
  Result<std::unique_ptr<KvStore>> Fork(std::int64_t n_tokens) const;

  // Bytes that n_tokens tokens take: whole pages.
  static std::int64_t PredictBytes(std::span<const LayerShape> layers, std::int64_t n_tokens);

  // Takes the pages that tokens [size(), n_tokens) need and that are not held; new ones read as
  // zero. Errors: kWorld, with both numbers, when the machine has less memory left than that; what
  // was held before stays.
  Status Reserve(std::int64_t n_tokens);

  // Gives up the whole pages of tokens [begin, end), which are as if skipped.
  void LetGo(std::int64_t begin, std::int64_t end);

  // Packs K and V of tokens [first, first + n) of one layer. REQUIRES: Reserve(first + n).
  void Append(int layer, std::int64_t first, std::int64_t n, const Bf16Rows& k,
              const Bf16Rows& v) noexcept;

  // Leaves tokens [size(), n_tokens) out: another host has them. Whole pages of them take no memory
  // and must not be read. REQUIRES: n_tokens >= size().
  void Skip(std::int64_t n_tokens);

  // One layer's K and V of a range of tokens, packed as here, for another store of the same shape:
  // whole pages, so also of their other tokens. REQUIRES: the range was appended.
  std::size_t CopyBytes(int layer, KeyRange range) const;
  void CopyOut(int layer, KeyRange range, std::span<std::byte> to) const;
  // Only the tokens of the range are taken over. REQUIRES: Reserve; from.size() is CopyBytes.
  void CopyIn(int layer, KeyRange range, std::span<const std::byte> from);

  // Tokens that all layers hold or that were skipped. Set by the engine once a whole step is in.
  std::int64_t size() const { return size_; }
  void set_size(std::int64_t n_tokens) { size_ = n_tokens; }

  // Forgets tokens [n_tokens, ...): pages that hold no other are given back, and what remains of
  // the forgotten in the last page is zeroed, so that no stale value can reach a sum.
  // Throws std::bad_alloc, and changes nothing, without memory for a page that another store has
  // too.
  void Truncate(std::int64_t n_tokens);

  // Valid until the next Reserve or Truncate.
  KvView View(int layer, int kv_head) const;
  std::vector<KvView> Views(int layer) const;  // of all its heads
  std::span<const LayerShape> layers() const { return layers_; }
  std::int64_t bytes() const;  // of the pages held, shared ones too
  // Of all pages of all stores of this process, each once.
  static std::int64_t BytesInUse();
  // Of pages that no store has but these: what is given back when all of them go. While it runs no
  // store that shares pages with them may be made or go.
  static std::int64_t BytesOnlyIn(std::span<const KvStore* const> stores);

 private:
  class Page;  // one mapping of the system's, counted

  struct Place {  // of one KV head in a page, in elements
    std::size_t k_offset;
    std::size_t v_offset;
  };

  void ReleasePages(std::size_t n_keep);
  void OwnPage(std::size_t page);              // a copy, if another store has it too
  std::size_t LayerElements(int layer) const;  // of one page
  void CopyInPart(int layer, std::size_t begin, std::size_t end, std::span<const std::byte> from,
                  std::uint16_t* page);

  std::vector<LayerShape> layers_;
  std::vector<std::vector<Place>> places_;  // [layer][kv_head]
  std::size_t page_elements_ = 0;
  std::vector<std::shared_ptr<Page>> held_;  // null: skipped
  std::vector<std::uint16_t*> pages_;        // their elements, as kernels read them
  std::size_t n_held_ = 0;                   // that are not null
  std::int64_t size_ = 0;
  std::int64_t written_ = 0;  // all tokens from here on are zero
};

}  // namespace aster
