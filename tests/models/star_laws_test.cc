// The laws of Star Attention that need a model: shared/star-attention.md names them.

#include <gtest/gtest.h>

#include <cstring>
#include <new>

#include "base/check.h"
#include "llama/device.h"
#include "models/compare.h"
#include "support/f32_kernels.h"
#include "support/tiny_gguf.h"

namespace aster {
namespace {

// A forward pass over a tiny model, and stores filled by plans.
class StarLaws : public ::testing::Test {
 protected:
  StarLaws() : file_(TinyModel{}), model_(MustLoad(file_.path())) {
    ForwardOptions options;
    options.n_threads = 2;
    options.ubatch_size = 64;
    options.linear = ModelOptions::Linear::kGgml;  // one precision, whatever a step's length
    pass_ = std::move(*ForwardPass::Make(*model_, options));
    tokens_ = RandomTokens(kLength, model_->n_vocab(), 5);
  }

  std::unique_ptr<KvStore> NewStore() const {
    return std::make_unique<KvStore>(
        std::vector<LayerShape>(pass_->layers().begin(), pass_->layers().end()));
  }

  void RunSteps(const std::vector<Step>& steps, KvStore& store) {
    for (const Step& step : steps) {
      const auto chunk =
          std::span<const Token>(tokens_).subspan(static_cast<std::size_t>(step.tokens.begin),
                                                  static_cast<std::size_t>(step.tokens.size()));
      const auto ran =
          pass_->Run(chunk, {&step.tokens, 1}, step.visible, store, Outputs::kNone, {});
      ASSERT_TRUE(ran.ok()) << ran.error().message;
    }
  }

  Plan StarPlan(std::int64_t block_size, std::int64_t anchor_size, std::int64_t window = 0,
                std::int64_t overlap = 0) const {
    PlanOptions options;
    options.attention = Attention::kStar;
    options.block_size = block_size;
    options.anchor_size = anchor_size;
    options.window = window;
    options.overlap = overlap;
    options.ubatch_size = 64;
    return *MakePlan(kLength, options);
  }

  // Next-token logits of a query that sees everything in the store.
  Logits Ask(KvStore& store) {
    const std::vector<Token> query = {20, 30, 40};
    const KeyRange all{0, store.size()};
    const KeyRange place = {store.size(), store.size() + std::ssize(query)};
    const auto row = pass_->Run(query, {&place, 1}, {&all, 1}, store, Outputs::kLast, {});
    return {{row->begin(), row->end()}, model_->n_vocab()};
  }

  // Largest difference of K and V between two stores over tokens [begin, end), all layers.
  float LargestDifference(const KvStore& a, const KvStore& b, KeyRange range) const {
    float largest = 0;
    for (int layer = 0; layer < static_cast<int>(a.layers().size()); ++layer) {
      const LayerShape& shape = a.layers()[layer];
      for (int head = 0; head < shape.n_kv_heads; ++head) {
        for (std::int64_t token = range.begin; token < range.end; ++token) {
          for (int dim = 0; dim < shape.head_dim; ++dim) {
            largest = std::max(
                {largest, std::abs(K(a, layer, head, token, dim) - K(b, layer, head, token, dim)),
                 std::abs(V(a, layer, head, token, dim) - V(b, layer, head, token, dim))});
          }
        }
      }
    }
    return largest;
  }

  static constexpr std::int64_t kLength = 300;

  TinyGgufFile file_;
  std::unique_ptr<LlamaModel> model_;
  std::unique_ptr<ForwardPass> pass_;
  std::vector<Token> tokens_;

