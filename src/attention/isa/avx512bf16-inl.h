// AVX-512 with BF16: vdpbf16ps multiplies a 64-byte row of a tile with a pair of the left side, so
// Q and the softmax's weights are rounded to bf16. A block of 6 rows by 64 columns keeps 24 sums.
//
// Included only by isa/avx512bf16.cc and amx.cc, each of which keeps its own copy: see kernels.h.
#pragma once

#include "attention/isa/avx512-inl.h"

namespace {

struct Avx512Bf16 : Avx512 {
  using Operand = std::uint16_t;

  // 2^x, relative error below 1.5e-7, in half the instructions of the one that every ISA can do.
  // 0 below 2^-149 and at -inf.
  static Vec Exp2(Vec x) {
    const Vec r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
    Vec p = Set(1.86713028e-3f);  // minimax fit of 2^r, 1 at 0, relative error 8.2e-8
    p = MulAdd(p, r, Set(9.01702988e-3f));
    p = MulAdd(p, r, Set(5.57999134e-2f));
    p = MulAdd(p, r, Set(2.40164450e-1f));
    p = MulAdd(p, r, Set(6.93151312e-1f));
    p = MulAdd(p, r, Set(1.0f));
    return _mm512_scalef_ps(p, x);  // p 2^floor(x)
  }

  static Operand ToOperand(float x) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return static_cast<Operand>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);  // to nearest even
  }
  static void StoreOperand(Operand* p, Vec x) {
    const __m256bh rounded = _mm512_cvtneps_pbh(x);
    __builtin_memcpy(p, &rounded, sizeof rounded);
  }

  template <class Shape, class Tiles>
  static void Product(const Operand* a, const Tiles& b, const float* rescale, float* c) {
    Vec sum[Shape::kRows][Shape::kTiles];
#pragma GCC unroll 16
    for (int r = 0; r < Shape::kRows; ++r) {
#pragma GCC unroll 16
      for (int t = 0; t < Shape::kTiles; ++t) {
        const float* at = c + r * Shape::kCRow + t * Shape::kCTile;
        sum[r][t] = Shape::kAccumulate ? Mul(Set(rescale[r]), Load(at)) : Set(0.0f);
      }
    }
    for (int g = 0; g < b.n_groups; ++g) {
      const std::uint16_t* row = b.data + static_cast<std::size_t>(g) * b.group_stride;
      for (int pair = 0; pair < b.n_pairs; ++pair, row += 32, a += Shape::kAPair) {
        __m512bh right[Shape::kTiles];
#pragma GCC unroll 16
        for (int t = 0; t < Shape::kTiles; ++t) {
          const std::uint16_t* const at = row + t * b.tile_stride;
          _mm_prefetch(reinterpret_cast<const char*>(at) + b.next, _MM_HINT_T0);
          right[t] = AsBf16(_mm512_load_si512(at));
        }
#pragma GCC unroll 16
        for (int r = 0; r < Shape::kRows; ++r) {
          std::int32_t two;
          __builtin_memcpy(&two, a + r * Shape::kARow, sizeof two);
          const __m512bh left = AsBf16(_mm512_set1_epi32(two));
#pragma GCC unroll 16
          for (int t = 0; t < Shape::kTiles; ++t) {
            sum[r][t] = _mm512_dpbf16_ps(sum[r][t], left, right[t]);
          }
        }
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < Shape::kRows; ++r) {
#pragma GCC unroll 16
      for (int t = 0; t < Shape::kTiles; ++t) {
        Store(c + r * Shape::kCRow + t * Shape::kCTile, sum[r][t]);
      }
    }
  }

 private:
  static __m512bh AsBf16(__m512i x) { return (__m512bh)x; }
};

}  // namespace
