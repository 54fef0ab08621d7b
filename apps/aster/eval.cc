// aster eval: a benchmark's samples under full attention and under star.
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "aster/context.h"
#include "aster/hosts.h"
#include "base/clock.h"
#include "base/system.h"
#include "commands.h"
#include "eval/fingerprint.h"
#include "eval/predictions.h"
#include "eval/samples.h"
#include "eval/tasks.h"
#include "eval_folder.h"
#include "eval_settings.h"
#include "numbers.h"
#include "prediction_log.h"
#include "progress_view.h"
#include "report.h"
#include "session.h"
#include "signals.h"

namespace aster::cli {
namespace {

using eval::Prediction;
using eval::Sample;

// Samples in a row that share their context, which is encoded once for all of them.
struct SharedContext {
  std::vector<Token> tokens;
  std::int64_t length = 0;
  struct Question {
    const Sample* sample = nullptr;
    std::vector<Token> tokens;
  };
  std::vector<Question> questions;
};

// One context under one setting.
struct Work {
  const SharedContext* context = nullptr;
  const EvalSetting* setting = nullptr;
  PlanOptions plan;
  std::int64_t n_tokens = 0;  // to encode
  double cost = 0;            // in tokens through the linear layers
};

// The first context of a sample, kept while its other settings are run, as long as there is memory:
// what their plans encode alike they take over, and its time with it.
struct FirstOfSample {
  Context context;
  std::vector<Progress> steps;

  // What the first n tokens took.
  double Seconds(std::int64_t n) const {
    Progress before;
    for (const Progress& step : steps) {
      if (step.n_done >= n) {
        const double share = static_cast<double>(n - before.n_done) /
                             static_cast<double>(step.n_done - before.n_done);
        return before.seconds + share * (step.seconds - before.seconds);
      }
      before = step;
    }
    return before.seconds;
  }
};

// A million pairs of attention take about as long as 123 tokens in linear layers (Qwen2.5-0.5B and
// SmolLM2 on AVX2), and a token of an answer as long as eight: good enough for the time left.
constexpr double kPairsOfToken = 8192;
constexpr double kTokensOfAnswer = 8;

// "2026-11-22T02:40:05Z 1140": when this process began, and its id.
std::string NameOfRun() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  const std::size_t n = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ ", &utc);
  return std::string(text, n) + std::to_string(getpid());
}

std::string FingerprintOf(const std::string& text) {
  if (text.empty()) return {};
  eval::Fingerprint fingerprint;
  fingerprint.Add(text);
  return fingerprint.Hex();
}

class Evaluation {
 public:
  Evaluation(const Options& options, std::vector<EvalSetting> settings, const LoadedModel& loaded,
             Hosts& hosts, PredictionLog& log)
      : options_(options),
        model_(loaded.model),
        model_name_(std::filesystem::path(loaded.path).filename().string()),
        model_file_(eval::FileFingerprint(loaded.path)),
        chat_(options.eval.prompt == PromptKind::kChat ||
              (options.eval.prompt == PromptKind::kAuto && loaded.model.info().has_chat_template)),
        chat_template_(chat_ ? FingerprintOf(loaded.chat_template) : std::string()),
        settings_(std::move(settings)),
        hosts_(hosts),
        log_(log) {}

  // The exit code: 0, or that of the signal that stopped the work.
  Result<int> Run(const std::vector<std::vector<Sample>>& files) {
    if (Status same = CheckFolder(); !same) return same.error();
    if (Status built = BuildContexts(files); !built) return built.error();
    if (Status planned = PlanWork(); !planned) return planned.error();
    SayWhatIsAhead(files);
    for (const Work& work : work_) {
      if (Status done = Do(work); !done) return Stopped(done.error());
      done_cost_ += work.cost;
      done_tokens_ += work.n_tokens;
    }
    return 0;
  }

 private:
  // One folder holds one model's predictions of one kind of prompt.
  Status CheckFolder() const {
    for (const Prediction& found : log_.predictions()) {
      std::string wrong;
      if (found.model != model_name_ || found.prompt != PromptName()) {
        wrong = "of " + found.model + " with " + found.prompt + " prompts, not of " + model_name_ +
                " with " + PromptName();
      } else if (!found.model_file.empty() && found.model_file != model_file_) {
        wrong = "of another file that was called " + model_name_ + " too";
      } else if (found.chat_template != chat_template_) {
        wrong = "with another chat template";
      }
      if (wrong.empty()) continue;
      return WorldError(options_.eval.output + ": holds predictions " + wrong +
                        "; expected another -o");
    }
    return Ok();
  }

