// The algorithm, written once: exact attention of many rows over keys that stream by in steps.
//
//   for each step of 64 keys                       16 KB of K and V at head_dim 64: stay in L1
//     for each block of rows                       Q and the running output: stay in L2
//       S = Q K^T                                  log2 scores, [rows][64], never leaves L1
//       m' = max(m, max S), P = 2^(S - m')         m, l: row_max, row_sum of the online softmax
//       l = l 2^(m - m') + sum P
//       O = O 2^(m - m') + P V
//   out = O / l, lse = (m + log2 l) ln 2
//
// Included only by isa/*.cc, after the ISA's struct, which provides
//   Vec, kLanes      a register of f32, and Load, Store, Set, Add, Sub, Mul, MulAdd (a * b + c),
//                    Div, Min, Max, Abs, CopySign, MaxOf, SumOf, and the selections below
//   Operand          how the left side of a product is stored: float, or bf16 in a uint16_t
//   kRowsPerBlock    rows that one product takes at most; TilesAtOnce(rows) tiles of 16 columns
//   Product<Shape>   C[rows][16 tiles] = [rescale * C] + A[rows][2 pairs] * B[pairs][16][2]
//   Exp2             optional: 2^x where less precision than below will do
// A tile multiplier (AMX, kMultipliesTiles) derives from AVX-512 and overrides the products. It
// takes 16 or 32 rows, the spare ones zero, and runs of pairs of a row of Q that lie side by side;
// it also provides PairsPerRun(pairs), MaxOfRows and SumOfRows.
//
// Everything here has internal linkage: see kernels.h.
// Source: Milakov & Gimelshein 2018; Dao et al. 2022, algorithm 1.
#pragma once

#include "attention/kernels.h"

