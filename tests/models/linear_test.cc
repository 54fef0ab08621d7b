// Linear layers by oneDNN against products in double, for weights in memory and in files.
#include "llama/linear.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "gguf.h"
#include "llama/dequantize.h"

namespace aster {
namespace {

using Precision = LinearLayers::Precision;

float Bf16(float x) { return ggml_bf16_to_fp32(ggml_fp32_to_bf16(x)); }

// One product: a weight of random values, rows of random values, and room for the result.
class Product {
 public:
  Product(ggml_type type, std::int64_t k, std::int64_t m, std::int64_t n)
      : context_(ggml_init({std::size_t{64} << 20, nullptr, false}), ggml_free) {
    weight = ggml_new_tensor_2d(context_.get(), type, k, m);
    ggml_set_name(weight, "some.weight");
    rows = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, k, n);
    op = ggml_mul_mat(context_.get(), weight, rows);
    std::mt19937 random(static_cast<unsigned>(k * m * n));
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<std::size_t>(k * m));
    for (float& value : values) value = normal(random);
    ggml_quantize_chunk(type, values.data(), weight->data, 0, m, k, nullptr);
    for (std::int64_t i = 0; i < n * k; ++i) Rows()[i] = normal(random);
  }

  float* Rows() { return static_cast<float*>(rows->data); }
  std::vector<float> Result() const {
    const auto* data = static_cast<const float*>(op->data);
    return {data, data + ggml_nelements(op)};
  }

  // The same in double, with both sides rounded as the precision says.
  std::vector<double> Law(Precision precision) {
    const std::int64_t k = weight->ne[0], m = weight->ne[1], n = rows->ne[1];
    const auto round = [&](float x) -> double {
      return precision == Precision::kBf16 ? Bf16(x) : x;
    };
    std::vector<double> rounded(static_cast<std::size_t>(n * k)),
        weights(static_cast<std::size_t>(k));
    std::transform(Rows(), Rows() + n * k, rounded.begin(), round);
    std::vector<float> row(static_cast<std::size_t>(k));
    std::vector<double> law(static_cast<std::size_t>(m * n));
    for (std::int64_t j = 0; j < m; ++j) {
      const char* packed = static_cast<const char*>(weight->data) + j * weight->nb[1];
      const auto to_float = ggml_get_type_traits(weight->type)->to_float;
      if (to_float != nullptr) {
        to_float(packed, row.data(), k);
      } else {
        std::copy_n(reinterpret_cast<const float*>(packed), k, row.begin());
      }
      std::ranges::transform(row, weights.begin(), round);
      for (std::int64_t i = 0; i < n; ++i) {
        law[static_cast<std::size_t>(i * m + j)] =
            std::inner_product(weights.begin(), weights.end(), rounded.begin() + i * k, 0.0);
      }
    }
    return law;
  }

  ggml_tensor *weight, *rows, *op;

 private:
  std::unique_ptr<ggml_context, decltype(&ggml_free)> context_;
};

std::unique_ptr<LinearLayers> Make(Precision precision, const std::string& path = "") {
  return LinearLayers::Make({2, precision, path});
}

// Sums of k products of unit deviation, in f32.
void ExpectLawful(const std::vector<float>& got, const std::vector<double>& want, std::int64_t k) {
  ASSERT_EQ(got.size(), want.size());
  const double allowed = 1e-6 * static_cast<double>(k);
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], allowed) << "at " << i;
}

struct Case {
  ggml_type type;
  Precision precision;
};

class Linear : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (Make(Precision::kF32) == nullptr) GTEST_SKIP() << "this build has no oneDNN";
  }
};

