// The tiny models as llama.cpp alone sees them: they load, they run, and what each is there for
// (windows, sinks, caps, an early token) changes what comes out.
#include "support/tiny_gguf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "llama.h"

namespace aster {

void PrintTo(const TinyModel& m, std::ostream* out) {
  *out << ArchitectureName(m.architecture) << ", " << m.n_heads << " heads, " << m.n_kv_heads
       << " KV heads of " << m.head_dim << (m.f16 ? ", f16" : "");
}

namespace {

using enum TinyArchitecture;

struct Free {
  void operator()(llama_model* model) const { llama_model_free(model); }
  void operator()(llama_context* context) const { llama_free(context); }
};
using Loaded = std::unique_ptr<llama_model, Free>;

Loaded Load(const TinyModel& model) {
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  const TinyGgufFile file(model);
  llama_model_params params = llama_model_default_params();
  params.check_tensors = true;
  return Loaded(llama_model_load_from_file(file.path().c_str(), params));
}

using Logits = std::vector<float>;

// Logits after the tokens, and after each of the `n_more` greedy ones that follow.
std::vector<Logits> Decode(llama_model* model, std::vector<llama_token> tokens, int n_more) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = 256;
  params.n_threads = params.n_threads_batch = 1;
  const std::unique_ptr<llama_context, Free> context(llama_init_from_model(model, params));
  const int n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
  std::vector<Logits> all;
  for (int i = 0; i <= n_more; ++i) {
    const int n_tokens = static_cast<int>(tokens.size());
    if (llama_decode(context.get(), llama_batch_get_one(tokens.data(), n_tokens)) != 0) return {};
    const float* logits = llama_get_logits_ith(context.get(), -1);
    all.emplace_back(logits, logits + n_vocab);
    const auto best = std::max_element(all.back().begin(), all.back().end());
    tokens = {static_cast<llama_token>(best - all.back().begin())};
  }
  return all;
}

std::vector<llama_token> Prompt() {
  std::vector<llama_token> tokens = {1};
  for (int i = 0; i < 100; ++i) tokens.push_back(5 + i * 37 % 280);
  return tokens;
}

float LargestDifference(const Logits& a, const Logits& b) {
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

class ServedModels : public testing::TestWithParam<TinyModel> {};

TEST_P(ServedModels, LoadAndDecodeVariedFiniteLogits) {
  const Loaded model = Load(GetParam());
  ASSERT_NE(model, nullptr);
  const std::vector<Logits> all = Decode(model.get(), Prompt(), 24);
  ASSERT_EQ(all.size(), 25u);
  std::set<std::ptrdiff_t> chosen;
  for (const Logits& logits : all) {
    for (const float logit : logits) ASSERT_TRUE(std::isfinite(logit));
    const auto [least, most] = std::minmax_element(logits.begin(), logits.end());
    EXPECT_GT(*most - *least, 5.0f);
    chosen.insert(most - logits.begin());
  }
  EXPECT_GE(chosen.size(), 5u) << "the greedy path runs in a circle";
}

TEST_P(ServedModels, AnEarlyTokenMovesTheLastLogits) {
  const Loaded model = Load(GetParam());
  ASSERT_NE(model, nullptr);
  std::vector<llama_token> other = Prompt();
  std::reverse(other.begin() + 1, other.begin() + 40);
  EXPECT_GT(LargestDifference(Decode(model.get(), Prompt(), 0).at(0),
                              Decode(model.get(), other, 0).at(0)),
            0.5f);
}

std::vector<TinyModel> Served() {
  std::vector<TinyModel> models;
  for (const auto a : {kLlama, kQwen2, kQwen3, kQwen3Moe, kGemma2, kGemma3, kGptOss, kGpt2}) {
    models.push_back({.architecture = a});
    models.push_back({.architecture = a, .f16 = true, .seed = 2});
  }
  for (const int head_dim : {32, 80, 96, 128, 256}) {
    models.push_back({.n_heads = 2, .n_kv_heads = 1, .head_dim = head_dim});
  }
  models.push_back({.n_heads = 4, .n_kv_heads = 4});
  models.push_back({.n_heads = 4, .n_kv_heads = 1});
  return models;
}

INSTANTIATE_TEST_SUITE_P(Tiny, ServedModels, testing::ValuesIn(Served()));

class RefusedModels : public testing::TestWithParam<TinyArchitecture> {};

TEST_P(RefusedModels, LoadInLlamaCpp) { EXPECT_NE(Load({.architecture = GetParam()}), nullptr); }

INSTANTIATE_TEST_SUITE_P(Tiny, RefusedModels,
                         testing::Values(kBloom, kMamba, kT5, kBert, kDream, kLongRope,
                                         kMiniMaxM3));

TEST(TinyModels, WindowsChangeWhatSlidingLayersSee) {
  for (const TinyArchitecture architecture : {kGemma2, kGemma3, kGptOss}) {
    const Loaded narrow = Load({.architecture = architecture, .sliding_window = 16});
    const Loaded wide = Load({.architecture = architecture, .sliding_window = 64});
    ASSERT_TRUE(narrow && wide);
    EXPECT_GT(LargestDifference(Decode(narrow.get(), Prompt(), 0).at(0),
                                Decode(wide.get(), Prompt(), 0).at(0)),
              0.5f)
        << ArchitectureName(architecture);
  }
}

std::string Bytes(const TinyModel& model) {
  const TinyGgufFile file(model);
  std::ifstream in(file.path(), std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(TinyModels, AreTheSameForOneSeedAndDifferForAnother) {
  EXPECT_EQ(Bytes({.seed = 7}), Bytes({.seed = 7}));
  EXPECT_NE(Bytes({.seed = 7}), Bytes({.seed = 8}));
}

TEST(TinyModels, TokeniseTextWithMergesBytesAndSpecialTokensAndGiveItBack) {
  const Loaded model = Load({});
  ASSERT_NE(model, nullptr);
  const llama_vocab* vocab = llama_model_get_vocab(model.get());
  const std::string text = "<|im_start|>user\nthe king \xc3\xa9<|im_end|>";
  std::vector<llama_token> tokens(100);
  const int n = llama_tokenize(vocab, text.data(), static_cast<int>(text.size()), tokens.data(),
                               100, /*add_special=*/true, /*parse_special=*/true);
  ASSERT_GT(n, 0);
  EXPECT_LT(n, static_cast<int>(text.size()) - 20);
  EXPECT_EQ(tokens[0], 1);
  EXPECT_EQ(tokens[1], 3);
  EXPECT_EQ(tokens[n - 1], 4);
  EXPECT_TRUE(llama_vocab_is_eog(vocab, tokens[n - 1]));
  char back[200];
  const int size = llama_detokenize(vocab, tokens.data(), n, back, sizeof back,
                                    /*remove_special=*/true, /*unparse_special=*/true);
  ASSERT_GT(size, 0);
  EXPECT_EQ(std::string(back, back + size), text);
}

TEST(TinyModels, GoWithTheirFile) {
  std::string path;
  {
    const TinyGgufFile file({});
    path = file.path();
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace aster
