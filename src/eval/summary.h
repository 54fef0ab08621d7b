// Predictions to figures: per length, setting and group of tasks.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/predictions.h"
#include "eval/statistics.h"

namespace aster::eval {

// A task, a domain of several tasks, "overall" (the mean of all tasks), or, beside a reference,
// "overall above 20": of the tasks that the reference scores above 20. A mean of several tasks is
// there only for a setting that has samples of all of them: others would be of another mix.
struct SummaryRow {
  std::int64_t length = 0;
  std::string setting;
  std::string group;
  bool is_task = false;
  std::int64_t n_tasks = 0;
  std::int64_t n_samples = 0;  // of all its tasks
  Estimate score;
  // Against the reference ("dense", else "llama"), on the samples that both have.
  std::int64_t n_pairs = 0;
  std::optional<Estimate> difference;  // percentage points
  std::optional<Estimate> retention;   // per cent
  double ttft_seconds = 0;             // the median sample's
  // The median of each sample's TTFT over the reference's, where one run has both.
  std::optional<double> ttft_ratio;
};

// Sorted by length; then settings as they first come; then groups: tasks in the order of
// KnownTasks, domains, overall. All predictions are of one model and kind of prompt; of those with
// one key the first counts.
std::vector<SummaryRow> Summarise(std::span<const Prediction> predictions);

// Whether star is compared, and with which setting: "dense", "llama" or nothing.
std::string ReferenceSetting(std::span<const Prediction> predictions);

// A table per length for people: a line a group, a column a setting, 95 % intervals in brackets.
std::string SummaryMarkdown(std::span<const SummaryRow> rows);

// One JSON object: {"model", "prompt", "rows": [...]}, an estimate as [value, low, high].
std::string SummaryJson(std::span<const SummaryRow> rows, const Prediction& any);

}  // namespace aster::eval
