// Where a key and a value lie in a page: one packing for every instruction set.
//
// K and V are bf16 in 16-wide tiles, pair-interleaved, so that a 64-byte row is at once an AMX tile
// row, a vdpbf16ps operand and two shifts away from f32:
//   K  per 16 keys  [head_dim / 2][16 keys][2 dims]
//   V  per 32 keys  [head_dim_v / 16][16 key pairs][16 dims][2 keys]
// head_dim is padded to a multiple of 2, head_dim_v to one of 16; the padding is zero.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aster {

inline constexpr std::size_t kPageTokens = 256;  // tokens of every layer that one page holds
inline constexpr std::size_t kTileWidth = 16;
inline constexpr std::size_t kKeysPerVGroup = 32;

constexpr std::size_t PaddedDimK(std::size_t head_dim) { return (head_dim + 1) / 2 * 2; }
constexpr std::size_t PaddedDimV(std::size_t head_dim_v) { return (head_dim_v + 15) / 16 * 16; }

// Offsets in elements from the start of one KV head's K (or V) of one page. token < kPageTokens.
constexpr std::size_t OffsetK(std::size_t head_dim, std::size_t token, std::size_t dim) {
  return token / kTileWidth * kTileWidth * PaddedDimK(head_dim) +
         (dim / 2 * kTileWidth + token % kTileWidth) * 2 + dim % 2;
}
constexpr std::size_t OffsetV(std::size_t head_dim_v, std::size_t token, std::size_t dim) {
  return token / kKeysPerVGroup * kKeysPerVGroup * PaddedDimV(head_dim_v) +
         (dim / kTileWidth * kTileWidth + token % kKeysPerVGroup / 2) * kTileWidth * 2 +
         dim % kTileWidth * 2 + token % 2;
}

// One layer's K and V of one KV head, over all pages: key j lies in pages[j / kPageTokens], its K
// k_offset and its V v_offset elements from there. Both are 64-byte aligned.
struct KvView {
  const std::uint16_t* const* pages = nullptr;
  std::size_t k_offset = 0;
  std::size_t v_offset = 0;
};

}  // namespace aster
