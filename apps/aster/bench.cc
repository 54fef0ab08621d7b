// aster bench: prefill and decode, timed, over lengths, depths and kinds of attention.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <utility>

#include "aster/context.h"
#include "base/system.h"
#include "bench_case.h"
#include "commands.h"
#include "numbers.h"
#include "output.h"
#include "progress_view.h"
#include "session.h"
#include "signals.h"

namespace aster::cli {
namespace {

// Peak of resident memory, in bytes. It starts anew where the kernel lets it.
void ResetPeakRss() { std::ofstream("/proc/self/clear_refs") << "5"; }
std::int64_t PeakRss() {
  const std::string kilobytes = SystemLine("/proc/self/status", "VmHWM");
  return ParseInteger(kilobytes.substr(0, kilobytes.find(' '))).value_or(0) * 1024;
}

// Tokens whose values do not matter to the speed: always the same ones.
std::vector<Token> SomeTokens(const Model& model, std::int64_t n) {
  std::minstd_rand random(1);
  std::vector<Token> tokens(static_cast<std::size_t>(n));
  for (Token& token : tokens) {
    token = static_cast<Token>(random() % static_cast<std::uint64_t>(model.info().n_vocab));
  }
  return tokens;
}

constexpr std::int64_t kCheckTokens = 256;  // encoded to compare with llama.cpp's own attention

class Bench {
 public:
  Bench(const Options& options, const LoadedModel& loaded)
      : options_(options),
        model_(loaded.model),
        setting_{loaded.model, loaded.path, CpuName()},
        table_(options.bench.format, options.bench.profile) {}

  Result<int> Run() {
    const std::vector<BenchCase> cases = Cases();
    if (Status status = Check(cases); !status) return status.error();
    output_.Write(table_.Head());
    for (const BenchCase& one : cases) {
      Result<BenchResult> result = one.is_prefill() ? Prefill(one) : Decode(one);
      if (!result && result.error().kind == ErrorKind::kCancelled) break;
      if (!result) {
        output_.Write(table_.Tail());  // what was measured up to now stays readable
        return result.error();
      }
      result->check_difference = differences_[one.asked];
      output_.Write(table_.Row(setting_, *result));
      if (output_.Closed()) break;
    }
    output_.Write(table_.Tail());
    if (Status written = output_.status(); !written) return written.error();
    return work_.signal() != 0 ? ExitCodeOf(work_.signal()) : 0;
  }

 private:
  std::vector<PlanOptions> Plans() const {
    std::vector<PlanOptions> plans;
    for (const Attention attention : options_.bench.attentions) {
      const bool has_blocks = attention == Attention::kStar || attention == Attention::kAuto;
      for (const std::int64_t block_size : options_.bench.block_sizes) {
        plans.push_back({attention, has_blocks ? block_size : 0,
                         has_blocks ? options_.plan.anchor_size : -1,
                         has_blocks ? options_.plan.window : kAutoWindow,
                         has_blocks ? options_.plan.overlap : 0, model_.ubatch_size()});
        if (!has_blocks) break;
      }
    }
    return plans;
  }

  std::vector<BenchCase> Cases() const {
    const std::vector<PlanOptions> plans = Plans();
    const std::int64_t n_generated = options_.bench.n_generated;
    std::vector<BenchCase> cases;
    for (const std::int64_t n : options_.bench.n_prompts) {
      if (n == 0) continue;
      for (const PlanOptions& plan : plans) Add({plan, n, 0, 0}, cases);
    }
    for (const std::int64_t depth : options_.bench.n_depths) {
      if (n_generated == 0) continue;
      for (const PlanOptions& plan : plans) Add({plan, 0, depth, n_generated}, cases);
    }
    return cases;
  }