  std::string PromptName() const { return chat_ ? "chat" : "bare"; }

  Result<Model::Prompt> BuildPrompt(const Sample& sample) const {
    if (chat_) {
      return model_.BuildPrompt(std::vector<Message>{{"user", sample.context + sample.query}},
                                sample.query, sample.answer_prefix);
    }
    return model_.CutPrompt(sample.context + sample.query + sample.answer_prefix,
                            sample.context.size());
  }

  Status BuildContexts(const std::vector<std::vector<Sample>>& files) {
    for (const std::vector<Sample>& file : files) {
      std::vector<SharedContext>& contexts = contexts_.emplace_back();
      for (const Sample& sample : file) {
        Result<Model::Prompt> prompt = BuildPrompt(sample);
        if (!prompt) return InSample(sample, prompt.error());
        const std::int64_t n_needed = std::ssize(prompt->tokens) + sample.max_new_tokens;
        const Status fits = model_.CheckLength(n_needed, options_.allow_long);
        if (!fits) return InSample(sample, fits.error());
        const auto cut = prompt->tokens.begin() + prompt->n_context;
        std::vector<Token> context(prompt->tokens.begin(), cut);
        if (contexts.empty() || contexts.back().tokens != context) {
          contexts.push_back({std::move(context), sample.length, {}});
        }
        contexts.back().questions.push_back({&sample, {cut, prompt->tokens.end()}});
      }
    }
    return Ok();
  }

  static Error InSample(const Sample& sample, const Error& error) {
    return {error.kind,
            sample.task + ", sample " + std::to_string(sample.index) + ": " + error.message};
  }

  // One context of each file in turn, so that a run that is stopped has some of every task.
  Status PlanWork() {
    std::size_t n_most = 0;
    for (const auto& contexts : contexts_) n_most = std::max(n_most, contexts.size());
    for (std::size_t i = 0; i < n_most; ++i) {
      for (const auto& contexts : contexts_) {
        if (i >= contexts.size()) continue;
        std::optional<Plan> first;
        for (const EvalSetting& setting : settings_) {
          if (Status added = AddWork(contexts[i], setting, &first); !added) return added;
        }
      }
    }
    return Ok();
  }

  // first: the plan of the context's first work that others take over from.
  Status AddWork(const SharedContext& context, const EvalSetting& setting,
                 std::optional<Plan>* first) {
    Work work{&context, &setting};
    const std::int64_t n_context = std::ssize(context.tokens);
    work.plan = ForHosts(setting.PlanFor(n_context, context.length), hosts_.size());
    work.plan.ubatch_size = model_.ubatch_size();
    const Result<Plan> plan = MakePlan(n_context, work.plan);
    if (!plan) return plan.error();
    if (hosts_.size() > 1) {  // what cannot be spread is better known before than after
      const Result<SpreadChoice> choice = hosts_.Choose(model_, *plan);
      if (!choice) return choice.error();
    }
    bool all_done = true;
    for (const auto& question : context.questions) {
      if (log_.Holds(Begin(work, *question.sample))) continue;
      all_done = false;
      work.cost += kTokensOfAnswer * question.sample->max_new_tokens;
    }
    if (all_done) return Ok();
    std::int64_t n_there = 0;
    if (!MayLend(work)) {
      first->reset();
    } else if (*first) {
      n_there = std::min(n_context, AlikeExtent(**first, *plan));
    } else {
      *first = *plan;
    }
    const auto seen_alike = static_cast<double>(n_there);
    const auto n = static_cast<double>(n_context);
    const double pairs = plan->work_share * n * (n + 1) / 2 - seen_alike * (seen_alike + 1) / 2;
    work.n_tokens = n_context - n_there;
    work.cost += static_cast<double>(work.n_tokens) + pairs / kPairsOfToken;
    total_cost_ += work.cost;
    total_tokens_ += work.n_tokens;
    work_.push_back(work);
    return Ok();
  }

  // Whether its keys are all in this process's store.
  bool MayLend(const Work& work) const {
    return work.plan.attention != Attention::kLlama && hosts_.size() == 1;
  }

  void SayWhatIsAhead(const std::vector<std::vector<Sample>>& files) const {
    std::int64_t n_samples = 0;
    for (const auto& file : files) n_samples += std::ssize(file);
    Note(FormatCount(n_samples) + " samples, " + FormatCount(std::ssize(settings_)) +
         (settings_.size() == 1 ? " setting, " : " settings, ") + PromptName() + " prompts; " +
         FormatCount(std::ssize(work_)) + " contexts to encode, " + FormatCount(total_tokens_) +
         " tokens in all; " + FormatCount(std::ssize(log_.predictions())) +
         " predictions are there already");
  }

