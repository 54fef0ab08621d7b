// The query host's side, and the public Hosts.
#include "engine/hosts.h"

#include <algorithm>
#include <string>
#include <utility>

#include "aster/hosts.h"
#include "attention/merge.h"
#include "base/check.h"
#include "cluster/launched_group.h"
#include "engine/host_messages.h"
#include "engine/model_state.h"

namespace aster::internal {

void HostTeam::Join(Model& model, std::shared_ptr<HostTeam> hosts) {
  ASTER_CHECK(hosts->group->rank() == 0, "rank %d asks", hosts->group->rank());
  ModelAccess::StateOf(model)->hosts = std::move(hosts);
}

std::vector<KeyRange> HostTeam::Deal(const Plan& plan) const {
  return DealBlocks(plan.n_blocks, group->size(), weights);
}

std::int64_t HostTeam::OwnTokens(const Plan& plan) const {
  return TokensOfBlocks(plan, Deal(plan).front()).end;
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
    held_[rank] = TokensOfBlocks(plan, runs_[rank]);
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
