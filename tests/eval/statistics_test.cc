#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace aster::eval {
namespace {

using Scores = std::vector<std::vector<double>>;

std::vector<double> RightOf(int n_right, int n) {
  std::vector<double> scores(static_cast<std::size_t>(n), 0.0);
  std::fill(scores.begin(), scores.begin() + n_right, 1.0);
  return scores;
}

// Agresti and Coull's interval in its own form: p~ = (x + 2) / (n + 4).
TEST(Statistics, OneTasksIntervalIsAgrestiAndCoulls) {
  for (const auto& [n_right, n] : {std::pair(20, 20), {0, 20}, {10, 20}, {3, 4}, {1, 1}}) {
    const Scores scores = {RightOf(n_right, n)};
    const Estimate e = MeanScore(scores);
    const double p = (n_right + 2.0) / (n + 4.0);
    const double half = 1.959964 * std::sqrt(p * (1 - p) / (n + 4.0));
    EXPECT_NEAR(e.value, 100.0 * n_right / n, 1e-9);
    EXPECT_NEAR(e.low, 100 * std::max(0.0, std::min(p - half, e.value / 100)), 1e-6);
    EXPECT_NEAR(e.high, 100 * std::min(1.0, std::max(p + half, e.value / 100)), 1e-6);
  }
}

TEST(Statistics, FourOfFourIsNotCertain) {
  const Scores all_right = {RightOf(4, 4)};
  EXPECT_LT(MeanScore(all_right).low, 60);
  EXPECT_EQ(MeanScore(all_right).high, 100);
}

TEST(Statistics, TheOverallScoreIsTheMeanOfTheTasksWhateverTheirSizes) {
  const Scores scores = {RightOf(1, 1), RightOf(0, 10), RightOf(5, 10)};
  EXPECT_NEAR(MeanScore(scores).value, 50, 1e-9);
}

TEST(Statistics, ManySamplesMakeANarrowIntervalAroundTheMean) {
  const Scores scores = {RightOf(8000, 10000), RightOf(6000, 10000)};
  const Estimate e = MeanScore(scores);
  EXPECT_NEAR(e.value, 70, 1e-9);
  EXPECT_LT(e.high - e.low, 1.3);
  EXPECT_NEAR((e.low + e.high) / 2, 70, 0.1);
}

// 95 of 100 intervals hold the true value, about: the property that the name promises.
TEST(Statistics, IntervalsHoldTheTruthAboutAsOftenAsTheySay) {
  std::mt19937 random(7);
  for (const double truth : {0.5, 0.8, 0.95}) {
    for (const int n_tasks : {1, 13}) {
      int n_held = 0;
      constexpr int kRuns = 1000;
      for (int run = 0; run < kRuns; ++run) {
        Scores scores(static_cast<std::size_t>(n_tasks), std::vector<double>(20));
        for (auto& task : scores) {
          for (double& score : task) score = std::bernoulli_distribution(truth)(random) ? 1 : 0;
        }
        const Estimate e = MeanScore(scores);
        n_held += e.low <= 100 * truth && 100 * truth <= e.high ? 1 : 0;
      }
      EXPECT_GE(n_held, 0.93 * kRuns) << truth << ", tasks " << n_tasks;
      EXPECT_LE(n_held, 0.995 * kRuns) << truth << ", tasks " << n_tasks;
    }
  }
}

TEST(Statistics, ADifferenceOfPairsKnowsThatTheyArePairs) {
  std::vector<double> a = RightOf(50, 100);
  const std::vector<double> same = a;
  const Scores dense = {a};
  const Estimate none = MeanDifference(dense, Scores{same});
  EXPECT_EQ(none.value, 0);
  EXPECT_LT(none.high - none.low, 6);  // unpaired, it would be 27 wide
  std::rotate(a.begin(), a.begin() + 50, a.end());
  const Estimate opposite = MeanDifference(dense, Scores{a});
  EXPECT_EQ(opposite.value, 0);
  EXPECT_GT(opposite.high - opposite.low, 35);
}

TEST(Statistics, ALossOnEverySampleIsSeen) {
  const Scores dense = {RightOf(20, 20)};
  const Scores star = {RightOf(0, 20)};
  const Estimate loss = MeanDifference(dense, star);
  EXPECT_EQ(loss.value, -100);
  EXPECT_GE(loss.low, -100);
  EXPECT_LT(loss.high, -70);
}

TEST(Statistics, RetentionIsAShareOfTheOtherScore) {
  const std::optional<Estimate> kept = Retention(50, {-5, -10, 2});
  ASSERT_TRUE(kept.has_value());
  EXPECT_NEAR(kept->value, 90, 1e-9);
  EXPECT_NEAR(kept->low, 80, 1e-9);
  EXPECT_NEAR(kept->high, 104, 1e-9);
  EXPECT_FALSE(Retention(0, {0, 0, 0}).has_value());
}

}  // namespace
}  // namespace aster::eval
