#include "expectation.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "embedded/accuracy_table.h"

namespace aster::cli {
namespace {

constexpr const char* kNotMeasured = "what that keeps of dense's accuracy was not measured";

std::string Percent(const nlohmann::json& value) {
  return std::to_string(std::lround(value.get<double>()));
}

// What a figure was pooled from.
struct Seen {
  std::set<std::string> models;
  std::set<std::int64_t> lengths;  // in tokens

  // runs: "MODEL LENGTH" each.
  explicit Seen(const nlohmann::json& runs) {
    for (const auto& run : runs) {
      const auto name = run.get<std::string>();
      const std::size_t space = name.rfind(' ');
      models.insert(name.substr(0, space));
      lengths.insert(std::stoll(name.substr(space + 1)));
    }
  }
  std::string Words() const {
    const auto in_k = [](std::int64_t n) { return std::to_string(n / 1024) + "K"; };
    const std::string least = in_k(*lengths.begin()), most = in_k(*lengths.rbegin());
    return std::to_string(models.size()) + (models.size() == 1 ? " small model" : " small models") +
           " at " + (least == most ? least : least + " to " + most);
  }
};

}  // namespace

std::string Expectation(const Plan& plan) {
  if (plan.attention != Attention::kStar || plan.work_share >= 1) return {};
  if (plan.anchor_size != plan.block_size) return kNotMeasured;
  static const auto table = nlohmann::json::parse(embedded::AccuracyTable());
  for (const auto& row : table.at("rows")) {  // by number of blocks for each window and overlap
    if (row.at("window").get<std::int64_t>() != plan.window) continue;
    if (row.at("overlap").get<std::int64_t>() != plan.overlap) continue;
    if (row.at("blocks").get<std::int64_t>() < plan.n_blocks) continue;
    const Seen seen(row.at("of"));
    if (plan.block_size < *seen.lengths.begin() / row.at("blocks").get<std::int64_t>()) break;
    const auto& kept = row.at("kept");
    return "expect " + Percent(kept.at(0)) + " % (" + Percent(kept.at(1)) + " to " +
           Percent(kept.at(2)) + ") of dense's " + table.at("benchmark").get<std::string>() +
           " score, as seen on " + seen.Words();
  }
  return kNotMeasured;
}

}  // namespace aster::cli