namespace aster {
namespace {

constexpr float kInfinity = __builtin_inff();
constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLn2 = 0.693147180559945309f;
constexpr int kTile = static_cast<int>(kTileWidth);
constexpr int kTilesPerStep = kKeysPerStep / kTile;
constexpr int kPairsPerVGroup = static_cast<int>(kKeysPerVGroup) / 2;
constexpr std::int64_t kPageKeys = static_cast<std::int64_t>(kPageTokens);
constexpr int kMostRowsPerBlock = 32;
constexpr float kLowest = -3.40282347e38f;

template <class T>
T Min(T a, T b) {
  return a < b ? a : b;
}
template <class T>
T Max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
T Clamp(T x, T low, T high) {
  return Min(Max(x, low), high);
}

// Where one product finds its left side and puts its result, in elements.
// Scores: Q is kept as [pair][row][2], or [run][row][pairs of a run][2]; S as [row][64].
template <int rows, int tiles>
struct ScoreShape {
  static constexpr int kRows = rows, kTiles = tiles;
  static constexpr int kARow = 2, kAPair = 2 * rows, kCRow = kKeysPerStep, kCTile = kTile;
  static constexpr bool kAccumulate = false;
};
// Output: P is kept as [row][64], O as [tile of dims][row][16].
template <int rows, int tiles>
struct OutputShape {
  static constexpr int kRows = rows, kTiles = tiles;
  static constexpr int kARow = kKeysPerStep, kAPair = 2, kCRow = kTile, kCTile = kTile * rows;
  static constexpr bool kAccumulate = true;
};

// The right side of a product: n_groups runs of n_pairs 64-byte rows of a page, for each tile.
struct Tiles {
  const std::uint16_t* data;
  std::size_t tile_stride;   // from a tile of 16 columns to the next
  std::size_t group_stride;  // from a run of pairs to the next
  int n_groups;
  int n_pairs;
  // Bytes to the next step's tiles, for a prefetch: the few rows of a decode would wait for them,
  // because the hardware's own prefetcher stops at each 4 KiB.
  std::intptr_t next;
};

// 2^x, relative error below 1.2e-7 down to 2^-126; 0 below and at -inf.
template <class Isa>
typename Isa::Vec PreciseExp2(typename Isa::Vec x) {
  const auto magic = Isa::Set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const auto shifted = Isa::Add(x, magic);
  const auto r = Isa::Sub(x, Isa::Sub(shifted, magic));  // -0.5..0.5
  auto p = Isa::Set(1.5345802e-4f);  // minimax fit of 2^r, relative error 1.9e-9
  p = Isa::MulAdd(p, r, Isa::Set(1.3399931e-3f));
  p = Isa::MulAdd(p, r, Isa::Set(9.6184890e-3f));
  p = Isa::MulAdd(p, r, Isa::Set(5.5503288e-2f));
  p = Isa::MulAdd(p, r, Isa::Set(2.4022647e-1f));
  p = Isa::MulAdd(p, r, Isa::Set(6.9314721e-1f));
  p = Isa::MulAdd(p, r, Isa::Set(1.0f));
  return Isa::ZeroUnlessAtLeast(Isa::AddToExponent(p, shifted), x, -126.0f);
}

// The same, or what the ISA takes for it.
template <class Isa>
typename Isa::Vec Exp2(typename Isa::Vec x) {
  if constexpr (requires { Isa::Exp2(x); }) {
    return Isa::Exp2(x);
  } else {
    return PreciseExp2<Isa>(x);
  }
}

// tanh x: an odd polynomial near 0, where 1 - 2 / (e^2x + 1) would cancel.
template <class Isa>
typename Isa::Vec Tanh(typename Isa::Vec x) {
  const auto z = Isa::Mul(x, x);
  auto p = Isa::Set(-5.6015613e-3f);  // minimax fit up to |x| = 0.64, relative error 5.4e-9
  p = Isa::MulAdd(p, z, Isa::Set(2.0549614e-2f));
  p = Isa::MulAdd(p, z, Isa::Set(-5.3713466e-2f));
  p = Isa::MulAdd(p, z, Isa::Set(1.3331145e-1f));
  p = Isa::MulAdd(p, z, Isa::Set(-3.3333272e-1f));
  const auto near = Isa::MulAdd(Isa::Mul(p, z), x, x);
  // From |x| = 10 on the result is 1 in f32; the bound keeps e^2x finite.
  const auto size = Isa::Min(Isa::Abs(x), Isa::Set(10.0f));
  const auto e = Exp2<Isa>(Isa::Mul(size, Isa::Set(2 * kLog2E)));
  const auto one = Isa::Set(1.0f);
  const auto far = Isa::Sub(one, Isa::Div(Isa::Set(2.0f), Isa::Add(e, one)));
  return Isa::ChooseBelow(z, 0.4f, near, Isa::CopySign(far, x));
}

// Up to kRowsPerBlock rows, the range of their limits, and what they have gathered so far.
struct Block {
  int row;  // of the call
  int n_rows;
  std::int64_t first_begin, last_begin, first_end, last_end;
};

// The part [begin, end) of the 64 keys from `first` on that lies in a range.
struct Step {
  std::int64_t first;
  int begin, end;
  const std::uint16_t* k;
  const std::uint16_t* v;
  std::intptr_t next_k, next_v;  // bytes from k and v to those of the next step, 0 at the end
};

template <class Isa>
class AttendRows {
 public:
  explicit AttendRows(const KernelCall& call) : call_(call) {
    const auto padded_k = PaddedDim(call.head_dim, 2), padded_v = PaddedDim(call.head_dim_v, kTile);
    n_pairs_ = padded_k / 2;
    n_v_tiles_ = padded_v / kTile;
    if constexpr (Isa::kMultipliesTiles) pairs_per_run_ = Isa::PairsPerRun(n_pairs_);
    q_ = static_cast<Operand*>(call.scratch);
    const int last_block = (call.n_rows - 1) / Isa::kRowsPerBlock * Isa::kRowsPerBlock;
    const int n_rows = last_block + StoredRows(call.n_rows - last_block);
    const std::size_t q_bytes = sizeof(Operand) * static_cast<std::size_t>(n_rows * padded_k);
    out_ = reinterpret_cast<float*>(static_cast<char*>(call.scratch) + (q_bytes + 63) / 64 * 64);
    // Scores come out as powers of two, or, for the softcap, as the argument of tanh.
    q_factor_ = call.softcap == 0 ? call.scale * kLog2E : call.scale / call.softcap;
  }

  void Run() noexcept {
    for (int row = 0; row < call_.n_rows; row += Isa::kRowsPerBlock) AddBlock(row);
    for (std::size_t i = 0; i < call_.n_ranges; ++i) StreamRange(call_.ranges[i]);
    for (int i = 0; i < n_blocks_; ++i) Finish(blocks_[i]);
  }

 private:
  using Vec = typename Isa::Vec;
  using Operand = typename Isa::Operand;

  static int PaddedDim(int dim, int multiple) { return (dim + multiple - 1) / multiple * multiple; }
  // Rows that a block of n_rows takes in memory.
  static constexpr int StoredRows(int n_rows) {
    return Isa::kMultipliesTiles ? (n_rows + kTile - 1) / kTile * kTile : n_rows;
  }
  Operand* BlockQ(const Block& b) { return q_ + static_cast<std::size_t>(b.row) * n_pairs_ * 2; }
  float* BlockOut(const Block& b) {
    return out_ + static_cast<std::size_t>(b.row) * n_v_tiles_ * kTile;
  }

