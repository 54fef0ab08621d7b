#include "aster/context.h"

#include <algorithm>
#include <mutex>

#include "base/check.h"
#include "base/clock.h"
#include "base/system.h"
#include "engine/hosts.h"
#include "engine/model_state.h"
#include "engine/share_encoder.h"
#include "engine/text_stream.h"
#include "kvstore/kv_store.h"
#include "llama/sampler.h"
#include "llama/stock_pass.h"

namespace aster {
namespace internal {

// Of a pass's last token. They lie in memory that the model's contexts share, so no other context
// takes its turn before this one is let go.
struct Logits {
  std::span<const float> values;
  std::unique_lock<std::mutex> turn;
};

// One context: its KV store (or llama.cpp's cache, under kLlama), and the tokens in it.
class ContextState {
 public:
  ContextState(std::shared_ptr<ModelState> shared, Plan made_plan)
      : model(std::move(shared)), plan(std::move(made_plan)), store(Layers(*model)) {}

  // Phase 1 is over: the tokens are there, these ranges of them in the store, the rest elsewhere.
  void Take(std::span<const Token> all, std::span<const KeyRange> in_store) {
    tokens.assign(all.begin(), all.end());
    held.assign(in_store.begin(), in_store.end());
    store.Skip(size());
  }

  // Phase 2: they see all of it, wherever it is held.
  Result<Logits> Ask(std::span<const Token> more, Outputs outputs, const std::stop_token& stop) {
    if (remote == nullptr) return Run(more, nullptr, outputs, stop);
    const std::lock_guard talk(model->hosts->talk);
    return Run(more, remote.get(), outputs, stop);
  }

  Result<Logits> Run(std::span<const Token> more, OtherKeys* others, Outputs outputs,
                     const std::stop_token& stop) {
    std::unique_lock turn(model->turn);
    const KeyRange place = {size(), size() + static_cast<std::int64_t>(more.size())};
    Result<std::span<const float>> logits =
        stock != nullptr ? stock->Run(more, outputs, stop)
                         : model->pass->Run(more, {&place, 1}, held, store, outputs, stop, others);
    if (!logits) return logits.error();
    if (held.empty() || held.back().end != size()) held.push_back({size(), size()});
    tokens.insert(tokens.end(), more.begin(), more.end());
    held.back().end = size();
    if (stock == nullptr) profile += model->pass->profile();
    return Logits{*logits, std::move(turn)};
  }

  Status Truncate(std::int64_t n) {
    if (stock != nullptr) {
      if (Status status = stock->Truncate(n); !status) return status;
    } else {
      store.Truncate(n);
    }
    if (remote != nullptr) remote->Truncate(n);
    while (!held.empty() && held.back().begin >= n) held.pop_back();
    if (!held.empty()) held.back().end = std::min(held.back().end, n);
    tokens.resize(static_cast<std::size_t>(n));
    return Ok();
  }

  std::int64_t size() const { return static_cast<std::int64_t>(tokens.size()); }

  static std::vector<LayerShape> Layers(const ModelState& model) {
    return {model.pass->layers().begin(), model.pass->layers().end()};
  }

  std::shared_ptr<ModelState> model;
  Plan plan;
  KvStore store;
  std::unique_ptr<StockPass> stock;
  std::vector<Token> tokens;
  std::vector<KeyRange> held;             // of them, in the store; the rest other hosts hold
  std::unique_ptr<RemoteContext> remote;  // null: there is no rest
  double encode_seconds = 0;
  Profile profile;
};

}  // namespace internal

namespace {

using internal::ContextState;
using internal::Logits;
using internal::ModelState;

Status CheckTokens(const ModelState& model, std::span<const Token> tokens, const char* what) {
  if (tokens.empty()) return InvalidArgument(std::string(what) + " is empty; expected tokens");
  for (const Token token : tokens) {
    if (token >= 0 && token < model.info.n_vocab) continue;
    return InvalidArgument(std::string(what) + " holds token " + std::to_string(token) +
                           "; expected 0 to " + std::to_string(model.info.n_vocab - 1));
  }
  return Ok();
}

Status CheckMemory(const ModelState& model, std::int64_t n_tokens, std::int64_t held_bytes) {
  const std::int64_t needed = KvStore::PredictBytes(model.pass->layers(), n_tokens) - held_bytes;
  const std::int64_t available = AvailableMemory();
  if (available == 0 || needed <= available) return Ok();
  return WorldError("the KV store of " + std::to_string(n_tokens) + " tokens needs " +
                    FormatBytes(needed) + " of memory, but " + FormatBytes(available) +
                    " is available");
}

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

// The loop that turns logits into an answer, one token at a time.
class Generation {
 public:
  Generation(ContextState& state, const AskOptions& options, std::int64_t limit)
      : state_(state),
        options_(options),
        limit_(limit),
        sampler_(options.sampling, static_cast<std::int32_t>(state.model->info.n_vocab),
                 Recent(state, options)),
        stream_(options.stop_strings, options.on_text) {}

