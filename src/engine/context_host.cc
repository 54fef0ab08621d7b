// The context host's side: encodes what it is told to, and attends over it.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/host_messages.h"
#include "engine/hosts.h"
#include "engine/model_state.h"

namespace aster::internal {
namespace {

// What a context host holds of one context.
struct HeldContext {
  std::unique_ptr<KvStore> store;
  KeyRange tokens;  // its own blocks', without the anchor
};

class HostLoop {
 public:
  HostLoop(ModelState& model, Group& group) : model_(model), group_(group) {}

  Status Run() {
    while (true) {
      Result<Bytes> message = group_.Receive(0, kForever);
      if (!message) return message.error();
      Reader reader(*message);
      const Kind kind = KindOf(&reader);
      if (kind == Kind::kEnd) return Ok();
      if (Status status = Serve(kind, reader); !status) {
        RefuseToServe(group_, status.error().message);
        return status;
      }
    }
  }

 private:
  Status Serve(Kind kind, Reader& reader) {
    if (kind == Kind::kEncode) return Encode(reader);
    if (kind == Kind::kAttend) return Attend(reader);
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
    return group_.Send(0, answer_);
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
    const auto n = static_cast<std::uint64_t>(request.n_tokens);
    if (n == 0 || reader.left() != n * sizeof(Token)) return Garbled(0, "tokens are missing");
    std::vector<Token> tokens(n);
    reader.TakeAll(std::span(tokens));
    for (const Token token : tokens) {
      if (token < 0 || token >= model_.info.n_vocab) return Garbled(0, "a token is none");
    }
    PlanOptions options;
    options.attention = Attention::kStar;
    options.block_size = request.block_size;
    options.anchor_size = request.anchor_size;
    options.ubatch_size = model_.options.ubatch_size;
    const Result<Plan> plan = MakePlan(request.n_tokens, options);
    if (!plan) return plan.error();
    if (request.first_block < 0 || request.first_block >= request.last_block ||
        request.last_block > plan->n_blocks) {
      return Garbled(0, "blocks that the plan has not");
    }
    return EncodeBlocks(request, tokens, *plan);
  }

  Status EncodeBlocks(const EncodeRequest& request, std::span<const Token> tokens,
                      const Plan& plan) {
    HeldContext held;
    held.store = std::make_unique<KvStore>(
        std::vector<LayerShape>(model_.pass->layers().begin(), model_.pass->layers().end()));
    const KeyRange run = {request.first_block, request.last_block};
    held.tokens = TokensOfBlocks(plan, run);
    std::int64_t n_done = 0;
    for (const Step& step : StepsOfHost(plan, run)) {
      if (group_.HasMessage(0)) return StopEncoding(request.context, n_done);
      held.store->Skip(step.tokens.begin);
      const auto chunk = tokens.subspan(static_cast<std::size_t>(step.tokens.begin),
                                        static_cast<std::size_t>(step.tokens.size()));
      const Result<std::span<const float>> ran =
          model_.pass->Run(chunk, step.tokens.begin, step.visible, *held.store, Outputs::kNone, {});
      if (!ran) return ran.error();
      if (step.tokens.begin >= held.tokens.begin) n_done += step.tokens.size();
      if (Status told = TellProgress(Kind::kProgress, request.context, n_done); !told) return told;
    }
    contexts_[request.context] = std::move(held);
    return TellProgress(Kind::kDone, request.context, n_done);
  }

  // While a context is encoded nothing but a stop can come.
  Status StopEncoding(std::uint64_t context, std::int64_t n_done) {
    Result<Bytes> message = group_.Receive(0, kForever);
    if (!message) return message.error();
    Reader reader(*message);
    ContextId which;
    if (KindOf(&reader) != Kind::kStop || !reader.Take(&which) || which.context != context) {
      return Garbled(0, "expected nothing or a stop while encoding");
    }
    return TellProgress(Kind::kDone, context, n_done);
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
    const auto rows = static_cast<std::size_t>(request.n_tokens * request.n_heads);
    q_.resize(rows * static_cast<std::size_t>(request.head_dim));
    if (reader.left() != q_.size() * sizeof(float)) return Garbled(0, "queries are missing");
    reader.TakeAll(std::span(q_));
    return AttendTo(request, held, rows);
  }

  Status AttendTo(const AttendRequest& request, const HeldContext& held, std::size_t rows) {
    out_.resize(rows * static_cast<std::size_t>(request.head_dim_v));
    lse_.resize(rows);
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
    call.out = out_.data();
    call.out_token_stride = std::int64_t{request.n_heads} * request.head_dim_v;
    call.out_head_stride = request.head_dim_v;
    call.lse = lse_.data();
    const KeyRange range = {held.tokens.begin,
                            std::clamp(request.end, held.tokens.begin, held.tokens.end)};
    model_.pass->Attend(*held.store, request.layer, {&range, 1}, call);
    Writer writer(Kind::kAttended, &answer_);
    writer.PutAll(std::span<const float>(out_));
    writer.PutAll(std::span<const float>(lse_));
    return group_.Send(0, answer_);
  }

  ModelState& model_;
  Group& group_;
  std::map<std::uint64_t, HeldContext> contexts_;
  Bytes answer_;
  std::vector<float> q_, out_, lse_;
};

}  // namespace

void RefuseToServe(Group& group, const std::string& why) {
  Bytes message;
  Writer(Kind::kFailed, &message).PutAll(std::span<const char>(why));
  static_cast<void>(group.Send(0, message));  // it may be gone, which may be why
}

Status ServeHost(Model& model, Group& group) {
  return HostLoop(*ModelAccess::StateOf(model), group).Run();
}

}  // namespace aster::internal