  void AddBlock(int row) {
    Block b = {row,
               Min(Isa::kRowsPerBlock, call_.n_rows - row),
               call_.row_begin[row],
               call_.row_begin[row],
               call_.row_end[row],
               call_.row_end[row]};
    for (int i = row; i < row + b.n_rows; ++i) {
      b.first_begin = Min(b.first_begin, call_.row_begin[i]);
      b.last_begin = Max(b.last_begin, call_.row_begin[i]);
      b.first_end = Min(b.first_end, call_.row_end[i]);
      b.last_end = Max(b.last_end, call_.row_end[i]);
    }
    const int n_stored = StoredRows(b.n_rows);
    for (int i = row; i < row + n_stored; ++i) {
      row_max_[i] = -kInfinity;
      row_sum_[i] = 0;
    }
    begin_ = Min(begin_, b.first_begin);
    end_ = Max(end_, b.last_end);
    PackQ(b);
    float* out = BlockOut(b);
    for (int i = 0; i < n_stored * n_v_tiles_ * kTile; ++i) out[i] = 0;
    blocks_[n_blocks_++] = b;
  }

  void PackQ(const Block& b) {
    const int n_stored = StoredRows(b.n_rows);
    Operand* to = BlockQ(b);
    for (int run = 0; run < n_pairs_; run += pairs_per_run_) {
      for (int r = 0; r < n_stored; ++r) {
        for (int pair = run; pair < run + pairs_per_run_; ++pair, to += 2) {
          const float* from = r < b.n_rows ? call_.q[b.row + r] : kZeros;
          const bool padded = 2 * pair + 1 == call_.head_dim;
          to[0] = Isa::ToOperand(from[2 * pair] * q_factor_);
          to[1] = Isa::ToOperand(padded ? 0.0f : from[2 * pair + 1] * q_factor_);
        }
      }
    }
  }

  const std::uint16_t* KAt(std::int64_t key) const {
    return call_.kv.pages[key / kPageKeys] + call_.kv.k_offset + key % kPageKeys * n_pairs_ * 2;
  }
  const std::uint16_t* VAt(std::int64_t key) const {
    return call_.kv.pages[key / kPageKeys] + call_.kv.v_offset +
           key % kPageKeys * n_v_tiles_ * kTile;
  }
  static std::intptr_t Bytes(const void* from, const void* to) {
    return reinterpret_cast<std::intptr_t>(to) - reinterpret_cast<std::intptr_t>(from);
  }

  void StreamRange(const KeyRange& range) {
    const std::int64_t begin = Max(range.begin, begin_), end = Min(range.end, end_);
    for (std::int64_t first = begin / kKeysPerStep * kKeysPerStep; first < end;
         first += kKeysPerStep) {
      Step step = {first,
                   static_cast<int>(Max<std::int64_t>(begin - first, 0)),
                   static_cast<int>(Min<std::int64_t>(end - first, kKeysPerStep)),
                   KAt(first),
                   VAt(first),
                   0,
                   0};
      if (first + kKeysPerStep < end) {
        step.next_k = Bytes(step.k, KAt(first + kKeysPerStep));
        step.next_v = Bytes(step.v, VAt(first + kKeysPerStep));
      }
      for (int i = 0; i < n_blocks_; ++i) {
        TakeStep<Isa::kRowsPerBlock>(blocks_[i], step);
      }
    }
  }

  // Finds the code for the block's number of rows.
  template <int rows>
  void TakeStep(const Block& b, const Step& step) {
    if (StoredRows(b.n_rows) == rows) {
      BlockStep<rows>(b, step);
    } else if constexpr (rows > StoredRows(1)) {
      TakeStep<rows - StoredRows(1)>(b, step);
    }
  }