  // From the logits of the query's last token to the end of the answer.
  Status Run(Logits logits, Answer* answer) {
    answer->top_logprobs =
        TopLogprobs(logits.values, static_cast<std::size_t>(std::max(options_.n_top_logprobs, 1)));
    Clock::time_point first_token;
    while (true) {
      const Token token = sampler_.Draw(logits.values);
      logits = {};
      if (answer->tokens.empty()) first_token = Clock::now();
      answer->decode_seconds = SecondsSince(first_token);
      if (Ends(token, answer)) break;
      Result<Logits> next = state_.Ask({&token, 1}, Outputs::kLast, options_.stop);
      if (!next && next.error().kind != ErrorKind::kCancelled) return next.error();
      if (!next) {
        answer->finish = Finish::kCancelled;
        break;
      }
      logits = std::move(*next);
    }
    stream_.Finish();
    answer->text = stream_.text();
    return Ok();
  }

 private:
  // Takes the token into the answer; true when the answer ends with it or before it.
  bool Ends(Token token, Answer* answer) {
    const LlamaModel& llama = *state_.model->llama;
    if (llama.IsEndOfText(token) && !options_.ignore_end_of_text) {
      answer->finish = Finish::kEndOfText;
      return true;
    }
    answer->tokens.push_back(token);
    if (!stream_.Add(llama.Piece(token, false))) {
      answer->finish = Finish::kStopString;
      return true;
    }
    const auto n = static_cast<std::int64_t>(answer->tokens.size());
    if (n >= limit_) {
      answer->finish = n == options_.max_tokens ? Finish::kMaxTokens : Finish::kContextFull;
      return true;
    }
    if (options_.stop.stop_requested()) {
      answer->finish = Finish::kCancelled;
      return true;
    }
    return false;
  }

  static std::span<const Token> Recent(const ContextState& state, const AskOptions& options) {
    const auto n =
        std::min<std::size_t>(std::max(options.sampling.repeat_last_n, 0), state.tokens.size());
    return std::span<const Token>(state.tokens).last(n);
  }

