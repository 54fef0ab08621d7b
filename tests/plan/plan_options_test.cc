// What people may ask of a plan: sizes, names, defaults, and the one-line errors for the rest.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "aster/plan.h"

namespace aster {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

bool IsOneLine(const std::string& message) {
  return !message.empty() && message.find('\n') == std::string::npos && message.size() < 200;
}

TEST(TokenCount, ReadsPlainNumbersAndBinaryUnits) {
  const struct {
    std::string_view text;
    std::int64_t count;
  } cases[] = {
      {"4096", 4096},
      {"4K", 4096},
      {"4k", 4096},
      {"0", 0},
      {"1", 1},
      {"0004", 4},
      {"1M", 1048576},
      {"1m", 1048576},
      {"0K", 0},
      {"1024K", 1048576},
      {"2047M", 2146435072},
      {"2147483647", 2147483647},
      {"2097151K", 2147482624},
  };
  for (const auto& c : cases) {
    const Result<std::int64_t> count = ParseTokenCount(c.text);
    ASSERT_TRUE(count.ok()) << c.text << ": " << count.error().message;
    EXPECT_EQ(*count, c.count) << c.text;
  }
}

TEST(TokenCount, RefusesAllElseWithTheTextAndTheFormExpected) {
  using namespace std::string_view_literals;
  constexpr std::string_view kForm = "expected a whole number such as 4096, 4K or 1M";
  constexpr std::string_view kRange = "expected at most 2147483647";
  const struct {
    std::string_view text;
    std::string_view shown;
    std::string_view expected;
  } cases[] = {
      {"", "\"\"", kForm},
      {"4x", "\"4x\"", kForm},
      {"-1", "\"-1\"", kForm},
      {"+1", "\"+1\"", kForm},
      {" 1", "\" 1\"", kForm},
      {"1 ", "\"1 \"", kForm},
      {"K", "\"K\"", kForm},
      {"4KK", "\"4KK\"", kForm},
      {"4KB", "\"4KB\"", kForm},
      {"4G", "\"4G\"", kForm},
      {"1.5K", "\"1.5K\"", kForm},
      {"1e3", "\"1e3\"", kForm},
      {"0x10", "\"0x10\"", kForm},
      {"4\n", "\"4?\"", kForm},
      {"4\0K"sv, "\"4?K\"", kForm},
      {"2147483648", "\"2147483648\"", kRange},
      {"2048M", "\"2048M\"", kRange},
      {"2097152K", "\"2097152K\"", kRange},
      {"9223372036854775808", "\"9223372036854775808\"", kRange},
      {"18014398509481985K", "\"18014398509481985K\"", kRange},
      {"99999999999999999999K", "\"99999999999999999999K\"", kRange},
  };
  for (const auto& c : cases) {
    const Result<std::int64_t> count = ParseTokenCount(c.text);
    ASSERT_FALSE(count.ok()) << c.text;
    EXPECT_EQ(count.error().kind, ErrorKind::kInvalidArgument) << c.text;
    EXPECT_EQ(count.error().message,
              "token count " + std::string(c.shown) + ": " + std::string(c.expected));
  }
}

TEST(TokenCount, AnEndlessTextStillMakesAShortLine) {
  const Result<std::int64_t> count = ParseTokenCount(std::string(1 << 20, '9'));
  ASSERT_FALSE(count.ok());
  EXPECT_TRUE(IsOneLine(count.error().message)) << count.error().message;
}

TEST(AttentionNames, GoThereAndBack) {
  for (const Attention attention : {Attention::kAuto, Attention::kDense, Attention::kStar,
                                    Attention::kRing, Attention::kLlama}) {
    const Result<Attention> parsed = ParseAttention(AttentionName(attention));
    ASSERT_TRUE(parsed.ok()) << AttentionName(attention);
    EXPECT_EQ(*parsed, attention) << AttentionName(attention);
  }
}

TEST(AttentionNames, UnknownOnesAreRefusedWithTheList) {
  for (const char* name : {"", "Star", "rings", "stars", "star "}) {
    const Result<Attention> parsed = ParseAttention(name);
    ASSERT_FALSE(parsed.ok()) << name;
    EXPECT_EQ(parsed.error().message,
              "attention \"" + std::string(name) + "\": expected auto, dense, star, ring or llama");
  }
}

struct AutoSize {
  std::int64_t n_context;
  std::int64_t block_size;
};

TEST(AutoBlockSize, IsAQuarterOfTheContextInStepsOf256WithinItsBounds) {
  const AutoSize cases[] = {
      {0, 1024},        {1, 1024},      {4095, 1024},    {4096, 1024},    {4097, 1280},
      {8000, 2048},     {8192, 2048},   {8193, 2304},    {131072, 32768}, {131073, 32768},
      {1 << 20, 32768}, {kHuge, 32768}, {130048, 32512},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(AutoBlockSize(c.n_context, {.window = 0}), c.block_size) << c.n_context;
  }
}

TEST(AutoBlockSize, IsAnEighthWithAWindowOrAnOverlap) {
  const AutoSize cases[] = {
      {0, 512},     {1, 512},        {4096, 512},     {4097, 768},    {8192, 1024},
      {8193, 1280}, {262144, 32768}, {262145, 32768}, {kHuge, 32768}, {260096, 32512},
  };
  for (const auto& c : cases) {
    for (const PlanOptions& options :
         {PlanOptions{}, PlanOptions{.window = 1}, PlanOptions{.window = 2},
          PlanOptions{.overlap = 1}, PlanOptions{.window = 0, .overlap = 256}}) {
      EXPECT_EQ(AutoBlockSize(c.n_context, options), c.block_size) << c.n_context;
    }
  }
}

TEST(MakePlan, AutoBlocksHaveAWindowOfOneAndGivenBlocksNone) {
  const struct {
    PlanOptions options;
    std::int64_t block_size, window;
  } cases[] = {
      {{.attention = Attention::kStar}, 1024, 1},
      {{.attention = Attention::kAuto}, 1024, 1},
      {{.attention = Attention::kStar, .anchor_size = 16}, 1024, 1},
      {{.attention = Attention::kStar, .window = 0}, 2048, 0},
      {{.attention = Attention::kStar, .window = 2}, 1024, 2},
      {{.attention = Attention::kStar, .overlap = 256}, 1024, 0},
      {{.attention = Attention::kStar, .window = 1, .overlap = 256}, 1024, 1},
      {{.attention = Attention::kStar, .block_size = 1024}, 1024, 0},
      {{.attention = Attention::kStar, .block_size = 1024, .window = 1}, 1024, 1},
  };
  for (const auto& c : cases) {
    const Result<Plan> plan = MakePlan(8000, c.options);
    ASSERT_TRUE(plan.ok()) << plan.error().message;
    EXPECT_EQ(plan->attention, Attention::kStar);
    EXPECT_EQ(plan->block_size, c.block_size);
    EXPECT_EQ(plan->window, c.window) << c.block_size;
  }
}

TEST(ForHosts, SeveralHaveNoWindowUnlessItIsAskedFor) {
  EXPECT_EQ(ForHosts({}, 1).window, kAutoWindow);
  EXPECT_EQ(ForHosts({}, 2).window, 0);
  EXPECT_EQ(ForHosts({.window = 2}, 2).window, 2);  // which is refused there, not dropped
}

TEST(MakePlan, StarTakesTheBlockAsAnchorWhenNoneIsGiven) {
  const Result<Plan> plan = MakePlan(8000, {.attention = Attention::kStar, .block_size = 1024});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->attention, Attention::kStar);
  EXPECT_EQ(plan->n_context, 8000);
  EXPECT_EQ(plan->block_size, 1024);
  EXPECT_EQ(plan->anchor_size, 1024);
  EXPECT_EQ(plan->n_blocks, 8);
  EXPECT_EQ(plan->reason, "");
}

