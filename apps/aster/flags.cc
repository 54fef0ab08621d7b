#include "flags.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <limits>
#include <utility>

#include "flag_values.h"
#include "numbers.h"
#include "text.h"

namespace aster::cli {
namespace {

std::string LongName(const std::string& names) {
  const std::size_t at = names.find("--");
  return names.substr(at, names.find(',', at) - at);
}

void AddReal(CLI::App& app, const std::string& names, const std::string& help,
             const std::string& expected, bool (*in_range)(double), float& value) {
  AddValue(app, names, "X", help, "a number " + expected,
           [in_range, &value](const std::string& text) {
             const auto x = ParseReal(text);
             if (!x || !in_range(*x)) return false;
             value = static_cast<float>(*x);
             return true;
           });
}

bool SetSeed(const std::string& text, std::uint32_t& seed) {
  const auto n = ParseInteger(text);
  if (!n || *n < -1 || *n > std::numeric_limits<std::uint32_t>::max()) return false;
  seed = static_cast<std::uint32_t>(*n);  // -1 is llama.cpp's 0xFFFFFFFF, a random seed
  return true;
}

}  // namespace

void AddAnchorAndLengthFlags(CLI::App& app, Options& options) {
  AddValue(app, "--anchor-size", "N",
           "Tokens at the start that every block sees; 0 = no anchor;\n"
           "auto: a block. Default: auto.",
           std::string(kTokens) + ", 0 for no anchor, or auto",
           Into(options.plan.anchor_size, OrAuto(-1, TokenCount(0))));
  app.add_flag("--allow-long", options.allow_long,
               "Go on past the length that the model was trained for.");
}

void AddWindowFlag(CLI::App& app, Options& options) {
  AddValue(app, "--window", "N",
           "Earlier blocks that each block of star sees besides; auto:\n"
           "1 where the block size is auto, there is one host and no\n"
           "overlap, else 0, as in the paper. Default: auto.",
           "a whole number from 0 to 1024, or auto", Into(options.plan.window, ReadWindow()));
  AddValue(app, "--overlap", "N", "Tokens right before those that it sees too. Default: 0.",
           kTokens, Into(options.plan.overlap, TokenCount(0)));
}

void AddProgressFlag(CLI::App& app, Options& options) {
  app.add_flag_callback(
         "--no-progress", [&options] { options.progress = false; },
         "No progress on standard error.")
      ->group("Output");
}

void AddSamplingFlags(CLI::App& app, SamplingOptions& sampling) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  AddValue(app, "-s,--seed", "N",
           "Seed of the random numbers; -1 = a new one each time.\n"
           "Default: -1.",
           "-1 or a whole number from 0 to 4294967295",
           [&sampling](const std::string& text) { return SetSeed(text, sampling.seed); });
  AddReal(
      app, "--temp",
      "Temperature, at least 0; 0 = always the likeliest token.\n"
      "Default: 0.8.",
      "of at least 0", [](double x) { return x >= 0 && x <= 1e6; }, sampling.temperature);
  AddInteger(app, "--top-k", "Choose among the N likeliest tokens; 0 = all. Default: 40.", 0, kMost,
             sampling.top_k);
  AddReal(
      app, "--top-p",
      "Choose among the likeliest tokens whose probabilities\n"
      "sum to X, in (0, 1]; 1 = all. Default: 0.95.",
      "in (0, 1]", [](double x) { return x > 0 && x <= 1; }, sampling.top_p);
  AddReal(
      app, "--min-p",
      "Drop tokens less likely than X times the likeliest,\n"
      "in [0, 1]; 0 = none. Default: 0.05.",
      "in [0, 1]", [](double x) { return x >= 0 && x <= 1; }, sampling.min_p);
  AddReal(
      app, "--repeat-penalty",
      "Divide the score of tokens said before by X, above 0;\n"
      "1 = off. Default: 1.",
      "above 0", [](double x) { return x > 0 && x <= 1e6; }, sampling.repeat_penalty);
  AddInteger(app, "--repeat-last-n",
             "How many tokens the penalty looks back on; 0 = none.\n"
             "Default: 64.",
             0, kMost, sampling.repeat_last_n);
}