  ContextState& state_;
  const AskOptions& options_;
  std::int64_t limit_;  // most tokens of the answer
  Sampler sampler_;
  TextStream stream_;
};

// Most tokens the answer may have after everything in the state.
std::int64_t AnswerLimit(const ContextState& state, const AskOptions& options) {
  std::int64_t room =
      state.stock != nullptr ? state.stock->capacity() - state.size() : std::int64_t{1} << 40;
  if (!options.allow_long || options.max_tokens < 0) {
    room = std::min(room, state.model->info.n_ctx_train - state.size());
  }
  // Past the trained length on purpose and without a limit of one's own: still not for ever.
  if (options.allow_long && options.max_tokens < 0) room = std::max<std::int64_t>(room, 1024);
  // The last token of an answer is never run, so it needs no room.
  room = std::max<std::int64_t>(room + 1, 1);
  return options.max_tokens < 0 ? room : std::min(room, options.max_tokens);
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
    const Result<Logits> ran = state.Run(chunk, nullptr, Outputs::kNone, stop);
    if (!ran) return ran.error();
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
  return internal::EncodeShare(*state.model, tokens, work, state.store, &state.profile);
}

}  // namespace

Result<Context> Context::Encode(const Model& model, std::span<const Token> tokens,
                                const EncodeOptions& options) {
  const std::shared_ptr<ModelState>& shared = model.state_;
  if (Status status = CheckTokens(*shared, tokens, "the context"); !status) return status.error();
  const auto n = static_cast<std::int64_t>(tokens.size());
  PlanOptions plan_options = options.plan;
  plan_options.ubatch_size = shared->options.ubatch_size;
  Result<Plan> plan = MakePlan(n, plan_options);
  if (!plan) return plan.error();
  if (Status status = shared->CheckLength(n, options.allow_long); !status) return status.error();
  const std::int64_t room = std::max<std::int64_t>(options.reserve_tokens, 0);
  const Attention attention = plan->attention;
  const bool may_spread = attention == Attention::kStar || attention == Attention::kRing;
  std::unique_lock<std::mutex> talk;
  SpreadChoice choice;
  if (shared->hosts != nullptr && may_spread) {
    talk = std::unique_lock(shared->hosts->talk);
    Result<SpreadChoice> made = shared->hosts->Choose(*shared, *plan);
    if (!made) return made.error();
    choice = std::move(*made);
  } else {
    choice.shares = DealShares(*plan, choice.spread, 1, {});
  }
  const HostShare& own = choice.shares.front();
  const std::int64_t n_own = own.n_held() + room;
  if (Status status = CheckMemory(*shared, n_own, 0); !status) return status.error();

  auto state = std::make_unique<ContextState>(shared, std::move(*plan));
  if (attention == Attention::kLlama) {
    Result<std::unique_ptr<StockPass>> stock =
        StockPass::Make(*shared->llama, shared->options, n + room);
    if (!stock) return stock.error();
    state->stock = std::move(*stock);
    choice.shares.front() = StockShare(n, shared->options.ubatch_size);
  }
  ProgressMeter meter(*shared, n, own, choice.spread == Spread::kRing, options);
  const auto at = [&meter](std::size_t pass, double done) { meter.At(pass, done); };
  Status encoded = Ok();
  if (state->stock != nullptr) {
    encoded = EncodeStock(*state, tokens, own, at, options.stop);
  } else if (choice.shares.size() > 1) {
    state->remote = std::make_unique<internal::RemoteContext>(shared->hosts, shared);
    encoded = state->remote->Encode(tokens, state->plan, choice, state->store, &state->profile,
                                    {at, [&](std::int64_t done) { meter.OthersDone(done); }},
                                    options.stop);
  } else {
    encoded = EncodeAlone(*state, tokens, choice.shares, at, options.stop);
  }
  if (!encoded) {
    if (talk) talk.unlock();  // the other hosts are told to forget
    return encoded.error();
  }
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
  if (state.stock == nullptr) {
    if (Status status = CheckMemory(*state.model, n_seen, state.store.bytes()); !status) {
      return status.error();
    }
  }

  Answer answer;
  answer.n_query = static_cast<std::int64_t>(query.size());
  Status status = Ok();
  Result<Logits> logits = RunQuery(state, query, options.stop);
  if (logits) {
    answer.query_seconds = SecondsSince(start);
    Generation generation(state, options, AnswerLimit(state, options));
    status = generation.Run(std::move(*logits), &answer);
  } else if (logits.error().kind == ErrorKind::kCancelled) {
    answer.query_seconds = SecondsSince(start);
    answer.finish = Finish::kCancelled;
  } else {
    status = logits.error();
  }
  const bool keeps = status.ok() && options.keep_turn && !answer.top_logprobs.empty();
  if (!keeps) {  // a query that was cut off leaves nothing behind either
    if (Status rewound = state.Truncate(before); !rewound) return rewound.error();
  }
  if (!status) return status.error();
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

const Plan& Context::plan() const { return state_->plan; }
double Context::encode_seconds() const { return state_->encode_seconds; }
const Profile& Context::profile() const { return state_->profile; }

std::int64_t Context::kv_bytes() const {
  if (state_->stock == nullptr) return state_->store.bytes();
  return state_->stock->capacity() * state_->model->info.kv_bytes_per_token;
}

Context::Context(std::unique_ptr<internal::ContextState> state) : state_(std::move(state)) {}
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;
Context::~Context() = default;

std::int64_t PredictKvBytes(const Model& model, std::int64_t n_tokens) {
  return KvStore::PredictBytes(model.state_->pass->layers(), n_tokens);
}

std::int64_t AvailableMemoryBytes() { return AvailableMemory(); }

}  // namespace aster
