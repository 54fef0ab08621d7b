// Block formats as ggml-common.h lays them out, in loops that GCC vectorises for any x86-64 (for
// AVX2 it made them three times slower). Built without contraction to fused multiply-add, which
// would round otherwise than ggml's conversions do.
#include "llama/dequantize.h"

#include <array>
#include <cstring>

#include "ggml-cpu.h"
#define GGML_COMMON_DECL_C
#include "ggml-common.h"

namespace aster {
namespace {

// The eight bits of a byte as eight bytes, 16 for a one: the fifth bits of eight values.
constexpr std::array<std::array<std::uint8_t, 8>, 256> FifthBits() {
  std::array<std::array<std::uint8_t, 8>, 256> table{};
  for (std::size_t byte = 0; byte < 256; ++byte) {
    for (std::size_t bit = 0; bit < 8; ++bit) table[byte][bit] = byte >> bit & 1 ? 16 : 0;
  }
  return table;
}
constexpr auto kFifthBits = FifthBits();
constexpr std::uint8_t kNoFifth[4] = {};

// The 32 values of a block, a byte each: value i has its low bits in the low half of packed[i],
// value 16 + i in the high half; their fifth bits are those of `fifth`. Eight at a time, in one
// register.
void Unpack(const std::uint8_t* packed, const std::uint8_t* fifth, std::uint8_t* values) {
  for (int i = 0; i < 2; ++i) {
    std::uint64_t both;
    std::uint64_t fifths[2];
    std::memcpy(&both, packed + 8 * i, 8);
    std::memcpy(&fifths[0], kFifthBits[fifth[i]].data(), 8);
    std::memcpy(&fifths[1], kFifthBits[fifth[2 + i]].data(), 8);
    const std::uint64_t low = (both & 0x0F0F0F0F0F0F0F0F) | fifths[0];
    const std::uint64_t high = (both >> 4 & 0x0F0F0F0F0F0F0F0F) | fifths[1];
    std::memcpy(values + 8 * i, &low, 8);
    std::memcpy(values + 16 + 8 * i, &high, 8);
  }
}

template <class Block>
void Unpack(const Block& block, std::uint8_t* values) {
  if constexpr (requires { block.qh; }) {
    Unpack(block.qs, block.qh, values);
  } else {
    Unpack(block.qs, kNoFifth, values);
  }
}

// A row of blocks of 32 values with a scale; values count from `zero`.
template <class Block, int zero>
void Scaled(const void* row, float* __restrict out, std::int64_t k) {
  const auto* blocks = static_cast<const Block*>(row);
  std::uint8_t values[32];
  for (std::int64_t b = 0; b < k / 32; ++b, out += 32) {
    const float scale = ggml_fp16_to_fp32(blocks[b].d);
    Unpack(blocks[b], values);
    for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(values[i] - zero) * scale;
  }
}

// A row of blocks of 32 values with a scale and a least value.
template <class Block>
void ScaledAndShifted(const void* row, float* __restrict out, std::int64_t k) {
  const auto* blocks = static_cast<const Block*>(row);
  std::uint8_t values[32];
  for (std::int64_t b = 0; b < k / 32; ++b, out += 32) {
    const float scale = ggml_fp16_to_fp32(blocks[b].d);
    const float least = ggml_fp16_to_fp32(blocks[b].m);
    Unpack(blocks[b], values);
    for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(values[i]) * scale + least;
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
      return Scaled<block_q4_0, 8>;
    case GGML_TYPE_Q4_1:
      return ScaledAndShifted<block_q4_1>;
    case GGML_TYPE_Q5_0:
      return Scaled<block_q5_0, 16>;
    case GGML_TYPE_Q5_1:
      return ScaledAndShifted<block_q5_1>;
    case GGML_TYPE_Q6_K:
      return Q6_K;
    case GGML_TYPE_F16:
      return F16;
    default:
      return ggml_get_type_traits(type)->to_float;
  }
}

}  // namespace aster
