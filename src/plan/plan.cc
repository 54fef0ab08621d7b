#include "aster/plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

namespace aster {
namespace {

constexpr std::pair<Attention, std::string_view> kAttentionNames[] = {
    {Attention::kAuto, "auto"}, {Attention::kDense, "dense"}, {Attention::kStar, "star"},
    {Attention::kRing, "ring"}, {Attention::kLlama, "llama"},
};

// Star that does more than this of dense attention's work is not worth what it gives up.
constexpr double kWorthwhileShare = 0.85;

// Positions are 32-bit in the models that we run.
constexpr std::int64_t kMaxTokenCount = std::numeric_limits<std::int32_t>::max();

// Text of unknown origin, fit for one line of a message.
std::string Quoted(std::string_view text) {
  constexpr std::size_t kMost = 40;
  std::string quoted = "\"";
  for (const char c : text.substr(0, kMost)) {
    quoted += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return quoted + (text.size() > kMost ? "...\"" : "\"");
}

std::string Percent(double share) { return std::to_string(std::lround(share * 100)) + " %"; }

std::int64_t CeilDiv(std::int64_t a, std::int64_t b) { return a / b + (a % b != 0); }

std::int64_t BlockSize(std::int64_t n_context, const PlanOptions& options) {
  return options.block_size == 0 ? AutoBlockSize(n_context, options) : options.block_size;
}

// What can be said of the sizes without looking at the context.
std::optional<Error> RefuseSizes(const PlanOptions& options) {
  const std::int64_t block = options.block_size;
  const std::int64_t anchor = options.anchor_size;
  if (options.ubatch_size < 1) {
    return InvalidArgument("ubatch size " + std::to_string(options.ubatch_size) +
                           ": expected at least 1 token");
  }
  if (options.attention != Attention::kStar && options.attention != Attention::kAuto) {
    if (block == 0 && anchor == -1 && options.window <= 0 && options.overlap == 0) {
      return std::nullopt;
    }
    return InvalidArgument((block != 0           ? "block size " + std::to_string(block)
                            : anchor != -1       ? "anchor size " + std::to_string(anchor)
                            : options.window > 0 ? "window " + std::to_string(options.window)
                                                 : "overlap " + std::to_string(options.overlap)) +
                           " with attention " + std::string(AttentionName(options.attention)) +
                           ": expected attention star or auto, or no such size");
  }
  if (block != 0 && block < kMinBlockSize) {
    return InvalidArgument("block size " + std::to_string(block) + ": expected at least " +
                           std::to_string(kMinBlockSize) + " tokens (4K is 4096)");
  }
  if (anchor < -1) {
    return InvalidArgument("anchor size " + std::to_string(anchor) +
                           ": expected 0 (no anchor) or more tokens");
  }
  if (options.window < 0 && options.window != kAutoWindow) {
    return InvalidArgument("window " + std::to_string(options.window) +
                           ": expected 0 (the own block alone) or more blocks");
  }
  if (options.overlap < 0) {
    return InvalidArgument("overlap " + std::to_string(options.overlap) +
                           ": expected 0 (nothing before the block) or more tokens");
  }
  return std::nullopt;
}

std::optional<Error> RefuseAnchor(std::int64_t anchor_size, std::int64_t n_context) {
  if (anchor_size <= n_context) return std::nullopt;
  return InvalidArgument("anchor size " + std::to_string(anchor_size) +
                         ": expected at most the context's " + std::to_string(n_context) +
                         " tokens");
}

// The anchor, and what starts at `seen_from` and ends before `begin`; one range where they touch.
std::vector<KeyRange> Visible(std::int64_t anchor_size, std::int64_t seen_from,
                              std::int64_t begin) {
  std::vector<KeyRange> visible;
  if (seen_from > anchor_size) {
    if (anchor_size > 0) visible.push_back({0, anchor_size});
    if (begin > seen_from) visible.push_back({seen_from, begin});
  } else if (begin > 0) {
    visible.push_back({0, begin});
  }
  return visible;
}

// Block by block, each cut into ubatches; a step never crosses the end of its block. It may cross
// that of a larger anchor: whose block starts within the anchor sees all before it in any case.
std::vector<Step> CutSteps(const Plan& plan, std::int64_t ubatch_size) {
  std::vector<Step> steps;
  for (std::int64_t block = 0; block < plan.n_context;) {
    const std::int64_t block_end = block + std::min(plan.block_size, plan.n_context - block);
    const std::int64_t first =
        block - std::min(plan.window, block / plan.block_size) * plan.block_size;
    const std::int64_t seen_from = first - std::min(plan.overlap, first);
    for (std::int64_t begin = block; begin < block_end;) {
      const std::int64_t end = begin + std::min(ubatch_size, block_end - begin);
      steps.push_back({{begin, end}, Visible(plan.anchor_size, seen_from, begin)});
      begin = end;
    }
    block = block_end;
  }
  return steps;
}

// One block that holds the whole context: dense attention, and llama.cpp's without the steps.
Plan OneBlock(std::int64_t n_context, const PlanOptions& options, std::string reason) {
  Plan plan;
  const bool chose =
      options.attention == Attention::kRing || options.attention == Attention::kLlama;
  plan.attention = chose ? options.attention : Attention::kDense;
  plan.n_context = n_context;
  plan.block_size = n_context;
  plan.n_blocks = n_context > 0 ? 1 : 0;
  if (plan.attention != Attention::kLlama) plan.steps = CutSteps(plan, options.ubatch_size);
  plan.reason = std::move(reason);
  return plan;
}

// REQUIRES: 0 < block_size, anchor_size <= n_context.
Plan Star(std::int64_t n_context, std::int64_t block_size, std::int64_t anchor_size,
          const PlanOptions& options) {
  const double n = static_cast<double>(n_context);
  Plan plan;
  plan.attention = Attention::kStar;
  plan.n_context = n_context;
  plan.block_size = block_size;
  plan.anchor_size = anchor_size;
  plan.window = options.chosen_window();
  plan.overlap = options.overlap;
  plan.n_blocks = CeilDiv(n_context, block_size);
  plan.steps = CutSteps(plan, options.ubatch_size);
  plan.work_share = CausalPairs(plan.steps) / (n * (n + 1) / 2);
  return plan;
}

Result<Plan> MakeStar(std::int64_t n_context, const PlanOptions& options) {
  if (n_context < 1) {
    return InvalidArgument("attention star of an empty context: expected at least 1 token");
  }
  if (options.block_size > n_context) {
    return InvalidArgument("block size " + std::to_string(options.block_size) +
                           ": expected at most the context's " + std::to_string(n_context) +
                           " tokens");
  }
  const std::int64_t block_size = std::min(BlockSize(n_context, options), n_context);
  const std::int64_t anchor_size = options.anchor_size < 0 ? block_size : options.anchor_size;
  if (auto error = RefuseAnchor(anchor_size, n_context)) return *error;
  return Star(n_context, block_size, anchor_size, options);
}

Result<Plan> MakeAuto(std::int64_t n_context, const PlanOptions& options) {
  const std::int64_t block_size = BlockSize(n_context, options);
  if (n_context <= block_size) {
    return OneBlock(n_context, options,
                    "dense: the context of " + std::to_string(n_context) +
                        " tokens fits one block of " + std::to_string(block_size));
  }
  if (n_context <= options.anchor_size) {
    return OneBlock(n_context, options,
                    "dense: the anchor of " + std::to_string(options.anchor_size) +
                        " tokens holds the context");
  }
  Result<Plan> star = MakeStar(n_context, options);
  if (!star) return star;
  if (star->work_share >= kWorthwhileShare) {
    return OneBlock(n_context, options,
                    "dense: star would do " + Percent(star->work_share) + " of its attention work");
  }
  star->reason = "star: " + Percent(star->work_share) + " of dense attention's work";
  return star;
}

}  // namespace

std::string_view AttentionName(Attention attention) {
  for (const auto& [value, name] : kAttentionNames) {
    if (value == attention) return name;
  }
  return "unknown";
}

Result<Attention> ParseAttention(std::string_view name) {
  for (const auto& [value, known] : kAttentionNames) {
    if (name == known) return value;
  }
  return InvalidArgument("attention " + Quoted(name) +
                         ": expected auto, dense, star, ring or llama");
}

std::int64_t AutoBlockSize(std::int64_t n_context, const PlanOptions& options) {
  constexpr std::int64_t kUnit = 256, kMost = 32768;
  const bool sees_before = options.chosen_window() > 0 || options.overlap > 0;
  const std::int64_t parts = sees_before ? 8 : 4, least = sees_before ? 512 : 1024;
  const std::int64_t part = CeilDiv(std::max<std::int64_t>(n_context, 0), parts * kUnit) * kUnit;
  return std::clamp(part, least, kMost);
}

PlanOptions ForHosts(PlanOptions options, int n_hosts) {
  if (n_hosts > 1 && options.window == kAutoWindow) options.window = 0;
  return options;
}

Result<Plan> MakePlan(std::int64_t n_context, const PlanOptions& options) {
  if (n_context < 0) {
    return InvalidArgument("a context of " + std::to_string(n_context) +
                           " tokens: expected 0 or more");
  }
  if (auto error = RefuseSizes(options)) return *error;
  if (options.attention == Attention::kStar) return MakeStar(n_context, options);
  if (options.attention == Attention::kAuto) return MakeAuto(n_context, options);
  return OneBlock(n_context, options, "");
}

bool SameRule(const Plan& a, const Plan& b) {
  if (a.attention != Attention::kStar || b.attention != Attention::kStar) {
    return a.attention != Attention::kStar && b.attention != Attention::kStar;
  }
  return a.block_size == b.block_size && a.anchor_size == b.anchor_size && a.window == b.window &&
         a.overlap == b.overlap;
}

std::int64_t DenseExtent(const Plan& plan) {
  if (plan.attention != Attention::kStar) return plan.n_context;
  // Block k sees all before it iff (k - window) * block_size - overlap <= anchor_size. An overlap
  // may be longer than the context, a window have more blocks.
  const std::int64_t overlap = std::min(plan.overlap, plan.n_context);
  const std::int64_t window = std::min(plan.window, plan.n_blocks);
  const std::int64_t n_blocks = (plan.anchor_size + overlap) / plan.block_size + window + 1;
  return std::min(n_blocks * plan.block_size, plan.n_context);
}

std::int64_t AlikeExtent(const Plan& a, const Plan& b) {
  constexpr std::int64_t kAll = std::numeric_limits<std::int64_t>::max();
  const bool star = a.attention == Attention::kStar;
  if (SameRule(a, b)) return star ? std::min(a.n_context, b.n_context) : kAll;
  const auto extent = [](const Plan& plan) {
    return plan.attention == Attention::kStar ? DenseExtent(plan) : kAll;
  };
  return std::min(extent(a), extent(b));
}

std::vector<Step> StepsFrom(const std::vector<Step>& steps, std::int64_t n) {
  std::vector<Step> rest;
  for (Step step : steps) {
    if (step.tokens.end <= n) continue;
    if (step.tokens.begin < n) {
      step.visible.push_back({step.tokens.begin, n});
      step.tokens.begin = n;
    }
    rest.push_back(std::move(step));
  }
  return rest;
}

double CausalPairs(const std::vector<Step>& steps) {
  double pairs = 0;
  for (const Step& step : steps) {
    const double n = static_cast<double>(step.tokens.size());
    pairs += n * (n + 1) / 2;
    for (const KeyRange& range : step.visible) pairs += n * static_cast<double>(range.size());
  }
  return pairs;
}

Result<std::int64_t> ParseTokenCount(std::string_view text) {
  std::string_view digits = text;
  std::int64_t unit = 1;
  if (digits.ends_with('K') || digits.ends_with('k')) unit = std::int64_t{1} << 10;
  if (digits.ends_with('M') || digits.ends_with('m')) unit = std::int64_t{1} << 20;
  if (unit > 1) digits.remove_suffix(1);

  const bool all_digits =
      !digits.empty() && digits.find_first_not_of("0123456789") == std::string_view::npos;
  if (!all_digits) {
    return InvalidArgument("token count " + Quoted(text) +
                           ": expected a whole number such as 4096, 4K or 1M");
  }
  std::int64_t count = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), count);
  if (parsed.ec != std::errc{} || count > kMaxTokenCount / unit) {
    return InvalidArgument("token count " + Quoted(text) + ": expected at most " +
                           std::to_string(kMaxTokenCount));
  }
  return count * unit;
}

}  // namespace aster
