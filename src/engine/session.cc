#include "aster/session.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "engine/context_state.h"
#include "engine/generation.h"
#include "llama/device.h"

namespace aster {
namespace internal {

class SessionState {
 public:
  std::unique_ptr<ContextState> context;
  std::vector<Token> prompt;
  std::int64_t n_context = 0;  // of the prompt, by the plan
  std::int64_t n_reused = 0;
  SessionOptions options;
  std::vector<Step> steps;  // of the prompt, all of them; the first `next_step` are done
  std::size_t next_step = 0;
  double work_done = 0, work_left = 0;  // in multiply-adds
  double seconds = 0;                   // that the steps took
  std::vector<float> first_logits;      // of the prompt's last token; until the second token
  std::optional<Generation> generation;
  std::optional<Token> next;  // to be run

  const ModelState& model() const { return *context->model; }
  std::int64_t n_prompt() const { return static_cast<std::int64_t>(prompt.size()); }

  double Work(const Step& step) const {
    const ModelInfo& info = model().info;
    const auto per_pair =
        static_cast<double>(info.n_heads * info.n_layers * (info.head_dim + info.head_dim_v));
    return static_cast<double>(info.n_parameters) * static_cast<double>(step.tokens.size()) +
           per_pair * CausalPairs({step});
  }

