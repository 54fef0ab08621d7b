#include "attention/kernels.h"

#include <cstdlib>
#include <string_view>

#include "base/amx.h"
#include "base/bf16.h"

namespace aster {

#if defined(__x86_64__)
extern const Kernels kAmxKernels, kAvx512Bf16Kernels, kAvx512Kernels, kAvx2Kernels;
#endif
extern const Kernels kScalarKernels;

namespace {

constexpr const Kernels* kMostAskedFirst[] = {
#if defined(__x86_64__)
    &kAmxKernels,    &kAvx512Bf16Kernels,
    &kAvx512Kernels, &kAvx2Kernels,
#endif
    &kScalarKernels, nullptr,
};

// __builtin_cpu_supports asks the operating system too: no AVX without saved AVX registers.
std::uint32_t DetectCpu() noexcept {
  std::uint32_t found = 0;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found |= kAvx2;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    found |= kAvx512;
    if (__builtin_cpu_supports("avx512bf16")) found |= kAvx512Bf16;
    if (MayUseAmx()) found |= kAmxBf16;
  }
#endif
  return found;
}

}  // namespace

const Kernels* const* AllKernels() noexcept { return kMostAskedFirst; }

bool CanRun(const Kernels& kernels) noexcept {
  static const std::uint32_t cpu = DetectCpu();
  return (kernels.required_features & ~cpu) == 0;
}

const Kernels* ChooseKernels(const char* forced) noexcept {
  for (const Kernels* const* k = AllKernels(); *k != nullptr; ++k) {
    const bool is_chosen = forced != nullptr ? std::string_view(forced) == (*k)->name
                                             : !(*k)->rounds_to_bf16 || Bf16IsFaster();
    if (!is_chosen) continue;
    if (CanRun(**k)) return *k;
  }
  return nullptr;
}

const Kernels* ActiveKernels() noexcept {
  static const Kernels* const active = ChooseKernels(std::getenv("ASTER_ISA"));
  return active;
}

std::size_t KernelScratchBytes(int n_rows, int head_dim, int head_dim_v) noexcept {
  const std::size_t q = PaddedDimK(static_cast<std::size_t>(head_dim));
  const std::size_t out = PaddedDimV(static_cast<std::size_t>(head_dim_v));
  const std::size_t rows = (static_cast<std::size_t>(n_rows) + 31) / 32 * 32;  // AMX's blocks
  // Q starts at the front and the running output at the next 64-byte line.
  return rows * (q + out) * sizeof(float) + 64;
}

}  // namespace aster
