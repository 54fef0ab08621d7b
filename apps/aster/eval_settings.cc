#include "eval_settings.h"

#include <algorithm>

namespace aster::cli {
namespace {

std::int64_t Tokens(const SizeOption& size, std::int64_t length, std::int64_t least) {
  return size.part > 0 ? std::max(length / size.part, least) : size.tokens;
}

std::string NameOf(const EvalSetting& setting) {
  const bool is_auto = setting.block.text == "auto";
  std::string name = std::string(AttentionName(setting.attention)) + " " + setting.block.text;
  if (setting.anchor.text != "auto") name += " anchor " + setting.anchor.text;
  if (setting.window > 0 || is_auto) name += " window " + std::to_string(setting.window);
  if (setting.overlap > 0) name += " overlap " + std::to_string(setting.overlap);
  return name;
}

// What an automatic window is going to be, so that one plan has one name.
std::int64_t WindowOf(const SizeOption& block, std::int64_t window, std::int64_t overlap,
                      int n_hosts) {
  PlanOptions plan;
  plan.overlap = overlap;
  plan.block_size = block.text == "auto" ? 0 : kMinBlockSize;
  plan.window = window;
  return ForHosts(plan, n_hosts).chosen_window();
}

std::vector<EvalSetting> AllSettings(const EvalOptions& options, int n_hosts) {
  std::vector<EvalSetting> settings;
  const auto add = [&settings](const EvalSetting& setting) {
    const bool known = std::any_of(settings.begin(), settings.end(), [&](const EvalSetting& other) {
      return other.name == setting.name;
    });
    if (!known) settings.push_back(setting);
  };
  for (const Attention attention : options.attentions) {
    if (attention != Attention::kStar && attention != Attention::kAuto) {
      add({std::string(AttentionName(attention)), attention, {}, {}, 0, 0});
      continue;
    }
    for (const SizeOption& block : options.block_sizes) {
      for (const SizeOption& anchor : options.anchor_sizes) {
        for (const std::int64_t window : options.windows) {
          for (const std::int64_t overlap : options.overlaps) {
            const std::int64_t chosen = WindowOf(block, window, overlap, n_hosts);
            EvalSetting setting{"", attention, block, anchor, chosen, overlap};
            setting.name = NameOf(setting);
            add(setting);
          }
        }
      }
    }
  }
  return settings;
}

}  // namespace

PlanOptions EvalSetting::PlanFor(std::int64_t n_context, std::int64_t length) const {
  constexpr std::int64_t kUnit = 1024;
  if (length == 0) length = (n_context + kUnit - 1) / kUnit * kUnit;
  PlanOptions plan;
  plan.attention = attention;
  if (attention != Attention::kStar && attention != Attention::kAuto) return plan;
  plan.block_size = Tokens(block, length, kMinBlockSize);
  plan.anchor_size = Tokens(anchor, length, 1);
  plan.window = window;
  plan.overlap = overlap;
  if (plan.block_size >= n_context || plan.anchor_size >= n_context) {
    plan = {};
    plan.attention = Attention::kDense;
  }
  return plan;
}

Result<std::vector<EvalSetting>> MakeSettings(const EvalOptions& options, int n_hosts) {
  std::vector<EvalSetting> settings = AllSettings(options, n_hosts);
  if (options.only.empty()) return settings;
  std::string names;
  for (const EvalSetting& setting : settings) names += (names.empty() ? "" : ", ") + setting.name;
  for (const std::string& name : options.only) {
    const bool known = std::ranges::any_of(
        settings, [&name](const EvalSetting& setting) { return setting.name == name; });
    if (!known) return InvalidArgument("--only " + name + ": expected of " + names);
  }
  std::erase_if(settings, [&options](const EvalSetting& setting) {
    return std::ranges::find(options.only, setting.name) == options.only.end();
  });
  return settings;
}

}  // namespace aster::cli