  Result<int> Stopped(const Error& error) {
    view_.Clear();
    if (error.kind != ErrorKind::kCancelled) return error;
    Note("stopped with " + FormatCount(std::ssize(log_.predictions())) +
         " predictions; the same command goes on");
    return ExitCodeOf(work_token_.signal());
  }

  // What is known of a prediction before it is made.
  Prediction Begin(const Work& work, const Sample& sample) const {
    Prediction p;
    p.model = model_name_;
    p.model_file = model_file_;
    p.prompt = PromptName();
    p.chat_template = chat_template_;
    p.run = run_;
    p.task = sample.task;
    p.index = sample.index;
    p.sample = sample.Fingerprint();
    p.length = sample.length;
    p.setting = work.setting->name;
    p.references = sample.references;
    p.question = sample.question;
    return p;
  }

  Status Do(const Work& work) {
    if (first_of_ != work.context || !MayLend(work)) first_.reset();
    std::vector<Progress> steps;
    Result<Context> context = Encode(work, &steps);
    if (!context && context.error().kind == ErrorKind::kWorld && first_) {
      first_.reset();  // there may be memory for one of them
      steps.clear();
      context = Encode(work, &steps);
    }
    if (!context) return context.error();
    for (const auto& question : work.context->questions) {
      Prediction prediction = Begin(work, *question.sample);
      if (log_.Holds(prediction)) continue;
      const Result<Answer> answer = context->Ask(question.tokens, Greedy(*question.sample));
      if (!answer) return answer.error();
      if (answer->finish == Finish::kCancelled) return Cancelled("stopped");
      Finish(*context, *answer, &prediction);
      Say(prediction);
      if (Status written = log_.Append(std::move(prediction)); !written) return written;
    }
    if (!first_ && MayLend(work)) {
      first_ = FirstOfSample{std::move(*context), std::move(steps)};
      first_of_ = work.context;
    }
    return Ok();
  }

  Result<Context> Encode(const Work& work, std::vector<Progress>* steps) {
    EncodeOptions encode;
    encode.plan = work.plan;
    encode.start = first_ ? &first_->context : nullptr;
    encode.stop = work_token_.token();
    encode.allow_long = options_.allow_long;
    encode.reserve_tokens = 0;
    for (const auto& question : work.context->questions) {
      encode.reserve_tokens = std::max(
          encode.reserve_tokens, std::ssize(question.tokens) + question.sample->max_new_tokens);
    }
    encode.on_progress = [&, steps](const Progress& progress) {
      steps->push_back(progress);
      const double share =
          static_cast<double>(progress.n_done) / static_cast<double>(progress.n_total);
      const double cost = done_cost_ + share * work.cost;
      const double seconds = SecondsSince(start_);
      view_.Update({done_tokens_ + progress.n_done, total_tokens_, seconds,
                    seconds / cost * (total_cost_ - cost)});
    };
    return Context::Encode(model_, work.context->tokens, encode);
  }

  AskOptions Greedy(const Sample& sample) const {
    AskOptions ask;
    ask.max_tokens = sample.max_new_tokens;
    ask.sampling.temperature = 0;
    ask.allow_long = options_.allow_long;
    ask.stop = work_token_.token();
    return ask;
  }

  void Finish(const Context& context, const Answer& answer, Prediction* p) const {
    const Plan& plan = context.plan();
    p->attention = AttentionName(plan.attention);
    p->block_size = plan.block_size;
    p->anchor_size = plan.anchor_size;
    p->window = plan.window;
    p->overlap = plan.overlap;
    p->n_context = plan.n_context;
    p->n_query = answer.n_query;
    p->reference_at = FindReferences(context, p->references);
    p->text = answer.text;
    p->finish = FinishName(answer.finish);
    p->n_taken_over = context.n_taken_over();
    p->encode_seconds = context.encode_seconds();
    if (p->n_taken_over > 0) p->encode_seconds += first_->Seconds(p->n_taken_over);
    p->query_seconds = answer.query_seconds;
    p->decode_seconds = answer.decode_seconds;
    p->machine = machine_;
  }

  // The token in which each reference's first occurrence starts.
  std::vector<std::int64_t> FindReferences(const Context& context,
                                           const std::vector<std::string>& references) const {
    std::string text;
    std::vector<std::size_t> ends;
    for (const Token token : context.tokens()) {
      text += model_.TokenText(token);
      ends.push_back(text.size());
    }
    std::vector<std::int64_t> places;
    for (const std::string& reference : references) {
      const std::size_t at = text.find(reference);
      const auto token = std::upper_bound(ends.begin(), ends.end(), at);
      places.push_back(at == std::string::npos ? -1 : token - ends.begin());
    }
    return places;
  }

