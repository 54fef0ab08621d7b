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

// Of "MODEL LENGTH" each.
std::size_t CountModels(const nlohmann::json& runs) {
  std::set<std::string> models;
  for (const auto& run : runs) {
    const auto name = run.get<std::string>();
    models.insert(name.substr(0, name.rfind(' ')));
  }
  return models.size();
}

}  // namespace

std::string Expectation(const Plan& plan) {
  if (plan.attention != Attention::kStar || plan.work_share >= 1) return {};
  if (plan.anchor_size != plan.block_size) return kNotMeasured;
  static const auto table = nlohmann::json::parse(embedded::AccuracyTable());
  for (const auto& row : table.at("rows")) {  // by number of blocks for each window
    if (row.at("window").get<std::int64_t>() != plan.window) continue;
    if (row.at("blocks").get<std::int64_t>() < plan.n_blocks) continue;
    const auto& kept = row.at("kept");
    return "expect " + Percent(kept.at(0)) + " % (" + Percent(kept.at(1)) + " to " +
           Percent(kept.at(2)) + ") of dense's " + table.at("benchmark").get<std::string>() +
           " score, as seen on " + std::to_string(CountModels(row.at("of"))) + " small models";
  }
  return kNotMeasured;
}

}  // namespace aster::cli