TEST(MakePlan, StarOfAContextShorterThanAnAutoBlockIsOneBlock) {
  for (const std::int64_t n : {1, 15, 16, 500}) {
    const Result<Plan> plan = MakePlan(n, {.attention = Attention::kStar});
    ASSERT_TRUE(plan.ok()) << plan.error().message;
    EXPECT_EQ(plan->block_size, n);
    EXPECT_EQ(plan->anchor_size, n);
    EXPECT_EQ(plan->n_blocks, 1);
    EXPECT_EQ(plan->work_share, 1.0);
  }
}

TEST(MakePlan, DenseIsOneBlockWithoutAnAnchor) {
  const Result<Plan> plan = MakePlan(1000, {.attention = Attention::kDense});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->attention, Attention::kDense);
  EXPECT_EQ(plan->block_size, 1000);
  EXPECT_EQ(plan->anchor_size, 0);
  EXPECT_EQ(plan->n_blocks, 1);
  EXPECT_EQ(plan->steps.size(), 2u);
  EXPECT_EQ(plan->work_share, 1.0);
}

TEST(MakePlan, LlamasOwnAttentionHasNoSteps) {
  const Result<Plan> plan = MakePlan(1000, {.attention = Attention::kLlama});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->attention, Attention::kLlama);
  EXPECT_EQ(plan->n_blocks, 1);
  EXPECT_TRUE(plan->steps.empty());
  EXPECT_EQ(plan->work_share, 1.0);
}

TEST(MakePlan, AnEmptyContextIsAnEmptyPlanForAllButStar) {
  for (const Attention attention : {Attention::kAuto, Attention::kDense, Attention::kLlama}) {
    const Result<Plan> plan = MakePlan(0, {.attention = attention});
    ASSERT_TRUE(plan.ok()) << AttentionName(attention) << ": " << plan.error().message;
    EXPECT_EQ(plan->n_blocks, 0) << AttentionName(attention);
    EXPECT_TRUE(plan->steps.empty()) << AttentionName(attention);
    EXPECT_EQ(plan->work_share, 1.0) << AttentionName(attention);
  }
}

TEST(MakePlan, AUbatchLargerThanAnythingIsOneStepABlock) {
  const Result<Plan> plan =
      MakePlan(100, {.attention = Attention::kStar, .block_size = 32, .ubatch_size = kHuge});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->steps.size(), 4u);
}