  void BeginAnswer(const AskOptions& answer) {
    options.answer = answer;
    generation.emplace(model(), answer, AnswerLimit(model(), context->size(), -1, answer),
                       context->tokens);
    generation->Draw(first_logits);
    next = generation->Show();
  }
};

}  // namespace internal

namespace {

using internal::ContextState;
using internal::ModelState;
using internal::SessionState;

Result<Plan> PlanOf(const ModelState& model, std::int64_t n_context, PlanOptions options) {
  if (options.attention == Attention::kLlama || options.attention == Attention::kRing) {
    return InvalidArgument("attention " + std::string(AttentionName(options.attention)) +
                           ": expected auto, dense or star");
  }
  options.ubatch_size = model.options.ubatch_size;
  if (n_context == 0) return MakePlan(0, {.attention = Attention::kDense});
  return MakePlan(n_context, options);
}

// Whether the options leave it to us, or ask for what the plan is.
bool Agrees(const Plan& plan, const PlanOptions& options) {
  if (options.attention == Attention::kDense) return plan.attention == Attention::kDense;
  if (plan.attention != Attention::kStar) return options.attention == Attention::kAuto;
  const std::int64_t anchor_size = options.anchor_size >= 0  ? options.anchor_size
                                   : options.block_size != 0 ? options.block_size
                                                             : plan.anchor_size;
  const bool any_window =
      options.window == kAutoWindow && options.overlap == 0 && options.block_size == 0;
  return (options.block_size == 0 || options.block_size == plan.block_size) &&
         anchor_size == plan.anchor_size &&
         (any_window ||
          (options.chosen_window() == plan.window && options.overlap == plan.overlap));
}

std::vector<Step> QuerySteps(std::int64_t begin, std::int64_t end, std::int64_t ubatch_size) {
  std::vector<Step> steps;
  for (; begin < end; begin += ubatch_size) {
    Step step{{begin, std::min(begin + ubatch_size, end)}, {}};
    if (begin > 0) step.visible.push_back({0, begin});
    steps.push_back(std::move(step));
  }
  return steps;
}

// The first n tokens of a step, or about n; the rest stays in it. Parts of a step that has min_rows
// tokens have as many: shorter ones would have other linear layers than the whole step, and what is
// said would depend on how it was cut.
Step CutOff(Step& step, std::int64_t n, std::int64_t min_rows) {
  const std::int64_t all = step.tokens.size();
  n = std::clamp<std::int64_t>(n, 1, all);
  if (all >= min_rows) {
    n = std::max(n, min_rows);
    if (n < all && all - n < min_rows) n = all < 2 * min_rows ? all : all - min_rows;
  }
  Step part = step;
  part.tokens.end = std::min(part.tokens.end, part.tokens.begin + n);
  if (part.tokens.end < step.tokens.end) step = StepsFrom({step}, part.tokens.end).front();
  return part;
}

}  // namespace

Reuse FindReuse(const Model& model, const Context& held, const Model::Prompt& prompt,
                const PlanOptions& options) {
  const ModelState& state = *internal::ModelAccess::StateOf(model);
  const auto most = static_cast<std::int64_t>(prompt.tokens.size()) - 1;
  const std::int64_t common = std::min(held.CommonPrefix(prompt.tokens), most);
  const Result<Plan> plan = PlanOf(state, prompt.n_context, options);
  if (!plan || common <= 0) return {};
  const std::int64_t left = prompt.n_context - common;
  const bool reaches =
      held.plan().n_context <= common &&
      (held.plan().attention != Attention::kStar || held.plan().n_context <= prompt.n_context);
  if (reaches && Agrees(held.plan(), options) && left <= plan->block_size) return {common, true};
  return {internal::AlikeUpTo(state, held, *plan, common), false};
}

Result<Session> Session::Start(const Model& model, Model::Prompt prompt,
                               const SessionOptions& options, const Context* held, Reuse reuse) {
  const std::shared_ptr<ModelState>& shared = model.state_;
  if (Status status = internal::CheckTokens(*shared, prompt.tokens, "the prompt"); !status) {
    return status.error();
  }
  const auto n = static_cast<std::int64_t>(prompt.tokens.size());
  if (Status status = shared->CheckLength(n, options.allow_long); !status) return status.error();
  const AskOptions& answer = options.answer;
  if (options.wants_answer && (answer.max_tokens == 0 || answer.max_tokens < -1)) {
    return InvalidArgument("max_tokens: " + std::to_string(answer.max_tokens) +
                           ", expected at least 1, or -1 for no limit");
  }
  if (Status status = CheckGrammar(answer.sampling.grammar, *shared->llama); !status) {
    return status.error();
  }
  Result<Plan> plan = reuse.continues ? Result<Plan>(held->plan())
                                      : PlanOf(*shared, prompt.n_context, options.plan);
  if (!plan) return plan.error();
  ASTER_CHECK(held != nullptr || reuse.n_tokens == 0, "%lld tokens of no context",
              static_cast<long long>(reuse.n_tokens));

  auto state = std::make_unique<SessionState>();
  state->n_context = reuse.continues ? reuse.n_tokens : prompt.n_context;
  const std::int64_t ubatch = shared->options.ubatch_size;
  if (!reuse.continues) state->steps = StepsFrom(plan->steps, reuse.n_tokens);
  const std::vector<Step> query = QuerySteps(std::max(state->n_context, reuse.n_tokens), n, ubatch);
  state->steps.insert(state->steps.end(), query.begin(), query.end());
  if (held != nullptr) {
    ASTER_CHECK(held->state_->is_local(), "a context of %zu tokens that is not all here",
                held->tokens().size());
    auto forked = held->state_->Fork(reuse.n_tokens);
    if (!forked) return forked.error();
    state->context = std::move(*forked);
    if (!reuse.continues) state->context->n_encoded = plan->n_context;
    state->context->plan = std::move(*plan);
  } else {
    state->context = std::make_unique<ContextState>(shared, std::move(*plan));
  }
  state->n_reused = reuse.n_tokens;
  state->prompt = std::move(prompt.tokens);
  state->options = options;
  for (const Step& step : state->steps) state->work_left += state->Work(step);
  return Session(std::move(state));
}

Status Session::Prefill(std::int64_t max_tokens, const std::stop_token& stop) {
  ASTER_CHECK(!prefilled(), "a prompt of %zu tokens is done", state_->prompt.size());
  SessionState& state = *state_;
  ContextState& context = *state.context;
  const auto start = Clock::now();
  Step rest = state.steps[state.next_step];
  const Step step = CutOff(rest, max_tokens, context.model->pass->min_rows());
  const auto tokens = std::span(state.prompt)
                          .subspan(step.tokens.begin, static_cast<std::size_t>(step.tokens.size()));
  const bool is_last = step.tokens.end == state.n_prompt();
  const Outputs outputs = is_last && state.options.wants_answer ? Outputs::kLast : Outputs::kNone;
  {
    const std::lock_guard turn(context.model->turn);
    const StepPart part = {step.tokens, &context.store(), step.visible};
    const auto logits = context.model->pass->Run(tokens, {&part, 1}, outputs, stop);
    if (!logits) return logits.error();
    state.first_logits.assign(logits->begin(), logits->end());
    context.profile += context.model->pass->profile();
  }
  context.tokens.insert(context.tokens.end(), tokens.begin(), tokens.end());
  context.held = {{0, context.size()}};
  const double work = state.Work(step);
  state.work_done += work;
  state.work_left = std::max(0.0, state.work_left - work);
  if (step.tokens.end == state.steps[state.next_step].tokens.end) {
    ++state.next_step;
  } else {
    state.steps[state.next_step] = std::move(rest);
  }
  state.seconds += SecondsSince(start);
  if (context.size() <= state.n_context) context.encode_seconds = state.seconds;
  if (is_last && state.options.wants_answer) state.BeginAnswer(state.options.answer);
  return Ok();
}

bool Session::prefilled() const { return state_->next_step == state_->steps.size(); }

bool Session::context_encoded() const { return state_->context->size() >= state_->n_context; }

Progress Session::progress() const {
  const SessionState& state = *state_;
  Progress progress;
  progress.n_total = state.n_prompt() - state.n_reused;
  progress.n_done = std::min(state.context->size(), state.n_prompt()) - state.n_reused;
  progress.seconds = state.seconds;
  if (state.work_done > 0)
    progress.seconds_left = state.seconds * state.work_left / state.work_done;
  return progress;
}

Status Session::DecodeTogether(const Model& model, std::span<Session* const> sessions,
                               const std::stop_token& stop) {
  ModelState& shared = *internal::ModelAccess::StateOf(model);
  std::vector<Token> tokens;
  std::vector<KeyRange> seen(sessions.size());
  std::vector<StepPart> parts;
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    SessionState& state = *sessions[i]->state_;
    ASTER_CHECK(state.next.has_value(), "session %zu of %zu has no token to run", i,
                sessions.size());
    const std::int64_t at = state.context->size();
    tokens.push_back(*state.next);
    seen[i] = {0, at};
    parts.push_back({{at, at + 1}, &state.context->store(), {&seen[i], 1}});
  }
  const auto n_vocab = static_cast<std::size_t>(shared.info.n_vocab);
  {
    const std::lock_guard turn(shared.turn);
    const auto logits = shared.pass->Run(tokens, parts, Outputs::kAll, stop);
    if (!logits) return logits.error();
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      sessions[i]->state_->generation->Draw(logits->subspan(i * n_vocab, n_vocab));
    }
  }
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    SessionState& state = *sessions[i]->state_;
    state.context->tokens.push_back(tokens[i]);
    state.context->held = {{0, state.context->size()}};
    state.first_logits = {};
    state.next.reset();
  }
  // Whom the text is shown to finds every session as far as its KV.
  for (Session* session : sessions) {
    session->state_->next = session->state_->generation->Show();
  }
  return Ok();
}

