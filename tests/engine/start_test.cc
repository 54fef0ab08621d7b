// A context that takes over what another had encoded alike answers as it does alone.

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "aster/context.h"
#include "support/tiny_engine.h"
#include "support/tiny_gguf.h"

namespace aster {
namespace {

constexpr int kContext = 300;

PlanOptions Star(std::int64_t block_size, std::int64_t window = 0, std::int64_t overlap = 0) {
  return {Attention::kStar, block_size, -1, window, overlap};
}

class StartTest : public testing::TestWithParam<TinyArchitecture> {
 protected:
  StartTest()
      : file_(TinyModel{.architecture = GetParam()}), model_(MustLoadTiny(file_.path(), 32)) {}

  Result<Context> Encode(const PlanOptions& plan, const Context* start = nullptr,
                         const std::vector<Token>& tokens = SomeTokens(kContext)) {
    EncodeOptions options;
    options.plan = plan;
    options.start = start;
    options.on_progress = [this](const Progress& progress) { last_ = progress; };
    return Context::Encode(model_, tokens, options);
  }

  // The distribution of the first token, whole.
  std::vector<TokenLogprob> Ask(Context& context) {
    AskOptions options;
    options.max_tokens = 1;
    options.n_top_logprobs = 1 << 20;
    const Result<Answer> answer = context.Ask(SomeTokens(4, 3), options);
    if (!answer) ADD_FAILURE() << answer.error().message;
    return answer->top_logprobs;
  }

  static bool Same(const std::vector<TokenLogprob>& a, const std::vector<TokenLogprob>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
      return x.token == y.token && x.logprob == y.logprob;
    });
  }

  TinyGgufFile file_;
  Model model_;
  Progress last_;
};

TEST_P(StartTest, WhatBothPlansEncodeAlikeIsTakenOverAndNothingChanges) {
  struct Case {
    const char* name;
    PlanOptions start, plan;
    std::int64_t n_taken_over;
  };
  const Case cases[] = {
      {"two blocks of dense", {Attention::kDense}, Star(64), 128},
      {"and what a window sees", {Attention::kDense}, Star(64, 1), 192},
      {"what an overlap of half a block adds is no whole block",
       {Attention::kDense},
       Star(64, 0, 32),
       128},
      {"two blocks, of the smaller", Star(96), Star(32), 64},
      {"of a smaller start", Star(32), Star(96), 64},
      {"two blocks for dense", Star(64), {Attention::kDense}, 128},
      {"all of the same", Star(64), Star(64), kContext},
      {"all of dense where a ring has one host", {Attention::kDense}, {Attention::kRing}, kContext},
  };
  for (const Case& c : cases) {
    Result<Context> alone = Encode(c.plan);
    ASSERT_TRUE(alone.ok()) << c.name;
    EXPECT_EQ(alone->n_taken_over(), 0) << c.name;
    const auto want = Ask(*alone);

    std::optional<Context> start = std::move(*Encode(c.start));
    Result<Context> behind = Encode(c.plan, &*start);
    ASSERT_TRUE(behind.ok()) << c.name;
    start.reset();  // what is shared stays
    EXPECT_EQ(behind->n_taken_over(), c.n_taken_over) << c.name;
    EXPECT_EQ(behind->n_encoded(), kContext) << c.name;
    EXPECT_EQ(std::vector<Token>(behind->tokens().begin(), behind->tokens().end()),
              SomeTokens(kContext));
    EXPECT_TRUE(SameRule(behind->plan(), alone->plan())) << c.name;
    if (c.n_taken_over < kContext) {
      EXPECT_EQ(last_.n_done, kContext - c.n_taken_over) << c.name;
      EXPECT_EQ(last_.n_total, last_.n_done) << c.name;
    }
    EXPECT_TRUE(Same(Ask(*behind), want)) << c.name;
  }
  Result<Context> dense = Encode({Attention::kDense}), star = Encode(Star(64));
  EXPECT_FALSE(Same(Ask(*dense), Ask(*star))) << "the model tells plans apart";
}

TEST_P(StartTest, OnlyTokensThatAreTheSameAreTakenOver) {
  const Result<Context> start = Encode({Attention::kDense});
  std::vector<Token> other = SomeTokens(kContext);
  other[100] += 1;
  Result<Context> alone = Encode(Star(64), nullptr, other);
  Result<Context> behind = Encode(Star(64), &*start, other);
  ASSERT_TRUE(alone.ok() && behind.ok());
  EXPECT_EQ(behind->n_taken_over(), 100);
  const auto want = Ask(*alone), got = Ask(*behind);  // steps are cut elsewhere: other last bits
  for (std::size_t i = 0; i < 10; ++i) EXPECT_NEAR(got[i].logprob, want[i].logprob, 0.02) << i;
}

TEST_P(StartTest, StockLlamaTakesAndLendsNothing) {
  const Result<Context> dense = Encode({Attention::kDense}), stock = Encode({Attention::kLlama});
  ASSERT_TRUE(dense.ok() && stock.ok());
  Result<Context> behind = Encode({Attention::kDense}, &*stock);
  ASSERT_TRUE(behind.ok());
  EXPECT_EQ(behind->n_taken_over(), 0);
  behind = Encode({Attention::kLlama}, &*dense);
  ASSERT_TRUE(behind.ok());
  EXPECT_EQ(behind->n_taken_over(), 0);
}

TEST_P(StartTest, PagesAreShared) {
  const std::vector<Token> tokens = SomeTokens(1024);
  const Result<Context> start = Encode({Attention::kDense}, nullptr, tokens);
  const std::int64_t before = KvBytesInUse();
  const Result<Context> behind = Encode(Star(256), &*start, tokens);
  ASSERT_TRUE(start.ok() && behind.ok());
  EXPECT_EQ(behind->n_taken_over(), 512);
  EXPECT_EQ(KvBytesInUse() - before, PredictKvBytes(model_, 512));
}

INSTANTIATE_TEST_SUITE_P(Models, StartTest,
                         testing::Values(TinyArchitecture::kLlama, TinyArchitecture::kGemma3),
                         [](const auto& model) {
                           return std::string(ArchitectureName(model.param));
                         });

}  // namespace
}  // namespace aster
