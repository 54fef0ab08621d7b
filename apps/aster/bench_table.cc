// The rows of `aster bench` as Markdown, CSV, JSON and JSON lines.
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/system.h"
#include "bench_case.h"
#include "numbers.h"

namespace aster::cli {
namespace {

using Json = nlohmann::ordered_json;

std::vector<double> Rates(const BenchResult& result) {
  std::vector<double> rates;
  for (const double seconds : result.seconds) {
    rates.push_back(seconds > 0 ? static_cast<double>(result.n_tokens()) / seconds : 0);
  }
  return rates;
}

double Mean(const std::vector<double>& values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Means over the samples, in milliseconds; the rest is what nothing of ours took.
Json ProfileJson(const BenchResult& result) {
  const auto n = static_cast<double>(result.profiles.size());
  Profile sum;
  for (const Profile& profile : result.profiles) sum += profile;
  const double rest = n * Mean(result.seconds) - sum.linear - sum.attention - sum.packing;
  Json json;
  json["linear"] = 1000 * sum.linear / n;
  json["attention"] = 1000 * sum.attention / n;
  json["packing"] = 1000 * sum.packing / n;
  json["rest"] = 1000 * rest / n;
  return json;
}

Json RowJson(const BenchSetting& setting, const BenchResult& result, bool profile) {
  const Model& model = setting.model;
  const ModelInfo& info = model.info();
  Json json;
  json["test"] = result.of.test();
  json["n_prompt"] = result.of.n_prompt;
  json["n_depth"] = result.of.n_depth;
  json["n_gen"] = result.of.n_generated;
  json["model"] = setting.path;
  json["model_type"] = info.description;
  json["model_size_bytes"] = info.n_bytes;
  json["n_params"] = info.n_parameters;
  json["cpu"] = setting.cpu;
  json["isa"] = model.isa();
  json["linear"] = model.linear();
  json["threads"] = model.n_threads();
  json["ubatch_size"] = model.ubatch_size();
  json["attention"] = AttentionName(result.plan.attention);
  json["block_size"] = result.plan.block_size;
  json["anchor_size"] = result.plan.anchor_size;
  json["window"] = result.plan.window;
  json["overlap"] = result.plan.overlap;
  json["n_blocks"] = result.plan.n_blocks;
  if (result.of.is_prefill()) {
    json["ttft_ms"] = Json::array();
    for (const double seconds : result.seconds) json["ttft_ms"].push_back(1000 * seconds);
  }
  json["tokens_per_s"] = Rates(result);
  json["tokens_per_s_mean"] = result.rate_mean();
  json["tokens_per_s_stddev"] = result.rate_deviation();
  json["kv_bytes"] = result.kv_bytes;
  json["peak_rss_bytes"] = result.peak_rss;
  json["predicted_rss_bytes"] = result.rss_predicted();
  json["check_logprob_diff"] = result.check_difference;
  if (profile && result.of.is_prefill()) json["profile_ms"] = ProfileJson(result);
  return json;
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string Quoted(std::string text) {
  for (std::size_t at = 0; (at = text.find('"', at)) != std::string::npos; at += 2) {
    text.insert(at, 1, '"');
  }
  return '"' + text + '"';
}

// Lists and objects as their JSON text, so that no sample is lost.
std::string CsvLine(const Json& row, bool names) {
  std::string line;
  for (const auto& [name, value] : row.items()) {
    const std::string text = value.is_string() ? value.get<std::string>() : Dump(value);
    line += (line.empty() ? "" : ",") + (names ? name : Quoted(text));
  }
  return line + "\n";
}

std::string Fixed(const char* form, double value) {
  char text[48];
  std::snprintf(text, sizeof text, form, value);
  return text;
}

std::string Manner(const Plan& plan) {
  const std::string name(AttentionName(plan.attention));
  if (plan.attention != Attention::kStar) return name;
  return name + " " + FormatCount(plan.block_size) + " / " + FormatCount(plan.anchor_size) +
         (plan.window > 0 ? " + " + FormatCount(plan.window) : "") +
         (plan.overlap > 0 ? " + " + FormatCount(plan.overlap) + " tokens" : "");
}

std::string Split(const BenchResult& result) {
  const Json parts = ProfileJson(result);
  const double whole = 1000 * Mean(result.seconds);
  std::string text;
  for (const auto& [name, value] : parts.items()) {
    text += (text.empty() ? "" : ", ") + name + " " + FormatPercent(value.get<double>() / whole);
  }
  return text;
}

std::string MarkdownRow(const BenchSetting& setting, const BenchResult& result, bool profile) {
  const Model& model = setting.model;
  const bool is_llama = result.plan.attention == Attention::kLlama;
  const std::string kernels =
      is_llama ? "ggml's" : std::string(model.isa()) + ", " + std::string(model.linear());
  const bool is_prefill = result.of.is_prefill();
  std::string row =
      "| " + model.info().description + " | " + kernels + " | " +
      std::to_string(model.n_threads()) + " | " + Manner(result.plan) + " | " + result.of.test() +
      " | " + (is_prefill ? Fixed("%.2f", Mean(result.seconds)) : "") + " | " +
      Fixed("%.2f", result.rate_mean()) + " ± " + Fixed("%.2f", result.rate_deviation()) + " | " +
      FormatBytes(result.kv_bytes) + " | " + FormatBytes(result.peak_rss) + " |";
  if (profile) row += (is_prefill && !is_llama ? " " + Split(result) : "") + " |";
  return row + "\n";
}

}  // namespace

std::string BenchCase::test() const {
  if (is_prefill()) return "pp" + std::to_string(n_prompt);
  return "tg" + std::to_string(n_generated) + "@d" + std::to_string(n_depth);
}

double BenchResult::rate_mean() const { return Mean(Rates(*this)); }

double BenchResult::rate_deviation() const {
  const std::vector<double> rates = Rates(*this);
  if (rates.size() < 2) return 0;
  const double mean = Mean(rates);
  double sum = 0;
  for (const double rate : rates) sum += (rate - mean) * (rate - mean);
  return std::sqrt(sum / static_cast<double>(rates.size() - 1));
}

std::string BenchTable::Head() const {
  if (format_ == BenchFormat::kJson) return "[\n";
  if (format_ != BenchFormat::kMarkdown) return "";
  const std::string names =
      "| model | kernels, linear | threads | attention, block / anchor + window | test | TTFT, s "
      "| tokens/s | KV | peak RSS |";
  return names + (profile_ ? " of TTFT |" : "") + "\n|---|---|--:|---|---|--:|--:|--:|--:|" +
         (profile_ ? "---|" : "") + "\n";
}

std::string BenchTable::Row(const BenchSetting& setting, const BenchResult& result) {
  const bool first = !has_rows_;
  has_rows_ = true;
  if (format_ == BenchFormat::kMarkdown) return MarkdownRow(setting, result, profile_);
  const Json row = RowJson(setting, result, profile_);
  switch (format_) {
    case BenchFormat::kCsv:
      return (first ? CsvLine(row, true) : "") + CsvLine(row, false);
    case BenchFormat::kJson:
      return (first ? "  " : ",\n  ") + Dump(row);
    default:
      return Dump(row) + "\n";
  }
}

std::string BenchTable::Tail() const {
  if (format_ != BenchFormat::kJson) return "";
  return has_rows_ ? "\n]\n" : "]\n";
}

}  // namespace aster::cli
