// AMX, the tile multiplier of Intel's CPUs: whether this process may use it, and the calling
// thread's set-up of its tiles, which ggml makes once per thread and relies on ever after.
#pragma once

namespace aster {

// Whether the CPU multiplies tiles of bf16 and the system lets this process do so. Asks the system
// for it on the first call (Linux: Documentation/arch/x86/xstate.rst).
bool MayUseAmx() noexcept;

// LDTILECFG's operand. All zeros: no tiles.
struct alignas(64) TileSetup {
  unsigned char bytes[64] = {};
};

// REQUIRES: MayUseAmx().
TileSetup ReadTileSetup() noexcept;
void WriteTileSetup(const TileSetup& setup) noexcept;

}  // namespace aster
