// Block formats as ggml-common.h lays them out. Built without contraction to fused multiply-add,
// which would round otherwise than ggml's conversions do.
#include "llama/dequantize.h"

#include "ggml-cpu.h"
#define GGML_COMMON_DECL_C
#include "ggml-common.h"

// GCC builds these for each of the CPUs and picks one when the program is loaded.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define ASTER_FOR_EACH_CPU __attribute__((target_clones("default", "arch=haswell", "avx512f")))
#else
#define ASTER_FOR_EACH_CPU
#endif

namespace aster {
namespace {

ASTER_FOR_EACH_CPU
void Q4_0(const void* row, float* __restrict out, std::int64_t k) {
  const auto* blocks = static_cast<const block_q4_0*>(row);
  for (std::int64_t b = 0; b < k / QK4_0; ++b, out += QK4_0) {
    const float scale = ggml_fp16_to_fp32(blocks[b].d);
    const std::uint8_t* __restrict packed = blocks[b].qs;
    for (int i = 0; i < 16; ++i) out[i] = static_cast<float>((packed[i] & 15) - 8) * scale;
    for (int i = 0; i < 16; ++i) out[16 + i] = static_cast<float>((packed[i] >> 4) - 8) * scale;
  }
}

ASTER_FOR_EACH_CPU
void Q4_1(const void* row, float* __restrict out, std::int64_t k) {
  const auto* blocks = static_cast<const block_q4_1*>(row);
  for (std::int64_t b = 0; b < k / QK4_1; ++b, out += QK4_1) {
    const float scale = ggml_fp16_to_fp32(blocks[b].d);
    const float least = ggml_fp16_to_fp32(blocks[b].m);
    const std::uint8_t* __restrict packed = blocks[b].qs;
    for (int i = 0; i < 16; ++i) out[i] = static_cast<float>(packed[i] & 15) * scale + least;
    for (int i = 0; i < 16; ++i) out[16 + i] = static_cast<float>(packed[i] >> 4) * scale + least;
  }
}

// 16 values of a Q6_K block: the low four bits at `low` and the high two at `high`, each shifted.
inline void Sixteen(const std::uint8_t* __restrict low, int low_shift,
                    const std::uint8_t* __restrict high, int high_shift, float scale,
                    float* __restrict out) {
  for (int i = 0; i < 16; ++i) {
    const int value = (low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4;
    out[i] = scale * static_cast<float>(value - 32);
  }
}

ASTER_FOR_EACH_CPU
void Q6_K(const void* row, float* __restrict out, std::int64_t k) {
  const auto* blocks = static_cast<const block_q6_K*>(row);
  for (std::int64_t b = 0; b < k / QK_K; ++b, out += QK_K) {
    const float scale = ggml_fp16_to_fp32(blocks[b].d);
    for (int group = 0; group < 16; ++group) {  // 16 values, one scale
      const int half = group / 8;               // 128 values: 64 bytes of low bits, 32 of high
      const int quarter = group % 8 / 2;        // 32 values
      const int lane = group % 2 * 16;
      const std::uint8_t* low = blocks[b].ql + 64 * half + 32 * (quarter % 2) + lane;
      const std::uint8_t* high = blocks[b].qh + 32 * half + lane;
      Sixteen(low, quarter / 2 * 4, high, quarter * 2,
              scale * static_cast<float>(blocks[b].scales[group]), out + 16 * group);
    }
  }
}

void F16(const void* row, float* out, std::int64_t k) {
  ggml_cpu_fp16_to_fp32(static_cast<const ggml_fp16_t*>(row), out, k);
}

}  // namespace

DequantizeRow RowDequantizer(ggml_type type) {
  switch (type) {
    case GGML_TYPE_Q4_0:
      return Q4_0;
    case GGML_TYPE_Q4_1:
      return Q4_1;
    case GGML_TYPE_Q6_K:
      return Q6_K;
    case GGML_TYPE_F16:
      return F16;
    default:
      return ggml_get_type_traits(type)->to_float;
  }
}

}  // namespace aster
