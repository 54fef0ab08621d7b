#include "eval/summary.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "eval/tasks.h"

namespace aster::eval {
namespace {

using Json = nlohmann::ordered_json;

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

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", std::abs(value) < 0.05 ? 0.0 : value);
  return text;
}

std::string Interval(const Estimate& e) {
  return Number(e.value) + " (" + Number(e.low) + " to " + Number(e.high) + ")";
}

Json ToJson(const Estimate& e) { return Json::array({e.value, e.low, e.high}); }
Json ToJson(const std::optional<Estimate>& e) { return e ? ToJson(*e) : Json(); }

const SummaryRow* Find(std::span<const SummaryRow> rows, std::int64_t length,
                       const std::string& setting, const std::string& group) {
  for (const SummaryRow& row : rows) {
    if (row.length == length && row.setting == setting && row.group == group) return &row;
  }
  return nullptr;
}

// A value of each kind as it first comes.
template <class T, class Get>
std::vector<T> Distinct(std::span<const SummaryRow> rows, Get get) {
  std::vector<T> values;
  for (const SummaryRow& row : rows) {
    const T& value = get(row);
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  return values;
}

std::string LengthTitle(std::int64_t length) {
  return length > 0 ? "Length " + std::to_string(length) : "Length not stated";
}

void AppendTable(std::span<const SummaryRow> rows, std::int64_t length, std::string* text) {
  const auto settings = Distinct<std::string>(
      rows, [](const SummaryRow& r) -> const std::string& { return r.setting; });
  *text += "### " + LengthTitle(length) + "\n\n| task | n |";
  for (const std::string& setting : settings) *text += " " + setting + " |";
  *text += "\n|---|---|";
  for (std::size_t i = 0; i < settings.size(); ++i) *text += "---|";
  *text += "\n";
  const auto groups = Distinct<std::string>(
      rows, [](const SummaryRow& r) -> const std::string& { return r.group; });
  for (const std::string& group : groups) {
    std::string cells;
    std::int64_t n = 0;
    for (const std::string& setting : settings) {
      const SummaryRow* row = Find(rows, length, setting, group);
      cells += " " + (row != nullptr ? Interval(row->score) : "") + " |";
      if (row != nullptr) n = std::max(n, row->n_samples);
    }
    *text += "| " + group + " | " + std::to_string(n) + " |" + cells + "\n";
  }
  *text += "\n";
}

void AppendRetention(std::span<const SummaryRow> rows, std::int64_t length, std::string* text) {
  std::string lines;
  for (const SummaryRow& row : rows) {
    if (row.is_task || !row.difference) continue;
    lines += "| " + row.setting + " | " + row.group + " | " + std::to_string(row.n_pairs) + " | " +
             Interval(*row.difference) + " | " +
             (row.retention ? Interval(*row.retention) + " %" : "") + " | " +
             (row.ttft_ratio ? Number(100 * *row.ttft_ratio) + " %" : "") + " |\n";
  }
  if (lines.empty()) return;
  *text += "Against full attention, " + LengthTitle(length) +
           ", on the same samples:\n\n| setting | of | pairs | points | kept | TTFT, median |\n"
           "|---|---|---|---|---|---|\n" +
           lines + "\n";
}

}  // namespace

std::string ReferenceSetting(std::span<const Prediction> predictions) {
  for (const char* name : {"dense", "llama"}) {
    const bool there = std::any_of(predictions.begin(), predictions.end(),
                                   [name](const Prediction& p) { return p.setting == name; });
    if (there) return name;
  }
  return {};
}

std::vector<SummaryRow> Summarise(std::span<const Prediction> predictions) {
  const std::string reference = ReferenceSetting(predictions);
  std::map<std::int64_t, std::map<std::string, Tasks>> by_length;
  std::map<std::int64_t, std::set<std::string>> names;
  std::vector<std::string> settings;
  for (const Prediction& p : predictions) {
    by_length[p.length][p.setting][p.task].emplace(std::to_string(p.index) + " " + p.sample,
                                                   Outcome{p.Score(), p.ttft_seconds(), p.run});
    names[p.length].insert(p.task);
    if (std::find(settings.begin(), settings.end(), p.setting) == settings.end()) {
      settings.push_back(p.setting);
    }
  }
  std::vector<SummaryRow> rows;
  for (const auto& [length, of_settings] : by_length) {
    const std::vector<std::string> tasks = Ordered(names[length]);
    std::vector<Group> groups = GroupsOf(tasks);
    const auto dense = of_settings.find(reference);
    if (dense != of_settings.end() && tasks.size() > 1) {
      groups.push_back({"overall above 20", false, TasksAbove(kFound, dense->second, tasks)});
    }
    for (const std::string& setting : settings) {
      const auto of_setting = of_settings.find(setting);
      if (of_setting == of_settings.end()) continue;
      const bool compares = setting != reference && dense != of_settings.end();
      for (const Group& group : groups) {
        auto row = RowOf(group, of_setting->second, compares ? &dense->second : nullptr);
        if (!row) continue;
        row->length = length;
        row->setting = setting;
        rows.push_back(std::move(*row));
      }
    }
  }
  return rows;
}

std::string SummaryMarkdown(std::span<const SummaryRow> rows) {
  std::string text;
  const auto lengths = Distinct<std::int64_t>(
      rows, [](const SummaryRow& r) -> const std::int64_t& { return r.length; });
  for (const std::int64_t length : lengths) {
    std::vector<SummaryRow> here;
    std::copy_if(rows.begin(), rows.end(), std::back_inserter(here),
                 [length](const SummaryRow& row) { return row.length == length; });
    AppendTable(here, length, &text);
    AppendRetention(here, length, &text);
  }
  return text;
}

std::string SummaryJson(std::span<const SummaryRow> rows, const Prediction& any) {
  Json json;
  json["model"] = any.model;
  json["prompt"] = any.prompt;
  json["rows"] = Json::array();
  for (const SummaryRow& row : rows) {
    Json one;
    one["length"] = row.length;
    one["setting"] = row.setting;
    one["group"] = row.group;
    one["is_task"] = row.is_task;
    one["n_tasks"] = row.n_tasks;
    one["n_samples"] = row.n_samples;
    one["score"] = ToJson(row.score);
    one["n_pairs"] = row.n_pairs;
    one["difference"] = ToJson(row.difference);
    one["retention"] = ToJson(row.retention);
    one["ttft_s"] = row.ttft_seconds;
    one["ttft_ratio"] = row.ttft_ratio ? Json(*row.ttft_ratio) : Json();
    json["rows"].push_back(std::move(one));
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace aster::eval
