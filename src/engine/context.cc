#include "aster/context.h"

#include <algorithm>
#include <mutex>
#include <optional>

#include "base/check.h"
#include "base/clock.h"
#include "base/system.h"
#include "engine/context_state.h"
#include "engine/generation.h"
#include "engine/hosts.h"
#include "engine/model_state.h"
#include "engine/share_encoder.h"
#include "llama/sampler.h"

namespace aster {
namespace {

using internal::AnswerLimit;
using internal::CheckMemory;
using internal::CheckTokens;
using internal::ContextState;
using internal::Generation;
using internal::Logits;
using internal::ModelState;

// Work of the passes done and to do, in multiply-adds, for the estimate of time left.
class ProgressMeter {
 public:
  ProgressMeter(const ModelState& model, std::int64_t n_total, HostShare share, bool ring,
                const EncodeOptions& options)
      : options_(options),
        share_(std::move(share)),
        ring_(ring),
        per_token_(static_cast<double>(model.info.n_parameters)),
        per_pair_(static_cast<double>(model.info.n_heads * model.info.n_layers *
                                      (model.info.head_dim + model.info.head_dim_v))) {
    progress_.n_total = n_total;
    for (const HostPass& pass : share_.passes) to_do_ += Work(pass);
  }

  // Of the own share: how much of that pass is done. An anchor that is encoded anew counts as work,
  // not as tokens.
  void At(std::size_t at, double done) {
    const HostPass& pass = share_.passes[at];
    const std::int64_t n = share_.n_kept(pass);
    Tell(work_before_ + done * Work(pass),
         n_before_ + static_cast<std::int64_t>(done * static_cast<double>(n)));
    if (done < 1) return;
    work_before_ += Work(pass);
    n_before_ += n;
  }

  // Tokens that other hosts have encoded up to now.
  void OthersDone(std::int64_t n) {
    others_done_ = n;
    Tell(done_, own_done_);
  }

  double seconds() const { return SecondsSince(start_); }

 private:
  double Work(const HostPass& pass) const {
    const double pairs = CausalPairs(HostShare{pass.tokens, {pass}}, ring_);
    return per_token_ * static_cast<double>(pass.n_tokens()) + per_pair_ * pairs;
  }

  void Tell(double done, std::int64_t own_done) {
    done_ = done;
    own_done_ = own_done;
    progress_.n_done = own_done_ + others_done_;
    progress_.seconds = SecondsSince(start_);
    progress_.seconds_left = done_ > 0 ? progress_.seconds * (to_do_ - done_) / done_ : 0;
    if (options_.on_progress) options_.on_progress(progress_);
  }

