// The attention kernels of one instruction set, and the choice among them.
//
// Every ISA fills one Kernels table in its own source file. Nothing else leaves that file, so no
// code compiled with -mavx512f can be linked into the baseline (tests/attention/isa_symbols.cmake).
// This header is included there: it defines types only, no function.
#pragma once

#include <cstddef>
#include <cstdint>

#include "aster/key_range.h"
#include "kvstore/layout.h"

namespace aster {

enum CpuFeature : std::uint32_t {
  kAvx2 = 1u << 0,    // AVX2 and FMA
  kAvx512 = 1u << 1,  // AVX-512 F, BW, VL and DQ
  kAvx512Bf16 = 1u << 2,
  kAmxBf16 = 1u << 3,
};

inline constexpr int kMaxRows = 256;     // rows of one KernelCall
inline constexpr int kMaxHeadDim = 256;  // of K and of V
inline constexpr int kKeysPerStep = 64;  // keys of one step of the online softmax

// The work of one thread: rows that share a KV head, attended over the same ranges.
// Row i sees key j iff j lies in a range and row_begin[i] <= j < row_end[i].
struct KernelCall {
  int n_rows = 0;                   // 1..kMaxRows
  const float* const* q = nullptr;  // [n_rows] -> head_dim values
  float* const* out = nullptr;      // [n_rows] -> head_dim_v values, divided by the softmax's sum
  float* lse = nullptr;             // [n_rows], natural log; -inf (and out = 0): nothing is seen
  const std::int64_t* row_begin = nullptr;  // [n_rows]
  const std::int64_t* row_end = nullptr;    // [n_rows]

  KvView kv;
  const KeyRange* ranges = nullptr;  // disjoint, ascending; their pages hold finite values only
  std::size_t n_ranges = 0;
  int head_dim = 0;    // 1..kMaxHeadDim
  int head_dim_v = 0;  // 1..kMaxHeadDim

  float scale = 1.0f;
  float softcap = 0.0f;     // 0: none
  void* scratch = nullptr;  // KernelScratchBytes, aligned to 64
};

struct Kernels {
  const char* name;                 // "scalar", "avx2", ...: the value ASTER_ISA accepts
  std::uint32_t required_features;  // CpuFeature bits
  int rows_per_block;               // n_rows is best a multiple of it
  bool rounds_to_bf16;              // Q and the softmax's weights enter the products as bf16
  void (*attend)(const KernelCall& call) noexcept;
};

// Bytes of KernelCall::scratch that serve every instruction set.
std::size_t KernelScratchBytes(int n_rows, int head_dim, int head_dim_v) noexcept;

// The table that is fastest on this CPU, or the one named by ASTER_ISA. Chosen once, on first use.
// An unknown or unsupported ASTER_ISA returns nullptr: the caller reports it, never guesses.
const Kernels* ActiveKernels() noexcept;

// The choice behind ActiveKernels: `forced` is a name, or nullptr for the fastest.
const Kernels* ChooseKernels(const char* forced) noexcept;

// Tables of this build, from the most to the least that they ask of a CPU, nullptr behind the last;
// and whether this CPU can run one.
const Kernels* const* AllKernels() noexcept;
bool CanRun(const Kernels& kernels) noexcept;

}  // namespace aster
