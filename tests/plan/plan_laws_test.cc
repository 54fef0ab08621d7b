// The laws of Star Attention that hold of a plan alone, as properties of its visibility mask.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "aster/plan.h"
#include "aster/spread.h"
#include "small_stars.h"

namespace aster {
namespace {

Plan Dense(std::int64_t n_context, std::int64_t ubatch_size) {
  return MakePlan(n_context, {.attention = Attention::kDense, .ubatch_size = ubatch_size}).value();
}

Mask MaskOf(const Plan& plan) {
  const std::int64_t n = plan.n_context;
  Mask mask(n * n);
  for (const Step& step : plan.steps) {
    for (std::int64_t i = step.tokens.begin; i < step.tokens.end; ++i) {
      for (const KeyRange& range : step.visible) {
        std::fill(mask.begin() + i * n + range.begin, mask.begin() + i * n + range.end, true);
      }
      std::fill(mask.begin() + i * n + step.tokens.begin, mask.begin() + i * n + i + 1, true);
    }
  }
  return mask;
}

bool WellFormed(const Step& step) {
  std::int64_t end = -1;
  for (const KeyRange& range : step.visible) {
    if (range.begin <= end || range.size() <= 0) return false;  // Touching ranges are one range.
    end = range.end;
  }
  return end <= step.tokens.begin && step.tokens.size() > 0;
}

TEST(PlanLaws, StepsCoverTheContextInOrderAndNoneIsLargerThanAUbatch) {
  ForAllStars([](const Sizes& s) {
    std::int64_t next = 0;
    for (const Step& step : Star(s).steps) {
      ASSERT_EQ(step.tokens.begin, next) << Name(s);
      ASSERT_LE(step.tokens.size(), s.ubatch_size) << Name(s);
      next = step.tokens.end;
    }
    ASSERT_EQ(next, s.n_context) << Name(s);
  });
}

TEST(PlanLaws, NoStepCrossesTheEndOfABlock) {
  ForAllStars([](const Sizes& s) {
    for (const Step& step : Star(s).steps) {
      ASSERT_EQ(step.tokens.begin / s.block_size, (step.tokens.end - 1) / s.block_size) << Name(s);
    }
  });
}

TEST(PlanLaws, VisibleRangesAreAscendingApartNonEmptyAndBeforeTheStep) {
  ForAllStars([](const Sizes& s) {
    for (const Step& step : Star(s).steps) {
      ASSERT_TRUE(WellFormed(step)) << Name(s) << ", step at " << step.tokens.begin;
    }
  });
}

TEST(PlanLaws, StarIsTheStaticMaskOfLaw3WhateverTheUbatch) {
  ForAllStars([](const Sizes& s) { ASSERT_EQ(MaskOf(Star(s)), StaticMask(s)) << Name(s); });
}

TEST(PlanLaws, CausalPairsAreTheSetElementsOfTheMask) {
  ForAllStars([](const Sizes& s) {
    const Plan plan = Star(s);
    const Mask mask = StaticMask(s);
    const auto n_set = static_cast<double>(std::count(mask.begin(), mask.end(), true));
    ASSERT_EQ(CausalPairs(plan.steps), n_set) << Name(s);
    const auto n = static_cast<double>(s.n_context);
    ASSERT_DOUBLE_EQ(plan.work_share, n_set / (n * (n + 1) / 2)) << Name(s);
  });
}

TEST(PlanLaws, OneBlockIsDense) {
  for (std::int64_t n = kMinBlockSize; n <= 100; ++n) {
    for (const std::int64_t ubatch : {1, 7, 16, 512}) {
      for (const std::int64_t anchor : {std::int64_t{0}, n / 2, n}) {
        const Sizes s{n, n, anchor, ubatch};
        ASSERT_EQ(Star(s).steps, Dense(n, ubatch).steps) << Name(s);
        ASSERT_EQ(Star(s).n_blocks, 1) << Name(s);
      }
    }
  }
}

TEST(PlanLaws, TwoBlocksBehindAWholeBlockAnchorSeeWhatDenseSees) {
  for (std::int64_t block = kMinBlockSize; block <= 32; ++block) {
    for (std::int64_t n = block + 1; n <= 2 * block; ++n) {
      for (const std::int64_t ubatch : {1, 7, 16, 512}) {
        const Sizes s{n, block, block, ubatch};
        ASSERT_EQ(MaskOf(Star(s)), MaskOf(Dense(n, ubatch))) << Name(s);
        ASSERT_DOUBLE_EQ(Star(s).work_share, 1.0) << Name(s);
      }
    }
  }
}

constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();

TEST(PlanLaws, AWindowAnOverlapOrAnAnchorOverTheWholeContextSeesWhatDenseSees) {
  for (const std::int64_t ubatch : {1, 7, 16, 512}) {
    const Mask dense = MaskOf(Dense(100, ubatch));
    EXPECT_EQ(MaskOf(Star({100, 20, 0, ubatch, 4})), dense) << ubatch;
    EXPECT_EQ(MaskOf(Star({100, 20, 100, ubatch})), dense) << ubatch;
    EXPECT_NE(MaskOf(Star({100, 20, 0, ubatch, 3})), dense) << ubatch;
    EXPECT_EQ(MaskOf(Star({100, 20, 0, ubatch, 0, 80})), dense) << ubatch;
    EXPECT_EQ(MaskOf(Star({100, 20, 0, ubatch, 0, kFar})), dense) << ubatch;
    EXPECT_EQ(MaskOf(Star({100, 20, 20, ubatch, 2, 20})), dense) << ubatch;
    EXPECT_NE(MaskOf(Star({100, 20, 0, ubatch, 0, 79})), dense) << ubatch;
    EXPECT_NE(MaskOf(Star({100, 20, 20, ubatch, 2, 19})), dense) << ubatch;
    EXPECT_NE(MaskOf(Star({100, 20, 80 - 1, ubatch})), dense) << ubatch;
  }
}

TEST(PlanLaws, AWindowOfAnyNumberOfBlocksSeesAll) {
  constexpr std::int64_t kEvery = std::numeric_limits<std::int64_t>::max();
  const auto plan =
      MakePlan(1000, {.attention = Attention::kStar, .block_size = 100, .window = kEvery});
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  EXPECT_EQ(DenseExtent(*plan), 1000);
}

TEST(PlanLaws, BeforeTheAlikeExtentTwoPlansHaveOneMaskAndTheNextRowDiffersFromDenses) {
  ForAllStars([](const Sizes& s) {
    const std::int64_t n = s.n_context;
    const Plan star = Star(s), dense = Dense(n, s.ubatch_size);
    const Plan other = Star({n, std::max(n / 2, kMinBlockSize), n / 2, s.ubatch_size, s.window});
    const Mask mask = MaskOf(star), all = MaskOf(dense), others = MaskOf(other);
    const std::int64_t extent = AlikeExtent(star, dense);
    ASSERT_EQ(AlikeExtent(dense, star), extent) << Name(s);
    ASSERT_LE(extent, n) << Name(s);
    ASSERT_TRUE(std::equal(mask.begin(), mask.begin() + extent * n, all.begin())) << Name(s);
    if (extent < n) {
      const auto next = mask.begin() + extent * n;
      ASSERT_FALSE(std::equal(next, next + n, all.begin() + extent * n)) << Name(s);
    }
    const std::int64_t shared = AlikeExtent(star, other);
    ASSERT_LE(shared, n) << Name(s);
    ASSERT_TRUE(std::equal(mask.begin(), mask.begin() + shared * n, others.begin())) << Name(s);
    ASSERT_EQ(AlikeExtent(star, star), n) << Name(s);
    ASSERT_GT(AlikeExtent(dense, dense), n) << Name(s);
  });
}

TEST(PlanLaws, TwoBlocksBehindAWholeBlockAnchorAreDensesStepsWhenUbatchesFillBlocks) {
  EXPECT_EQ(Star({4096, 2048, 2048, 512}).steps, Dense(4096, 512).steps);
}

TEST(PlanLaws, TheUbatchSizeChangesNoVisibility) {
  for (const std::int64_t ubatch : {1, 2, 3, 63, 64, 65, 299, 300, 1000}) {
    EXPECT_EQ(MaskOf(Star({300, 70, 20, ubatch})), MaskOf(Star({300, 70, 20, 70}))) << ubatch;
    EXPECT_EQ(MaskOf(Dense(300, ubatch)), MaskOf(Dense(300, 300))) << ubatch;
  }
}

TEST(PlanLaws, DenseSeesEverythingBefore) {
  for (const Step& step : Dense(1000, 96).steps) {
    if (step.tokens.begin == 0) {
      EXPECT_TRUE(step.visible.empty());
    } else {
      EXPECT_EQ(step.visible, (std::vector<KeyRange>{{0, step.tokens.begin}}));
    }
  }
}

// star-attention.md, "Cost": in units of b² pairs, 1.5 n - 1 with the anchor computed once. The
// rest is the diagonal, half a token's pairs for each of the L tokens.
TEST(PlanLaws, AWholeBlockAnchorCostsOneAndAHalfNMinusOneBlockSquares) {
  for (const std::int64_t block : {64, 100, 1024}) {
    for (const std::int64_t n : {1, 2, 4, 8, 16, 32}) {
      const auto b = static_cast<double>(block);
      const double squares = 1.5 * static_cast<double>(n) - 1;
      const double diagonal = static_cast<double>(n) * b / 2;
      EXPECT_EQ(CausalPairs(Star({n * block, block, block, 512}).steps), squares * b * b + diagonal)
          << n << " blocks of " << block;
    }
  }
}

TEST(PlanLaws, TheSavingOverDenseIsThePublishedOne) {
  const struct {
    std::int64_t n_blocks;
    double times_less;
  } cases[] = {{4, 1.6}, {8, 2.9}, {16, 5.6}, {32, 10.9}};
  for (const auto& c : cases) {
    const Plan plan = Star({c.n_blocks * 4096, 4096, 4096, 512});
    EXPECT_NEAR(1 / plan.work_share, c.times_less, 0.05) << c.n_blocks << " blocks";
  }
}

TEST(HostPlans, BlocksAreDealtInRunsThatAreEvenByWeight) {
  const std::vector<std::vector<double>> all = {{1},       {1, 1},   {1, 1, 1},
                                                {2, 1, 1}, {0.5, 3}, {1, 1, 1, 1, 1, 1, 1, 1}};
  for (const std::vector<double>& weights : all) {
    for (std::int64_t n_blocks = 0; n_blocks <= 40; ++n_blocks) {
      const std::vector<KeyRange> runs =
          DealBlocks(n_blocks, static_cast<int>(weights.size()), weights);
      ASSERT_EQ(runs.size(), weights.size());
      double sum = 0;
      for (const double weight : weights) sum += weight;
      std::int64_t next = 0;
      for (std::size_t i = 0; i < runs.size(); ++i) {
        EXPECT_EQ(runs[i].begin, next);
        EXPECT_NEAR(runs[i].size(), weights[i] / sum * n_blocks, 1.0)
            << n_blocks << " blocks, host " << i << " of " << runs.size();
        next = runs[i].end;
      }
      EXPECT_EQ(next, n_blocks);
    }
  }
}

// Each token is encoded by its block's host, behind keys that this host holds, and sees what it
// sees on one host.
TEST(HostPlans, HostsTogetherComputeTheMaskOfOne) {
  ForAllSmallStars([](const Sizes& s) {
    const Plan plan = Star(s);
    const Mask want = StaticMask(s);
    for (const int n_hosts : {1, 2, 3}) {
      for (const KeyRange run : DealBlocks(plan.n_blocks, n_hosts, {})) {
        Plan host = plan;
        host.steps.clear();
        for (const HostPass& pass : ShareOfBlocks(plan, Spread::kRecompute, run).passes) {
          host.steps.push_back({pass.tokens.front(), pass.visible});
        }
        std::int64_t held = 0;
        std::vector<bool> has(s.n_context);
        for (const Step& step : host.steps) {
          ASSERT_GE(step.tokens.begin, held) << Name(s);
          ASSERT_GT(step.tokens.size(), 0) << Name(s);
          for (const KeyRange& range : step.visible) {
            for (std::int64_t j = range.begin; j < range.end; ++j) ASSERT_TRUE(has[j]) << Name(s);
          }
          held = step.tokens.end;
          std::fill(has.begin() + step.tokens.begin, has.begin() + step.tokens.end, true);
        }
        const Mask mask = MaskOf(host);
        const std::int64_t n = s.n_context;
        for (std::int64_t i = run.begin * s.block_size; i < std::min(run.end * s.block_size, n);
             ++i) {
          ASSERT_TRUE(
              std::equal(mask.begin() + i * n, mask.begin() + (i + 1) * n, want.begin() + i * n))
              << Name(s) << ", token " << i << " of " << n_hosts << " hosts";
        }
      }
    }
  });
}

}  // namespace
}  // namespace aster
