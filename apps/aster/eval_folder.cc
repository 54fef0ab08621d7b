#include "eval_folder.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "eval/summary.h"
#include "numbers.h"
#include "output.h"

namespace aster::cli {
namespace {

using eval::Prediction;

Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path + ".part", std::ios::binary);
  file << text;
  file.close();
  std::error_code ec;
  if (file) std::filesystem::rename(path + ".part", path, ec);
  return file && !ec ? Ok() : Status(WorldError(path + ": cannot be written"));
}

// The samples that the folder's last summary left out. Errors: kWorld for a file of another kind.
Result<std::set<std::string>> SupersededBefore(const std::string& folder) {
  const std::string path = folder + "/summary.json";
  std::error_code ec;
  std::set<std::string> samples;
  if (!std::filesystem::exists(path, ec)) return samples;
  std::ifstream file(path);
  const auto summary = nlohmann::json::parse(file, nullptr, false);
  const auto list =
      summary.is_object() ? summary.value("superseded", nlohmann::json::array()) : nlohmann::json();
  const auto is_text = [](const nlohmann::json& one) { return one.is_string(); };
  if (!list.is_array() || !std::ranges::all_of(list, is_text)) {
    return WorldError(path + ": expected what aster eval writes, or no such file");
  }
  for (const auto& one : list) samples.insert(one.get<std::string>());
  return samples;
}

// Prediction::Place to fingerprint, as the folder's last evaluation had them: what it left out, and
// nothing was answered to since, counts no more than then.
Result<std::map<std::string, std::string>> CurrentBefore(
    const std::string& folder, const std::vector<Prediction>& predictions) {
  const auto superseded = SupersededBefore(folder);
  if (!superseded) return superseded.error();
  std::map<std::string, std::string> current;
  for (const Prediction& p : predictions) {
    if (!superseded->contains(p.sample)) current[p.Place()] = p.sample;
  }
  return current;
}

}  // namespace

Status CheckUnpacked(const std::string& folder) {
  std::error_code ec;
  const bool is_packed = std::filesystem::exists(folder + "/predictions.jsonl.gz", ec) &&
                         !std::filesystem::exists(folder + "/predictions.jsonl", ec);
  return is_packed
             ? Status(WorldError(folder + ": predictions.jsonl.gz is packed; expected gunzip -k"))
             : Ok();
}

Status ShowSummary(const std::string& folder, const std::vector<Prediction>& predictions,
                   std::map<std::string, std::string> asked) {
  if (predictions.empty()) {
    return WorldError(folder + ": no predictions there; expected --data with samples");
  }
  auto before = CurrentBefore(folder, predictions);
  if (!before) return before.error();
  asked.merge(*before);
  const eval::Summary summary = eval::Summarise(predictions, asked);
  if (!summary.superseded.empty()) {
    Note("left out: what was answered to " + FormatCount(std::ssize(summary.superseded)) +
         (summary.superseded.size() == 1 ? " sample" : " samples") + " that changed since");
  }
  const Status written =
      WriteFile(folder + "/summary.json", eval::SummaryJson(summary, predictions.front()));
  if (!written) return written;
  Output output;
  output.Write(eval::SummaryMarkdown(summary));
  return output.status();
}

}  // namespace aster::cli
