#include "flags.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "numbers.h"
#include "text.h"

namespace aster::cli {
namespace {

constexpr const char* kTokens = "a number of tokens, such as 4096 or 4K";

std::string LongName(const std::string& names) {
  const std::size_t at = names.find("--");
  return names.substr(at, names.find(',', at) - at);
}

template <class T>
void AddInteger(CLI::App& app, const std::string& names, const std::string& help,
                std::int64_t least, std::int64_t most, T& value) {
  const std::string expected =
      most == std::numeric_limits<std::int32_t>::max()
          ? "a whole number of at least " + std::to_string(least)
          : "a whole number from " + std::to_string(least) + " to " + std::to_string(most);
  AddValue(app, names, "N", help, expected, [least, most, &value](const std::string& text) {
    const auto n = ParseInteger(text);
    if (!n || *n < least || *n > most) return false;
    value = static_cast<T>(*n);
    return true;
  });
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

// Reads a value from text; nullopt for one that is refused.
template <class T>
using Reader = std::function<std::optional<T>(const std::string&)>;

template <class T>
Setter Into(T& value, std::type_identity_t<Reader<T>> read) {
  return [&value, read](const std::string& text) {
    const std::optional<T> found = read(text);
    if (found) value = *found;
    return found.has_value();
  };
}

// Items between commas.
template <class T>
Reader<std::vector<T>> List(Reader<T> read) {
  return [read](const std::string& text) -> std::optional<std::vector<T>> {
    std::vector<T> items;
    for (std::size_t at = 0; at <= text.size();) {
      const std::size_t comma = std::min(text.find(',', at), text.size());
      const std::optional<T> item = read(text.substr(at, comma - at));
      if (!item) return std::nullopt;
      items.push_back(*item);
      at = comma + 1;
    }
    return items;
  };
}

Reader<std::int64_t> TokenCount(std::int64_t least,
                                std::int64_t most = std::numeric_limits<std::int32_t>::max()) {
  return [least, most](const std::string& text) -> std::optional<std::int64_t> {
    const Result<std::int64_t> n = ParseTokenCount(text);
    if (!n || *n < least || *n > most) return std::nullopt;
    return *n;
  };
}

// "auto" stands for the value that the plan reads as auto.
Reader<std::int64_t> OrAuto(std::int64_t auto_value, Reader<std::int64_t> read) {
  return [auto_value, read](const std::string& text) {
    return text == "auto" ? std::optional(auto_value) : read(text);
  };
}

// One of a few names.
template <class T>
Reader<T> OneOf(std::vector<std::pair<const char*, T>> names) {
  return [names](const std::string& text) -> std::optional<T> {
    for (const auto& [name, value] : names) {
      if (text == name) return value;
    }
    return std::nullopt;
  };
}

std::optional<std::string> NotEmpty(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional(text);
}

std::optional<Attention> ReadAttention(const std::string& text) {
  const Result<Attention> kind = ParseAttention(text);
  return kind ? std::optional(*kind) : std::nullopt;
}

bool SetSeed(const std::string& text, std::uint32_t& seed) {
  const auto n = ParseInteger(text);
  if (!n || *n < -1 || *n > std::numeric_limits<std::uint32_t>::max()) return false;
  seed = static_cast<std::uint32_t>(*n);  // -1 is llama.cpp's 0xFFFFFFFF, a random seed
  return true;
}

void AddAnchorAndLengthFlags(CLI::App& app, Options& options) {
  AddValue(app, "--anchor-size", "N",
           "Tokens at the start that every block sees; 0 = no anchor;\n"
           "auto: a block. Default: auto.",
           std::string(kTokens) + ", 0 for no anchor, or auto",
           Into(options.plan.anchor_size, OrAuto(-1, TokenCount(0))));
  app.add_flag("--allow-long", options.allow_long,
               "Go on past the length that the model was trained for.");
}

Reader<std::int64_t> ReadWindow() { return OrAuto(kAutoWindow, TokenCount(0, kMostWindow)); }

void AddWindowFlag(CLI::App& app, Options& options) {
  AddValue(app, "--window", "N",
           "Earlier blocks that each block of star sees besides; auto:\n"
           "1 where the block size is auto, there is one host and no\n"
           "overlap, else 0, as in the paper. Default: auto.",
           "a whole number from 0 to 1024, or auto", Into(options.plan.window, ReadWindow()));
  AddValue(app, "--overlap", "N", "Tokens right before those that it sees too. Default: 0.",
           kTokens, Into(options.plan.overlap, TokenCount(0)));
}

void AddAttentionKinds(CLI::App& app, const std::string& by_default,
                       std::vector<Attention>& kinds) {
  AddValue(app, "--attention", "KIND,...",
           "dense, star, auto, ring, llama; see aster ask --help.\n"
           "Default: " +
               by_default + ".",
           "auto, dense, star, ring or llama, or several of them",
           Into(kinds, List<Attention>(ReadAttention)));
}

void AddProgressFlag(CLI::App& app, Options& options) {
  app.add_flag_callback(
         "--no-progress", [&options] { options.progress = false; },
         "No progress on standard error.")
      ->group("Output");
}

}  // namespace

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

void AddBenchFlags(CLI::App& app, Options& options) {
  BenchOptions& bench = options.bench;
  app.option_defaults()->group("Cases");
  AddValue(app, "-p,--n-prompt", "N,...",
           "Lengths to encode, to the first token; 0 = none.\n"
           "Default: 512.",
           "numbers of tokens from 2, such as 512,8K, or 0",
           Into(bench.n_prompts, List<std::int64_t>([](const std::string& text) {
                  const auto n = TokenCount(0)(text);
                  return n == 1 ? std::nullopt : n;
                })));
  AddValue(app, "-n,--n-gen", "N", "Tokens to generate at each depth; 0 = none. Default: 128.",
           std::string(kTokens) + ", or 0", Into(bench.n_generated, TokenCount(0)));
  AddValue(app, "-d,--n-depth", "N,...", "Depths to generate at, in tokens. Default: 0.",
           "numbers of tokens, such as 0,8K", Into(bench.n_depths, List(TokenCount(0))));
  AddInteger(app, "-r,--repetitions", "Samples of each case. Default: 5.", 1, 1000,
             bench.repetitions);
  AddAttentionKinds(app, "auto", bench.attentions);
  AddValue(app, "--block-size", "N,...",
           "Of star: tokens in a block, at least 16, or auto.\n"
           "Default: auto.",
           std::string(kTokens) + ", at least " + std::to_string(kMinBlockSize) + ", or auto",
           Into(bench.block_sizes, List(OrAuto(0, TokenCount(kMinBlockSize)))));
  AddWindowFlag(app, options);
  AddAnchorAndLengthFlags(app, options);
  app.option_defaults()->group("Output");
  AddValue(app, "-o,--output", "FORM",
           "md, csv, json or jsonl: rows on standard output as they\n"
           "are done. Default: md.",
           "md, csv, json or jsonl",
           Into(bench.format, OneOf<BenchFormat>({{"md", BenchFormat::kMarkdown},
                                                  {"csv", BenchFormat::kCsv},
                                                  {"json", BenchFormat::kJson},
                                                  {"jsonl", BenchFormat::kJsonLines}})));
  app.add_flag("--profile", bench.profile,
               "Split the time to the first token into linear layers,\n"
               "attention, packing of K and V, and the rest.");
  AddProgressFlag(app, options);
  AddVerboseFlag(app, options);
}

void AddBenchHostsFlags(CLI::App& app, Options& options) {
  BenchHostsOptions& bench = options.bench_hosts;
  app.option_defaults()->group("Cases");
  AddValue(app, "-p,--n-prompt", "N,...", "Lengths of the context. Default: 8K.",
           "numbers of tokens from 16, such as 8K,64K",
           Into(bench.n_contexts, List(TokenCount(16))));
  AddValue(app, "--hosts", "N,...", "How many hosts, from 1 to 1024. Default: 1,2,4,8.",
           "whole numbers from 1 to 1024", Into(bench.n_hosts, List(TokenCount(1, 1024))));
  AddValue(app, "--ways", "WAY,...",
           "recompute: star, each host encodes the anchor anew.\n"
           "broadcast: star, the anchor's keys are sent on.\n"
           "ring: exact, every host with the same work.\n"
           "contiguous: the ring with unequal work that Star\n"
           "Attention's paper compares with.\n"
           "Default: recompute,broadcast,ring.",
           "recompute, broadcast, ring or contiguous, or several of them",
           Into(bench.ways, List(OneOf<HostsWay>({{"recompute", HostsWay::kRecompute},
                                                  {"broadcast", HostsWay::kBroadcast},
                                                  {"ring", HostsWay::kRing},
                                                  {"contiguous", HostsWay::kContiguous}}))));
  AddValue(app, "--block-size", "N",
           "Of star: tokens in a block, at least 16, or auto: the\n"
           "context divided by the hosts. Default: auto.",
           std::string(kTokens) + ", at least " + std::to_string(kMinBlockSize) + ", or auto",
           Into(bench.block_size, OrAuto(0, TokenCount(kMinBlockSize))));
  AddAnchorAndLengthFlags(app, options);
  const auto positive = [](const std::string& text) {
    const auto x = ParseReal(text);
    return x && *x > 0 && *x <= 1e6 ? x : std::nullopt;
  };
  AddValue(app, "--link", "GBIT,...", "Speeds of the links, in Gbit/s. Default: 1,10,100.",
           "numbers above 0, such as 1,10", Into(bench.links, List<double>(positive)));
  AddValue(app, "--round-trip", "MS", "Round trip of a link, in milliseconds. Default: 0.2.",
           "a number above 0", Into(bench.round_trip_ms, positive));
  app.add_flag("--all-hosts", bench.all_hosts,
               "Run every host's work, not just the different ones.");
  app.option_defaults()->group("Output");
  AddValue(app, "-o,--output", "FORM", "md or jsonl: rows as they are done. Default: md.",
           "md or jsonl",
           Into(options.bench.format, OneOf<BenchFormat>({{"md", BenchFormat::kMarkdown},
                                                          {"jsonl", BenchFormat::kJsonLines}})));
  AddProgressFlag(app, options);
  AddVerboseFlag(app, options);
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

// "L/4" is a quarter of the length; else as `read` has it.
Reader<SizeOption> OrPart(Reader<std::int64_t> read) {
  return [read](const std::string& text) -> std::optional<SizeOption> {
    if (text.starts_with("L/")) {
      const auto part = ParseInteger(text.substr(2));
      if (!part || *part < 1 || *part > 4096) return std::nullopt;
      return SizeOption{0, *part, text};
    }
    const std::optional<std::int64_t> tokens = read(text);
    return tokens ? std::optional(SizeOption{*tokens, 0, text}) : std::nullopt;
  };
}

void AddEvalFlags(CLI::App& app, Options& options) {
  EvalOptions& eval = options.eval;
  app.option_defaults()->group("Samples");
  AddValue(app, "--data", "PATH",
           "A .jsonl or .json file, or a folder of them; see below.\n"
           "Without it: the tables of what -o holds already.",
           "a file or a folder", Into(eval.data, NotEmpty));
  AddValue(app, "-o,--output", "DIR",
           "Where predictions.jsonl and summary.json go. A run that was\n"
           "stopped goes on there, and more settings join it.",
           "a folder", Into(eval.output, NotEmpty));
  AddValue(app, "--tasks", "NAME,...", "Only these tasks. Default: all.", "names of tasks",
           Into(eval.tasks, List<std::string>(NotEmpty)));
  AddInteger(app, "--samples", "Only the first N of each file; 0 = all. Default: 0.", 0,
             std::numeric_limits<std::int32_t>::max(), eval.n_samples);
  AddValue(app, "--prompt", "KIND",
           "chat: the model's chat template around context and\n"
           "question; bare: the texts as they are; auto: chat where\n"
           "the model has a template. Default: auto.",
           "auto, chat or bare",
           Into(eval.prompt, OneOf<PromptKind>({{"auto", PromptKind::kAuto},
                                                {"chat", PromptKind::kChat},
                                                {"bare", PromptKind::kBare}})));
  app.option_defaults()->group("Settings");
  AddAttentionKinds(app, "dense,star", eval.attentions);
  AddValue(app, "--block-size", "N,...",
           "Of star: tokens in a block, at least 16; L/4 for a quarter\n"
           "of the samples' length; or auto. Default: L/4.",
           std::string(kTokens) + ", at least " + std::to_string(kMinBlockSize) + ", L/4 or auto",
           Into(eval.block_sizes, List(OrPart(OrAuto(0, TokenCount(kMinBlockSize))))));
  AddValue(app, "--anchor-size", "N,...",
           "Of star: tokens at the start that every block sees, L/4 for\n"
           "a quarter of the length, 0, or auto: a block. Default: auto.",
           std::string(kTokens) + ", L/4, 0 for no anchor, or auto",
           Into(eval.anchor_sizes, List(OrPart(OrAuto(-1, TokenCount(0))))));
  AddValue(app, "--window", "N,...",
           "Of star: earlier blocks that each block sees; auto: 1 where\n"
           "the block size is auto and there is no overlap, else 0.\n"
           "Default: auto.",
           "whole numbers from 0 to 1024, or auto", Into(eval.windows, List(ReadWindow())));
  AddValue(app, "--overlap", "N,...",
           "Of star: tokens right before those that each block sees,\n"
           "too. Default: 0.",
           "numbers of tokens, such as 0,256", Into(eval.overlaps, List(TokenCount(0))));
  AddValue(app, "--only", "NAME,...",
           "Of all these only the settings of these names, as tables\n"
           "have them: \"dense,star L/4,star L/8 window 1\".",
           "names of settings", Into(eval.only, List<std::string>(NotEmpty)));
  app.add_flag("--allow-long", options.allow_long,
               "Go on past the length that the model was trained for.");
  AddProgressFlag(app, options);
  AddVerboseFlag(app, options);
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
