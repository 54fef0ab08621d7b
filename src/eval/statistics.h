// What a handful of scores says: means, 95 % intervals, star against dense on the same samples.
//
// The intervals are Wald's after pseudo-observations were added, two right and two wrong for a mean
// (Agresti and Coull, The American Statistician 52(2), 1998), half a pair of each kind for a paired
// difference (Agresti and Min, Statistics in Medicine 24, 2005): so four right answers of four do
// not claim to be certain. They were made for right and wrong; scores between are less extreme, so
// the intervals are a little wide for them. The tasks of a mean over several have their variance in
// common, and the pseudo-observations once.
#pragma once

#include <optional>
#include <span>
#include <vector>

namespace aster::eval {

// All in per cent.
struct Estimate {
  double value = 0;
  double low = 0;  // of the 95 % interval, which holds the value
  double high = 0;
};

// The mean of the tasks' mean scores; of one task: its mean score. Scores are in [0, 1].
// REQUIRES: no task is empty, and there is one.
Estimate MeanScore(std::span<const std::vector<double>> scores_of_tasks);

// The same of the differences b - a, sample by sample: in [-100, 100].
// REQUIRES: a and b have the same tasks with as many scores each.
Estimate MeanDifference(std::span<const std::vector<double>> a_of_tasks,
                        std::span<const std::vector<double>> b_of_tasks);

// What is kept of a's mean score: 100 times b's over a's; its interval takes a's mean as known.
// nullopt where a's is 0.
std::optional<Estimate> Retention(double a_score, const Estimate& difference);

}  // namespace aster::eval