  const EncodeOptions& options_;
  const HostShare share_;
  const bool ring_;
  double per_token_;
  double per_pair_;
  double to_do_ = 0, done_ = 0, work_before_ = 0;
  std::int64_t own_done_ = 0, n_before_ = 0, others_done_ = 0;
  Progress progress_;
  Clock::time_point start_ = Clock::now();
};

// llama.cpp attends to all it holds; its passes only cut the context into ubatches.
HostShare StockShare(std::int64_t n_context, std::int64_t ubatch_size) {
  HostShare share{{{0, n_context}}, {}};
  for (std::int64_t first = 0; first < n_context; first += ubatch_size) {
    HostPass pass{{{first, std::min(first + ubatch_size, n_context)}}, {}, false};
    if (first > 0) pass.visible.push_back({0, first});
    share.passes.push_back(std::move(pass));
  }
  return share;
}

// Runs the query in steps; returns the logits of its last token.
Result<Logits> RunQuery(ContextState& state, std::span<const Token> query,
                        const std::stop_token& stop) {
  const auto ubatch = static_cast<std::size_t>(state.model->options.ubatch_size);
  while (true) {
    const std::span<const Token> chunk = query.first(std::min(ubatch, query.size()));
    query = query.subspan(chunk.size());
    const Outputs outputs = query.empty() ? Outputs::kLast : Outputs::kNone;
    Result<Logits> logits = state.Ask(chunk, outputs, stop);
    if (!logits || query.empty()) return logits;
  }
}

Status EncodeStock(ContextState& state, std::span<const Token> tokens, const HostShare& share,
                   const std::function<void(std::size_t, double)>& at,
                   const std::stop_token& stop) {
  for (std::size_t i = 0; i < share.passes.size(); ++i) {
    const KeyRange& place = share.passes[i].tokens.front();
    const auto chunk = tokens.subspan(static_cast<std::size_t>(place.begin),
                                      static_cast<std::size_t>(place.size()));
    if (const Result<Logits> ran = state.Run(chunk, nullptr, Outputs::kNone, stop); !ran) {
      return ran.error();
    }
    at(i, 1);
  }
  return Ok();
}

Status EncodeAlone(ContextState& state, std::span<const Token> tokens,
                   std::span<const HostShare> shares,
                   const std::function<void(std::size_t, double)>& at,
                   const std::stop_token& stop) {
  internal::ShareWork work;
  work.shares = shares;
  work.anchor_size = state.plan.anchor_size;
  work.stop = stop;
  work.on_progress = [&at](std::size_t pass, double done) {
    at(pass, done);
    return Ok();
  };
  return internal::EncodeShare(*state.model, tokens, work, state.store(), &state.profile);
}

// The loop that turns logits into an answer, one token at a time. An answer that was cut off is one
// too; errors are kWorld.
Result<Answer> Generate(ContextState& state, const AskOptions& options, Logits logits) {
  const std::int64_t capacity = state.stock != nullptr ? state.stock->capacity() : -1;
  Generation generation(*state.model, options,
                        AnswerLimit(*state.model, state.size(), capacity, options), state.tokens);
  while (true) {
    generation.Draw(logits.values);
    logits = {};  // and with them the model's turn, which the caller may need when shown the text
    const std::optional<Token> token = generation.Show();
    if (!token) break;
    if (options.stop.stop_requested()) {
      generation.End(Finish::kCancelled);
      break;
    }
    Result<Logits> next = state.Ask({&*token, 1}, Outputs::kLast, options.stop);
    if (!next) {
      if (next.error().kind != ErrorKind::kCancelled) return next.error();
      generation.End(Finish::kCancelled);
      break;
    }
    logits = std::move(*next);
  }
  return generation.answer();
}

}  // namespace

Status internal::CheckTokens(const ModelState& model, std::span<const Token> tokens,
                             const char* what) {
  if (tokens.empty()) return InvalidArgument(std::string(what) + " is empty; expected tokens");
  for (const Token token : tokens) {
    if (token >= 0 && token < model.info.n_vocab) continue;
    return InvalidArgument(std::string(what) + " holds token " + std::to_string(token) +
                           "; expected 0 to " + std::to_string(model.info.n_vocab - 1));
  }
  return Ok();
}

Status internal::CheckMemory(const ModelState& model, std::int64_t n_tokens,
                             std::int64_t held_bytes) {
  const std::int64_t needed = KvStore::PredictBytes(model.pass->layers(), n_tokens) - held_bytes;
  const std::int64_t available = AvailableMemory();
  if (available == 0 || needed <= available) return Ok();
  return WorldError("the KV store of " + std::to_string(n_tokens) + " tokens needs " +
                    FormatBytes(needed) + " of memory, but " + FormatBytes(available) +
                    " is available");
}

std::int64_t internal::AlikeUpTo(const ModelState& model, const Context& held, const Plan& plan,
                                 std::int64_t most) {
  std::int64_t n = std::min({most, std::ssize(held.tokens()), AlikeExtent(held.plan(), plan)});
  // What a star context went on with behind these sees everything.
  if (held.plan().attention == Attention::kStar) n = std::min(n, held.n_encoded());
  const std::int64_t min_rows = model.pass->min_rows();
  for (const Step& step : plan.steps) {
    const bool is_cut = step.tokens.begin < n && n < step.tokens.end;
    if (is_cut && step.tokens.size() >= min_rows) n = std::min(n, step.tokens.end - min_rows);
  }
  return n;
}

std::int64_t internal::AnswerLimit(const ModelState& model, std::int64_t n_seen,
                                   std::int64_t capacity, const AskOptions& options) {
  std::int64_t room = capacity >= 0 ? capacity - n_seen : std::int64_t{1} << 40;
  const bool may_pass = options.allow_long && !model.has_position_table;
  if (!may_pass || options.max_tokens < 0) room = std::min(room, model.info.n_ctx_train - n_seen);
  // Past the trained length on purpose and without a limit of one's own: still not for ever.
  if (may_pass && options.max_tokens < 0) room = std::max<std::int64_t>(room, 1024);
  // The last token of an answer is never run, so it needs no room.
  room = std::max<std::int64_t>(room + 1, 1);
  return options.max_tokens < 0 ? room : std::min(room, options.max_tokens);
}

Result<Context> Context::Encode(const Model& model, std::span<const Token> tokens,
                                const EncodeOptions& options) {
  const std::shared_ptr<ModelState>& shared = model.state_;
  if (Status status = CheckTokens(*shared, tokens, "the context"); !status) return status.error();
  const auto n = static_cast<std::int64_t>(tokens.size());
  const int n_hosts = shared->hosts != nullptr ? shared->hosts->size() : 1;
  PlanOptions plan_options = ForHosts(options.plan, n_hosts);
  plan_options.ubatch_size = shared->options.ubatch_size;
  Result<Plan> plan = MakePlan(n, plan_options);
  if (!plan) return plan.error();
  if (Status status = shared->CheckLength(n, options.allow_long); !status) return status.error();
  const std::int64_t room = std::max<std::int64_t>(options.reserve_tokens, 0);
  const Attention attention = plan->attention;
  const bool may_spread = attention == Attention::kStar || attention == Attention::kRing;
  std::unique_ptr<ContextState> state;
  std::unique_lock<std::mutex> talk;  // goes before the state, which tells other hosts to forget
  SpreadChoice choice;
  std::int64_t n_there = 0;
  if (shared->hosts != nullptr && may_spread) {
    talk = std::unique_lock(shared->hosts->talk);
    Result<SpreadChoice> made = shared->hosts->Choose(*shared, *plan);
    if (!made) return made.error();
    choice = std::move(*made);
  } else {
    if (options.start != nullptr) n_there = options.start->CountAlike(tokens, *plan);
    Plan rest = *plan;
    rest.steps = StepsFrom(plan->steps, n_there);
    choice.shares = DealShares(rest, choice.spread, 1, {});
  }
  if (n_there > 0) {
    ASTER_CHECK(options.start->state_->model == shared, "%lld tokens of another model's context",
                static_cast<long long>(n_there));
    auto forked = options.start->state_->Fork(n_there);
    if (!forked) return forked.error();
    state = std::move(*forked);
    state->n_encoded = n;
    state->n_taken_over = n_there;
    state->plan = std::move(*plan);
  } else {
    state = std::make_unique<ContextState>(shared, std::move(*plan));
  }
  const HostShare& own = choice.shares.front();
  const std::int64_t n_own = own.n_held() + room;
  const std::int64_t held_bytes = state->store().bytes();
  if (Status status = CheckMemory(*shared, n_own, held_bytes); !status) return status.error();

  if (attention == Attention::kLlama) {
    Result<std::unique_ptr<StockPass>> stock =
        StockPass::Make(*shared->llama, shared->options, n + room);
    if (!stock) return stock.error();
    state->stock = std::move(*stock);
    choice.shares.front() = StockShare(n, shared->options.ubatch_size);
  }
  ProgressMeter meter(*shared, n - n_there, own, choice.spread == Spread::kRing, options);
  const auto at = [&meter](std::size_t pass, double done) { meter.At(pass, done); };
  Status encoded = Ok();
  if (state->stock != nullptr) {
    encoded = EncodeStock(*state, tokens, own, at, options.stop);
  } else if (choice.shares.size() > 1) {
    state->remote = std::make_unique<internal::RemoteContext>(shared->hosts, shared);
    encoded = state->remote->Encode(tokens, state->plan, choice, state->store(), &state->profile,
                                    {at, [&](std::int64_t done) { meter.OthersDone(done); }},
                                    options.stop);
  } else {
    encoded = EncodeAlone(*state, tokens, choice.shares, at, options.stop);
  }
  if (!encoded) return encoded.error();
  if (state->stock == nullptr) state->Take(tokens, own.held);
  state->encode_seconds = meter.seconds();
  return Context(std::move(state));
}

Result<Answer> Context::Ask(std::span<const Token> query, const AskOptions& options) {
  const auto start = Clock::now();
  ContextState& state = *state_;
  if (Status status = CheckTokens(*state.model, query, "the query"); !status) {
    return status.error();
  }
  if (options.max_tokens == 0 || options.max_tokens < -1) {
    return InvalidArgument("max_tokens: " + std::to_string(options.max_tokens) +
                           ", expected at least 1, or -1 for no limit");
  }
  const std::int64_t before = state.size();
  const std::int64_t n_seen = before + static_cast<std::int64_t>(query.size());
  if (Status status = state.model->CheckLength(n_seen, options.allow_long); !status) {
    return status.error();
  }
  if (Status status = CheckGrammar(options.sampling.grammar, *state.model->llama); !status) {
    return status.error();
  }
  if (state.stock == nullptr) {
    // Of a context that is spread this host holds a part; what is new it takes whole.
    const auto& layers = state.model->pass->layers();
    const std::int64_t held =
        std::max(state.store().bytes(), KvStore::PredictBytes(layers, before));
    if (Status status = CheckMemory(*state.model, n_seen, held); !status) return status.error();
  }

  Result<Answer> answer = Answer();
  Result<Logits> logits = RunQuery(state, query, options.stop);
  const double query_seconds = SecondsSince(start);
  if (logits) {
    answer = Generate(state, options, std::move(*logits));
  } else if (logits.error().kind == ErrorKind::kCancelled) {
    answer->finish = Finish::kCancelled;
  } else {
    answer = logits.error();
  }
  const bool keeps = answer && options.keep_turn && !answer->top_logprobs.empty();
  if (!keeps) {  // a query that was cut off leaves nothing behind either
    if (Status rewound = state.Truncate(before); !rewound) return rewound.error();
  }
  if (!answer) return answer;
  answer->n_query = static_cast<std::int64_t>(query.size());
  answer->query_seconds = query_seconds;
  return answer;
}

std::span<const Token> Context::tokens() const { return state_->tokens; }

std::int64_t Context::CommonPrefix(std::span<const Token> prompt) const {
  const auto& held = state_->tokens;
  return std::mismatch(held.begin(), held.end(), prompt.begin(), prompt.end()).first - held.begin();
}

Status Context::Rewind(std::int64_t n) {
  ASTER_CHECK(n >= 0 && n <= state_->size(), "rewind to %lld of %lld", static_cast<long long>(n),
              static_cast<long long>(state_->size()));
  return state_->Truncate(n);
}

std::int64_t Context::CountAlike(std::span<const Token> tokens, const Plan& plan) const {
  if (!state_->is_local() || plan.attention == Attention::kLlama) return 0;
  return internal::AlikeUpTo(*state_->model, *this, plan, CommonPrefix(tokens));
}

const Plan& Context::plan() const { return state_->plan; }
std::int64_t Context::n_encoded() const { return state_->n_encoded; }
std::int64_t Context::n_taken_over() const { return state_->n_taken_over; }
double Context::encode_seconds() const { return state_->encode_seconds; }
const Profile& Context::profile() const { return state_->profile; }

std::int64_t Context::kv_bytes() const {
  if (state_->stock == nullptr) return state_->store().bytes();
  return state_->stock->capacity() * state_->model->info.kv_bytes_per_token;
}

Context::Context(std::unique_ptr<internal::ContextState> state) : state_(std::move(state)) {}
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;
Context::~Context() = default;

std::int64_t KvBytesInUse() { return KvStore::BytesInUse(); }

std::int64_t KvBytesOnlyIn(std::span<const Context* const> contexts) {
  std::vector<const KvStore*> stores;
  for (const Context* context : contexts) stores.push_back(&context->state_->store());
  return KvStore::BytesOnlyIn(stores);
}

std::int64_t PredictKvBytes(const Model& model, std::int64_t n_tokens) {
  return KvStore::PredictBytes(model.state_->pass->layers(), n_tokens);
}

std::int64_t AvailableMemoryBytes() { return AvailableMemory(); }

}  // namespace aster
