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

// The sum of n shares of 1 / n may be a little more than 1.
TEST(Statistics, AllRightIsNeverMoreThanAll) {
  for (int n_tasks = 1; n_tasks <= 30; ++n_tasks) {
    const Scores all_right(static_cast<std::size_t>(n_tasks), RightOf(4, 4));
    const Scores all_wrong(static_cast<std::size_t>(n_tasks), RightOf(0, 4));
    const Estimate score = MeanScore(all_right);
    EXPECT_LE(score.value, score.high) << n_tasks;
    EXPECT_LE(score.high, 100) << n_tasks;
    const Estimate difference = MeanDifference(all_right, all_wrong);
    EXPECT_LE(difference.low, difference.value) << n_tasks;
    EXPECT_GE(difference.low, -100) << n_tasks;
  }
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

// How many of 1,000 intervals hold the true overall score of n_tasks tasks that a model does with
// probabilities spread around `truth`.
int NHeld(double truth, double spread, int n_tasks, int n_samples) {
  std::mt19937 random(7);
  int n_held = 0;
  for (int run = 0; run < 1000; ++run) {
    Scores scores(static_cast<std::size_t>(n_tasks),
                  std::vector<double>(static_cast<std::size_t>(n_samples)));
    for (int task = 0; task < n_tasks; ++task) {
      const double place = n_tasks > 1 ? 2.0 * task / (n_tasks - 1) - 1 : 0;
      std::bernoulli_distribution right(truth + spread * place);
      for (double& score : scores[static_cast<std::size_t>(task)]) score = right(random) ? 1 : 0;
    }
    const Estimate e = MeanScore(scores);
    n_held += e.low <= 100 * truth && 100 * truth <= e.high ? 1 : 0;
  }
  return n_held;
}

// 95 of 100 intervals hold the true value, about: the property that the name promises. With few
// samples they may hold it more often.
TEST(Statistics, IntervalsHoldTheTruthAboutAsOftenAsTheySay) {
  for (const double truth : {0.5, 0.8, 0.95}) {
    for (const int n_tasks : {1, 13}) {
      const int held = NHeld(truth, 0, n_tasks, 20);
      EXPECT_GE(held, 930) << truth << ", tasks " << n_tasks;
      EXPECT_LE(held, 995) << truth << ", tasks " << n_tasks;
    }
  }
  for (const int n_samples : {1, 2, 4, 20}) {
    EXPECT_GE(NHeld(0.5, 0.5, 13, n_samples), 930) << n_samples << " samples, tasks that differ";
    EXPECT_GE(NHeld(0.7, 0.3, 13, n_samples), 930) << n_samples << " samples, tasks that differ";
  }
}

TEST(Statistics, IntervalsOfPairedDifferencesHoldTheTruthToo) {
  std::mt19937 random(11);
  // Both right, only the first, only the second, none: the truth is 5 points less.
  std::discrete_distribution<int> kind({0.7, 0.1, 0.05, 0.15});
  for (const std::size_t n_samples : {1, 4, 20}) {
    int n_held = 0;
    for (int run = 0; run < 1000; ++run) {
      Scores a(13), b(13);
      for (std::size_t task = 0; task < a.size(); ++task) {
        for (std::size_t i = 0; i < n_samples; ++i) {
          const int drawn = kind(random);
          a[task].push_back(drawn == 0 || drawn == 1 ? 1 : 0);
          b[task].push_back(drawn == 0 || drawn == 2 ? 1 : 0);
        }
      }
      const Estimate e = MeanDifference(a, b);
      n_held += e.low <= -5 && -5 <= e.high ? 1 : 0;
    }
    EXPECT_GE(n_held, 930) << n_samples;
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
