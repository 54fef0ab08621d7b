// Every weight type: our conversion of a row gives the floats that ggml's own gives.

#include "llama/dequantize.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace aster {
namespace {

class Dequantize : public testing::TestWithParam<ggml_type> {};

// Length of a test's row: a whole number of blocks of every type.
constexpr std::int64_t kLength = 1536;

TEST_P(Dequantize, IsBitForBitGgmls) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(kLength);
  for (float& value : values) value = normal(random);
  std::vector<std::uint8_t> row(ggml_row_size(GetParam(), kLength));
  ggml_quantize_chunk(GetParam(), values.data(), row.data(), 0, 1, kLength, nullptr);
  std::vector<float> ours(kLength);
  std::vector<float> ggmls(kLength);
  RowDequantizer(GetParam())(row.data(), ours.data(), kLength);
  ggml_get_type_traits(GetParam())->to_float(row.data(), ggmls.data(), kLength);
  EXPECT_NE(ggmls.front(), 0.0f);
  EXPECT_EQ(std::memcmp(ours.data(), ggmls.data(), kLength * sizeof(float)), 0);
}

INSTANTIATE_TEST_SUITE_P(Types, Dequantize,
                         testing::Values(GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0,
                                         GGML_TYPE_Q5_1, GGML_TYPE_Q6_K, GGML_TYPE_F16),
                         [](const auto& type) { return ggml_type_name(type.param); });

TEST(DequantizeTypes, TheRestAreGgmlsAndF32HasNone) {
  EXPECT_EQ(RowDequantizer(GGML_TYPE_Q8_0), ggml_get_type_traits(GGML_TYPE_Q8_0)->to_float);
  EXPECT_EQ(RowDequantizer(GGML_TYPE_F32), nullptr);
}

}  // namespace
}  // namespace aster
