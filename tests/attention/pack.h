// K and V of one layer, packed into pages as kvstore/layout.h says: a stand-in for the KV store.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "attention/reference.h"
#include "kvstore/layout.h"

namespace aster {

// Rounds to the nearest bf16, ties to even. REQUIRES: not a NaN.
inline std::uint16_t ToBf16(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline float FromBf16(std::uint16_t x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

class PackedKv {
 public:
  PackedKv(const PlainKv& plain, std::size_t n_keys, std::size_t n_kv_heads, std::size_t head_dim,
           std::size_t head_dim_v) {
    const std::size_t k_size = kPageTokens * PaddedDimK(head_dim);
    const std::size_t v_size = kPageTokens * PaddedDimV(head_dim_v);
    const std::size_t page_size = n_kv_heads * (k_size + v_size);
    const std::size_t n_pages = (n_keys + kPageTokens - 1) / kPageTokens;
    storage_.resize(n_pages * page_size / kLine);  // sizes are multiples of 256, and zero
    for (std::size_t i = 0; i < n_pages; ++i) pages_.push_back(At(i * page_size));

    for (std::size_t h = 0; h < n_kv_heads; ++h) {
      views_.push_back({pages_.data(), h * (k_size + v_size), h * (k_size + v_size) + k_size});
      for (std::size_t j = 0; j < n_keys; ++j) {
        std::uint16_t* const k = At(j / kPageTokens * page_size) + views_[h].k_offset;
        std::uint16_t* const v = At(j / kPageTokens * page_size) + views_[h].v_offset;
        for (std::size_t d = 0; d < head_dim; ++d) {
          k[OffsetK(head_dim, j % kPageTokens, d)] =
              ToBf16(plain.k[(j * n_kv_heads + h) * head_dim + d]);
        }
        for (std::size_t d = 0; d < head_dim_v; ++d) {
          v[OffsetV(head_dim_v, j % kPageTokens, d)] =
              ToBf16(plain.v[(j * n_kv_heads + h) * head_dim_v + d]);
        }
      }
    }
  }

  std::span<const KvView> views() const { return views_; }

 private:
  static constexpr std::size_t kLine = 32;  // elements of 64 bytes
  struct alignas(64) Line {
    std::uint16_t elements[kLine] = {};
  };
  std::uint16_t* At(std::size_t element) { return storage_[element / kLine].elements; }

  std::vector<Line> storage_;
  std::vector<const std::uint16_t*> pages_;
  std::vector<KvView> views_;
};

}  // namespace aster
