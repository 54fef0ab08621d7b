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

// Of values and n_more pseudo-observations with the given sums.
struct Adjusted {
  double mean = 0;
  double variance_of_mean = 0;
};

Adjusted WithMore(std::span<const double> values, double n_more, double more_sum,
                  double more_squares) {
  double sum = more_sum;
  double squares = more_squares;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  const double n = static_cast<double>(values.size()) + n_more;
  const double mean = sum / n;
  return {mean, std::max(squares / n - mean * mean, 0.0) / n};
}

// The interval of a mean of tasks around the adjusted mean, widened where the plain one lies out.
Estimate Combine(double value, double adjusted, double variance, double least) {
  const double half = kNormal95 * std::sqrt(variance);
  return {100 * value, 100 * std::max(std::min(adjusted - half, value), least),
          100 * std::min(std::max(adjusted + half, value), 1.0)};
}

// One task's adjusted mean is pulled to the middle, which makes its interval right; pulling each of
// many would shift their mean, so of several tasks the plain mean is the centre.
template <class Adjust>
Estimate OfTasks(std::span<const std::vector<double>> tasks, double least, Adjust adjust) {
  ASTER_CHECK(!tasks.empty(), "no task");
  const auto n_tasks = static_cast<double>(tasks.size());
  double value = 0;
  double centre = 0;
  double variance = 0;
  for (const std::vector<double>& task : tasks) {
    ASTER_CHECK(!task.empty(), "a task without a score");
    const Adjusted adjusted = adjust(task);
    value += Mean(task) / n_tasks;
    centre += adjusted.mean / n_tasks;
    variance += adjusted.variance_of_mean / (n_tasks * n_tasks);
  }
  return Combine(value, tasks.size() == 1 ? centre : value, variance, least);
}

}  // namespace

Estimate MeanScore(std::span<const std::vector<double>> scores_of_tasks) {
  return OfTasks(scores_of_tasks, 0,
                 [](std::span<const double> scores) { return WithMore(scores, 4, 2, 2); });
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
  // Half a pair each of right and right, right and wrong, wrong and right, wrong and wrong.
  return OfTasks(differences, -1,
                 [](std::span<const double> values) { return WithMore(values, 2, 0, 1); });
}

std::optional<Estimate> Retention(double a_score, const Estimate& difference) {
  if (a_score <= 0) return std::nullopt;
  const auto kept = [a_score](double d) { return std::max(100 * (a_score + d) / a_score, 0.0); };
  return Estimate{kept(difference.value), kept(difference.low), kept(difference.high)};
}

}  // namespace aster::eval
