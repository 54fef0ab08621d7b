#include "engine/hosts.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <utility>

#include "aster/hosts.h"
#include "attention/merge.h"
#include "base/check.h"
#include "cluster/launched_group.h"
#include "engine/model_state.h"

namespace aster::internal {
namespace {

enum class Kind : std::uint32_t {
  kEncode = 1,    // query host: EncodeRequest, then the tokens
  kProgress = 2,  // context host: Progress
  kDone = 3,      // context host: Progress, all encoded
  kFailed = 4,    // context host: text
  kStop = 5,      // query host: ContextId; answered by kDone or kFailed
  kAttend = 6,    // query host: AttendRequest, then q [n_tokens, n_heads, head_dim]
  kAttended = 7,  // context host: out [n_tokens, n_heads, head_dim_v], then lse [n_tokens, n_heads]
  kForget = 8,    // query host: ContextId
  kEnd = 9,       // query host: nothing
};

// Another number after every change of a message; read before anything else of a request.
constexpr std::uint32_t kProtocol = 0x41530001;

// What must be alike on all hosts.
struct ModelFacts {
  std::int64_t n_parameters, n_bytes, n_layers, n_vocab, n_ctx_train, kv_bytes_per_token;
  std::uint64_t fingerprint;
  bool operator==(const ModelFacts&) const = default;
};

struct EncodeRequest {
  std::uint32_t protocol = kProtocol;
  std::uint32_t is_big_endian = std::endian::native == std::endian::big;
  std::uint64_t context = 0;
  ModelFacts model = {};
  std::int64_t n_tokens = 0;
  std::int64_t block_size = 0, anchor_size = 0;
  std::int64_t first_block = 0, last_block = 0;  // half-open
};
struct ContextId {
  std::uint64_t context = 0;
};
struct HostProgress {
  std::uint64_t context = 0;
  std::int64_t n_done = 0;
};
struct AttendRequest {
  std::uint64_t context = 0;
  std::int64_t n_tokens = 0, first_position = 0;
  std::int64_t end = 0;  // keys from here on are hidden
  std::int32_t layer = 0, n_heads = 0, head_dim = 0, head_dim_v = 0;
  float scale = 0, softcap = 0;
};

// FNV-1a of 64 pieces of a file, evenly spread: another training of the same model differs in them.
std::uint64_t Fingerprint(const std::string& path) {
  constexpr std::uint64_t kPieces = 64, kPieceBytes = 4096;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto size = static_cast<std::uint64_t>(file ? static_cast<std::int64_t>(file.tellg()) : 0);
  std::uint64_t hash = 0xcbf29ce484222325 ^ size;
  char piece[kPieceBytes];
  for (std::uint64_t i = 0; i < kPieces && file; ++i) {
    file.seekg(static_cast<std::streamoff>(size / kPieces * i));
    file.read(piece, std::min<std::uint64_t>(kPieceBytes, size / kPieces));
    for (std::streamsize at = 0; at < file.gcount(); ++at) {
      hash = (hash ^ static_cast<unsigned char>(piece[at])) * 0x100000001b3;
    }
  }
  return hash;
}

ModelFacts FactsOf(const ModelState& model) {
  const ModelInfo& info = model.info;
  return {info.n_parameters,
          info.n_bytes,
          info.n_layers,
          info.n_vocab,
          info.n_ctx_train,
          info.kv_bytes_per_token,
          Fingerprint(model.llama->path())};
}

// Values one behind the other.
class Writer {
 public:
  Writer(Kind kind, Bytes* to) : to_(*to) {
    to_.clear();
    Put(kind);
  }
  template <class T>
  void Put(const T& value) {
    PutAll(std::span(&value, 1));
  }
  template <class T>
  void PutAll(std::span<const T> values) {
    const auto bytes = std::as_bytes(values);
    const std::size_t at = to_.size();
    to_.resize(at + bytes.size());
    if (!bytes.empty()) std::memcpy(to_.data() + at, bytes.data(), bytes.size());
  }

 private:
  Bytes& to_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> message) : left_(message) {}
  // False when fewer bytes are left.
  template <class T>
  bool Take(T* value) {
    return TakeAll(std::span(value, 1));
  }
  template <class T>
  bool TakeAll(std::span<T> values) {
    if (left_.size() < values.size_bytes()) return false;
    std::memcpy(values.data(), left_.data(), values.size_bytes());
    left_ = left_.subspan(values.size_bytes());
    return true;
  }
  std::size_t left() const { return left_.size(); }
  std::string Text() {
    std::string text(reinterpret_cast<const char*>(left_.data()), left_.size());
    left_ = {};
    return text;
  }

