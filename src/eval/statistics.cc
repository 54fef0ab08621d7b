#include "eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>

#include "base/check.h"

namespace aster::eval {
namespace {

constexpr double kNormal95 = 1.959964;

double Mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// What is added to the samples, so that few that agree do not claim to be certain.
struct Pseudo {
  double n = 0;
  double sum = 0;
  double squares = 0;
  double least = 0;  // that a score or a difference can be
};
// Two right and two wrong.
constexpr Pseudo kOfScores{4, 2, 2, 0};
// Half a pair each of right and right, right and wrong, wrong and right, wrong and wrong.
constexpr Pseudo kOfDifferences{2, 0, 1, -1};

// The interval of that centre, widened where the value lies outside, in per cent.
Estimate Around(double value, double centre, double variance, double least) {
  const double half = kNormal95 * std::sqrt(variance);
  value = std::clamp(value, least, 1.0);  // a sum of shares may miss its end by a rounding
  return {100 * value, 100 * std::max(std::min(centre - half, value), least),
          100 * std::min(std::max(centre + half, value), 1.0)};
}

Estimate OfOneTask(std::span<const double> values, const Pseudo& pseudo) {
  double sum = pseudo.sum;
  double squares = pseudo.squares;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  const double n = static_cast<double>(values.size()) + pseudo.n;
  const double mean = sum / n;
  return Around(Mean(values), mean, std::max(squares / n - mean * mean, 0.0) / n, pseudo.least);
}

double SquaresAround(double centre, std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += (value - centre) * (value - centre);
  return sum;
}

// Tasks of one group have a variance in common, of samples around their task's mean and of the
// pseudo-observations, which are added once. With hardly more samples than tasks a task's mean says
// nothing: then of samples around the mean of all, which is wider.
Estimate OfSeveralTasks(std::span<const std::vector<double>> tasks, const Pseudo& pseudo) {
  constexpr double kEnough = 10;
  const auto n_tasks = static_cast<double>(tasks.size());
  double value = 0;
  double n = 0;
  double shares = 0;  // the sum of 1 / n over the tasks
  for (const std::vector<double>& task : tasks) {
    value += Mean(task) / n_tasks;
    n += static_cast<double>(task.size());
    shares += 1 / static_cast<double>(task.size());
  }
  const bool within = n - n_tasks >= kEnough;
  double squares = pseudo.squares - pseudo.sum * pseudo.sum / pseudo.n;
  for (const std::vector<double>& task : tasks) {
    squares += SquaresAround(within ? Mean(task) : value, task);
  }
  const double variance = squares / (n - (within ? n_tasks : 1) + pseudo.n);
  return Around(value, value, variance * shares / (n_tasks * n_tasks), pseudo.least);
}

Estimate OfTasks(std::span<const std::vector<double>> tasks, const Pseudo& pseudo) {
  ASTER_CHECK(!tasks.empty(), "no task");
  for (const std::vector<double>& task : tasks) {
    ASTER_CHECK(!task.empty(), "a task without a score");
  }
  return tasks.size() == 1 ? OfOneTask(tasks.front(), pseudo) : OfSeveralTasks(tasks, pseudo);
}

}  // namespace

Estimate MeanScore(std::span<const std::vector<double>> scores_of_tasks) {
  return OfTasks(scores_of_tasks, kOfScores);
}

Estimate MeanDifference(std::span<const std::vector<double>> a_of_tasks,
                        std::span<const std::vector<double>> b_of_tasks) {
  ASTER_CHECK(a_of_tasks.size() == b_of_tasks.size(), "tasks are missing");
  std::vector<std::vector<double>> differences;
  for (std::size_t task = 0; task < a_of_tasks.size(); ++task) {
    const std::vector<double>& a = a_of_tasks[task];
    const std::vector<double>& b = b_of_tasks[task];
    ASTER_CHECK(a.size() == b.size(), "%zu and %zu scores", a.size(), b.size());
    std::vector<double>& difference = differences.emplace_back(a.size());
    std::transform(b.begin(), b.end(), a.begin(), difference.begin(), std::minus<>());
  }
  return OfTasks(differences, kOfDifferences);
}

std::optional<Estimate> Retention(double a_score, const Estimate& difference) {
  if (a_score <= 0) return std::nullopt;
  const auto kept = [a_score](double d) { return std::max(100 * (a_score + d) / a_score, 0.0); };
  return Estimate{kept(difference.value), kept(difference.low), kept(difference.high)};
}

}  // namespace aster::eval
