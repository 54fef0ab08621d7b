// The query host's side, and the public Hosts.
#include "engine/hosts.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "aster/hosts.h"
#include "attention/attend.h"
#include "base/check.h"
#include "base/clock.h"
#include "cluster/launched_group.h"
#include "engine/host_messages.h"
#include "engine/model_state.h"
#include "engine/share_encoder.h"

namespace aster::internal {

void HostTeam::Join(Model& model, std::shared_ptr<HostTeam> hosts) {
  ASTER_CHECK(hosts->group->rank() == 0, "rank %d asks", hosts->group->rank());
  ModelAccess::StateOf(model)->hosts = std::move(hosts);
}

Result<Bytes> HostTeam::Hear(int rank) const {
  return group->Receive(rank, Channel::kTalk, WorkPatience(*group, patience));
}

Status HostTeam::HearTheRest() {
  while (!asked.empty()) {
    if (const Result<Bytes> left = Hear(asked.front()); !left) return left.error();
    asked.erase(asked.begin());
  }
  return Ok();
}

Status HostTeam::End() {
  Bytes message;
  Writer(Kind::kEnd, &message);
  Status all = Ok();
  for (int rank = 1; rank < group->size(); ++rank) {
    if (Status sent = group->Send(rank, Channel::kTalk, message); !sent) all = sent;
  }
  return all;
}

RemoteContext::RemoteContext(std::shared_ptr<HostTeam> hosts, std::shared_ptr<ModelState> model)
    : hosts_(std::move(hosts)), model_(std::move(model)), id_(hosts_->next_context++) {}

RemoteContext::~RemoteContext() {
  const std::lock_guard lock(hosts_->talk);
  Writer(Kind::kForget, &message_).Put(ContextId{id_});
  for (std::size_t rank = 1; rank < others_.size(); ++rank) {
    if (others_[rank].held.empty()) continue;
    static_cast<void>(hosts_->group->Send(static_cast<int>(rank), Channel::kTalk, message_));
  }
}

namespace {

// The ranks that have a share, in order.
std::vector<int> RanksOf(const SpreadChoice& choice) {
  std::vector<int> ranks;
  for (std::size_t rank = 0; rank < choice.shares.size(); ++rank) {
    if (!choice.shares[rank].passes.empty()) ranks.push_back(static_cast<int>(rank));
  }
  return ranks;
}

Neighbours NeighboursOf(const std::vector<int>& ranks, std::size_t place, Spread spread) {
  const bool ring = spread == Spread::kRing;
  Neighbours neighbours;
  if (ranks.size() < 2 || spread == Spread::kRecompute) return neighbours;
  if (place > 0 || ring) neighbours.previous = ranks[(place + ranks.size() - 1) % ranks.size()];
  if (place + 1 < ranks.size() || ring) neighbours.next = ranks[(place + 1) % ranks.size()];
  return neighbours;
}

}  // namespace

Status RemoteContext::Begin(std::span<const Token> tokens, const Plan& plan,
                            const SpreadChoice& choice) {
  const std::vector<int> ranks = RanksOf(choice);
  others_.assign(choice.shares.size(), {});
  end_ = plan.n_context;
  EncodeRequest request;
  request.context = id_;
  request.model = FactsOf(*model_);
  request.n_tokens = plan.n_context;
  request.block_size = plan.block_size;
  request.anchor_size = plan.anchor_size;
  request.spread = static_cast<std::int32_t>(choice.spread);
  request.n_places = static_cast<std::int32_t>(ranks.size());
  for (std::size_t place = 0; place < ranks.size(); ++place) {
    const int rank = ranks[place];
    if (rank == 0) continue;
    const HostShare& share = choice.shares[static_cast<std::size_t>(rank)];
    request.place = static_cast<std::int32_t>(place);
    const Neighbours neighbours = NeighboursOf(ranks, place, choice.spread);
    request.previous = neighbours.previous;
    request.next = neighbours.next;
    if (choice.spread != Spread::kRing) {
      request.first_block = share.held.front().begin / plan.block_size;
      request.last_block = (share.held.front().end + plan.block_size - 1) / plan.block_size;
    }
    Writer writer(Kind::kEncode, &message_);
    writer.Put(request);
    writer.PutAll(tokens);
    const Status sent = hosts_->group->Send(rank, Channel::kTalk, message_);
    if (!sent) return WorldError("while encoding, " + sent.error().message);
    Other& other = others_[static_cast<std::size_t>(rank)];
    other.held = share.held;
    other.previous = neighbours.previous;
  }
  return Ok();
}

Status RemoteContext::Encode(std::span<const Token> tokens, const Plan& plan,
                             const SpreadChoice& choice, KvStore& store, Profile* profile,
                             const Progress& progress, const std::stop_token& stop) {
  hosts_->group->SetPhase("encoding");
  if (Status heard = hosts_->HearTheRest(); !heard) return heard;
  if (Status begun = Begin(tokens, plan, choice); !begun) return begun;
  const Neighbours neighbours = NeighboursOf(RanksOf(choice), 0, choice.spread);
  const bool takes_part = !choice.shares.front().passes.empty();
  std::unique_ptr<KeyRoute> route;
  if (takes_part && (neighbours.next >= 0 || neighbours.previous >= 0)) {
    route = MakeKeyRoute(*hosts_->group, neighbours, hosts_->patience);
  }
  const Status own = EncodeOwn(tokens, plan, choice, store, profile, progress, stop, route.get());
  if (!own) {
    // The others stop, and stay of use. Where they are the reason, that may fail too; it is not
    // the first.
    if (!told_to_stop_) static_cast<void>(TellToStop());
    if (own.error().kind != ErrorKind::kCancelled && broken_) return own;
    if (route != nullptr && !route->Close()) return own;
    static_cast<void>(Wait({[](std::size_t, double) {}, [](std::int64_t) {}}, {}));
    return own;
  }
  if (route != nullptr) {
    if (Status closed = route->Close(); !closed) return closed;
  }
  return Wait(progress, stop);
}

Status RemoteContext::EncodeOwn(std::span<const Token> tokens, const Plan& plan,
                                const SpreadChoice& choice, KvStore& store, Profile* profile,
                                const Progress& progress, const std::stop_token& stop,
                                KeyRoute* route) {
  if (choice.shares.front().passes.empty()) return Ok();
  std::vector<HostShare> shares;
  for (const int rank : RanksOf(choice)) {
    shares.push_back(choice.shares[static_cast<std::size_t>(rank)]);
  }
  ShareWork work;
  work.spread = choice.spread;
  work.shares = shares;
  work.anchor_size = plan.anchor_size;
  work.context = id_;
  work.route = route;
  work.stop = stop;
  bool has_begun = false;  // what fails before is this host's own affair
  work.on_progress = [&](std::size_t pass, double done) {
    has_begun = true;
    progress.on_own(pass, done);
    return HearAll(progress);
  };
  work.look = [&]() -> Status {
    if (stop.stop_requested()) return Cancelled("cancelled");
    return HearAll(progress);
  };
  const Status encoded = EncodeShare(*model_, tokens, work, store, profile);
  if (encoded || (encoded.error().kind == ErrorKind::kCancelled && stop.stop_requested())) {
    return encoded;
  }
  const bool is_ours = route == nullptr || !has_begun || broken_;
  return is_ours ? encoded : Status(FirstReason(encoded.error()));
}

// Keys or words that do not come may be missing for a host further away, of which the one that
// waits for it has something to tell, now or in a moment.
Error RemoteContext::FirstReason(const Error& seen) {
  broken_ = true;
  const auto end = Clock::now() + std::min(hosts_->patience / 4, Patience(1));
  while (Clock::now() < end) {
    for (std::size_t rank = 1; rank < others_.size(); ++rank) {
      const auto from = static_cast<int>(rank);
      if (!hosts_->group->HasMessage(from, Channel::kTalk)) continue;
      const Result<Bytes> message = hosts_->Hear(from);
      if (!message) continue;
      Reader reader(*message);
      if (KindOf(&reader) == Kind::kFailed) return Failed(from, reader.Text());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return WorldError("while encoding, " + seen.message);
}

Status RemoteContext::TellToStop() {
  told_to_stop_ = true;
  Writer(Kind::kStop, &message_).Put(ContextId{id_});
  for (std::size_t rank = 1; rank < others_.size(); ++rank) {
    if (others_[rank].held.empty()) continue;
    const Status sent = hosts_->group->Send(static_cast<int>(rank), Channel::kTalk, message_);
    if (!sent) return sent;
  }
  return Ok();
}

// One message of that rank about its share.
Status RemoteContext::Hear(int rank, const Progress& progress) {
  Result<Bytes> message = hosts_->Hear(rank);
  broken_ = true;  // unless all is well
  if (!message) return FirstReason(message.error());
  Reader reader(*message);
  const Kind kind = KindOf(&reader);
  if (kind == Kind::kFailed) return Failed(rank, reader.Text());
  HostProgress heard;
  const bool is_last = kind == Kind::kDone || kind == Kind::kStopped;
  const bool known = kind == Kind::kProgress || is_last;
  if (!known || !reader.Take(&heard) || reader.left() > 0 || heard.context != id_) {
    return Garbled(rank, "expected how far its part is");
  }
  Other& other = others_[static_cast<std::size_t>(rank)];
  if (kind == Kind::kStopped && !told_to_stop_) {
    return WorldError("while encoding, rank " + std::to_string(rank) +
                      " stopped for want of the keys of rank " + std::to_string(other.previous) +
                      ", and nobody had told them to");
  }
  broken_ = false;
  other.n_done = heard.n_done;
  other.is_done = is_last;
  std::int64_t n_done = 0;
  for (const Other& each : others_) n_done += each.n_done;
  progress.on_others(n_done);
  return Ok();
}

// What has arrived up to now.
Status RemoteContext::HearAll(const Progress& progress) {
  if (Status alive = hosts_->group->Alive(); !alive) {
    broken_ = true;
    return WorldError("while encoding, " + alive.error().message);
  }
  for (std::size_t rank = 1; rank < others_.size(); ++rank) {
    const Other& other = others_[rank];
    while (!other.held.empty() && !other.is_done &&
           hosts_->group->HasMessage(static_cast<int>(rank), Channel::kTalk)) {
      if (Status heard = Hear(static_cast<int>(rank), progress); !heard) return heard;
    }
  }
  return Ok();
}

Status RemoteContext::Wait(const Progress& progress, const std::stop_token& stop) {
  for (std::size_t rank = 1; rank < others_.size(); ++rank) {
    while (!others_[rank].held.empty() && !others_[rank].is_done) {
      if (stop.stop_requested() && !told_to_stop_) {
        if (Status told = TellToStop(); !told) return told;
      }
      if (Status heard = Hear(static_cast<int>(rank), progress); !heard) return heard;
    }
  }
  return told_to_stop_ ? Status(Cancelled("cancelled")) : Ok();
}

void RemoteContext::Truncate(std::int64_t n) { end_ = std::min(end_, n); }

Status RemoteContext::Ask(int layer, std::span<const AttendCall> calls) {
  ASTER_CHECK(calls.size() == 1, "%zu runs of tokens", calls.size());
  const AttendCall& call = calls.front();
  hosts_->group->SetPhase("answering");
  if (Status heard = hosts_->HearTheRest(); !heard) {
    return WorldError("while answering, " + heard.error().message);
  }
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
  request.bf16 = hosts_->options.bf16_partials ? 1 : 0;
  Writer writer(Kind::kAttend, &message_);
  writer.Put(request);
  for (std::int64_t token = 0; token < call.n_tokens; ++token) {
    for (int head = 0; head < call.n_heads; ++head) {
      const float* row = call.q + token * call.q_token_stride + head * call.q_head_stride;
      writer.PutAll(std::span(row, static_cast<std::size_t>(call.head_dim)));
    }
  }
  hosts_->asked.reserve(others_.size());  // or a rank would be asked and not noted
  for (std::size_t rank = 1; rank < others_.size(); ++rank) {
    const std::vector<KeyRange>& held = others_[rank].held;
    if (held.empty() || held.front().begin >= end_) continue;
    const Status sent = hosts_->group->Send(static_cast<int>(rank), Channel::kTalk, message_);
    if (!sent) return WorldError("while answering, " + sent.error().message);
    hosts_->asked.push_back(static_cast<int>(rank));
  }
  return Ok();
}

Status RemoteContext::Join(int, std::span<const AttendCall> calls) {
  const AttendCall& call = calls.front();
  const auto rows = static_cast<std::size_t>(call.n_tokens * call.n_heads);
  const std::size_t n = rows * static_cast<std::size_t>(call.head_dim_v);
  std::vector<float> out(n), lse(rows);
  std::vector<std::uint16_t> rounded(hosts_->options.bf16_partials ? n : 0);
  while (!hosts_->asked.empty()) {
    const int rank = hosts_->asked.front();
    Result<Bytes> message = hosts_->Hear(rank);
    if (!message) return WorldError("while answering, " + message.error().message);
    hosts_->asked.erase(hosts_->asked.begin());
    Reader reader(*message);
    const Kind kind = KindOf(&reader);
    if (kind == Kind::kFailed) return Failed(rank, reader.Text());
    const bool has_out =
        rounded.empty() ? reader.TakeAll(std::span(out)) : reader.TakeAll(std::span(rounded));
    const bool whole =
        kind == Kind::kAttended && has_out && reader.TakeAll(std::span(lse)) && reader.left() == 0;
    if (!whole) return Garbled(rank, "expected what it attended");
    std::transform(rounded.begin(), rounded.end(), out.begin(), FromBf16);
    MergeInto(call, out, lse, model_->pass->n_threads());
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
  state->team->options = options;
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

Result<SpreadChoice> Hosts::Choose(const Model& model, const Plan& plan) {
  const std::lock_guard talk(state_->team->talk);
  return state_->team->Choose(*internal::ModelAccess::StateOf(model), plan);
}

Status Hosts::Serve(Model& model) {
  return internal::ServeHost(model, *state_->group, state_->team->patience);
}

void Hosts::Refuse(const Error& why) { internal::RefuseToServe(*state_->group, why.message); }

}  // namespace aster
