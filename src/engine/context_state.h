// One context's state: its KV store (or llama.cpp's cache, under kLlama), and the tokens in it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

#include "aster/context.h"
#include "engine/hosts.h"
#include "engine/model_state.h"
#include "kvstore/kv_store.h"
#include "llama/stock_pass.h"

namespace aster::internal {

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
      : model(std::move(shared)),
        plan(std::move(made_plan)),
        own_store(std::make_unique<KvStore>(Layers(*model))) {}

  // The first n tokens of it, sharing pages. Errors: kWorld without memory for the last page.
  // REQUIRES: all of them are in the store.
  Result<std::unique_ptr<ContextState>> Fork(std::int64_t n) const {
    Result<std::unique_ptr<KvStore>> forked = own_store->Fork(n);
    if (!forked) return forked.error();
    auto state = std::make_unique<ContextState>(model, plan);
    state->own_store = std::move(*forked);
    state->tokens.assign(tokens.begin(), tokens.begin() + n);
    state->held = {{0, n}};
    state->n_encoded = std::min(n_encoded, n);
    return state;
  }

  // Phase 1 is over: the tokens are there, these ranges of them in the store, the rest elsewhere.
  void Take(std::span<const Token> all, std::span<const KeyRange> in_store) {
    tokens.assign(all.begin(), all.end());
    held.assign(in_store.begin(), in_store.end());
    store().Skip(size());
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
        stock != nullptr
            ? stock->Run(more, outputs, stop)
            : model->pass->Run(more, {&place, 1}, held, store(), outputs, stop, others);
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
      try {
        store().Truncate(n);
      } catch (const std::bad_alloc&) {
        return WorldError("no memory to go back to " + std::to_string(n) + " tokens");
      }
    }
    if (remote != nullptr) remote->Truncate(n);
    while (!held.empty() && held.back().begin >= n) held.pop_back();
    if (!held.empty()) held.back().end = std::min(held.back().end, n);
    tokens.resize(static_cast<std::size_t>(n));
    n_encoded = std::min(n_encoded, n);
    return Ok();
  }

  // All that is there lies in this process's store.
  bool is_local() const { return stock == nullptr && remote == nullptr; }
  KvStore& store() const { return *own_store; }
  std::int64_t size() const { return static_cast<std::int64_t>(tokens.size()); }

  static std::vector<LayerShape> Layers(const ModelState& model) {
    return {model.pass->layers().begin(), model.pass->layers().end()};
  }

  std::shared_ptr<ModelState> model;
  Plan plan;
  // Tokens of the plan's context that were encoded as it says. Those behind, where it goes on
  // within its last ones, see everything, as a query does.
  std::int64_t n_encoded = plan.n_context;
  std::unique_ptr<KvStore> own_store;
  std::unique_ptr<StockPass> stock;
  std::vector<Token> tokens;
  std::vector<KeyRange> held;             // of them, in the store; the rest other hosts hold
  std::unique_ptr<RemoteContext> remote;  // null: there is no rest
  std::int64_t n_taken_over = 0;          // from another context when it was encoded
  double encode_seconds = 0;
  Profile profile;
};

// Errors: kInvalidArgument, with `what` it is, for no token and for one that is none of the
// model's.
Status CheckTokens(const ModelState& model, std::span<const Token> tokens, const char* what);
// Errors: kWorld with both numbers when the store of n_tokens tokens, of which held_bytes are
// there, does not fit the machine.
Status CheckMemory(const ModelState& model, std::int64_t n_tokens, std::int64_t held_bytes);
// How many tokens of `held`, at most `most`, have the keys and values that the plan would give
// them, if they are the same tokens. A step of the plan that the last of them cuts keeps at least
// as many rows as its linear layers need to be the same as the whole step's, if it has as many.
std::int64_t AlikeUpTo(const ModelState& model, const Context& held, const Plan& plan,
                       std::int64_t most);
// Most tokens that an answer behind n_seen tokens may have. capacity: of the cache; -1 = no bound.
std::int64_t AnswerLimit(const ModelState& model, std::int64_t n_seen, std::int64_t capacity,
                         const AskOptions& options);

}  // namespace aster::internal
