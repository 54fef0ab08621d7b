// A summary as Markdown tables and as JSON.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "eval/summary.h"

namespace aster::eval {
namespace {

using Json = nlohmann::ordered_json;

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
Json ToJson(const std::optional<double>& x) { return x ? Json(*x) : Json(); }

Json ToJson(const SummaryRow& row) {
  Json json;
  json["length"] = row.length;
  json["setting"] = row.setting;
  json["group"] = row.group;
  json["is_task"] = row.is_task;
  json["n_tasks"] = row.n_tasks;
  json["n_samples"] = row.n_samples;
  json["score"] = ToJson(row.score);
  json["n_pairs"] = row.n_pairs;
  json["difference"] = ToJson(row.difference);
  json["retention"] = ToJson(row.retention);
  json["ttft_s"] = row.ttft_seconds;
  json["ttft_ratio"] = ToJson(row.ttft_ratio);
  return json;
}

Json ToJson(const SettingPair& pair) {
  Json json;
  json["length"] = pair.length;
  json["setting"] = pair.setting;
  json["other"] = pair.other;
  json["group"] = pair.group;
  json["n_tasks"] = pair.n_tasks;
  json["n_pairs"] = pair.n_pairs;
  json["difference"] = ToJson(pair.difference);
  json["ttft_ratio"] = ToJson(pair.ttft_ratio);
  return json;
}

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
  bool unequal = false;
  for (const std::string& group : groups) {
    std::string cells;
    std::set<std::int64_t> n;
    for (const std::string& setting : settings) {
      const SummaryRow* row = Find(rows, length, setting, group);
      cells += " " + (row != nullptr ? Interval(row->score) : "") + " |";
      if (row != nullptr) n.insert(row->n_samples);
    }
    if (n.empty()) continue;
    unequal = unequal || n.size() > 1;
    const std::string most = std::to_string(*n.rbegin());
    *text += "| " + group + " | " +
             (n.size() > 1 ? std::to_string(*n.begin()) + " to " + most : most) + " |" + cells +
             "\n";
  }
  *text += "\n";
  if (!unequal) return;
  *text +=
      "Settings have different numbers of samples here: the differences below compare them on "
      "those that they share.\n\n";
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

const SettingPair* FindPair(std::span<const SettingPair> pairs, const std::string& setting,
                            const std::string& other) {
  const auto pair = std::find_if(pairs.begin(), pairs.end(), [&](const SettingPair& p) {
    return p.setting == setting && p.other == other;
  });
  return pair == pairs.end() ? nullptr : &*pair;
}

// A triangle: a line a setting, a column one that came before it.
void AppendPairTable(std::span<const SettingPair> all, std::int64_t length,
                     const std::string& reference, std::string* text) {
  // Not every length needs to have full attention.
  const bool has_above = std::ranges::any_of(all, [length](const SettingPair& p) {
    return p.length == length && p.group == "overall above 20";
  });
  const std::string group = has_above ? "overall above 20" : "overall";
  std::vector<SettingPair> pairs;
  std::copy_if(all.begin(), all.end(), std::back_inserter(pairs),
               [&](const SettingPair& p) { return p.length == length && p.group == group; });
  if (pairs.empty()) return;
  std::vector<std::string> lines, columns;
  for (const SettingPair& pair : pairs) {
    for (auto [name, names] :
         {std::pair(&pair.setting, &lines), std::pair(&pair.other, &columns)}) {
      if (std::find(names->begin(), names->end(), *name) == names->end()) names->push_back(*name);
    }
  }
  *text +=
      "Settings against each other, " + LengthTitle(length) + ", in points of the " +
      (has_above ? "mean of the tasks that " + reference + " scores above 20 %" : "overall score") +
      ", on the samples that both have:\n\n| |";
  for (const std::string& column : columns) *text += " less " + column + " |";
  *text += "\n|---|";
  for (std::size_t i = 0; i < columns.size(); ++i) *text += "---|";
  *text += "\n";
  for (const std::string& line : lines) {
    *text += "| " + line + " |";
    for (const std::string& column : columns) {
      const SettingPair* pair = FindPair(pairs, line, column);
      *text += " " + (pair != nullptr ? Interval(pair->difference) : "") + " |";
    }
    *text += "\n";
  }
  *text += "\n";
}

}  // namespace

std::string SummaryMarkdown(const Summary& summary) {
  std::string text;
  const auto lengths = Distinct<std::int64_t>(
      summary.rows, [](const SummaryRow& r) -> const std::int64_t& { return r.length; });
  for (const std::int64_t length : lengths) {
    std::vector<SummaryRow> here;
    std::copy_if(summary.rows.begin(), summary.rows.end(), std::back_inserter(here),
                 [length](const SummaryRow& row) { return row.length == length; });
    AppendTable(here, length, &text);
    AppendRetention(here, length, &text);
    AppendPairTable(summary.pairs, length, summary.reference, &text);
  }
  return text;
}

std::string SummaryJson(const Summary& summary, const Prediction& any) {
  Json json;
  json["model"] = any.model;
  json["prompt"] = any.prompt;
  json["rows"] = Json::array();
  for (const SummaryRow& row : summary.rows) json["rows"].push_back(ToJson(row));
  json["pairs"] = Json::array();
  for (const SettingPair& pair : summary.pairs) json["pairs"].push_back(ToJson(pair));
  json["superseded"] = summary.superseded;
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace aster::eval