  void Say(const Prediction& p) {
    view_.Clear();
    if (!options_.progress) return;
    Note(p.task + " " + std::to_string(p.index) + (p.length > 0 ? " of " : "") +
         (p.length > 0 ? FormatCount(p.length) : "") + ", " + p.setting + ": " +
         FormatPercent(p.Score()) + ", TTFT " + FormatSeconds(p.ttft_seconds()));
  }

  const Options& options_;
  const Model& model_;
  const std::string model_name_;
  const std::string model_file_;
  const bool chat_;
  const std::string chat_template_;  // its fingerprint, where it is not the model's own
  const std::vector<EvalSetting> settings_;
  Hosts& hosts_;
  PredictionLog& log_;
  std::vector<std::vector<SharedContext>> contexts_;  // of each file
  std::vector<Work> work_;
  std::optional<FirstOfSample> first_;
  const SharedContext* first_of_ = nullptr;
  Interruptible work_token_;
  ProgressView view_{options_.progress};
  const Clock::time_point start_ = Clock::now();
  const std::string run_ = NameOfRun();
  const eval::Machine machine_{CpuName(), std::string(model_.isa()), std::string(model_.linear()),
                               model_.n_threads()};
  double done_cost_ = 0, total_cost_ = 0;
  std::int64_t done_tokens_ = 0, total_tokens_ = 0;
};

// Of each file what the options ask for.
Result<std::vector<std::vector<Sample>>> ReadChosen(const EvalOptions& options) {
  Result<std::vector<std::vector<Sample>>> files = eval::ReadSamples(options.data, options.output);
  if (!files) return files;
  std::set<std::string> there;
  for (const std::vector<Sample>& file : *files) {
    for (const Sample& sample : file) there.insert(sample.task);
  }
  if (there.empty()) return WorldError(options.data + ": no sample there");
  for (const std::string& task : options.tasks) {
    if (there.contains(task)) continue;
    std::string names;
    for (const std::string& name : there) names += (names.empty() ? "" : ", ") + name;
    return WorldError("--tasks " + task + ": no sample of it in " + options.data +
                      "; expected of " + names);
  }
  for (std::vector<Sample>& file : *files) {
    std::erase_if(file, [&options](const Sample& sample) {
      return !options.tasks.empty() && std::find(options.tasks.begin(), options.tasks.end(),
                                                 sample.task) == options.tasks.end();
    });
    if (options.n_samples > 0 && std::ssize(file) > options.n_samples) {
      file.resize(static_cast<std::size_t>(options.n_samples));
    }
  }
  return files;
}

// Prediction::Place to fingerprint.
std::map<std::string, std::string> Current(const std::vector<std::vector<Sample>>& files) {
  std::map<std::string, std::string> current;
  for (const std::vector<Sample>& file : files) {
    for (const Sample& sample : file) {
      Prediction p;
      p.task = sample.task;
      p.index = sample.index;
      p.length = sample.length;
      current[p.Place()] = sample.Fingerprint();
    }
  }
  return current;
}

}  // namespace

Result<int> RunEval(const Options& options, Hosts& hosts) {
  const std::string& folder = options.eval.output;
  if (options.eval.data.empty()) {
    if (Status unpacked = CheckUnpacked(folder); !unpacked) return unpacked.error();
    std::int64_t n_whole = 0;
    const auto found = eval::ReadPredictions(folder + "/predictions.jsonl", &n_whole);
    if (!found) return found.error();
    if (Status shown = ShowSummary(folder, *found, {}); !shown) return shown.error();
    return 0;
  }
  const auto files = ReadChosen(options.eval);
  if (!files) return files.error();
  if (Status unpacked = CheckUnpacked(folder); !unpacked) return unpacked.error();
  Result<std::vector<EvalSetting>> settings = MakeSettings(options.eval, hosts.size());
  if (!settings) return settings.error();
  Result<PredictionLog> log = PredictionLog::Open(folder);
  if (!log) return log.error();
  const Result<LoadedModel> loaded = LoadModel(options, hosts);
  if (!loaded) return loaded.error();
  const Result<int> ran =
      Evaluation(options, std::move(*settings), *loaded, hosts, *log).Run(*files);
  if (!ran || *ran != 0) return ran;
  const Status shown = ShowSummary(folder, log->predictions(), Current(*files));
  if (!shown) return shown.error();
  return 0;
}

}  // namespace aster::cli