  template <int rows>
  void BlockStep(const Block& b, const Step& step) {
    const std::int64_t begin = Max<std::int64_t>(step.begin, b.first_begin - step.first);
    const std::int64_t end = Min<std::int64_t>(step.end, b.last_end - step.first);
    if (begin >= end) return;  // hidden to all of these rows
    const bool masked = Max<std::int64_t>(step.begin, b.last_begin - step.first) > 0 ||
                        Min<std::int64_t>(step.end, b.first_end - step.first) < kKeysPerStep;
    const int n_tiles = static_cast<int>((end + kTile - 1) / kTile);

    alignas(64) float scores[rows * kKeysPerStep];
    alignas(64) Operand weights[rows * kKeysPerStep];
    alignas(64) float rescale[kMostRowsPerBlock];

    const int run = Isa::kMultipliesTiles ? pairs_per_run_ : n_pairs_;
    const Tiles k = {step.k,
                     static_cast<std::size_t>(n_pairs_) * 2 * kTile,
                     static_cast<std::size_t>(run) * 2 * kTile,
                     n_pairs_ / run,
                     run,
                     step.next_k};
    Scores<rows, Isa::TilesAtOnce(rows)>(BlockQ(b), k, 0, n_tiles, scores);
    if (call_.softcap != 0) Cap<rows>(scores);
    if (masked) Mask<rows>(b, step, scores);
    Softmax<rows>(b.row, scores, weights, rescale);
    // The last group may reach past the last tile: the weights there are 0.
    const int n_groups = (n_tiles * kTile + 2 * kPairsPerVGroup - 1) / (2 * kPairsPerVGroup);
    const Tiles v = {step.v,
                     kTile * 2 * kPairsPerVGroup,
                     static_cast<std::size_t>(n_v_tiles_) * kTile * 2 * kPairsPerVGroup,
                     n_groups,
                     kPairsPerVGroup,
                     step.next_v};
    Output<rows, Isa::TilesAtOnce(rows)>(weights, v, rescale, 0, BlockOut(b));
  }

  template <int rows, int tiles>
  static void Scores(const Operand* q, const Tiles& k, int tile, int n_tiles, float* scores) {
    for (; tile + tiles <= n_tiles; tile += tiles) {
      Tiles at = k;
      at.data += static_cast<std::size_t>(tile) * k.tile_stride;
      Isa::template Product<ScoreShape<rows, tiles>>(q, at, nullptr, scores + tile * kTile);
    }
    if constexpr (tiles > 1) Scores<rows, tiles / 2>(q, k, tile, n_tiles, scores);
  }

  template <int rows, int tiles>
  void Output(const Operand* weights, const Tiles& v, const float* rescale, int tile, float* out) {
    for (; tile + tiles <= n_v_tiles_; tile += tiles) {
      Tiles at = v;
      at.data += static_cast<std::size_t>(tile) * v.tile_stride;
      Isa::template Product<OutputShape<rows, tiles>>(weights, at, rescale,
                                                      out + tile * kTile * rows);
    }
    if constexpr (tiles > 1) Output<rows, tiles / 2>(weights, v, rescale, tile, out);
  }

  template <int rows>
  void Cap(float* scores) {
    const Vec cap = Isa::Set(call_.softcap * kLog2E);
    for (int i = 0; i < rows * kKeysPerStep; i += Isa::kLanes) {
      Isa::Store(scores + i, Isa::Mul(cap, Tanh<Isa>(Isa::Load(scores + i))));
    }
  }

  // Hides what a row may not see, and the columns that Scores left out.
  template <int rows>
  void Mask(const Block& b, const Step& step, float* scores) {
    for (int r = 0; r < b.n_rows; ++r) {
      const auto limit = [&](std::int64_t key) {
        return static_cast<int>(Clamp<std::int64_t>(key - step.first, 0, kKeysPerStep));
      };
      const int begin = Max(step.begin, limit(call_.row_begin[b.row + r]));
      const int end = Min(step.end, limit(call_.row_end[b.row + r]));
      float* row = scores + r * kKeysPerStep;
      for (int i = 0; i < kKeysPerStep; i += Isa::kLanes) {
        Isa::Store(row + i, Isa::KeepLanes(Isa::Load(row + i), begin - i, end - i, -kInfinity));
      }
    }
  }

  // Scores become weights, relative to the largest score of each row so far; `rescale` is what the
  // row's sums so far must be multiplied with. Where nothing has been seen yet the largest is -inf:
  // kLowest stands for it, so that no NaN arises and hidden keys weigh 0.
  template <int rows>
  void Softmax(int row, const float* scores, Operand* weights, float* rescale) {
    alignas(64) float shift[kMostRowsPerBlock];
    if constexpr (Isa::kMultipliesTiles) {
      RaiseMaxOfRows<rows>(row, scores, shift, rescale);
    } else {
      RaiseMax<rows>(row, scores, shift, rescale);
    }
    constexpr int kRowsAtOnce = Isa::kMultipliesTiles ? kTile : rows;
    for (int first = 0; first < rows; first += kRowsAtOnce) {
      Vec sum[kRowsAtOnce];
      for (int r = 0; r < kRowsAtOnce; ++r) {
        const Vec row_shift = Isa::Set(shift[first + r]);
        sum[r] = Isa::Set(0.0f);
        for (int i = 0; i < kKeysPerStep; i += Isa::kLanes) {
          const int at = (first + r) * kKeysPerStep + i;
          const Vec weight = Exp2<Isa>(Isa::Sub(Isa::Load(scores + at), row_shift));
          sum[r] = Isa::Add(sum[r], weight);
          Isa::StoreOperand(weights + at, weight);
        }
      }
      float* const total = row_sum_ + row + first;
      if constexpr (Isa::kMultipliesTiles) {
        Isa::Store(total,
                   Isa::MulAdd(Isa::Load(total), Isa::Load(rescale + first), Isa::SumOfRows(sum)));
      } else {
        for (int r = 0; r < rows; ++r) total[r] = total[r] * rescale[r] + Isa::SumOf(sum[r]);
      }
    }
  }

