#include "serve/context_store.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "serve/random_id.h"

namespace aster::serve {
namespace {

// A context shorter than this is not worth a page of memory.
constexpr std::size_t kMinTokensToKeep = 128;
// Less in common is the chat template's head: no use of a context.
constexpr std::int64_t kMinTokensToReuse = 64;
// Tokens at a context's end that may be others in a conversation, where they span the seam.
constexpr std::int64_t kMaxSeamTokens = 8;

bool SamePlan(const Plan& a, const Plan& b) { return a.n_context == b.n_context && SameRule(a, b); }

bool StartsWith(const Context& context, const Context& start) {
  return context.CommonPrefix(start.tokens()) == std::ssize(start.tokens());
}

}  // namespace

std::vector<ContextInfo> ContextStore::List(const std::string& tenant) const {
  const std::lock_guard lock(mutex_);
  std::vector<const Entry*> named;
  for (const Entry& entry : entries_) {
    if (entry.tenant == tenant && !entry.info.id.empty()) named.push_back(&entry);
  }
  std::ranges::sort(named, [](const Entry* a, const Entry* b) { return a->used > b->used; });
  std::vector<ContextInfo> infos;
  for (const Entry* entry : named) infos.push_back(entry->info);
  return infos;
}

ContextStore::Entries::iterator ContextStore::FindEntry(const std::string& tenant,
                                                        const std::string& id) {
  return std::ranges::find_if(entries_, [&](const Entry& entry) {
    return !id.empty() && entry.info.id == id && entry.tenant == tenant;
  });
}

std::optional<ContextInfo> ContextStore::Find(const std::string& tenant, const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto at = FindEntry(tenant, id);
  if (at == entries_.end()) return std::nullopt;
  return at->info;
}

bool ContextStore::Erase(const std::string& tenant, const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto at = FindEntry(tenant, id);
  if (at == entries_.end()) return false;
  entries_.erase(at);
  ++n_forgotten_;
  return true;
}

std::int64_t ContextStore::size() const {
  const std::lock_guard lock(mutex_);
  return std::ranges::count_if(entries_, [](const Entry& entry) { return !entry.info.id.empty(); });
}

void ContextStore::Touch(Entry& entry) {
  entry.used = ++clock_;
  entry.info.last_used = UnixTime();
}

std::pair<ContextStore::Entries::iterator, Reuse> ContextStore::Best(const std::string& tenant,
                                                                     const Model::Prompt& prompt,
                                                                     const PlanOptions& plan,
                                                                     const Plan* only) {
  auto best = entries_.end();
  Reuse most;
  for (auto at = entries_.begin(); at != entries_.end(); ++at) {
    if (at->tenant != tenant || (only != nullptr && !SamePlan(at->context.plan(), *only))) continue;
    Reuse reuse;
    if (only != nullptr) {
      const auto last = static_cast<std::int64_t>(prompt.tokens.size()) - 1;
      reuse = {std::min(at->context.CommonPrefix(prompt.tokens), last), true};
    } else {
      reuse = FindReuse(model_, at->context, prompt, plan);
    }
    if (reuse.n_tokens < kMinTokensToReuse) continue;
    const bool is_better = reuse.n_tokens > most.n_tokens ||
                           (reuse.n_tokens == most.n_tokens && reuse.continues && !most.continues);
    if (!is_better) continue;
    best = at;
    most = reuse;
  }
  return {best, most};
}

ApiResult<Session> ContextStore::Start(const std::string& tenant, const std::string& context_id,
                                       Model::Prompt prompt, SessionOptions options) {
  const std::lock_guard lock(mutex_);
  std::optional<Plan> only;
  if (!context_id.empty()) {
    const auto named = FindEntry(tenant, context_id);
    if (named == entries_.end()) {
      return ApiError{404, "context_id: the context " + context_id + " is gone", "context_id"};
    }
    Touch(*named);
    const std::int64_t common = named->context.CommonPrefix(prompt.tokens);
    const auto n = static_cast<std::int64_t>(named->context.tokens().size());
    if (common < n - kMaxSeamTokens) {
      return ApiError{400,
                      "context_id: the conversation does not continue the context: " +
                          std::to_string(common) + " of its " + std::to_string(n) +
                          " tokens are the same (what comes first, a system message or tools, "
                          "belongs into the context)",
                      "context_id"};
    }
    only = named->context.plan();
  }
  const auto [at, reuse] = Best(tenant, prompt, options.plan, only ? &*only : nullptr);
  const Context* held = nullptr;
  if (at != entries_.end()) {
    Touch(*at);
    held = &at->context;
  }
  Result<Session> session = Session::Start(model_, std::move(prompt), options, held, reuse);
  if (!session) {
    const bool is_grammar = session.error().message.starts_with("the grammar");
    return FromError(session.error(), is_grammar ? "response_format" : "");
  }
  return std::move(*session);
}

std::int64_t ContextStore::Reusable(const std::string& tenant, const Model::Prompt& prompt,
                                    const PlanOptions& plan) {
  const std::lock_guard lock(mutex_);
  return Best(tenant, prompt, plan, nullptr).second.n_tokens;
}

void ContextStore::Keep(const std::string& tenant, Context context) {
  if (context.tokens().size() < kMinTokensToKeep) return;
  const std::lock_guard lock(mutex_);
  for (Entry& entry : entries_) {
    if (entry.tenant == tenant && SamePlan(entry.context.plan(), context.plan()) &&
        StartsWith(entry.context, context)) {
      return Touch(entry);
    }
  }
  std::erase_if(entries_, [&](const Entry& entry) {
    return entry.tenant == tenant && entry.info.id.empty() &&
           SamePlan(entry.context.plan(), context.plan()) && StartsWith(context, entry.context);
  });
  Touch(entries_.emplace_back(Entry{tenant, {}, std::move(context), 0, 0}));
}

ContextInfo ContextStore::KeepNamed(const std::string& tenant, Context context, ContextInfo info) {
  info.id = RandomId("ctx_");
  info.created = UnixTime();
  info.n_tokens = std::ssize(context.tokens());
  info.bytes = context.kv_bytes();
  info.encode_seconds = context.encode_seconds();
  info.plan = ShapeOf(context.plan());
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_.emplace_back(Entry{tenant, std::move(info), std::move(context), 0, 0});
  Touch(entry);
  return entry.info;
}

bool ContextStore::MakeRoom(std::int64_t bytes, std::int64_t promised) {
  const std::lock_guard lock(mutex_);
  std::vector<const Context*> idle;
  for (const Entry& entry : entries_) {
    if (entry.n_pins == 0) idle.push_back(&entry.context);
  }
  if (KvBytesInUse() + promised + bytes - KvBytesOnlyIn(idle) > limit_bytes_) return false;
  while (KvBytesInUse() + promised + bytes > limit_bytes_) {
    auto oldest = entries_.end();
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
      if (at->n_pins == 0 && (oldest == entries_.end() || at->used < oldest->used)) oldest = at;
    }
    if (oldest == entries_.end()) return false;
    entries_.erase(oldest);
    ++metrics_.evictions;
  }
  return true;
}

void ContextStore::Pin(const std::string& id, int by) {
  if (id.empty()) return;
  const std::lock_guard lock(mutex_);
  for (Entry& entry : entries_) {
    if (entry.info.id == id) entry.n_pins += by;
  }
}

}  // namespace aster::serve
