#include "engine/share_encoder.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "attention/attend.h"
#include "base/system.h"
#include "engine/model_state.h"
#include "llama/device.h"

namespace aster::internal {
namespace {

// What comes and goes at each layer of a pass that exchanges.
class Exchange : public OtherKeys {
 public:
  Exchange(const ShareWork& work, std::size_t pass, ForwardPass& forward, KvStore& store)
      : work_(work), pass_(pass), forward_(forward), store_(store) {}

  const std::optional<Error>& failure() const { return failure_; }

  Status Ask(int layer, std::span<const AttendCall>) override {
    Status status = work_.on_progress(
        pass_, static_cast<double>(n_layers_++) / forward_.n_passes_of_attention());
    if (status) status = work_.spread == Spread::kRing ? SendOwn(layer) : PassAnchorOn(layer);
    return Remember(status);
  }

  Status Join(int layer, std::span<const AttendCall> calls) override {
    if (work_.spread != Spread::kRing) return Ok();
    const std::size_t n = work_.shares.size();
    for (std::size_t hop = 1; hop < n; ++hop) {
      const std::size_t owner = (work_.place + n - hop) % n;
      const std::span<const KeyRange> held = work_.shares[owner].held;
      Result<SharedBytes> keys = work_.route->Receive(Header(layer, owner, held), work_.look);
      if (!keys) return Remember(keys.error());
      if (hop + 1 < n) {
        if (Status sent = work_.route->Send(*keys); !sent) return Remember(sent);
      }
      if (Status status = AttendTo(layer, held, **keys, calls); !status) return Remember(status);
    }
    return Ok();
  }

 private:
  Status Remember(Status status) {
    if (!status) failure_ = status.error();
    return status;
  }

  KeysHeader Header(int layer, std::size_t owner, std::span<const KeyRange> ranges) const {
    KeysHeader header{work_.context, layer, static_cast<std::int32_t>(owner), 0};
    for (const KeyRange& range : ranges) header.n_bytes += store_.CopyBytes(layer, range);
    return header;
  }

  SharedBytes Message(int layer, std::span<const KeyRange> ranges) const {
    const KeysHeader header = Header(layer, work_.place, ranges);
    auto message = std::make_shared<Bytes>(sizeof header + header.n_bytes);
    std::memcpy(message->data(), &header, sizeof header);
    std::span<std::byte> rest = std::span(*message).subspan(sizeof header);
    for (const KeyRange& range : ranges) {
      const std::size_t n_bytes = store_.CopyBytes(layer, range);
      store_.CopyOut(layer, range, rest.first(n_bytes));
      rest = rest.subspan(n_bytes);
    }
    return message;
  }

  static std::span<const std::byte> KeysOf(const Bytes& message) {
    return std::span(message).subspan(sizeof(KeysHeader));
  }

  Status SendOwn(int layer) { return work_.route->Send(Message(layer, work_.own().held)); }

  // The first host has computed the anchor's keys of this layer; the others take them over.
  Status PassAnchorOn(int layer) {
    const KeyRange anchor = {0, work_.anchor_size};
    if (work_.place == 0) return work_.route->Send(Message(layer, {&anchor, 1}));
    Result<SharedBytes> keys = work_.route->Receive(Header(layer, 0, {&anchor, 1}), work_.look);
    if (!keys) return keys.error();
    store_.CopyIn(layer, anchor, KeysOf(**keys));
    return work_.place + 1 < work_.shares.size() ? work_.route->Send(*keys) : Ok();
  }

  // Attends over another host's keys, and merges.
  Status AttendTo(int layer, std::span<const KeyRange> held, const Bytes& message,
                  std::span<const AttendCall> calls) {
    KvStore theirs({store_.layers()[static_cast<std::size_t>(layer)]});
    std::span<const std::byte> keys = KeysOf(message);
    for (const KeyRange& range : held) {
      theirs.Skip(range.begin);
      if (Status status = theirs.Reserve(range.end); !status) return status;
      theirs.set_size(range.end);
      const std::size_t n_bytes = theirs.CopyBytes(0, range);
      theirs.CopyIn(0, range, keys.first(n_bytes));
      keys = keys.subspan(n_bytes);
    }
    for (const AttendCall& call : calls) {
      if (held.front().begin >= call.first_position + call.n_tokens) continue;  // all later
      AttendCall part = call;
      part.sinks = nullptr;  // once, among the own keys
      SetRowMajorOut(part, out_, lse_);
      forward_.Attend(theirs, layer, held, part, 0);
      MergeInto(call, out_, lse_, forward_.n_threads());
    }
    return Ok();
  }