TEST_P(Linear, IsTheProductInDouble) {
  struct Shape {
    std::int64_t k, m, n;
  };
  // The last two take several runs of rows, and the last several panels, too.
  for (const auto& [k, m, n] :
       {Shape{256, 1, 48}, {256, 33, 49}, {512, 64, 600}, {4096, 300, 300}}) {
    Product product(GetParam().type, k, m, n);
    const auto linear = Make(GetParam().precision);
    ASSERT_TRUE(linear->Serves(product.op));
    EXPECT_EQ(linear->Compute(product.op), "");
    ExpectLawful(product.Result(), product.Law(GetParam().precision), k);
    linear->Release();
    EXPECT_EQ(linear->Compute(product.op), "");
    ExpectLawful(product.Result(), product.Law(GetParam().precision), k);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Types, Linear,
    testing::Values(Case{GGML_TYPE_F32, Precision::kF32}, Case{GGML_TYPE_F32, Precision::kBf16},
                    Case{GGML_TYPE_BF16, Precision::kF32}, Case{GGML_TYPE_BF16, Precision::kBf16},
                    Case{GGML_TYPE_F16, Precision::kBf16}, Case{GGML_TYPE_Q8_0, Precision::kF32},
                    Case{GGML_TYPE_Q8_0, Precision::kBf16}, Case{GGML_TYPE_Q4_K, Precision::kF32},
                    Case{GGML_TYPE_Q4_K, Precision::kBf16}),
    [](const auto& at) {
      return std::string(ggml_type_name(at.param.type)) +
             (at.param.precision == Precision::kBf16 ? "_in_bf16" : "_in_f32");
    });

TEST(LinearServes, NoFewRows) {
  const auto linear = Make(Precision::kF32);
  if (linear == nullptr) GTEST_SKIP() << "this build has no oneDNN";
  EXPECT_FALSE(linear->Serves(Product(GGML_TYPE_Q8_0, 256, 32, LinearLayers::kMinRows - 1).op));
  EXPECT_TRUE(linear->Serves(Product(GGML_TYPE_Q8_0, 256, 32, LinearLayers::kMinRows).op));
}

// A weight that ggml keeps in a buffer of its own making, and a GGUF file that has it as it was.
class RepackedWeight : public testing::Test {
 protected:
  void SetUp() override {
    if (Make(Precision::kF32) == nullptr) GTEST_SKIP() << "this build has no oneDNN";
    ggml_backend_reg_t cpu = ggml_backend_cpu_reg();
    const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
        ggml_backend_reg_get_proc_address(cpu, "ggml_backend_dev_get_extra_bufts"));
    ggml_backend_buffer_type_t* types = extra(ggml_backend_reg_dev_get(cpu, 0));
    if (types == nullptr || *types == nullptr) GTEST_SKIP() << "ggml repacks nothing on this CPU";
    buffer_.reset(ggml_backend_buft_alloc_buffer(*types, 4096));
    linear_ = Make(Precision::kF32);
    ASSERT_EQ(linear_->Compute(product_.op), "");
    plain_ = product_.Result();
    std::fill_n(static_cast<float*>(product_.op->data), ggml_nelements(product_.op), -1.0f);
  }
  void TearDown() override {
    for (const std::string& path : written_) std::remove(path.c_str());
  }

  // Writes the weight into the file of that name; `part` of two, or 0: the only one.
  std::string Write(const std::string& name, int part, const char* tensor) {
    const std::string path = testing::TempDir() + std::to_string(getpid()) + "-" + name;
    std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(gguf_init_empty(), gguf_free);
    if (part > 0) {
      gguf_set_val_u16(gguf.get(), "split.count", 2);
      gguf_set_val_u16(gguf.get(), "split.no", static_cast<std::uint16_t>(part - 1));
    }
    ggml_set_name(product_.weight, tensor);
    gguf_add_tensor(gguf.get(), product_.weight);
    EXPECT_TRUE(gguf_write_to_file(gguf.get(), path.c_str(), false));
    ggml_set_name(product_.weight, "some.weight");
    written_.push_back(path);
    return path;
  }
  // The file's weight gives what the plain one gave.
  void ExpectServedFrom(const std::string& path) {
    linear_ = Make(Precision::kF32, path);
    Repack();
    ASSERT_TRUE(linear_->Serves(product_.op));
    EXPECT_EQ(linear_->Compute(product_.op), "");
    EXPECT_EQ(product_.Result(), plain_);
  }
  // From now on the bytes in memory are no rows.
  void Repack() {
    product_.weight->buffer = buffer_.get();
    std::fill_n(static_cast<char*>(product_.weight->data), ggml_nbytes(product_.weight), '\x7f');
  }

  Product product_{GGML_TYPE_Q4_0, 4096, 300, 50};
  std::unique_ptr<ggml_backend_buffer, decltype(&ggml_backend_buffer_free)> buffer_{
      nullptr, ggml_backend_buffer_free};
  std::unique_ptr<LinearLayers> linear_;
  std::vector<float> plain_;
  std::vector<std::string> written_;
};

TEST_F(RepackedWeight, IsReadFromTheModelsFile) {
  ExpectServedFrom(Write("aster-linear.gguf", 0, "some.weight"));
}

TEST_F(RepackedWeight, IsFoundInAnyPartOfASplitModel) {
  const std::string first = Write("aster-linear-00001-of-00002.gguf", 1, "another.weight");
  Write("aster-linear-00002-of-00002.gguf", 2, "some.weight");
  ExpectServedFrom(first);
}

TEST_F(RepackedWeight, IsLeftToGgmlWhereNoFileHasIt) {
  const std::string path = Write("aster-linear.gguf", 0, "another.weight");
  Repack();
  EXPECT_FALSE(Make(Precision::kF32, path)->Serves(product_.op));
  EXPECT_FALSE(Make(Precision::kF32, "/nowhere/model.gguf")->Serves(product_.op));
}

TEST_F(RepackedWeight, OfAFileThatWasCutIsAnError) {
  const std::string path = Write("aster-linear.gguf", 0, "some.weight");
  linear_ = Make(Precision::kF32, path);
  Repack();
  ASSERT_TRUE(linear_->Serves(product_.op));
  ASSERT_EQ(truncate(path.c_str(), 20000), 0);
  EXPECT_EQ(linear_->Compute(product_.op), "cannot read some.weight from " + path +
                                               " again: the file was changed since it was loaded");
}

}  // namespace
}  // namespace aster
