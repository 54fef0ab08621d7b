#include "attention/kernels.h"

#include <cstdlib>
#include <string_view>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace aster {

#if defined(__x86_64__)
extern const Kernels kAmxKernels, kAvx512Kernels, kAvx2Kernels;
#endif
extern const Kernels kScalarKernels;

namespace {

constexpr const Kernels* kFastestFirst[] = {
#if defined(__x86_64__)
    &kAmxKernels,    &kAvx512Kernels, &kAvx2Kernels,
#endif
    &kScalarKernels, nullptr,
};

// AMX with bf16. Linux saves tiles only for a process that has asked for it:
// Documentation/arch/x86/ xstate.rst. GCC 12's __builtin_cpu_supports knows no AMX, so CPUID leaf 7
// (EDX: bit 22 AMX-BF16, bit 24 AMX-TILE) and the operating system's XCR0 (bits 17 and 18) are read
// by hand.
bool HasAmxBf16() noexcept {
#if defined(__x86_64__) && defined(__linux__)
  constexpr unsigned kBits = 1u << 22 | 1u << 24, kOsxsave = 1u << 27, kTileState = 3u << 17;
  constexpr long kReqXcompPerm = 0x1023, kTileData = 18;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & kOsxsave) == 0) return false;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kBits) != kBits) return false;
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & kTileState) != kTileState) return false;
  return syscall(SYS_arch_prctl, kReqXcompPerm, kTileData) == 0;
#else
  return false;
#endif
}

// __builtin_cpu_supports asks the operating system too: no AVX without saved AVX registers.
std::uint32_t DetectCpu() noexcept {
  std::uint32_t found = 0;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found |= kAvx2;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bf16")) {
    found |= kAvx512;
    if (HasAmxBf16()) found |= kAmxBf16;
  }
#endif
  return found;
}

}  // namespace

const Kernels* const* AllKernels() noexcept { return kFastestFirst; }

bool CanRun(const Kernels& kernels) noexcept {
  static const std::uint32_t cpu = DetectCpu();
  return (kernels.required_features & ~cpu) == 0;
}

const Kernels* ChooseKernels(const char* forced) noexcept {
  for (const Kernels* const* k = AllKernels(); *k != nullptr; ++k) {
    if (forced != nullptr && std::string_view(forced) != (*k)->name) continue;
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
