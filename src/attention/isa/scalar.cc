// The plain path: one lane, any CPU. The compiler vectorises the product's inner loop.
#include "attention/kernels.h"

namespace {

struct Scalar {
  using Vec = float;
  using Operand = float;
  static constexpr int kLanes = 1;
  static constexpr int kRowsPerBlock = 4;
  static constexpr int TilesAtOnce(int) { return 1; }
  static constexpr bool kMultipliesTiles = false;

  static Vec Load(const float* p) { return *p; }
  static void Store(float* p, Vec x) { *p = x; }
  static Vec Set(float x) { return x; }
  static Vec Add(Vec a, Vec b) { return a + b; }
  static Vec Sub(Vec a, Vec b) { return a - b; }
  static Vec Mul(Vec a, Vec b) { return a * b; }
  static Vec Div(Vec a, Vec b) { return a / b; }
  static Vec MulAdd(Vec a, Vec b, Vec c) { return a * b + c; }
  static Vec Min(Vec a, Vec b) { return a < b ? a : b; }
  static Vec Max(Vec a, Vec b) { return a > b ? a : b; }
  static Vec Abs(Vec x) { return __builtin_fabsf(x); }
  static Vec CopySign(Vec x, Vec sign) { return __builtin_copysignf(x, sign); }
  static float MaxOf(Vec x) { return x; }
  static float SumOf(Vec x) { return x; }

  // p * 2^n, where n is the integer that `shifted` holds in its low bits.
  static Vec AddToExponent(Vec p, Vec shifted) { return FromBits(Bits(p) + (Bits(shifted) << 23)); }
  static Vec ZeroUnlessAtLeast(Vec x, Vec probe, float low) { return probe >= low ? x : 0.0f; }
  static Vec ChooseBelow(Vec probe, float bound, Vec below, Vec other) {
    return probe < bound ? below : other;
  }
  static Vec KeepLanes(Vec x, int begin, int end, float other) {
    return begin <= 0 && 0 < end ? x : other;
  }

  static Operand ToOperand(float x) { return x; }
  static void StoreOperand(Operand* p, Vec x) { *p = x; }

  template <class Shape, class Tiles>
  static void Product(const Operand* a, const Tiles& b, const float* rescale, float* c) {
    static_assert(Shape::kTiles == 1);
    float sum[Shape::kRows][16];
    for (int r = 0; r < Shape::kRows; ++r) {
      for (int i = 0; i < 16; ++i) {
        sum[r][i] = Shape::kAccumulate ? rescale[r] * c[r * Shape::kCRow + i] : 0.0f;
      }
    }
    for (int g = 0; g < b.n_groups; ++g) {
      const std::uint16_t* row = b.data + static_cast<std::size_t>(g) * b.group_stride;
      for (int pair = 0; pair < b.n_pairs; ++pair, row += 32, a += Shape::kAPair) {
        float even[16], odd[16];
        for (int i = 0; i < 16; ++i) {
          even[i] = FromBits(static_cast<std::uint32_t>(row[2 * i]) << 16);
          odd[i] = FromBits(static_cast<std::uint32_t>(row[2 * i + 1]) << 16);
        }
        for (int r = 0; r < Shape::kRows; ++r) {
          const float a0 = a[r * Shape::kARow], a1 = a[r * Shape::kARow + 1];
          for (int i = 0; i < 16; ++i) sum[r][i] += a0 * even[i] + a1 * odd[i];
        }
      }
    }
    for (int r = 0; r < Shape::kRows; ++r) {
      for (int i = 0; i < 16; ++i) c[r * Shape::kCRow + i] = sum[r][i];
    }
  }

 private:
  static std::uint32_t Bits(float x) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
  }
  static float FromBits(std::uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
  }
};

}  // namespace

#include "attention/isa/kernels-inl.h"

namespace aster {
extern const Kernels kScalarKernels = {"scalar", 0, Scalar::kRowsPerBlock, false, &Attend<Scalar>};
}  // namespace aster
