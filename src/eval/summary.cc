#include "eval/summary.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "eval/tasks.h"

namespace aster::eval {
namespace {

constexpr double kFound = 20;  // per cent: below it a model does not do the task at all

// One sample's score and time under one setting.
struct Outcome {
  double score = 0;
  double ttft_seconds = 0;
  std::string run;
};

using Outcomes = std::map<std::string, Outcome>;  // by sample: index and fingerprint
using Tasks = std::map<std::string, Outcomes>;

struct Group {
  std::string name;
  bool is_task = false;
  std::vector<std::string> tasks;
};

// Known tasks first, in their order; then the others by name.
std::vector<std::string> Ordered(const std::set<std::string>& names) {
  std::vector<std::string> ordered;
  for (const Task& task : KnownTasks()) {
    if (names.contains(std::string(task.name))) ordered.emplace_back(task.name);
  }
  for (const std::string& name : names) {
    if (FindTask(name).domain == "other") ordered.push_back(name);
  }
  return ordered;
}

std::vector<Group> GroupsOf(const std::vector<std::string>& tasks) {
  std::vector<Group> groups;
  std::vector<Group> domains;
  for (const std::string& task : tasks) {
    groups.push_back({task, true, {task}});
    const std::string domain(FindTask(task).domain);
    if (domains.empty() || domains.back().name != domain) domains.push_back({domain, false, {}});
    domains.back().tasks.push_back(task);
  }
  // A domain of one task, or all of them in one, would say the same again.
  for (Group& domain : domains) {
    if (domain.tasks.size() > 1 && domain.tasks.size() < tasks.size()) groups.push_back(domain);
  }
  if (tasks.size() > 1) groups.push_back({"overall", false, tasks});
  return groups;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// The samples of some tasks under one setting, and under the reference where both have them; empty
// where the setting lacks one of the tasks.
struct Gathered {
  std::vector<std::vector<double>> scores;        // of each task
  std::vector<std::vector<double>> theirs, ours;  // of each task with pairs
  std::vector<double> ttft_seconds, ttft_ratios;
  std::int64_t n_samples = 0, n_pairs = 0;
};

Gathered Gather(const Group& group, const Tasks& tasks, const Tasks* reference) {
  Gathered g;
  for (const std::string& name : group.tasks) {
    const auto task = tasks.find(name);
    if (task == tasks.end()) return {};
    std::vector<double> scores, theirs, ours;
    const Outcomes none;
    const bool paired = reference != nullptr && reference->contains(name);
    const Outcomes& others = paired ? reference->at(name) : none;
    for (const auto& [sample, outcome] : task->second) {
      scores.push_back(outcome.score);
      g.ttft_seconds.push_back(outcome.ttft_seconds);
      const auto other = others.find(sample);
      if (other == others.end()) continue;
      theirs.push_back(other->second.score);
      ours.push_back(outcome.score);
      if (other->second.run == outcome.run && other->second.ttft_seconds > 0) {
        g.ttft_ratios.push_back(outcome.ttft_seconds / other->second.ttft_seconds);
      }
    }
    g.n_samples += std::ssize(scores);
    g.n_pairs += std::ssize(ours);
    g.scores.push_back(std::move(scores));
    if (ours.empty()) continue;
    g.theirs.push_back(std::move(theirs));
    g.ours.push_back(std::move(ours));
  }
  return g;
}

std::optional<SummaryRow> RowOf(const Group& group, const Tasks& tasks, const Tasks* reference) {
  const Gathered g = Gather(group, tasks, reference);
  if (g.scores.empty()) return std::nullopt;
  SummaryRow row;
  row.group = group.name;
  row.is_task = group.is_task;
  row.n_tasks = std::ssize(g.scores);
  row.n_samples = g.n_samples;
  row.score = MeanScore(g.scores);
  row.ttft_seconds = Median(g.ttft_seconds);
  if (g.ours.size() < g.scores.size()) return row;
  row.n_pairs = g.n_pairs;
  row.difference = MeanDifference(g.theirs, g.ours);
  row.retention = Retention(MeanScore(g.theirs).value, *row.difference);
  if (!g.ttft_ratios.empty()) row.ttft_ratio = Median(g.ttft_ratios);
  return row;
}

std::vector<std::string> TasksAbove(double least, const Tasks& tasks,
                                    const std::vector<std::string>& names) {
  std::vector<std::string> above;
  for (const std::string& name : names) {
    const auto task = tasks.find(name);
    if (task == tasks.end()) continue;
    double sum = 0;
    for (const auto& [sample, outcome] : task->second) sum += outcome.score;
    if (100 * sum / static_cast<double>(task->second.size()) > least) above.push_back(name);
  }
  return above;
}

// Whether star is compared, and with which setting.
std::string ReferenceSetting(std::span<const Prediction> predictions) {
  for (const char* name : {"dense", "llama"}) {
    const bool there = std::any_of(predictions.begin(), predictions.end(),
                                   [name](const Prediction& p) { return p.setting == name; });
    if (there) return name;
  }
  return {};
}

// Settings as they first come anywhere.
using Settings = std::vector<std::pair<std::string, Tasks>>;

std::map<std::int64_t, Settings> ByLength(std::span<const Prediction> predictions) {
  std::map<std::int64_t, std::map<std::string, Tasks>> found;
  std::vector<std::string> names;
  for (const Prediction& p : predictions) {
    found[p.length][p.setting][p.task].emplace(std::to_string(p.index) + " " + p.sample,
                                               Outcome{p.Score(), p.ttft_seconds(), p.run});
    if (std::find(names.begin(), names.end(), p.setting) == names.end()) names.push_back(p.setting);
  }
  std::map<std::int64_t, Settings> by_length;
  for (auto& [length, settings] : found) {
    for (const std::string& name : names) {
      const auto setting = settings.find(name);
      if (setting == settings.end()) continue;
      by_length[length].emplace_back(name, std::move(setting->second));
    }
  }
  return by_length;
}

bool IsStar(const std::string& setting) { return setting.starts_with("star"); }

void AppendPairs(std::int64_t length, const Settings& settings, const std::vector<Group>& groups,
                 std::vector<SettingPair>* pairs) {
  for (std::size_t i = 0; i < settings.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      const auto& [setting, tasks] = settings[i];
      const auto& [other, others] = settings[j];
      if (!IsStar(setting) || !IsStar(other)) continue;
      for (const Group& group : groups) {
        if (group.is_task || !group.name.starts_with("overall")) continue;
        const auto row = RowOf(group, tasks, &others);
        if (!row || !row->difference) continue;
        pairs->push_back({length, setting, other, group.name, row->n_tasks, row->n_pairs,
                          *row->difference, row->ttft_ratio});
      }
    }
  }
}

// reference: null where this length has none.
void AppendLength(std::int64_t length, const Settings& settings, const Tasks* reference,
                  Summary* summary) {
  std::set<std::string> names;
  for (const auto& [setting, tasks] : settings) {
    for (const auto& [name, outcomes] : tasks) names.insert(name);
  }
  const std::vector<std::string> ordered = Ordered(names);
  std::vector<Group> groups = GroupsOf(ordered);
  if (reference != nullptr && ordered.size() > 1) {
    groups.push_back({"overall above 20", false, TasksAbove(kFound, *reference, ordered)});
  }
  for (const auto& [setting, tasks] : settings) {
    for (const Group& group : groups) {
      auto row = RowOf(group, tasks, &tasks == reference ? nullptr : reference);
      if (!row) continue;
      row->length = length;
      row->setting = setting;
      summary->rows.push_back(std::move(*row));
    }
  }
  AppendPairs(length, settings, groups, &summary->pairs);
}

}  // namespace

Summary Summarise(std::span<const Prediction> predictions,
                  const std::map<std::string, std::string>& current) {
  Summary summary;
  std::map<std::string, std::string> samples;
  for (const Prediction& p : predictions) samples[p.Place()] = p.sample;
  for (const auto& [place, sample] : current) samples[place] = sample;
  std::vector<Prediction> counting;
  std::set<std::string> superseded;
  for (const Prediction& p : predictions) {
    if (samples.at(p.Place()) == p.sample) {
      counting.push_back(p);
    } else {
      superseded.insert(p.sample);
    }
  }
  summary.superseded.assign(superseded.begin(), superseded.end());
  summary.reference = ReferenceSetting(counting);
  for (const auto& [length, settings] : ByLength(counting)) {
    const Tasks* reference = nullptr;
    for (const auto& [name, tasks] : settings) {
      if (name == summary.reference) reference = &tasks;
    }
    AppendLength(length, settings, reference, &summary);
  }
  return summary;
}

}  // namespace aster::eval