  template <int rows>
  void RaiseMax(int row, const float* scores, float* shift, float* rescale) {
    float fall[kMostRowsPerBlock] = {};
    for (int r = 0; r < rows; ++r) {
      Vec max = Isa::Load(scores + r * kKeysPerStep);
      for (int i = Isa::kLanes; i < kKeysPerStep; i += Isa::kLanes) {
        max = Isa::Max(max, Isa::Load(scores + r * kKeysPerStep + i));
      }
      const float old_max = row_max_[row + r];
      row_max_[row + r] = Max(old_max, Isa::MaxOf(max));
      shift[r] = Max(row_max_[row + r], kLowest);
      fall[r] = old_max - shift[r];
    }
    for (int r = 0; r < rows; r += Isa::kLanes) {
      Isa::Store(rescale + r, Exp2<Isa>(Isa::Load(fall + r)));
    }
  }

  // The same for 16 rows at once. A row keeps its old maximum until a new one is more than 2^kSlack
  // times as heavy: weights up to 2^kSlack do no harm, and the output is rescaled rarely.
  template <int rows>
  void RaiseMaxOfRows(int row, const float* scores, float* shift, float* rescale) {
    constexpr float kSlack = 6;
    for (int first = 0; first < rows; first += kTile) {
      Vec max[kTile];
      for (int r = 0; r < kTile; ++r) {
        const float* from = scores + (first + r) * kKeysPerStep;
        max[r] = Isa::Load(from);
        for (int i = Isa::kLanes; i < kKeysPerStep; i += Isa::kLanes) {
          max[r] = Isa::Max(max[r], Isa::Load(from + i));
        }
      }
      float* const row_max = row_max_ + row + first;
      const Vec old_max = Isa::Load(row_max);
      const Vec step_max = Isa::MaxOfRows(max);
      const Vec growth =
          Isa::Sub(step_max, old_max);  // NaN where nothing has been seen: stays -inf
      const Vec new_max = Isa::ChooseBelow(growth, kSlack, old_max, step_max);
      const Vec new_shift = Isa::Max(new_max, Isa::Set(kLowest));
      Isa::Store(row_max, new_max);
      Isa::Store(shift + first, new_shift);
      Isa::Store(rescale + first, Exp2<Isa>(Isa::Sub(old_max, new_shift)));
    }
  }

  void Finish(const Block& b) {
    const float* from = BlockOut(b);
    const int n_stored = StoredRows(b.n_rows);
    for (int r = 0; r < b.n_rows; ++r) {
      const float sum = row_sum_[b.row + r];
      const float factor = sum > 0 ? 1.0f / sum : 0.0f;
      float* to = call_.out[b.row + r];
      for (int tile = 0; tile < n_v_tiles_; ++tile) {
        const float* tile_row = from + (tile * n_stored + r) * kTile;
        const int n = Min(kTile, call_.head_dim_v - tile * kTile);
        for (int d = 0; d < n; ++d) to[tile * kTile + d] = tile_row[d] * factor;
      }
      call_.lse[b.row + r] =
          sum > 0 ? row_max_[b.row + r] * kLn2 + __builtin_logf(sum) : -kInfinity;
    }
  }

  static constexpr float kZeros[kMaxHeadDim + 1] = {};

  const KernelCall& call_;
  int n_pairs_;
  int pairs_per_run_ = 1;  // of a row of Q, side by side
  int n_v_tiles_;
  float q_factor_;
  Operand* q_;  // [block][run][row][pair of the run][2]
  float* out_;  // [block][tile of dims][row][16]

  int n_blocks_ = 0;
  std::int64_t begin_ = INT64_MAX, end_ = 0;  // what any row sees
  Block blocks_[kMaxRows];
  float row_max_[kMaxRows];  // of log2 scores
  float row_sum_[kMaxRows];
};

template <class Isa>
void Attend(const KernelCall& call) noexcept {
  AttendRows<Isa>(call).Run();
}

}  // namespace
}  // namespace aster