  // A context that one block holds is dense, as `auto` has it; the row says so.
  static void Add(BenchCase one, std::vector<BenchCase>& cases) {
    one.asked = one.plan.attention;
    const bool is_star = one.plan.attention == Attention::kStar;
    const std::int64_t block_size = one.plan.block_size > 0 || !is_star
                                        ? one.plan.block_size
                                        : AutoBlockSize(one.n_context(), one.plan);
    if (block_size > one.n_context() || (is_star && block_size == one.n_context())) {
      one.plan = {.attention = Attention::kDense, .ubatch_size = one.plan.ubatch_size};
    }
    const auto same = [&one](const BenchCase& other) {
      return other.test() == one.test() && other.plan.attention == one.plan.attention &&
             other.plan.block_size == one.plan.block_size;
    };
    if (std::none_of(cases.begin(), cases.end(), same)) cases.push_back(one);
  }

  // Before anything is timed: what is asked for fits, and each kind of attention answers as
  // llama.cpp's own does.
  Status Check(const std::vector<BenchCase>& cases) {
    for (const BenchCase& one : cases) {
      if (const Result<Plan> plan = MakePlan(one.n_context(), one.plan); !plan) return plan.error();
      const std::int64_t n_most = one.n_context() + 1 + one.n_generated;
      if (Status fits = model_.CheckLength(n_most, options_.allow_long); !fits) return fits;
    }
    const std::vector<Token> tokens = SomeTokens(model_, kCheckTokens + 1);
    std::optional<Answer> reference;  // one for all
    for (const Attention attention : options_.bench.attentions) {
      if (attention == Attention::kLlama || differences_.contains(attention)) continue;
      if (!reference) {
        PlanOptions stock;
        stock.attention = Attention::kLlama;
        Result<FirstToken> first = AskFirstToken(tokens, stock);
        if (!first) return first.error();
        reference = std::move(first->answer);
      }
      const Result<double> difference = Difference(attention, tokens, *reference);
      if (!difference) return difference.error();
      differences_[attention] = *difference;
    }
    return Ok();
  }

  // How far the ten likeliest next tokens after kCheckTokens are from llama.cpp's: the mean
  // difference of their log-probabilities. Star runs as two blocks behind a whole anchor, which is
  // exact. Errors: kWorld when the two have fewer than half in common, or lie kMostDifference
  // apart: a benchmark of wrong answers is none.
  Result<double> Difference(Attention attention, std::span<const Token> tokens,
                            const Answer& theirs) {
    constexpr double kMostDifference = 0.5;
    PlanOptions plan;
    const bool is_exact = attention == Attention::kDense || attention == Attention::kRing;
    plan.attention = is_exact ? attention : Attention::kStar;
    if (plan.attention == Attention::kStar) plan.block_size = plan.anchor_size = kCheckTokens / 2;
    const Result<FirstToken> ours = AskFirstToken(tokens, plan);
    if (!ours) return ours.error();
    double sum = 0;
    int n_common = 0;
    for (const TokenLogprob& reference : theirs.top_logprobs) {
      for (const TokenLogprob& top : ours->answer.top_logprobs) {
        if (top.token != reference.token) continue;
        sum += std::abs(top.logprob - reference.logprob);
        ++n_common;
        break;
      }
    }
    const double mean = n_common > 0 ? sum / n_common : 0;
    const auto n_listed = static_cast<int>(theirs.top_logprobs.size());
    if (2 * n_common >= n_listed && mean <= kMostDifference) return mean;
    return WorldError("not timed: " + std::string(AttentionName(attention)) + " shares " +
                      std::to_string(n_common) + " of the " + std::to_string(n_listed) +
                      " likeliest tokens with llama.cpp's own attention, whose log-probabilities "
                      "differ by " +
                      FormatRate(mean) + " on average; expected half of them, and " +
                      FormatRate(kMostDifference));
  }

  Result<Context> Encode(std::span<const Token> tokens, const PlanOptions& plan,
                         std::int64_t n_generated) {
    EncodeOptions encode;
    encode.plan = plan;
    encode.stop = work_.token();
    encode.allow_long = options_.allow_long;
    encode.reserve_tokens = n_generated + 2;
    encode.on_progress = [this](const Progress& progress) { view_.Update(progress); };
    Result<Context> context = Context::Encode(model_, tokens, encode);
    view_.Clear();
    return context;
  }

