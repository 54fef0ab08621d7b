// AVX-512 with BF16: vdpbf16ps multiplies a 64-byte row of a tile with a pair of the left side, so
// Q and the softmax's weights are rounded to bf16. A block of 6 rows by 64 columns keeps 24 sums.
//
// Included only by isa/avx512.cc and isa/amx.cc, each of which keeps its own copy: see kernels.h.
#pragma once

#include <immintrin.h>

#include "attention/kernels.h"

namespace {

struct Avx512 {
  using Vec = __m512;
  using Operand = std::uint16_t;
  static constexpr int kLanes = 16;
  static constexpr int kRowsPerBlock = 6;
  static constexpr int TilesAtOnce(int) { return 4; }
  static constexpr bool kMultipliesTiles = false;

  static Vec Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
  static Vec Set(float x) { return _mm512_set1_ps(x); }
  static Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
  static Vec MulAdd(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
  static Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
  static Vec Abs(Vec x) { return _mm512_andnot_ps(Set(-0.0f), x); }
  static Vec CopySign(Vec x, Vec sign) {
    return _mm512_or_ps(Abs(x), _mm512_and_ps(Set(-0.0f), sign));
  }
  static float MaxOf(Vec x) { return _mm512_reduce_max_ps(x); }
  static float SumOf(Vec x) { return _mm512_reduce_add_ps(x); }

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

  // p * 2^n, where n is the integer that `shifted` holds in its low bits.
  static Vec AddToExponent(Vec p, Vec shifted) {
    return _mm512_castsi512_ps(_mm512_add_epi32(
        _mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
  }
  static Vec ZeroUnlessAtLeast(Vec x, Vec probe, float low) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(probe, Set(low), _CMP_GE_OQ), x);
  }
  static Vec ChooseBelow(Vec probe, float bound, Vec below, Vec other) {
    return _mm512_mask_mov_ps(other, _mm512_cmp_ps_mask(probe, Set(bound), _CMP_LT_OQ), below);
  }
  static Vec KeepLanes(Vec x, int begin, int end, float other) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __mmask16 before = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(begin), lane);
    const __mmask16 until = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(end), lane);
    return _mm512_mask_mov_ps(Set(other), static_cast<__mmask16>(until & ~before), x);
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
