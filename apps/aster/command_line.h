// The command line as a value: what was asked for, checked as far as it can be without a model.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "aster/context.h"
#include "aster/hosts.h"
#include "aster/model.h"
#include "aster/plan.h"
#include "aster/status.h"

namespace aster::cli {

enum class Command {
  kHelp,
  kVersion,
  kAsk,
  kChat,
  kBench,
  kBenchHosts,
  kServe,
  kEval,
  kTokenize,
  kModelList,
  kModelFetch,
  kModelInfo,
};

enum class BenchFormat { kMarkdown, kCsv, kJson, kJsonLines };

struct BenchOptions {  // llama-bench's names and defaults; 0 leaves a case out
  std::vector<std::int64_t> n_prompts{512};
  std::vector<std::int64_t> n_depths{0};
  std::int64_t n_generated = 128;
  int repetitions = 5;
  std::vector<Attention> attentions{Attention::kAuto};
  std::vector<std::int64_t> block_sizes{0};  // 0 = auto
  BenchFormat format = BenchFormat::kMarkdown;
  bool profile = false;
};

// The ways to spread a context that are compared; the last is the ring with contiguous parts.
enum class HostsWay { kRecompute, kBroadcast, kRing, kContiguous };

struct BenchHostsOptions {
  std::vector<std::int64_t> n_contexts{8192};
  std::vector<std::int64_t> n_hosts{1, 2, 4, 8};
  std::int64_t block_size = 0;  // 0 = the context divided by the hosts
  std::vector<HostsWay> ways{HostsWay::kRecompute, HostsWay::kBroadcast, HostsWay::kRing};
  std::vector<double> links{1, 10, 100};  // Gbit/s
  double round_trip_ms = 0.2;
  bool all_hosts = false;
};

// A size of star's in tokens, or a part of the length that samples were made for.
struct SizeOption {
  std::int64_t tokens = 0;  // the plan's number for auto, where part is 0
  std::int64_t part = 0;    // 4 = a quarter of the length
  std::string text;         // as it was given
};

enum class PromptKind { kAuto, kChat, kBare };

struct EvalOptions {
  std::string data;                // a file or a folder; empty: show what the output folder holds
  std::string output;              // a folder
  std::vector<std::string> tasks;  // empty = all
  std::vector<std::string> only;   // names of settings; empty = all
  std::int64_t n_samples = 0;      // of each file; 0 = all
  PromptKind prompt = PromptKind::kAuto;
  std::vector<Attention> attentions{Attention::kDense, Attention::kStar};
  std::vector<SizeOption> block_sizes{{0, 4, "L/4"}};
  std::vector<SizeOption> anchor_sizes{{-1, 0, "auto"}};
  std::vector<std::int64_t> windows{kAutoWindow};
  std::vector<std::int64_t> overlaps{0};
};

enum class LogFormat { kPlain, kJson, kNone };

struct ServeOptions {
  std::string host = "127.0.0.1";
  int port = 8080;    // 0 = one that is free
  std::string alias;  // the model's name in answers; empty = the file's
  std::vector<std::string> api_keys;
  std::string api_key_file;
  std::string tls_cert, tls_key;
  std::string cors_origin;
  std::int64_t kv_bytes = 0;  // 0 = half of the memory that is free
  int parallel = 16;
  int queue = 64;
  double max_gap = 0.5;  // s
  std::int64_t max_body = 64 << 20;
  int read_timeout = 15;  // s
  double ping_interval = 15;
  int drain = 30;  // s
  std::int64_t max_tokens = 2048;
  LogFormat log = LogFormat::kPlain;
};

struct Options {
  Command command = Command::kHelp;
  std::string help;  // of kHelp: the text to print

  std::string model;  // a path or a name of the catalogue; empty = the catalogue's default
  ModelOptions model_options;
  std::string chat_template_file;  // empty: the model's own template

  std::vector<std::string> files;  // "-" is standard input, at most once
  std::vector<std::string> queries;
  std::optional<std::string> system;  // the system message
  std::string text;                   // of tokenize; meaningful when files is empty

  PlanOptions plan;  // ubatch_size is the model's
  bool allow_long = false;
  std::int64_t max_tokens = -1;
  SamplingOptions sampling;
  std::vector<std::string> stop_strings;

  HostOptions hosts;

  BenchOptions bench;  // its format is bench hosts' too
  BenchHostsOptions bench_hosts;
  EvalOptions eval;
  ServeOptions serve;

  bool json = false;
  bool progress = true;
  bool count_only = false;    // tokenize --count
  bool as_chat = false;       // tokenize --chat
  bool each_text = false;     // tokenize -0
  bool add_special = true;    // tokenize --no-bos
  bool parse_special = true;  // tokenize --no-parse-special
};

// The arguments after the program's name. Errors, kInvalidArgument: one line that names the
// argument, the value given and what was expected.
Result<Options> ParseCommandLine(std::span<const std::string> arguments);

}  // namespace aster::cli
