// An engine that only pretends: a token is a byte, time passes by sleeping, the answer is what the
// environment says. With it the program's own behaviour (signals, progress, streams, turns) is
// tested at exact moments and within a second. The plan is the real one.
//
//   ASTER_FAKE_STEP_MS   time of a step of the encoding     ASTER_FAKE_CTX  the trained length
//   ASTER_FAKE_TOKEN_MS  time of a token of the answer      ASTER_FAKE_MEMORY  bytes available
//   ASTER_FAKE_ANSWER    the answer; without it, what the query's tokens say
#include <chrono>
#include <cstdlib>
#include <thread>

#include "aster/context.h"
#include "aster/hosts.h"
#include "aster/rehearsal.h"
#include "commands.h"

namespace aster {
namespace internal {

class ModelState {
 public:
  ModelOptions options;
  ModelInfo info;
};

class ContextState {
 public:
  Plan plan;
  std::vector<Token> tokens;
  std::int64_t n_taken_over = 0;
  double seconds = 0;
  Profile profile{0.001, 0.002, 0.0001};
};

}  // namespace internal

namespace {

constexpr std::string_view kSpecial[] = {"<|im_start|>", "<|im_end|>"};
constexpr Token kFirstSpecial = 256;

std::int64_t Number(const char* variable, std::int64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::atoll(text) : otherwise;
}

// False when the stop token was raised.
bool Sleep(std::int64_t milliseconds, const std::stop_token& stop) {
  for (; milliseconds > 0 && !stop.stop_requested(); milliseconds -= 5) {
    std::this_thread::sleep_for(std::chrono::milliseconds(std::min<std::int64_t>(milliseconds, 5)));
  }
  return !stop.stop_requested();
}

}  // namespace

Model::Model(std::shared_ptr<internal::ModelState> state) : state_(std::move(state)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;
const ModelInfo& Model::info() const { return state_->info; }
int Model::n_threads() const { return 1; }
std::int64_t Model::ubatch_size() const { return state_->options.ubatch_size; }
std::string_view Model::isa() const { return "fake"; }
std::string_view Model::linear() const { return "fake"; }

Result<Model> Model::Load(const std::string&, const ModelOptions& options) {
  auto state = std::make_shared<internal::ModelState>();
  state->options = options;
  state->info.architecture = "fake";
  state->info.description = "fake \x1b[31m1B";
  state->info.n_vocab = 256;
  state->info.n_ctx_train = Number("ASTER_FAKE_CTX", 1 << 20);
  state->info.kv_bytes_per_token = 1000;
  state->info.has_chat_template = true;
  return Model(std::move(state));
}

Status Model::CheckLength(std::int64_t n_tokens, bool allow_long) const {
  if (allow_long || n_tokens <= info().n_ctx_train) return Ok();
  return InvalidArgument(std::to_string(n_tokens) + " tokens, but the model was trained for " +
                         std::to_string(info().n_ctx_train) + "; --allow-long goes on");
}

std::string Model::TokenText(Token token) const {
  if (token >= kFirstSpecial) return std::string(kSpecial[token - kFirstSpecial]);
  return std::string(1, static_cast<char>(token));
}

Result<std::vector<Token>> Model::Tokenize(std::string_view text, bool, bool parse_special) const {
  std::vector<Token> tokens;
  while (!text.empty()) {
    Token token = static_cast<unsigned char>(text.front());
    for (Token i = 0; parse_special && i < 2; ++i) {
      if (text.starts_with(kSpecial[i])) token = kFirstSpecial + i;
    }
    tokens.push_back(token);
    text.remove_prefix(TokenText(token).size());
  }
  return tokens;
}

Result<std::string> Model::RenderChat(std::span<const Message> messages) const {
  std::string text;
  for (const Message& message : messages) {
    text += "<|im_start|>" + message.role + "\n" + message.content + "<|im_end|>\n";
  }
  return text + "<|im_start|>assistant\n";
}

Result<Model::Prompt> Model::BuildPrompt(std::span<const Message> messages,
                                         std::string_view question,
                                         std::string_view answer_prefix) const {
  std::string text;
  std::size_t cut = std::string::npos;
  for (const Message& message : messages) {
    text += "<|im_start|>" + message.role + "\n" + message.content;
    if (message.role == "user" && cut == std::string::npos) cut = text.size() - question.size();
    text += "<|im_end|>\n";
  }
  text += "<|im_start|>assistant\n";
  return CutPrompt(text.append(answer_prefix), cut);
}

Result<Model::Prompt> Model::CutPrompt(std::string_view text, std::size_t cut) const {
  return Prompt{*Tokenize(text, true, true),
                static_cast<std::int64_t>(Tokenize(text.substr(0, cut), true, true)->size())};
}

Context::Context(std::unique_ptr<internal::ContextState> state) : state_(std::move(state)) {}
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;
Context::~Context() = default;
std::span<const Token> Context::tokens() const { return state_->tokens; }
const Plan& Context::plan() const { return state_->plan; }
std::int64_t Context::n_taken_over() const { return state_->n_taken_over; }
double Context::encode_seconds() const { return state_->seconds; }
const Profile& Context::profile() const { return state_->profile; }
std::int64_t Context::kv_bytes() const { return 1000 * std::ssize(state_->tokens); }

Result<Context> Context::Encode(const Model& model, std::span<const Token> tokens,
                                const EncodeOptions& options) {
  PlanOptions plan_options = options.plan;
  plan_options.ubatch_size = model.ubatch_size();
  Result<Plan> plan = MakePlan(std::ssize(tokens), plan_options);
  if (!plan) return plan.error();
  if (PredictKvBytes(model, std::ssize(tokens)) > AvailableMemoryBytes()) {
    return WorldError("memory: too little");
  }
  const std::int64_t step_ms = Number("ASTER_FAKE_STEP_MS", 0);
  std::int64_t n_there = 0;
  if (options.start != nullptr && plan->attention != Attention::kLlama) {
    n_there =
        std::min(options.start->CommonPrefix(tokens), AlikeExtent(*plan, options.start->plan()));
  }
  Progress progress{.n_total = std::ssize(tokens) - n_there};
  for (const Step& step : StepsFrom(plan->steps, n_there)) {
    if (!Sleep(step_ms, options.stop)) return Cancelled("stopped");
    progress.n_done = step.tokens.end - n_there;
    progress.seconds += static_cast<double>(step_ms) / 1000 + 0.001;
    progress.seconds_left = 1;
    if (options.on_progress) options.on_progress(progress);
  }
  auto state = std::make_unique<internal::ContextState>();
  state->plan = *plan;
  state->tokens.assign(tokens.begin(), tokens.end());
  state->n_taken_over = n_there;
  state->seconds = progress.seconds;
  return Context(std::move(state));
}

Result<Answer> Context::Ask(std::span<const Token> query, const AskOptions& options) {
  std::string said;
  for (const Token token : query) {
    said += token >= kFirstSpecial ? std::string(kSpecial[token - kFirstSpecial])
                                   : std::string(1, static_cast<char>(token));
  }
  if (const char* const fixed = std::getenv("ASTER_FAKE_ANSWER")) said = fixed;
  Answer answer{.n_query = std::ssize(query), .query_seconds = 0.002};
  const bool wrong =
      Number("ASTER_FAKE_WRONG", 0) != 0 && state_->plan.attention != Attention::kLlama;
  answer.top_logprobs.assign(10, {0xFF, wrong ? -2.5f : -1.5f});
  std::vector<Token> tokens = state_->tokens;
  tokens.insert(tokens.end(), query.begin(), query.end());
  for (const char c : said) {
    if (options.max_tokens == std::ssize(answer.tokens)) answer.finish = Finish::kMaxTokens;
    if (!Sleep(Number("ASTER_FAKE_TOKEN_MS", 0), options.stop)) answer.finish = Finish::kCancelled;
    if (answer.finish != Finish::kEndOfText) break;
    answer.text += c;
    answer.tokens.push_back(static_cast<unsigned char>(c));
    tokens.push_back(answer.tokens.back());
    if (options.on_text) options.on_text(answer.text.substr(answer.text.size() - 1));
  }
  answer.decode_seconds = 0.01;
  if (options.keep_turn) state_->tokens = tokens;
  return answer;
}

std::int64_t Context::CommonPrefix(std::span<const Token> prompt) const {
  const auto& held = state_->tokens;
  return std::mismatch(held.begin(), held.end(), prompt.begin(), prompt.end()).first - held.begin();
}

Status Context::Rewind(std::int64_t n) {
  state_->tokens.resize(static_cast<std::size_t>(n));
  return Ok();
}

std::int64_t PredictKvBytes(const Model&, std::int64_t n_tokens) { return 1000 * n_tokens; }
std::int64_t AvailableMemoryBytes() { return Number("ASTER_FAKE_MEMORY", std::int64_t{1} << 40); }

struct Hosts::State {};
Hosts::Hosts(std::unique_ptr<State> state) : state_(std::move(state)) {}
Hosts::Hosts(Hosts&&) noexcept = default;
Hosts& Hosts::operator=(Hosts&&) noexcept = default;
Hosts::~Hosts() = default;
Result<Hosts> Hosts::FromEnvironment(const HostOptions&) { return Hosts(nullptr); }
int Hosts::rank() const { return 0; }
int Hosts::size() const { return 1; }
void Hosts::Share(Model&) {}
Result<SpreadChoice> Hosts::Choose(const Model&, const Plan&) { return SpreadChoice(); }
Status Hosts::Serve(Model&) { return Ok(); }
void Hosts::Refuse(const Error&) {}

double HostTrace::work() const { return work_after; }
std::int64_t HostTrace::bytes_sent() const { return 1000; }
std::int64_t HostTrace::messages_sent() const { return 10; }
Result<HostTrace> RehearseHost(const Model&, const Plan&, Spread, std::span<const HostShare> shares,
                               std::size_t host, std::stop_token) {
  return HostTrace{{}, static_cast<double>(shares[host].n_held()) / 1000, 0};
}
double ReplaySeconds(std::span<const HostTrace> traces, bool, double, double) {
  return traces.back().work();
}
HostSpeed MeasureHostSpeed(const Model&) { return HostSpeed(); }

}  // namespace aster

namespace aster::cli {

Result<int> RunServe(const Options&) {
  return WorldError("the engine that pretends has no server");
}

}  // namespace aster::cli
