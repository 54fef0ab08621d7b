// The AMX kernels over SIMDe and an emulation of the tile instructions, so that every machine tests
// them. A tile's shape is checked as the CPU would: what it is not set up for ends the test.
#include <cstdlib>
#include <cstring>

#include "attention/isa/amx-inl.h"

namespace {

class EmulatedTiles {
 public:
  explicit EmulatedTiles(int n_pairs) { Configure(n_pairs); }
  ~EmulatedTiles() {
    for (Tile& tile : tiles) tile = {};
  }
  EmulatedTiles(const EmulatedTiles&) = delete;
  EmulatedTiles& operator=(const EmulatedTiles&) = delete;

  static void Configure(int n_pairs) {
    for (int i = 0; i < 8; ++i) {
      tiles[i] = {};
      tiles[i].rows = i < 6 ? 16 : n_pairs;
      tiles[i].row_bytes = i == 4 || i == 5 ? 4 * n_pairs : 64;
    }
  }
  template <int tile>
  static void Zero() {
    if (tiles[tile].rows == 0) std::abort();
    std::memset(tiles[tile].bytes, 0, sizeof tiles[tile].bytes);
  }
  template <int tile>
  static void Load(const void* from, std::int64_t stride) {
    Zero<tile>();
    for (int r = 0; r < tiles[tile].rows; ++r) {
      std::memcpy(tiles[tile].bytes[r], static_cast<const char*>(from) + r * stride,
                  static_cast<std::size_t>(tiles[tile].row_bytes));
    }
  }
  template <int tile>
  static void Store(void* to, std::int64_t stride) {
    if (tiles[tile].rows == 0) std::abort();
    for (int r = 0; r < tiles[tile].rows; ++r) {
      std::memcpy(static_cast<char*>(to) + r * stride, tiles[tile].bytes[r],
                  static_cast<std::size_t>(tiles[tile].row_bytes));
    }
  }
  template <int c, int a, int b>
  static void Multiply() {
    if (tiles[a].row_bytes != 4 * tiles[b].rows || tiles[c].rows != tiles[a].rows) std::abort();
    for (int r = 0; r < tiles[c].rows; ++r) {
      float sums[16];
      std::memcpy(sums, tiles[c].bytes[r], sizeof sums);
      for (int pair = 0; pair < tiles[b].rows; ++pair) {
        const float left0 = Element(tiles[a], r, 2 * pair);
        const float left1 = Element(tiles[a], r, 2 * pair + 1);
        for (int i = 0; i < 16; ++i) {
          sums[i] += left0 * Element(tiles[b], pair, 2 * i);
          sums[i] += left1 * Element(tiles[b], pair, 2 * i + 1);
        }
      }
      std::memcpy(tiles[c].bytes[r], sums, sizeof sums);
    }
  }

 private:
  struct Tile {
    int rows, row_bytes;
    unsigned char bytes[16][64];
  };
  static float Element(const Tile& tile, int row, int at) {
    std::uint32_t bits = 0;
    std::memcpy(reinterpret_cast<char*>(&bits) + 2, tile.bytes[row] + 2 * at, 2);
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
  static thread_local Tile tiles[8];
};
thread_local EmulatedTiles::Tile EmulatedTiles::tiles[8];

}  // namespace

namespace aster {
extern const Kernels kAmxEmulatedKernels = {
    "amx_emulated", kAvx2, Amx<EmulatedTiles>::kRowsPerBlock, true, &AttendByTiles<EmulatedTiles>};
}  // namespace aster