CLI::Option* AddValue(CLI::App& app, const std::string& names, const std::string& value_name,
                      const std::string& help, const std::string& expected, Setter set) {
  const auto callback = [name = LongName(names), expected, set](const std::string& text) {
    if (set(text)) return;
    throw CLI::ValidationError(name + " " + Shown(text) + ": expected " + expected);
  };
  return app.add_option_function<std::string>(names, callback, help)
      ->type_name(value_name)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

CLI::Option* AddList(CLI::App& app, const std::string& names, const std::string& value_name,
                     const std::string& help, std::vector<std::string>& values) {
  return app.add_option(names, values, help)->type_name(value_name)->allow_extra_args(false);
}

void AddModelFlags(CLI::App& app, Options& options) {
  AddValue(app, "-m,--model", "MODEL",
           "A GGUF file (of a split one, the first), or a name from\n"
           "`aster model list`. Default: smollm2.",
           "a file or a name", Into(options.model, NotEmpty))
      ->group("Model");
  AddValue(app, "--chat-template-file", "FILE",
           "A chat template (Jinja) in place of the model's own.", "a file",
           Into(options.chat_template_file, NotEmpty))
      ->group("Model");
}

void AddComputeFlags(CLI::App& app, Options& options) {
  app.option_defaults()->group("Model");
  AddInteger(app, "-t,--threads", "Threads. Default: the CPUs this process may use.", 1, 1024,
             options.model_options.n_threads);
  AddValue(app, "--ubatch-size", "N",
           "Most tokens in one pass through the model, 1 to 64K:\n"
           "more is faster and takes more memory. Default: 512.",
           std::string(kTokens) + ", from 1 to 64K",
           Into(options.model_options.ubatch_size, TokenCount(1, 65536)));
  AddValue(app, "--linear", "WAY",
           "Who computes the linear layers of the prefill: ggml;\n"
           "onednn-f32; onednn-bf16; onednn: bf16 where the CPU\n"
           "is faster at it, else f32; auto: oneDNN where it pays.\n"
           "Default: auto.",
           "auto, ggml, onednn, onednn-f32 or onednn-bf16",
           Into(options.model_options.linear,
                OneOf<ModelOptions::Linear>({{"auto", ModelOptions::Linear::kAuto},
                                             {"ggml", ModelOptions::Linear::kGgml},
                                             {"onednn", ModelOptions::Linear::kOneDnn},
                                             {"onednn-f32", ModelOptions::Linear::kOneDnnF32},
                                             {"onednn-bf16", ModelOptions::Linear::kOneDnnBf16}})));
}

void AddHostFlags(CLI::App& app, Options& options) {
  app.option_defaults()->group("Hosts");
  AddValue(app, "--host-weights", "X,...",
           "Under mpirun: how fast each host is against the others,\n"
           "rank 0 first; it gets as large a share. Default: all alike.",
           "numbers above 0, such as 2,1,1",
           Into(options.hosts.weights, List<double>([](const std::string& text) {
                  const auto x = ParseReal(text);
                  return x && *x > 0 && *x <= 1e6 ? x : std::nullopt;
                })));
  AddValue(app, "--anchor", "WAY",
           "Under mpirun: how hosts come by star's anchor: broadcast,\n"
           "its keys are sent on; recompute, each encodes it anew;\n"
           "auto: what is expected to be faster. Default: auto.",
           "auto, broadcast or recompute",
           Into(options.hosts.anchor, OneOf<AnchorFrom>({{"auto", AnchorFrom::kAuto},
                                                         {"broadcast", AnchorFrom::kBroadcast},
                                                         {"recompute", AnchorFrom::kRecompute}})));
  AddValue(app, "--partials", "TYPE",
           "Under mpirun: what hosts' partial results travel in, f32\n"
           "or bf16: half the bytes, less exact. Default: f32.",
           "f32 or bf16",
           Into(options.hosts.bf16_partials, OneOf<bool>({{"f32", false}, {"bf16", true}})));
  AddValue(app, "--host-timeout", "SECONDS",
           "Under mpirun: how long a host may give no sign of life\n"
           "before all end, at least 1. Default: 30.",
           "a number of seconds from 1 to 86400",
           Into(options.hosts.timeout, [](const std::string& text) -> std::optional<double> {
             const auto x = ParseReal(text);
             return x && *x >= 1 && *x <= 86400 ? x : std::nullopt;
           }));
}

// Kinds of attention that `more` describes too, a line each.
void AddPlanFlags(CLI::App& app, Options& options, const std::string& more,
                  const std::string& expected) {
  app.option_defaults()->group("Attention");
  AddValue(app, "--attention", "KIND",
           "dense: every token sees all before it; exact.\n"
           "star:  every token sees the anchor, its own block and a\n"
           "       window of blocks before it.\n"
           "auto:  star where it saves work, else dense.\n" +
               more + "Default: auto.",
           expected, Into<Attention>(options.plan.attention, ReadAttention));
  AddValue(app, "--block-size", "N",
           "Tokens in a block, at least 16: 4096 or 4K, or auto: an\n"
           "eighth of the context, from 512 to 32K; a quarter, from\n"
           "1K, with no window and no overlap. Default: auto.",
           std::string(kTokens) + ", at least " + std::to_string(kMinBlockSize) + ", or auto",
           Into(options.plan.block_size, OrAuto(0, TokenCount(kMinBlockSize))));
  AddWindowFlag(app, options);
  AddAnchorAndLengthFlags(app, options);
}

void AddAttentionFlags(CLI::App& app, Options& options) {
  AddPlanFlags(app, options,
               "ring:  dense, over the hosts of an mpirun; exact.\n"
               "llama: llama.cpp's own attention and KV cache.\n",
               "auto, dense, star, ring or llama");
}

void AddServeAttentionFlags(CLI::App& app, Options& options) {
  AddPlanFlags(app, options, "", "auto, dense or star");
}

void AddAnswerFlags(CLI::App& app, Options& options) {
  app.option_defaults()->group("Answer");
  AddValue(app, "-n,--n-predict,--predict", "N",
           "Most tokens to say; -1 = until the answer ends.\n"
           "Default: -1.",
           "-1 or a whole number of at least 1", [&options](const std::string& text) {
             const auto n = ParseInteger(text);
             if (!n || *n == 0 || *n < -1 || *n > std::numeric_limits<std::int32_t>::max()) {
               return false;
             }
             options.max_tokens = *n;
             return true;
           });
  AddList(app, "--stop", "TEXT", "End the answer before this text. May be repeated.",
          options.stop_strings);
  AddSamplingFlags(app, options.sampling);
}

void AddJsonFlag(CLI::App& app, Options& options, const std::string& help) {
  app.add_flag("--json", options.json, help)->group("Output");
}

void AddVerboseFlag(CLI::App& app, Options& options) {
  app.add_flag("-v,--verbose", options.model_options.verbose,
               "Say more on standard error, with llama.cpp's own log.")
      ->group("Output");
}

void AddOutputFlags(CLI::App& app, Options& options) {
  AddJsonFlag(app, options,
              "One JSON object per answer, on one line, and nothing else on\n"
              "standard output; see below.");
  AddProgressFlag(app, options);
  AddVerboseFlag(app, options);
}

}  // namespace aster::cli
