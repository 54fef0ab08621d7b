// AVX-512: bf16 becomes f32 on the fly, an even element by a shift and an odd one by a mask. A
// block of 6 rows by 64 columns keeps 24 sums.
//
// Included only by isa/avx512.cc, avx512bf16.cc and amx.cc, each of which keeps its own copy: see
// kernels.h.
#pragma once

#include <immintrin.h>

#include "attention/kernels.h"

namespace {

struct Avx512 {
  using Vec = __m512;
  using Operand = float;
  static constexpr int kLanes = 16;
  static constexpr int kRowsPerBlock = 6;
  // Two multiply-adds start in a cycle and each takes four: from 8 independent sums on they don't
  // wait for each other. So one row sums even and odd elements apart, in all of its tiles, since
  // equal keys must get equal scores.
  static constexpr int ChainsPerSum(int rows) { return rows == 1 ? 2 : 1; }
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

  static Operand ToOperand(float x) { return x; }
  static void StoreOperand(Operand* p, Vec x) { Store(p, x); }

  template <class Shape, class Tiles>
  static void Product(const Operand* a, const Tiles& b, const float* rescale, float* c) {
    constexpr int kOdd = ChainsPerSum(Shape::kRows) - 1;
    Vec sum[Shape::kRows][Shape::kTiles][1 + kOdd];
#pragma GCC unroll 16
    for (int r = 0; r < Shape::kRows; ++r) {
#pragma GCC unroll 16
      for (int t = 0; t < Shape::kTiles; ++t) {
        const float* at = c + r * Shape::kCRow + t * Shape::kCTile;
        sum[r][t][kOdd] = Set(0.0f);
        sum[r][t][0] = Shape::kAccumulate ? Mul(Set(rescale[r]), Load(at)) : Set(0.0f);
      }
    }
    const __m512i high_half = _mm512_set1_epi32(-0x10000);
    for (int g = 0; g < b.n_groups; ++g) {
      const std::uint16_t* row = b.data + static_cast<std::size_t>(g) * b.group_stride;
      for (int pair = 0; pair < b.n_pairs; ++pair, row += 32, a += Shape::kAPair) {
        Vec right[Shape::kTiles];
#pragma GCC unroll 16
        for (int t = 0; t < Shape::kTiles; ++t) {
          const std::uint16_t* const at = row + t * b.tile_stride;
          _mm_prefetch(reinterpret_cast<const char*>(at) + b.next, _MM_HINT_T0);
          right[t] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_load_si512(at), 16));
        }
        AddProducts<Shape, 0>(a, right, sum);
        // Loaded again: kept for the odd half, they would push out sums.
        asm volatile("" : "+r"(row));
#pragma GCC unroll 16
        for (int t = 0; t < Shape::kTiles; ++t) {
          const __m512i both = _mm512_load_si512(row + t * b.tile_stride);
          right[t] = _mm512_castsi512_ps(_mm512_and_si512(high_half, both));
        }
        AddProducts<Shape, kOdd>(a + 1, right, sum);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < Shape::kRows; ++r) {
#pragma GCC unroll 16
      for (int t = 0; t < Shape::kTiles; ++t) {
        Vec total = sum[r][t][0];
        if constexpr (kOdd > 0) total = Add(total, sum[r][t][kOdd]);
        Store(c + r * Shape::kCRow + t * Shape::kCTile, total);
      }
    }
  }

 private:
  // sum[r][t][chain] += a of row r times right[t].
  template <class Shape, int chain, class Sums>
  static void AddProducts(const float* a, const Vec* right, Sums& sum) {
#pragma GCC unroll 16
    for (int r = 0; r < Shape::kRows; ++r) {
      const Vec left = Set(a[r * Shape::kARow]);
#pragma GCC unroll 16
      for (int t = 0; t < Shape::kTiles; ++t) {
        sum[r][t][chain] = MulAdd(left, right[t], sum[r][t][chain]);
      }
    }
  }
};

}  // namespace