 private:
  std::span<const std::byte> left_;
};

Error Garbled(int rank, const char* what) {
  return WorldError("rank " + std::to_string(rank) + " sent a garbled message: " + what);
}

Error Failed(int rank, const std::string& why) {
  return WorldError("rank " + std::to_string(rank) + ": " + why);
}

Kind KindOf(Reader* reader) {
  Kind kind{};
  return reader->Take(&kind) ? kind : Kind{};
}

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
    held.tokens = {request.first_block * plan.block_size,
                   std::min(request.last_block * plan.block_size, plan.n_context)};
    std::int64_t n_done = 0;
    for (const Step& step : StepsOfHost(plan, {request.first_block, request.last_block})) {
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

void HostTeam::Join(Model& model, std::shared_ptr<HostTeam> hosts) {
  ASTER_CHECK(hosts->group->rank() == 0, "rank %d asks", hosts->group->rank());
  ModelAccess::StateOf(model)->hosts = std::move(hosts);
}

std::vector<KeyRange> HostTeam::Deal(const Plan& plan) const {
  std::vector<double> all = weights;
  all.resize(static_cast<std::size_t>(group->size()), 1.0);
  return DealBlocks(plan.n_blocks, all);
}

std::int64_t HostTeam::OwnTokens(const Plan& plan) const {
  return std::min(Deal(plan).front().end * plan.block_size, plan.n_context);
}

Status HostTeam::End() {
  Bytes message;
  Writer(Kind::kEnd, &message);
  Status all = Ok();
  for (int rank = 1; rank < group->size(); ++rank) {
    if (Status sent = group->Send(rank, message); !sent) all = sent;
  }
  return all;
}

void RefuseToServe(Group& group, const std::string& why) {
  Bytes message;
  Writer(Kind::kFailed, &message).PutAll(std::span<const char>(why));
  static_cast<void>(group.Send(0, message));  // it may be gone, which may be why
}

Status ServeHost(Model& model, Group& group) {
  return HostLoop(*ModelAccess::StateOf(model), group).Run();
}

RemoteContext::RemoteContext(std::shared_ptr<HostTeam> hosts, std::shared_ptr<ModelState> model)
    : hosts_(std::move(hosts)), model_(std::move(model)), id_(hosts_->next_context++) {}

RemoteContext::~RemoteContext() {
  const std::lock_guard lock(hosts_->talk);
  Writer(Kind::kForget, &message_).Put(ContextId{id_});
  for (std::size_t rank = 1; rank < held_.size(); ++rank) {
    if (held_[rank].size() == 0) continue;
    static_cast<void>(hosts_->group->Send(static_cast<int>(rank), message_));
  }
}

Status RemoteContext::Begin(std::span<const Token> tokens, const Plan& plan) {
  Group& group = *hosts_->group;
  runs_ = hosts_->Deal(plan);
  held_.assign(runs_.size(), {});
  end_ = plan.n_context;
  EncodeRequest request;
  request.context = id_;
  request.model = FactsOf(*model_);
  request.n_tokens = plan.n_context;
  request.block_size = plan.block_size;
  request.anchor_size = plan.anchor_size;
  for (std::size_t rank = 1; rank < runs_.size(); ++rank) {
    if (runs_[rank].size() == 0) continue;
    request.first_block = runs_[rank].begin;
    request.last_block = runs_[rank].end;
    Writer writer(Kind::kEncode, &message_);
    writer.Put(request);
    writer.PutAll(tokens);
    if (Status sent = group.Send(static_cast<int>(rank), message_); !sent) return sent;
    held_[rank] = {runs_[rank].begin * plan.block_size,
                   std::min(runs_[rank].end * plan.block_size, plan.n_context)};
  }
  return Ok();
}

Status RemoteContext::TellToStop() {
  if (told_to_stop_) return Ok();
  told_to_stop_ = true;
  Writer(Kind::kStop, &message_).Put(ContextId{id_});
  for (std::size_t rank = 1; rank < held_.size(); ++rank) {
    if (held_[rank].size() == 0) continue;
    const Status sent = hosts_->group->Send(static_cast<int>(rank), message_);
    if (!sent) return sent;
  }
  return Ok();
}

// Until that rank is done; the tokens that it has encoded.
Result<std::int64_t> RemoteContext::WaitFor(int rank,
                                            const std::function<void(std::int64_t)>& on_progress,
                                            const std::stop_token& stop) {
  while (true) {
    if (stop.stop_requested()) {
      if (Status told = TellToStop(); !told) return told.error();
    }
    Result<Bytes> message = hosts_->group->Receive(rank, hosts_->patience);
    if (!message) return WorldError("while encoding, " + message.error().message);
    Reader reader(*message);
    const Kind kind = KindOf(&reader);
    if (kind == Kind::kFailed) return Failed(rank, reader.Text());
    HostProgress progress;
    const bool known = kind == Kind::kProgress || kind == Kind::kDone;
    if (!known || !reader.Take(&progress) || reader.left() > 0 || progress.context != id_) {
      return Garbled(rank, "expected how far its blocks are");
    }
    if (kind == Kind::kDone) return progress.n_done;
    on_progress(progress.n_done);
  }
}

Status RemoteContext::Wait(const std::function<void(std::int64_t)>& on_progress,
                           const std::stop_token& stop) {
  std::int64_t before = 0;  // of the ranks that are done
  for (std::size_t rank = 1; rank < held_.size(); ++rank) {
    if (held_[rank].size() == 0) continue;
    const Result<std::int64_t> done = WaitFor(
        static_cast<int>(rank), [&](std::int64_t n) { on_progress(before + n); }, stop);
    if (!done) return done.error();
    before += *done;
  }
  return told_to_stop_ ? Status(Cancelled("cancelled")) : Ok();
}

void RemoteContext::Stop() {
  std::stop_source now;
  now.request_stop();
  static_cast<void>(Wait([](std::int64_t) {}, now.get_token()));  // its reason is not the first
}

void RemoteContext::Truncate(std::int64_t n) { end_ = std::min(end_, n); }

Status RemoteContext::Ask(int layer, const AttendCall& call) {
  asked_.clear();
  AttendRequest request;
  request.context = id_;
  request.n_tokens = call.n_tokens;
  request.first_position = call.first_position;
  request.end = end_;
  request.layer = layer;
  request.n_heads = call.n_heads;
  request.head_dim = call.head_dim;
  request.head_dim_v = call.head_dim_v;
  request.scale = call.scale;
  request.softcap = call.softcap;
  Writer writer(Kind::kAttend, &message_);
  writer.Put(request);
  for (std::int64_t token = 0; token < call.n_tokens; ++token) {
    for (int head = 0; head < call.n_heads; ++head) {
      const float* row = call.q + token * call.q_token_stride + head * call.q_head_stride;
      writer.PutAll(std::span(row, static_cast<std::size_t>(call.head_dim)));
    }
  }
  for (std::size_t rank = 1; rank < held_.size(); ++rank) {
    if (held_[rank].size() == 0 || held_[rank].begin >= end_) continue;
    if (Status sent = hosts_->group->Send(static_cast<int>(rank), message_); !sent) return sent;
    asked_.push_back(static_cast<int>(rank));
  }
  return Ok();
}

Status RemoteContext::Join(const AttendCall& call) {
  const auto dim_v = static_cast<std::size_t>(call.head_dim_v);
  const auto rows = static_cast<std::size_t>(call.n_tokens * call.n_heads);
  std::vector<float> out(rows * dim_v), lse(rows);
  for (const int rank : asked_) {
    Result<Bytes> message = hosts_->group->Receive(rank, hosts_->patience);
    if (!message) return WorldError("while answering, " + message.error().message);
    Reader reader(*message);
    const Kind kind = KindOf(&reader);
    if (kind == Kind::kFailed) return Failed(rank, reader.Text());
    const bool whole = kind == Kind::kAttended && reader.TakeAll(std::span(out)) &&
                       reader.TakeAll(std::span(lse)) && reader.left() == 0;
    if (!whole) return Garbled(rank, "expected what it attended");
    for (std::int64_t token = 0; token < call.n_tokens; ++token) {
      for (int head = 0; head < call.n_heads; ++head) {
        const auto row = static_cast<std::size_t>(token * call.n_heads + head);
        float* const into = call.out + token * call.out_token_stride + head * call.out_head_stride;
        Merge({{into, dim_v}, {call.lse + row, 1}}, {{&out[row * dim_v], dim_v}, {&lse[row], 1}},
              dim_v);
      }
    }
  }
  return Ok();
}

}  // namespace aster::internal

namespace aster {

struct Hosts::State {
  std::unique_ptr<Group> group;  // null: one host
  std::shared_ptr<internal::HostTeam> team;
};

Hosts::Hosts(std::unique_ptr<State> state) : state_(std::move(state)) {}
Hosts::Hosts(Hosts&&) noexcept = default;
Hosts& Hosts::operator=(Hosts&&) noexcept = default;

Hosts::~Hosts() {
  if (state_ != nullptr && rank() == 0 && size() > 1) static_cast<void>(state_->team->End());
}

Result<Hosts> Hosts::FromEnvironment(const HostOptions& options) {
  auto state = std::make_unique<State>();
  Result<std::unique_ptr<Group>> group = LaunchedGroup(Patience(options.timeout));
  if (!group) return group.error();
  state->group = std::move(*group);
  state->team = std::make_shared<internal::HostTeam>();
  state->team->group = state->group.get();
  state->team->patience = Patience(options.timeout);
  state->team->weights = options.weights;
  Hosts hosts(std::move(state));
  if (std::ssize(options.weights) > hosts.size()) {
    return InvalidArgument("weights for " + std::to_string(options.weights.size()) +
                           " hosts; expected at most " + std::to_string(hosts.size()));
  }
  return hosts;
}

int Hosts::rank() const { return state_->group != nullptr ? state_->group->rank() : 0; }
int Hosts::size() const { return state_->group != nullptr ? state_->group->size() : 1; }

void Hosts::Share(Model& model) {
  if (size() > 1) internal::HostTeam::Join(model, state_->team);
}

Status Hosts::Serve(Model& model) { return internal::ServeHost(model, *state_->group); }

void Hosts::Refuse(const Error& why) { internal::RefuseToServe(*state_->group, why.message); }

}  // namespace aster
