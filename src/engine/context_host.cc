// The context host's side: encodes what it is told to, and attends over it.
#include <algorithm>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/context_state.h"
#include "engine/host_messages.h"
#include "engine/hosts.h"
#include "engine/key_route.h"
#include "engine/model_state.h"
#include "engine/share_encoder.h"

namespace aster::internal {
namespace {

// What a context host holds of one context.
struct HeldContext {
  std::unique_ptr<KvStore> store;
  std::vector<KeyRange> tokens;  // its own, without an anchor that belongs to another host
};

class HostLoop {
 public:
  HostLoop(ModelState& model, Group& group, Patience patience)
      : model_(model), group_(group), patience_(patience) {}

  Status Run() {
    while (true) {
      Result<Bytes> message = group_.Receive(0, Channel::kTalk, kForever);
      if (!message) return message.error();
      Reader reader(*message);
      const Kind kind = KindOf(&reader);
      if (kind == Kind::kEnd) return Ok();
      if (Status status = TryToServe(kind, reader); !status) {
        RefuseToServe(group_, status.error().message);
        return status;
      }
    }
  }

 private:
  // No memory, above all: the query host is to hear of that too.
  Status TryToServe(Kind kind, Reader& reader) {
    try {
      return Serve(kind, reader);
    } catch (const std::exception& error) {
      return WorldError(error.what());
    }
  }

  Status Serve(Kind kind, Reader& reader) {
    group_.SetPhase(kind == Kind::kEncode ? "encoding" : "answering");
    if (kind == Kind::kEncode) return Encode(reader);
    if (kind == Kind::kAttend) return Attend(reader);
    if (kind == Kind::kPing) {
      Writer(Kind::kPong, &answer_);
      return group_.Send(0, Channel::kTalk, answer_);
    }
    // A stop that comes after the work was done has nothing to stop.
    ContextId which;
    const bool known = kind == Kind::kForget || kind == Kind::kStop;
    if (!known || !reader.Take(&which) || reader.left() > 0) {
      return Garbled(0, "a request of an unknown kind or length");
    }
    if (kind == Kind::kForget) contexts_.erase(which.context);
    return Ok();
  }

  Status TellProgress(Kind kind, std::uint64_t context, std::int64_t n_done) {
    Writer(kind, &answer_).Put(HostProgress{context, n_done});
    return group_.Send(0, Channel::kTalk, answer_);
  }

  Status Encode(Reader& reader) {
    EncodeRequest request;
    if (!reader.Take(&request)) return Garbled(0, "an encode request is cut off");
    if (request.protocol != kProtocol || request.is_big_endian != EncodeRequest().is_big_endian) {
      return WorldError("the query host is of another version of Aster or byte order");
    }
    if (!(request.model == FactsOf(model_))) {
      return WorldError("the query host has another model than " + model_.llama->path());
    }
    if (request.n_tokens == 0 || !reader.Holds<Token>(request.n_tokens)) {
      return Garbled(0, "tokens are missing");
    }
    std::vector<Token> tokens(static_cast<std::size_t>(request.n_tokens));
    reader.TakeAll(std::span(tokens));
    for (const Token token : tokens) {
      if (token < 0 || token >= model_.info.n_vocab) return Garbled(0, "a token is none");
    }
    if (request.spread < 0 || request.spread > static_cast<std::int32_t>(Spread::kRing)) {
      return Garbled(0, "an unknown way to spread a context");
    }
    const auto spread = static_cast<Spread>(request.spread);
    PlanOptions options;
    options.attention = spread == Spread::kRing ? Attention::kRing : Attention::kStar;
    options.block_size = spread == Spread::kRing ? 0 : request.block_size;
    options.anchor_size = spread == Spread::kRing ? -1 : request.anchor_size;
    options.window = 0;
    options.ubatch_size = model_.options.ubatch_size;
    const Result<Plan> plan = MakePlan(request.n_tokens, options);
    if (!plan) return plan.error();
    if (plan->anchor_size > plan->block_size) return Garbled(0, "an anchor larger than a block");
    return EncodePart(request, spread, tokens, *plan);
  }