TEST(AutoPlan, TakesStarWhereItSavesWorkAndSaysHowMuch) {
  const Result<Plan> plan = MakePlan(32768, {});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->attention, Attention::kStar);
  EXPECT_EQ(plan->block_size, 4096);
  EXPECT_EQ(plan->reason, "star: 53 % of dense attention's work");
  const Result<Plan> paper = MakePlan(32768, {.window = 0});
  ASSERT_TRUE(paper.ok());
  EXPECT_EQ(paper->attention, Attention::kStar);
  EXPECT_EQ(paper->block_size, 8192);
  EXPECT_EQ(paper->reason, "star: 63 % of dense attention's work");
}

TEST(AutoPlan, TakesDenseWhereStarSavesNothingAndSaysWhy) {
  const struct {
    const char* name;
    std::int64_t n_context;
    PlanOptions options;
    const char* reason;
  } cases[] = {
      {"one auto block", 500, {}, "dense: the context of 500 tokens fits one block of 512"},
      {"exactly one", 512, {}, "dense: the context of 512 tokens fits one block of 512"},
      {"three blocks", 1536, {}, "dense: star would do 100 % of its attention work"},
      {"four blocks", 2048, {}, "dense: star would do 88 % of its attention work"},
      {"two blocks", 2048, {.window = 0}, "dense: star would do 100 % of its attention work"},
      {"a bit more than two",
       2100,
       {.window = 0},
       "dense: star would do 98 % of its attention work"},
      {"shorter than the block asked for",
       100,
       {.block_size = 4096},
       "dense: the context of 100 tokens fits one block of 4096"},
      {"shorter than the anchor asked for",
       100,
       {.anchor_size = 200},
       "dense: the context of 100 tokens fits one block of 512"},
      {"empty", 0, {}, "dense: the context of 0 tokens fits one block of 512"},
  };
  for (const auto& c : cases) {
    const Result<Plan> plan = MakePlan(c.n_context, c.options);
    ASSERT_TRUE(plan.ok()) << c.name << ": " << plan.error().message;
    EXPECT_EQ(plan->attention, Attention::kDense) << c.name;
    EXPECT_EQ(plan->block_size, c.n_context) << c.name;
    EXPECT_EQ(plan->anchor_size, 0) << c.name;
    EXPECT_EQ(plan->reason, c.reason) << c.name;
  }
}

TEST(MakePlan, RefusesSizesThatCannotBeWithWhatWasGivenAndExpected) {
  constexpr Attention kStar = Attention::kStar;
  const struct {
    std::int64_t n_context;
    PlanOptions options;
    const char* message;
  } cases[] = {
      {8000,
       {.attention = kStar, .block_size = 4},
       "block size 4: expected at least 16 tokens (4K is 4096)"},
      {8000,
       {.attention = kStar, .block_size = -1},
       "block size -1: expected at least 16 tokens (4K is 4096)"},
      {8000, {.block_size = 15}, "block size 15: expected at least 16 tokens (4K is 4096)"},
      {8000,
       {.attention = kStar, .block_size = 8001},
       "block size 8001: expected at most the context's 8000 tokens"},
      {8000,
       {.attention = kStar, .block_size = kHuge},
       "block size 9223372036854775807: expected at most the context's 8000 tokens"},
      {8000,
       {.attention = kStar, .block_size = 1024, .anchor_size = 8001},
       "anchor size 8001: expected at most the context's 8000 tokens"},
      {8000,
       {.attention = kStar, .window = -2},
       "window -2: expected 0 (the own block alone) or more blocks"},
      {8000,
       {.attention = kStar, .overlap = -1},
       "overlap -1: expected 0 (nothing before the block) or more tokens"},
      {8000,
       {.attention = Attention::kDense, .overlap = 1},
       "overlap 1 with attention dense: expected attention star or auto, or no such size"},
      {8000,
       {.attention = kStar, .anchor_size = -2},
       "anchor size -2: expected 0 (no anchor) or more tokens"},
      {0, {.attention = kStar}, "attention star of an empty context: expected at least 1 token"},
      {-1, {}, "a context of -1 tokens: expected 0 or more"},
      {8000, {.ubatch_size = 0}, "ubatch size 0: expected at least 1 token"},
      {8000,
       {.attention = Attention::kDense, .block_size = 1024},
       "block size 1024 with attention dense: expected attention star or auto, or no such size"},
      {8000,
       {.attention = Attention::kLlama, .anchor_size = 0},
       "anchor size 0 with attention llama: expected attention star or auto, or no such size"},
      {8000,
       {.attention = Attention::kDense, .window = 1},
       "window 1 with attention dense: expected attention star or auto, or no such size"},
  };
  for (const auto& c : cases) {
    const Result<Plan> plan = MakePlan(c.n_context, c.options);
    ASSERT_FALSE(plan.ok()) << c.message;
    EXPECT_EQ(plan.error().kind, ErrorKind::kInvalidArgument) << c.message;
    EXPECT_EQ(plan.error().message, c.message);
    EXPECT_TRUE(IsOneLine(plan.error().message)) << c.message;
  }
}

}  // namespace
}  // namespace aster
