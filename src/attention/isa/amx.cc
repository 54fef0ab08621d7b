// The AMX kernels' table, and the tile instructions. Those are written in assembly, because GCC
// 12's intrinsics do not tell the compiler that a tile load reads memory, and its _tile_loadconfig
// names 8 of the 64 bytes that it reads: stores before them may be dropped.
#include "attention/isa/amx-inl.h"

namespace {

class CpuTiles {
 public:
  // ggml sets its own tiles up once per thread and relies on them ever after: what was there when
  // this object was made is put back when it goes.
  explicit CpuTiles(int n_pairs) {
    asm volatile("sttilecfg %0" : "=m"(before_));
    Configure(n_pairs);
  }
  ~CpuTiles() {
    if (before_.palette != 0) {
      asm volatile("ldtilecfg %0" : : "m"(before_));
    } else {
      asm volatile("tilerelease" : : : "memory");
    }
  }
  CpuTiles(const CpuTiles&) = delete;
  CpuTiles& operator=(const CpuTiles&) = delete;

  // Tiles 0 to 3 are 16 x 16 sums; 4 and 5 hold n_pairs of 16 rows, 6 and 7 of 16 columns.
  static void Configure(int n_pairs) {
    Config config = {};
    config.palette = 1;
    for (int i = 0; i < 8; ++i) {
      config.rows[i] = static_cast<std::uint8_t>(i < 6 ? 16 : n_pairs);
      config.row_bytes[i] = static_cast<std::uint16_t>(i == 4 || i == 5 ? 4 * n_pairs : 64);
    }
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  template <int tile>
  static void Zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(tile));
  }
  template <int tile>
  static void Load(const void* from, std::int64_t stride) {
    asm volatile("tileloadd (%0,%1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(tile) : "memory");
  }
  template <int tile>
  static void Store(void* to, std::int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1)" : : "r"(to), "r"(stride), "i"(tile) : "memory");
  }
  // tile c += tile a x tile b, pairs of bf16 into f32.
  template <int c, int a, int b>
  static void Multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(c), "i"(a), "i"(b));
  }

 private:
  struct alignas(64) Config {  // Intel SDM, LDTILECFG
    std::uint8_t palette, start_row, reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
  };
  static_assert(sizeof(Config) == 64);

  Config before_ = {};
};

}  // namespace

namespace aster {
extern const Kernels kAmxKernels = {"amx", kAvx512 | kAvx512Bf16 | kAmxBf16,
                                    Amx<CpuTiles>::kRowsPerBlock, true, &AttendByTiles<CpuTiles>};
}  // namespace aster