  const ShareWork& work_;
  const std::size_t pass_;
  ForwardPass& forward_;
  KvStore& store_;
  int n_layers_ = 0;
  std::vector<float> out_, lse_;
  std::optional<Error> failure_;
};

// The share's tokens of a pass, one behind the other.
std::vector<Token> TokensOf(std::span<const Token> tokens, const HostPass& pass) {
  std::vector<Token> own;
  for (const KeyRange& range : pass.tokens) {
    const auto part = tokens.subspan(static_cast<std::size_t>(range.begin),
                                     static_cast<std::size_t>(range.size()));
    own.insert(own.end(), part.begin(), part.end());
  }
  return own;
}

// A forward pass that takes all of the tokens at once.
Result<std::unique_ptr<ForwardPass>> MakeLargePass(const ModelState& model, const HostPass& pass) {
  const std::int64_t n_tokens = pass.n_tokens();
  const std::string share = "a host's part of " + std::to_string(n_tokens) + " tokens in one pass";
  if (n_tokens > kMostPassTokens) {
    return WorldError(share + ": expected at most " + std::to_string(kMostPassTokens) +
                      "; take more hosts, or star with --anchor recompute");
  }
  ForwardOptions options = model.options;
  options.ubatch_size = n_tokens;
  options.max_parts = static_cast<int>(pass.tokens.size());
  Result<std::unique_ptr<ForwardPass>> forward = ForwardPass::Make(*model.llama, options);
  if (!forward) return forward;
  const std::int64_t available = AvailableMemory();
  if (available > 0 && (*forward)->buffer_bytes() > available) {
    return WorldError(share + " needs " + FormatBytes((*forward)->buffer_bytes()) +
                      " of memory, but " + FormatBytes(available) +
                      " is available; take more hosts, or star with --anchor recompute");
  }
  return forward;
}

Status RunExchanging(ModelState& model, std::span<const Token> tokens, const ShareWork& work,
                     std::size_t at, KvStore& store, Profile* profile) {
  const HostPass& pass = work.own().passes[at];
  Result<std::unique_ptr<ForwardPass>> forward = MakeLargePass(model, pass);
  if (!forward) return forward.error();
  // Room for keys that others have computed.
  for (const KeyRange& range : pass.visible) {
    store.Skip(range.begin);
    if (Status status = store.Reserve(range.end); !status) return status;
    store.set_size(range.end);
  }
  Exchange exchange(work, at, **forward, store);
  const auto ran = (*forward)->Run(TokensOf(tokens, pass), pass.tokens, pass.visible, store,
                                   Outputs::kNone, work.stop, &exchange);
  *profile += (*forward)->profile();
  if (ran) return Ok();
  return exchange.failure() ? *exchange.failure() : ran.error();
}

}  // namespace

bool ShareWork::exchanges() const {
  return shares.size() > 1 && !own().passes.empty() && own().passes.front().exchanges;
}

Status EncodeShare(ModelState& model, std::span<const Token> tokens, const ShareWork& work,
                   KvStore& store, Profile* profile) {
  const std::vector<HostPass>& passes = work.own().passes;
  for (std::size_t at = 0; at < passes.size(); ++at) {
    if (work.stop.stop_requested()) return Cancelled("cancelled");
    const HostPass& pass = passes[at];
    std::unique_lock turn(model.turn);
    if (pass.exchanges && work.shares.size() > 1) {
      const Status status = RunExchanging(model, tokens, work, at, store, profile);
      if (!status) return status;
    } else {
      const auto ran = model.pass->Run(TokensOf(tokens, pass), pass.tokens, pass.visible, store,
                                       Outputs::kNone, work.stop);
      if (!ran) return ran.error();
      *profile += model.pass->profile();
    }
    turn.unlock();  // whom it is told may use another context of the model
    if (Status status = work.on_progress(at, 1); !status) return status;
  }
  return Ok();
}

}  // namespace aster::internal
