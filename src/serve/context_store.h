// Contexts that were encoded, kept for requests to come: named ones, and those that requests left.
//
// Each belongs to a tenant (an API key); no tenant sees or gains from another's. Keys and values
// are shared with the sessions that go on behind them, so a context may go at any time. Threads:
// all members.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "aster/context.h"
#include "aster/session.h"
#include "serve/api_error.h"
#include "serve/metrics.h"

namespace aster::serve {

// What is told of how a context is encoded.
struct PlanShape {
  Attention attention = Attention::kDense;
  std::int64_t block_size = 0, anchor_size = 0, window = 0, overlap = 0, n_blocks = 0;
};
inline PlanShape ShapeOf(const Plan& plan) {
  return {plan.attention, plan.block_size, plan.anchor_size,
          plan.window,    plan.overlap,    plan.n_blocks};
}

// What is told about a named context.
struct ContextInfo {
  std::string id;
  std::string name;      // may be empty
  std::string messages;  // JSON, as it was given: what chats that name it start with
  std::int64_t created = 0, last_used = 0;  // Unix time, s
  std::int64_t n_tokens = 0;
  std::int64_t n_reused = 0;  // of them, taken over from another
  std::int64_t bytes = 0;
  double encode_seconds = 0;
  PlanShape plan;
};

class ContextStore {
 public:
  ContextStore(const Model& model, std::int64_t limit_bytes, Metrics& metrics)
      : model_(model), limit_bytes_(limit_bytes), metrics_(metrics) {}

  std::vector<ContextInfo> List(const std::string& tenant) const;  // last used first
  std::optional<ContextInfo> Find(const std::string& tenant, const std::string& id);
  bool Erase(const std::string& tenant, const std::string& id);
  // How often that was done: what waits for memory looks again.
  std::uint64_t n_forgotten() const { return n_forgotten_; }
  std::int64_t size() const;  // named ones
  std::int64_t limit_bytes() const { return limit_bytes_; }

  // A session for the prompt behind the most that the tenant's contexts hold of it. context_id: it
  // must go on behind that one. Errors: those of Session::Start; 404 when the context is not there;
  // 400 when the prompt does not continue it.
  ApiResult<Session> Start(const std::string& tenant, const std::string& context_id,
                           Model::Prompt prompt, SessionOptions options);

  // How many tokens Start would take over.
  std::int64_t Reusable(const std::string& tenant, const Model::Prompt& prompt,
                        const PlanOptions& plan);

  // Keeps a context. Others of the tenant that it holds whole go, unless they have a name.
  void Keep(const std::string& tenant, Context context);
  // Keeps it under a new id, with what `info` says of name, messages and n_reused.
  ContextInfo KeepNamed(const std::string& tenant, Context context, ContextInfo info);

  // Lets contexts go, those used longest ago first, until `bytes` more fit beside `promised` ones.
  // False when they would not even if all went that nobody uses; then none goes. REQUIRES: no
  // session is made or goes meanwhile.
  bool MakeRoom(std::int64_t bytes, std::int64_t promised);

  // While a request uses a named context it is not idle.
  void Pin(const std::string& id, int by);

 private:
  struct Entry {
    std::string tenant;
    ContextInfo info;  // without an id: a request left it
    Context context;
    std::uint64_t used = 0;  // a clock that ticks with each use
    int n_pins = 0;
  };
  using Entries = std::list<Entry>;

  Entries::iterator FindEntry(const std::string& tenant, const std::string& id);
  void Touch(Entry& entry);
  // The tenant's context that gives most, and how much; end() where none gives any.
  std::pair<Entries::iterator, Reuse> Best(const std::string& tenant, const Model::Prompt& prompt,
                                           const PlanOptions& plan, const Plan* only);

  const Model& model_;
  const std::int64_t limit_bytes_;
  Metrics& metrics_;
  mutable std::mutex mutex_;
  Entries entries_;
  std::uint64_t clock_ = 0;
  std::atomic<std::uint64_t> n_forgotten_ = 0;
};

}  // namespace aster::serve
