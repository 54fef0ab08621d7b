// Predictions to figures: per length, setting and group of tasks.
#pragma once

#include <cstdint>
#include <map>
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

// Two settings of star on the samples that both have: which of them to take. `group` is "overall"
// or, beside a reference, "overall above 20"; both have samples of all its tasks together.
struct SettingPair {
  std::int64_t length = 0;
  std::string setting;
  std::string other;  // came before `setting`
  std::string group;
  std::int64_t n_tasks = 0;
  std::int64_t n_pairs = 0;
  Estimate difference;               // percentage points, `setting` less `other`
  std::optional<double> ttft_ratio;  // as SummaryRow's, over `other`
};

struct Summary {
  std::string reference;  // "dense", else "llama", else empty
  // Sorted by length; then settings as they first come; then groups: tasks in the order of
  // KnownTasks, domains, overall.
  std::vector<SummaryRow> rows;
  std::vector<SettingPair> pairs;  // sorted likewise
  // Samples that were changed since they were asked: their predictions count nowhere.
  std::vector<std::string> superseded;  // Sample::Fingerprint, sorted
};

// All predictions are of one model and kind of prompt; of those with one key the first counts. Of a
// task's samples with one length and index that one counts which `current` has under its
// Prediction::Place, else the one asked last.
Summary Summarise(std::span<const Prediction> predictions,
                  const std::map<std::string, std::string>& current = {});

// Tables per length for people, 95 % intervals in brackets: scores, a line a group and a column a
// setting; against full attention; star's settings against each other.
std::string SummaryMarkdown(const Summary& summary);

// One JSON object: {"model", "prompt", "rows": [...], "pairs": [...], "superseded": [...]}, an
// estimate as [value, low, high].
std::string SummaryJson(const Summary& summary, const Prediction& any);

}  // namespace aster::eval
