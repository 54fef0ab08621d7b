#include "base/amx.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace aster {

#if defined(__x86_64__) && defined(__linux__)

namespace {

// GCC 12's __builtin_cpu_supports knows no AMX: CPUID leaf 7, EDX bits 22 (AMX-BF16) and 24
// (AMX-TILE), and the system's XCR0 bits 17 and 18, by hand.
bool AskForAmx() noexcept {
  constexpr unsigned kAmx = 1u << 22 | 1u << 24, kOsxsave = 1u << 27, kTileState = 3u << 17;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & kOsxsave) == 0) return false;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kAmx) != kAmx) return false;
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & kTileState) != kTileState) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool MayUseAmx() noexcept {
  static const bool may = AskForAmx();
  return may;
}

TileSetup ReadTileSetup() noexcept {
  TileSetup setup;
  __asm__ volatile("sttilecfg %0" : "=m"(setup));
  return setup;
}

void WriteTileSetup(const TileSetup& setup) noexcept {
  __asm__ volatile("ldtilecfg %0" : : "m"(setup));
}

#else

bool MayUseAmx() noexcept { return false; }
TileSetup ReadTileSetup() noexcept { return {}; }
void WriteTileSetup(const TileSetup&) noexcept {}

#endif

}  // namespace aster