  AskOptions Greedy(std::int64_t n_generated) {
    AskOptions ask;
    ask.max_tokens = n_generated;
    ask.sampling.temperature = 0;
    ask.ignore_end_of_text = true;
    ask.allow_long = options_.allow_long;
    ask.stop = work_.token();
    return ask;
  }

  static Status Whole(const Result<Answer>& answer, std::int64_t n_generated) {
    if (!answer) return answer.error();
    if (answer->finish == Finish::kCancelled) return Cancelled("stopped");
    if (std::ssize(answer->tokens) == n_generated) return Ok();
    return WorldError("the answer ended after " + std::to_string(answer->tokens.size()) + " of " +
                      std::to_string(n_generated) + " tokens: the trained length is used up");
  }

  // The first token after all of `tokens`, the last of which is the query.
  struct FirstToken {
    Context context;
    Answer answer;
  };
  Result<FirstToken> AskFirstToken(std::span<const Token> tokens, const PlanOptions& plan) {
    Result<Context> context = Encode(tokens.first(tokens.size() - 1), plan, 1);
    if (!context) return context.error();
    Result<Answer> answer = context->Ask(tokens.last(1), Greedy(1));
    if (Status whole = Whole(answer, 1); !whole) return whole.error();
    return FirstToken{std::move(*context), std::move(*answer)};
  }

  void Say(const BenchCase& one, int sample) {
    view_.Say(one.test() + ", " + std::string(AttentionName(one.plan.attention)) + ", " +
              std::to_string(sample + 1) + " of " + std::to_string(options_.bench.repetitions));
  }

  BenchResult Begin(const BenchCase& one) {
    BenchResult result;
    result.of = one;
    result.rss_before = ResidentBytes();
    ResetPeakRss();
    return result;
  }

  // A prompt's last token is the query, so that the first answer token is in the time.
  Result<BenchResult> Prefill(const BenchCase& one) {
    BenchResult result = Begin(one);
    const std::vector<Token> tokens = SomeTokens(model_, one.n_prompt);
    for (int sample = 0; sample < options_.bench.repetitions; ++sample) {
      Say(one, sample);
      const Result<FirstToken> first = AskFirstToken(tokens, one.plan);
      if (!first) return first.error();
      result.seconds.push_back(first->context.encode_seconds() + first->answer.query_seconds);
      result.profiles.push_back(first->context.profile());
      result.plan = first->context.plan();
    }
    result.kv_bytes = PredictKvBytes(model_, one.n_prompt);
    result.peak_rss = PeakRss();
    return result;
  }

  // The depth is encoded once; every sample generates behind it and is forgotten again.
  Result<BenchResult> Decode(const BenchCase& one) {
    BenchResult result = Begin(one);
    const std::vector<Token> tokens = SomeTokens(model_, one.n_context() + 1);
    const std::int64_t n_asked = one.n_generated + 1;  // the first one is the query's
    Say(one, 0);
    Result<Context> context = Encode(std::span(tokens).first(tokens.size() - 1), one.plan, n_asked);
    if (!context) return context.error();
    for (int sample = 0; sample < options_.bench.repetitions; ++sample) {
      Say(one, sample);
      const Result<Answer> answer = context->Ask(std::span(tokens).last(1), Greedy(n_asked));
      if (Status whole = Whole(answer, n_asked); !whole) return whole.error();
      result.seconds.push_back(answer->decode_seconds);
    }
    view_.Clear();
    result.plan = context->plan();
    result.kv_bytes = PredictKvBytes(model_, std::ssize(tokens) + one.n_generated);
    result.peak_rss = PeakRss();
    return result;
  }

  const Options& options_;
  const Model& model_;
  BenchSetting setting_;
  BenchTable table_;
  Output output_;
  Interruptible work_;
  ProgressView view_{options_.progress && StderrIsTerminal()};
  std::map<Attention, double> differences_;
};

}  // namespace

Result<int> RunBench(const Options& options, Hosts& hosts) {
  const Result<LoadedModel> loaded = LoadModel(options, hosts);
  if (!loaded) return loaded.error();
  return Bench(options, *loaded).Run();
}

}  // namespace aster::cli
