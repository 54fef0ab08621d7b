// Dense attention against stock llama.cpp, on tiny random models of every shape of attention.

#include <gtest/gtest.h>

#include "models/compare.h"
#include "support/tiny_gguf.h"

namespace aster {
namespace {

struct Case {
  const char* name;
  TinyArchitecture architecture;
  int n_heads;
  int n_kv_heads;
  int head_dim;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

const Case kCases[] = {
    {"llama_GQA_64", TinyArchitecture::kLlama, 4, 2, 64},
    {"llama_MHA_80", TinyArchitecture::kLlama, 4, 4, 80},
    {"llama_MQA_96", TinyArchitecture::kLlama, 6, 1, 96},
    {"llama_GQA_128", TinyArchitecture::kLlama, 4, 2, 128},
    {"llama_GQA_256", TinyArchitecture::kLlama, 4, 2, 256},
    {"llama_MHA_32", TinyArchitecture::kLlama, 4, 4, 32},
    {"qwen2_GQA_64", TinyArchitecture::kQwen2, 6, 2, 64},
    {"qwen3_GQA_128", TinyArchitecture::kQwen3, 4, 2, 128},
    {"qwen3moe_GQA_64", TinyArchitecture::kQwen3Moe, 4, 2, 64},
    {"gemma2_GQA_256", TinyArchitecture::kGemma2, 4, 2, 256},
    {"gemma2_GQA_64", TinyArchitecture::kGemma2, 4, 2, 64},
    {"gemma3_MQA_256", TinyArchitecture::kGemma3, 4, 1, 256},
    {"gemma3_GQA_80", TinyArchitecture::kGemma3, 4, 2, 80},
    {"gptoss_GQA_64", TinyArchitecture::kGptOss, 4, 2, 64},
    {"gpt2_MHA_64", TinyArchitecture::kGpt2, 4, 4, 64},
};

class TinyModels : public ::testing::TestWithParam<Case> {
 protected:
  TinyModels() : file_(MakeModel(GetParam())), model_(MustLoad(file_.path())) {}

  static TinyModel MakeModel(const Case& c) {
    TinyModel model;
    model.architecture = c.architecture;
    model.n_heads = c.n_heads;
    model.n_kv_heads = c.n_kv_heads;
    model.head_dim = c.head_dim;
    return model;
  }

  std::vector<Token> Tokens() const { return RandomTokens(420, model_->n_vocab(), 11); }

  TinyGgufFile file_;
  std::unique_ptr<LlamaModel> model_;
};

TEST_P(TinyModels, DenseIsStockLlamaUpToTheRoundingOfABf16Cache) {
  RunOptions options;
  const std::vector<Token> tokens = Tokens();
  const Logits stock = RunStock(*model_, tokens, options);
  const Divergence ours = Compare(stock, RunAster(*model_, tokens, options));
  const Divergence bf16 = Compare(stock, RunStock(*model_, tokens, options, StockCache::kBf16));
  std::printf(
      "[   KL     ] %-16s Aster %.2e (max %.2e, same top %.3f), stock with bf16 cache %.2e "
      "(max %.2e, same top %.3f)\n",
      GetParam().name, ours.mean_kl, ours.max_kl, ours.same_top, bf16.mean_kl, bf16.max_kl,
      bf16.same_top);
  EXPECT_EQ(stock.n_rows(), 256);
  EXPECT_LT(ours.mean_kl, 0.005);
  EXPECT_GT(ours.mean_kl, 0) << "the same numbers to the last bit: was the device used at all?";
}

TEST_P(TinyModels, TheUbatchSizeChangesNothingButRounding) {
  RunOptions options;
  const std::vector<Token> tokens = Tokens();
  const Logits expected = RunAster(*model_, tokens, options);
  for (const std::int64_t ubatch_size : {37, 420}) {
    options.ubatch_size = ubatch_size;
    const Divergence d = Compare(expected, RunAster(*model_, tokens, options));
    EXPECT_LT(d.mean_kl, 1e-4) << "ubatch size " << ubatch_size;
  }
}

INSTANTIATE_TEST_SUITE_P(Each, TinyModels, ::testing::ValuesIn(kCases),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace aster