  // The shares of all places, as far as this host has to know them.
  Result<std::vector<HostShare>> SharesOf(const EncodeRequest& request, Spread spread,
                                          const Plan& plan) const {
    const bool placed =
        request.place >= 0 && request.place < request.n_places && request.n_places <= group_.size();
    const auto is_rank = [&](std::int32_t rank) {
      return rank >= -1 && rank < group_.size() && rank != group_.rank();
    };
    if (!placed || !is_rank(request.previous) || !is_rank(request.next)) {
      return Garbled(0, "a place among the hosts that is none");
    }
    std::vector<HostShare> shares(static_cast<std::size_t>(request.n_places));
    if (spread == Spread::kRing) {
      if (request.n_places < 2) return Garbled(0, "a ring of one");
      shares = DealShares(plan, spread, request.n_places, {});
    } else if (request.first_block < 0 || request.first_block >= request.last_block ||
               request.last_block > plan.n_blocks) {
      return Garbled(0, "blocks that the plan has not");
    } else {
      shares[static_cast<std::size_t>(request.place)] =
          ShareOfBlocks(plan, spread, {request.first_block, request.last_block});
    }
    const HostShare& own = shares[static_cast<std::size_t>(request.place)];
    if (own.passes.empty()) return Garbled(0, "a share of nothing");
    const bool exchanges = own.passes.front().exchanges && request.n_places > 1;
    const bool has_route = request.previous >= 0 || request.next >= 0;
    if (exchanges != has_route || (exchanges && request.place > 0 && request.previous < 0)) {
      return Garbled(0, "keys that come from nowhere");
    }
    return shares;
  }

  Status EncodePart(const EncodeRequest& request, Spread spread, std::span<const Token> tokens,
                    const Plan& plan) {
    const Result<std::vector<HostShare>> shares = SharesOf(request, spread, plan);
    if (!shares) return shares.error();
    HeldContext held;
    held.store = std::make_unique<KvStore>(
        std::vector<LayerShape>(model_.pass->layers().begin(), model_.pass->layers().end()));
    std::unique_ptr<KeyRoute> route;
    if (request.previous >= 0 || request.next >= 0) {
      route = MakeKeyRoute(group_, {request.previous, request.next}, patience_);
    }
    std::stop_source stop;
    std::int64_t n_done = 0;  // own tokens of the passes that are done
    ShareWork work;
    work.spread = spread;
    work.shares = *shares;
    work.place = static_cast<std::size_t>(request.place);
    work.anchor_size = request.anchor_size;
    work.context = request.context;
    work.route = route.get();
    work.stop = stop.get_token();
    work.look = [&] { return LookForStop(request.context, stop); };
    work.on_progress = [&](std::size_t at, double done) -> Status {
      const std::int64_t n = work.own().n_kept(work.own().passes[at]);
      const std::int64_t now = n_done + static_cast<std::int64_t>(done * static_cast<double>(n));
      if (done >= 1) n_done = now;
      const Status told = TellProgress(Kind::kProgress, request.context, now);
      return told ? work.look() : told;
    };
    held.tokens = work.own().held;
    std::int64_t n_held = work.spread == Spread::kRing ? 0 : request.anchor_size;
    for (const KeyRange& range : held.tokens) n_held += range.size();
    if (Status fits = CheckMemory(model_, n_held, 0); !fits) return fits;
    Profile profile;
    const Status encoded = EncodeShare(model_, tokens, work, *held.store, &profile);
    if (!encoded && encoded.error().kind != ErrorKind::kCancelled) return encoded;
    if (route != nullptr) {
      if (Status closed = route->Close(); !closed) return closed;
    }
    if (encoded) {
      held.store->LetGo(0, held.tokens.front().begin);  // the anchor, which another host holds
      contexts_[request.context] = std::move(held);
    }
    return TellProgress(encoded ? Kind::kDone : Kind::kStopped, request.context, n_done);
  }

