// AMX: 32 (or 16) rows by 32 columns at a time, as 2 x 2 tiles of sums with 2 tiles from each side.
// A tile of Q is [16 rows][32 dims], one of the weights [16 rows][32 keys]; the store's 64-byte
// rows are the right side as they lie. Softmax, masks and rounding are AVX-512's.
//
// TileUnit does the tile instructions: the CPU's in amx.cc, an emulation in the tests.
//
// Included only by isa/amx.cc and by the tests' emulation of it: see kernels.h.
#pragma once

#include "attention/isa/avx512bf16-inl.h"
#include "attention/isa/kernels-inl.h"

namespace aster {
namespace {

template <class TileUnit>
struct Amx : Avx512Bf16 {
  static constexpr int kRowsPerBlock = 2 * kTile;
  static constexpr int kPairsOfTile = 16;
  static constexpr int TilesAtOnce(int) { return 2; }
  static constexpr bool kMultipliesTiles = true;

  // The most pairs of a tile that divide a row evenly, so that no tile is part of a row.
  static constexpr int PairsPerRun(int n_pairs) {
    int run = kPairsOfTile;
    while (n_pairs % run != 0) --run;
    return run;
  }

  // Lane i of the result is the largest value (the sum) of row i.
  static Vec MaxOfRows(const Vec* rows) {
    return JoinRows(rows, [](Vec a, Vec b) { return Max(a, b); });
  }
  static Vec SumOfRows(const Vec* rows) {
    return JoinRows(rows, [](Vec a, Vec b) { return Add(a, b); });
  }

  template <class Shape, class Tiles>
  static void Product(const Operand* a, const Tiles& b, const float* rescale, float* c) {
    static_assert(Shape::kRows % kTile == 0 && Shape::kRows <= kRowsPerBlock && Shape::kTiles <= 2);
    constexpr bool low = Shape::kRows > kTile, two = Shape::kTiles == 2;
    constexpr int kBytesOfC = Shape::kCRow * static_cast<int>(sizeof(float));
    float* const c_low = c + kTile * Shape::kCRow;
    // Of A: elements from a row to the next, to the lower 16 rows and to the next run of pairs.
    const int a_row = Shape::kAccumulate ? Shape::kARow : 2 * b.n_pairs;
    const int a_low = kTile * a_row;
    const int a_run = Shape::kAccumulate ? 2 * b.n_pairs : Shape::kRows * a_row;

    if (b.n_pairs != kPairsOfTile) TileUnit::Configure(b.n_pairs);
    if constexpr (Shape::kAccumulate) {
      Rescale<Shape>(rescale, c);
      TileUnit::template Load<0>(c, kBytesOfC);
      if constexpr (low) TileUnit::template Load<1>(c_low, kBytesOfC);
      if constexpr (two) TileUnit::template Load<2>(c + Shape::kCTile, kBytesOfC);
      if constexpr (low && two) TileUnit::template Load<3>(c_low + Shape::kCTile, kBytesOfC);
    } else {
      TileUnit::template Zero<0>();
      if constexpr (low) TileUnit::template Zero<1>();
      if constexpr (two) TileUnit::template Zero<2>();
      if constexpr (low && two) TileUnit::template Zero<3>();
    }
    const std::uint16_t* right = b.data;
    for (int g = 0; g < b.n_groups; ++g, right += b.group_stride, a += a_run) {
      const int a_bytes = a_row * static_cast<int>(sizeof(Operand));
      TileUnit::template Load<6>(right, 64);
      TileUnit::template Load<4>(a, a_bytes);
      TileUnit::template Multiply<0, 4, 6>();
      if constexpr (low) TileUnit::template Load<5>(a + a_low, a_bytes);
      if constexpr (low) TileUnit::template Multiply<1, 5, 6>();
      if constexpr (two) TileUnit::template Load<7>(right + b.tile_stride, 64);
      if constexpr (two) TileUnit::template Multiply<2, 4, 7>();
      if constexpr (low && two) TileUnit::template Multiply<3, 5, 7>();
    }
    TileUnit::template Store<0>(c, kBytesOfC);
    if constexpr (low) TileUnit::template Store<1>(c_low, kBytesOfC);
    if constexpr (two) TileUnit::template Store<2>(c + Shape::kCTile, kBytesOfC);
    if constexpr (low && two) TileUnit::template Store<3>(c_low + Shape::kCTile, kBytesOfC);
    if (b.n_pairs != kPairsOfTile) TileUnit::Configure(kPairsOfTile);
  }

 private:
  // Most steps raise no maximum, and leave C as it is.
  template <class Shape>
  static void Rescale(const float* rescale, float* c) {
    const Vec one = Set(1.0f);
    bool all_one = true;
    for (int r = 0; r < Shape::kRows; r += kTile) {
      all_one &= _mm512_cmp_ps_mask(Load(rescale + r), one, _CMP_NEQ_UQ) == 0;
    }
    if (all_one) return;
    for (int t = 0; t < Shape::kTiles; ++t) {
      for (int r = 0; r < Shape::kRows; ++r) {
        float* const at = c + t * Shape::kCTile + r * Shape::kCRow;
        Store(at, Mul(Set(rescale[r]), Load(at)));
      }
    }
  }

  // A transposition that joins as it goes: 8 + 4 + 2 + 1 steps of two shuffles each.
  template <class Join>
  static Vec JoinRows(const Vec* rows, Join join) {
    // The row that has to stand at each place for lane i to end as row i.
    constexpr int kRowAt[16] = {0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15};
    Vec x[8], y[4], z[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const Vec p = rows[kRowAt[i]], q = rows[kRowAt[i + 8]];
      x[i] = join(_mm512_shuffle_f32x4(p, q, 0x44), _mm512_shuffle_f32x4(p, q, 0xee));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      y[i] = join(_mm512_shuffle_f32x4(x[i], x[i + 4], 0x88),
                  _mm512_shuffle_f32x4(x[i], x[i + 4], 0xdd));
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m512d p = _mm512_castps_pd(y[i]), q = _mm512_castps_pd(y[i + 2]);
      z[i] = join(_mm512_castpd_ps(_mm512_unpacklo_pd(p, q)),
                  _mm512_castpd_ps(_mm512_unpackhi_pd(p, q)));
    }
    return join(_mm512_shuffle_ps(z[0], z[1], 0x88), _mm512_shuffle_ps(z[0], z[1], 0xdd));
  }
};

template <class TileUnit>
void AttendByTiles(const KernelCall& call) noexcept {
  const TileUnit unit(Amx<TileUnit>::kPairsOfTile);
  Attend<Amx<TileUnit>>(call);
}

}  // namespace
}  // namespace aster