 private:
  static float FromBf16(std::uint16_t bits) {
    const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
  }
  static float K(const KvStore& store, int layer, int head, std::int64_t token, int dim) {
    const KvView view = store.View(layer, head);
    return FromBf16(
        view.pages[token / kPageTokens][view.k_offset + OffsetK(store.layers()[layer].head_dim,
                                                                token % kPageTokens, dim)]);
  }
  static float V(const KvStore& store, int layer, int head, std::int64_t token, int dim) {
    const KvView view = store.View(layer, head);
    return FromBf16(
        view.pages[token / kPageTokens][view.v_offset + OffsetV(store.layers()[layer].head_dim_v,
                                                                token % kPageTokens, dim)]);
  }
};

// Finds no memory in the middle of a step.
class NoMemory : public OtherKeys {
 public:
  Status Ask(int layer, std::span<const AttendCall>) override {
    if (layer > 0) throw std::bad_alloc();
    return Ok();
  }
  Status Join(int, std::span<const AttendCall>) override { return Ok(); }
};

TEST_F(StarLaws, AStepThatFindsNoMemoryIsAnErrorAndLeavesTheStoreAsItWas) {
  const std::unique_ptr<KvStore> store = NewStore(), undisturbed = NewStore();
  const std::vector<Step> steps = StarPlan(100, 100).steps;
  RunSteps(steps, *undisturbed);
  const std::span<const Step> all = steps;
  RunSteps({all.begin(), all.begin() + 2}, *store);
  const std::int64_t before = store->size();
  const Step& next = steps[2];
  const auto chunk = std::span<const Token>(tokens_).subspan(
      static_cast<std::size_t>(next.tokens.begin), static_cast<std::size_t>(next.tokens.size()));
  NoMemory others;
  const auto failed =
      pass_->Run(chunk, {&next.tokens, 1}, next.visible, *store, Outputs::kNone, {}, &others);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().kind, ErrorKind::kWorld);
  EXPECT_NE(failed.error().message.find("bad_alloc"), std::string::npos) << failed.error().message;
  EXPECT_EQ(store->size(), before);
  RunSteps({all.begin() + 2, all.end()}, *store);
  EXPECT_EQ(LargestDifference(*store, *undisturbed, {0, kLength}), 0);
}

TEST_F(StarLaws, Law1StarThatSeesAllThatDenseSeesEqualsDense) {
  PlanOptions dense_options;
  dense_options.attention = Attention::kDense;
  dense_options.ubatch_size = 64;
  const auto dense = NewStore();
  RunSteps(MakePlan(kLength, dense_options)->steps, *dense);
  const Logits expected = Ask(*dense);
  for (const std::int64_t block_size : {300, 150, 200}) {
    const auto star = NewStore();
    RunSteps(StarPlan(block_size, block_size).steps, *star);
    EXPECT_LT(Compare(expected, Ask(*star)).mean_kl, 1e-5) << "block size " << block_size;
  }
  for (const Plan& plan : {StarPlan(50, 0, 5), StarPlan(50, kLength), StarPlan(50, 120, 2),
                           StarPlan(50, 50, 0, 200), StarPlan(50, 50, 0, 199)}) {
    const auto star = NewStore();
    RunSteps(plan.steps, *star);
    const double kl = Compare(expected, Ask(*star)).mean_kl;
    const bool sees_all = plan.work_share == 1;  // two do not: the law can fail
    EXPECT_EQ(kl < 1e-5, sees_all) << "anchor " << plan.anchor_size << ", window " << plan.window
                                   << ", overlap " << plan.overlap;
  }
}

TEST_F(StarLaws, Law2RecomputingTheAnchorForABlockGivesTheSameKv) {
  const std::int64_t block_size = 75;
  for (const std::int64_t anchor_size : {75, 40}) {
    const auto star = NewStore();
    RunSteps(StarPlan(block_size, anchor_size).steps, *star);
    for (const std::int64_t begin : {150, 225}) {  // blocks 3 and 4, as the paper encodes them
      const auto alone = NewStore();
      RunSteps({{{0, std::min<std::int64_t>(64, anchor_size)}, {}}}, *alone);
      if (anchor_size > 64) RunSteps({{{64, anchor_size}, {{0, 64}}}}, *alone);
      ASSERT_TRUE(alone->Reserve(begin).ok());
      alone->set_size(begin);  // true positions: the gap is real
      RunSteps({{{begin, begin + 64}, {{0, anchor_size}}},
                {{begin + 64, begin + 75}, {{0, anchor_size}, {begin, begin + 64}}}},
               *alone);
      // bf16 values of about one: an eighth of a rounding step of the largest would be 1e-3.
      EXPECT_LE(LargestDifference(*star, *alone, {0, anchor_size}), 0.02f);
      EXPECT_LE(LargestDifference(*star, *alone, {begin, begin + 75}), 0.02f);
    }
  }
}

TEST_F(StarLaws, Law3TheStepsEqualTheStaticMaskTokenByToken) {
  for (const std::int64_t anchor_size : {75, 30, 0}) {
    const Plan plan = StarPlan(75, anchor_size);
    const auto by_plan = NewStore();
    RunSteps(plan.steps, *by_plan);
    std::vector<Step> by_mask;
    for (std::int64_t i = 0; i < kLength; ++i) {
      Step step{{i, i + 1}, {}};
      for (std::int64_t j = 0; j < i; ++j) {
        if (!(j < anchor_size || j / 75 == i / 75)) continue;
        if (step.visible.empty() || step.visible.back().end != j) step.visible.push_back({j, j});
        step.visible.back().end = j + 1;
      }
      by_mask.push_back(step);
    }
    const auto one_by_one = NewStore();
    RunSteps(by_mask, *one_by_one);
    EXPECT_LT(Compare(Ask(*by_plan), Ask(*one_by_one)).mean_kl, 1e-4) << "anchor " << anchor_size;
    EXPECT_LE(LargestDifference(*by_plan, *one_by_one, {0, kLength}), 0.06f);
  }
}

TEST_F(StarLaws, TheAnchorMattersAndSoDoTheBlocks) {
  const auto whole = NewStore();
  const auto none = NewStore();
  const auto small = NewStore();
  RunSteps(StarPlan(75, 75).steps, *whole);
  RunSteps(StarPlan(75, 0).steps, *none);
  RunSteps(StarPlan(50, 50).steps, *small);
  const Logits logits = Ask(*whole);
  EXPECT_GT(Compare(logits, Ask(*none)).mean_kl, 1e-3);
  EXPECT_GT(Compare(logits, Ask(*small)).mean_kl, 1e-3);
}

}  // namespace
}  // namespace aster
