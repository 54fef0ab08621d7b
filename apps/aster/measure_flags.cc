// The flags of aster bench, bench hosts and eval.
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "flag_values.h"
#include "flags.h"
#include "numbers.h"

namespace aster::cli {
namespace {

void AddAttentionKinds(CLI::App& app, const std::string& by_default,
                       std::vector<Attention>& kinds) {
  AddValue(app, "--attention", "KIND,...",
           "dense, star, auto, ring, llama; see aster ask --help.\n"
           "Default: " +
               by_default + ".",
           "auto, dense, star, ring or llama, or several of them",
           Into(kinds, List<Attention>(ReadAttention)));
}

// Without spaces around it, which a list from a message has.
std::optional<std::string> Trimmed(const std::string& text) {
  const std::size_t first = text.find_first_not_of(' ');
  if (first == std::string::npos) return std::nullopt;
  return text.substr(first, text.find_last_not_of(' ') + 1 - first);
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

}  // namespace

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
           "names of settings", Into(eval.only, List<std::string>(Trimmed)));
  app.add_flag("--allow-long", options.allow_long,
               "Go on past the length that the model was trained for.");
  AddProgressFlag(app, options);
  AddVerboseFlag(app, options);
}

}  // namespace aster::cli