  // While a context is encoded nothing but a stop can come.
  Status LookForStop(std::uint64_t context, std::stop_source& stop) {
    if (Status alive = group_.Alive(); !alive) return alive;
    if (!group_.HasMessage(0, Channel::kTalk)) return Ok();
    Result<Bytes> message = group_.Receive(0, Channel::kTalk, kForever);
    if (!message) return message.error();
    Reader reader(*message);
    ContextId which;
    if (KindOf(&reader) != Kind::kStop || !reader.Take(&which) || which.context != context) {
      return Garbled(0, "expected nothing or a stop while encoding");
    }
    stop.request_stop();
    return Cancelled("stopped");
  }

  Status Attend(Reader& reader) {
    AttendRequest request;
    if (!reader.Take(&request)) return Garbled(0, "an attend request is cut off");
    const auto at = contexts_.find(request.context);
    if (at == contexts_.end()) return Garbled(0, "a context that is not here");
    const HeldContext& held = at->second;
    const auto layers = held.store->layers();
    const bool known = request.layer >= 0 && request.layer < std::ssize(layers);
    if (!known) return Garbled(0, "no such layer");
    const LayerShape& shape = layers[static_cast<std::size_t>(request.layer)];
    const bool fits = request.head_dim == shape.head_dim &&
                      request.head_dim_v == shape.head_dim_v && shape.n_kv_heads > 0 &&
                      request.n_heads > 0 && request.n_heads <= 4096 &&
                      request.n_heads % shape.n_kv_heads == 0;
    const bool placed = request.n_tokens > 0 && request.n_tokens <= 65536 &&
                        request.first_position >= 0 && request.end >= 0;
    if (!fits || !placed) return Garbled(0, "queries that do not fit the model");
    const std::int64_t n_values = request.n_tokens * request.n_heads * request.head_dim;
    if (!reader.Holds<float>(n_values)) return Garbled(0, "queries are missing");
    q_.resize(static_cast<std::size_t>(n_values));
    reader.TakeAll(std::span(q_));
    return AttendTo(request, held);
  }

  Status AttendTo(const AttendRequest& request, const HeldContext& held) {
    AttendCall call;
    call.q = q_.data();
    call.q_token_stride = std::int64_t{request.n_heads} * request.head_dim;
    call.q_head_stride = request.head_dim;
    call.n_tokens = request.n_tokens;
    call.n_heads = request.n_heads;
    call.head_dim = request.head_dim;
    call.head_dim_v = request.head_dim_v;
    call.first_position = request.first_position;
    call.scale = request.scale;
    call.softcap = request.softcap;
    SetRowMajorOut(call, out_, lse_);
    std::vector<KeyRange> ranges;
    for (const KeyRange& range : held.tokens) {
      if (range.begin < request.end) {
        ranges.push_back({range.begin, std::min(range.end, request.end)});
      }
    }
    model_.pass->Attend(*held.store, request.layer, ranges, call);
    Writer writer(Kind::kAttended, &answer_);
    if (request.bf16 != 0) {
      rounded_.resize(out_.size());
      std::transform(out_.begin(), out_.end(), rounded_.begin(), ToBf16);
      writer.PutAll(std::span<const std::uint16_t>(rounded_));
    } else {
      writer.PutAll(std::span<const float>(out_));
    }
    writer.PutAll(std::span<const float>(lse_));
    return group_.Send(0, Channel::kTalk, answer_);
  }

  ModelState& model_;
  Group& group_;
  const Patience patience_;
  std::map<std::uint64_t, HeldContext> contexts_;
  Bytes answer_;
  std::vector<float> q_, out_, lse_;
  std::vector<std::uint16_t> rounded_;
};

}  // namespace

void RefuseToServe(Group& group, const std::string& why) {
  Bytes message;
  Writer(Kind::kFailed, &message).PutAll(std::span<const char>(why));
  static_cast<void>(group.Send(0, Channel::kTalk, message));  // it may be gone, which may be why
}

Status ServeHost(Model& model, Group& group, Patience patience) {
  return HostLoop(*ModelAccess::StateOf(model), group, patience).Run();
}

}  // namespace aster::internal
