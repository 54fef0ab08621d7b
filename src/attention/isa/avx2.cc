// AVX2 and FMA: bf16 becomes f32 on the fly, an even element by a shift and an odd one by a mask.
//
// A block of 6 rows by 16 columns keeps 12 sums in registers; each 64-byte row of a tile costs 4
// conversions against 24 multiply-adds.
#include <immintrin.h>

#include "attention/kernels.h"

namespace {

struct Avx2 {
  using Vec = __m256;
  using Operand = float;
  static constexpr int kLanes = 8;
  static constexpr int kRowsPerBlock = 6;
  // Two multiply-adds start in a cycle and each takes four: from 8 independent sums on they don't
  // wait for each other. So few rows sum even and odd elements apart, and one row takes two tiles.
  static constexpr int ChainsPerSum(int rows) { return rows <= 3 ? 2 : 1; }
  static constexpr int TilesAtOnce(int rows) { return rows == 1 ? 2 : 1; }
  static constexpr bool kMultipliesTiles = false;

  static Vec Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
  static Vec Set(float x) { return _mm256_set1_ps(x); }
  static Vec Add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static Vec Sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  static Vec Mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static Vec Div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
  static Vec MulAdd(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
  static Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
  static Vec Abs(Vec x) { return _mm256_andnot_ps(Set(-0.0f), x); }
  static Vec CopySign(Vec x, Vec sign) {
    return _mm256_or_ps(Abs(x), _mm256_and_ps(Set(-0.0f), sign));
  }

  static float MaxOf(Vec x) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
  }
  static float SumOf(Vec x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }

  // p * 2^n, where n is the integer that `shifted` holds in its low bits.
  static Vec AddToExponent(Vec p, Vec shifted) {
    return _mm256_castsi256_ps(_mm256_add_epi32(
        _mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(shifted), 23)));
  }
  static Vec ZeroUnlessAtLeast(Vec x, Vec probe, float low) {
    return _mm256_and_ps(x, _mm256_cmp_ps(probe, Set(low), _CMP_GE_OQ));
  }
  static Vec ChooseBelow(Vec probe, float bound, Vec below, Vec other) {
    return _mm256_blendv_ps(other, below, _mm256_cmp_ps(probe, Set(bound), _CMP_LT_OQ));
  }
  static Vec KeepLanes(Vec x, int begin, int end, float other) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32(begin), lane);
    const __m256i inside =
        _mm256_andnot_si256(before, _mm256_cmpgt_epi32(_mm256_set1_epi32(end), lane));
    return _mm256_blendv_ps(Set(other), x, _mm256_castsi256_ps(inside));
  }

  static Operand ToOperand(float x) { return x; }
  static void StoreOperand(Operand* p, Vec x) { Store(p, x); }

  // sum[0..1] += *a * right[0..1]. By hand, because 12 sums, 2 right sides, 1 left side and a mask
  // are all 16 registers there are, and GCC 12 orders the loads so that sums go over the stack.
  static void AddProduct(Vec* sum, const float* a, Vec right0, Vec right1) {
    Vec left;
    asm volatile(
        "vbroadcastss %[a], %[left]\n\t"
        "vfmadd231ps %[right0], %[left], %[sum0]\n\t"
        "vfmadd231ps %[right1], %[left], %[sum1]"
        : [sum0] "+x"(sum[0]), [sum1] "+x"(sum[1]), [left] "=&x"(left)
        : [a] "m"(*a), [right0] "x"(right0), [right1] "x"(right1));
  }

  template <class Shape, class Tiles>
  static void Product(const Operand* a, const Tiles& b, const float* rescale, float* c) {
    constexpr int kOdd = ChainsPerSum(Shape::kRows) - 1;
    Vec sum[Shape::kRows][Shape::kTiles][1 + kOdd][2];
#pragma GCC unroll 16
    for (int r = 0; r < Shape::kRows; ++r) {
#pragma GCC unroll 16
      for (int i = 0; i < 2 * Shape::kTiles; ++i) {
        const float* at = c + r * Shape::kCRow + i / 2 * Shape::kCTile + i % 2 * 8;
        sum[r][i / 2][kOdd][i % 2] = Set(0.0f);
        sum[r][i / 2][0][i % 2] = Shape::kAccumulate ? Mul(Set(rescale[r]), Load(at)) : Set(0.0f);
      }
    }
    const __m256i high_half = _mm256_set1_epi32(-0x10000);
    for (int g = 0; g < b.n_groups; ++g) {
      const std::uint16_t* row = b.data + static_cast<std::size_t>(g) * b.group_stride;
      for (int pair = 0; pair < b.n_pairs; ++pair, row += 32, a += Shape::kAPair) {
#pragma GCC unroll 16
        for (int t = 0; t < Shape::kTiles; ++t) {
          const auto* at = reinterpret_cast<const __m256i*>(row + t * b.tile_stride);
          _mm_prefetch(reinterpret_cast<const char*>(at) + b.next, _MM_HINT_T0);
          asm volatile("" : "+r"(at));  // no load of this tile before the last one's sums
          const Vec even0 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_load_si256(at), 16));
          const Vec even1 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_load_si256(at + 1), 16));
#pragma GCC unroll 16
          for (int r = 0; r < Shape::kRows; ++r) {
            AddProduct(sum[r][t][0], a + r * Shape::kARow, even0, even1);
          }
          // Forget what was loaded: kept for the odd half, it would push out two sums.
          asm volatile("" : "+r"(at));
          const Vec odd0 = _mm256_castsi256_ps(_mm256_and_si256(high_half, _mm256_load_si256(at)));
          const Vec odd1 =
              _mm256_castsi256_ps(_mm256_and_si256(high_half, _mm256_load_si256(at + 1)));
#pragma GCC unroll 16
          for (int r = 0; r < Shape::kRows; ++r) {
            AddProduct(sum[r][t][kOdd], a + r * Shape::kARow + 1, odd0, odd1);
          }
        }
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < Shape::kRows; ++r) {
#pragma GCC unroll 16
      for (int i = 0; i < 2 * Shape::kTiles; ++i) {
        Vec total = sum[r][i / 2][0][i % 2];
        if constexpr (kOdd > 0) total = Add(total, sum[r][i / 2][kOdd][i % 2]);
        Store(c + r * Shape::kCRow + i / 2 * Shape::kCTile + i % 2 * 8, total);
      }
    }
  }
};

}  // namespace

#include "attention/isa/kernels-inl.h"

namespace aster {
extern const Kernels kAvx2Kernels = {"avx2", kAvx2, Avx2::kRowsPerBlock, false, &Attend<Avx2>};
}  // namespace aster