bool Session::done() const {
  if (!prefilled()) return false;
  return !state_->generation.has_value() || state_->generation->ended();
}

const std::string& Session::text() const {
  static const std::string kNone;
  return state_->generation ? state_->generation->text() : kNone;
}

const Answer& Session::answer() const {
  static const Answer kNone;
  return state_->generation ? state_->generation->answer() : kNone;
}

void Session::End(Finish finish) {
  if (state_->generation) state_->generation->End(finish);
}

Result<Session> Session::Branch(const AskOptions& answer) const {
  ASTER_CHECK(!state_->first_logits.empty(), "%lld tokens: no first distribution to branch from",
              static_cast<long long>(n_tokens()));
  auto forked = state_->context->Fork(state_->context->size());
  if (!forked) return forked.error();
  auto state = std::make_unique<SessionState>();
  state->context = std::move(*forked);
  state->prompt = state_->prompt;
  state->n_context = state_->n_context;
  state->n_reused = state_->n_prompt();
  state->options = state_->options;
  state->first_logits = state_->first_logits;
  state->BeginAnswer(answer);
  return Session(std::move(state));
}

Result<Context> Session::Snapshot() const {
  auto forked = state_->context->Fork(state_->context->size());
  if (!forked) return forked.error();
  (*forked)->encode_seconds = state_->context->encode_seconds;
  (*forked)->profile = state_->context->profile;
  return Context(std::move(*forked));
}

const Plan& Session::plan() const { return state_->context->plan; }
std::int64_t Session::n_prompt() const { return state_->n_prompt(); }
std::int64_t Session::n_reused() const { return state_->n_reused; }
std::int64_t Session::n_tokens() const { return state_->context->size(); }

Session::Session(std::unique_ptr<internal::SessionState> state) : state_(std::move(state)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

}  // namespace aster
