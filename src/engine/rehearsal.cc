#include "aster/rehearsal.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "engine/host_speed.h"
#include "engine/key_route.h"
#include "engine/model_state.h"
#include "engine/share_encoder.h"

namespace aster {
namespace {

using internal::ModelState;

// Tokens and keys that mean nothing, but are as unlike each other as real ones: how long attention
// takes depends on them, if little.
std::vector<Token> SomeTokens(const ModelState& model, std::int64_t n) {
  std::minstd_rand random(1);
  std::vector<Token> tokens(static_cast<std::size_t>(n));
  for (Token& token : tokens) {
    token = static_cast<Token>(random() % static_cast<std::uint64_t>(model.info.n_vocab));
  }
  return tokens;
}

// bf16 numbers in (-2, -1] and [1, 2).
void FillWithKeys(std::span<std::byte> bytes) {
  std::minstd_rand random(2);
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
    const auto bits = static_cast<std::uint16_t>(0x3f80 | (random() >> 8 & 0x807f));
    std::memcpy(&bytes[i], &bits, sizeof bits);
  }
}

// Neighbours that are not there: notes what is sent, and makes up what is to come.
class LoneRoute : public internal::KeyRoute {
 public:
  Status Send(SharedBytes message) override {
    Note(true, message->size());
    return Ok();
  }

  Result<SharedBytes> Receive(const internal::KeysHeader& expected,
                              const std::function<Status()>&) override {
    const std::size_t n_bytes = sizeof expected + expected.n_bytes;
    Note(false, n_bytes);
    auto message = std::make_shared<Bytes>(n_bytes);
    std::memcpy(message->data(), &expected, sizeof expected);
    FillWithKeys(std::span(*message).subspan(sizeof expected));
    last_ = Clock::now();  // making it up is nobody's work
    return SharedBytes(std::move(message));
  }

  Status Close() override { return Ok(); }

  HostTrace Finish() {
    trace_.work_after = SecondsSince(last_);
    return std::move(trace_);
  }

 private:
  void Note(bool sends, std::size_t n_bytes) {
    trace_.events.push_back({sends, SecondsSince(last_), static_cast<std::int64_t>(n_bytes)});
    last_ = Clock::now();
  }

  HostTrace trace_;
  Clock::time_point last_ = Clock::now();
};

// A host on its way through its trace.
struct Player {
  const HostTrace* trace = nullptr;
  std::size_t next_event = 0;
  double clock = 0;
  double link_free = 0;         // when its link to the next can take another message
  std::deque<double> arrivals;  // of messages from the host before

  bool is_done() const { return next_event == trace->events.size(); }
};

// As far as it comes without a message that is not there yet; whether it came any further.
bool Advance(Player& player, Player* next, double bytes_per_second, double link_seconds) {
  const std::size_t before = player.next_event;
  while (!player.is_done()) {
    const HostTrace::Event& event = player.trace->events[player.next_event];
    if (!event.sends && player.arrivals.empty()) break;
    player.clock += event.work;
    if (!event.sends) {
      player.clock = std::max(player.clock, player.arrivals.front());
      player.arrivals.pop_front();
    } else if (next != nullptr) {
      player.link_free = std::max(player.clock, player.link_free) +
                         static_cast<double>(event.n_bytes) / bytes_per_second;
      next->arrivals.push_back(player.link_free + link_seconds);
    }
    ++player.next_event;
  }
  return player.next_event > before;
}

}  // namespace

double HostTrace::work() const {
  double seconds = work_after;
  for (const Event& event : events) seconds += event.work;
  return seconds;
}

std::int64_t HostTrace::bytes_sent() const {
  std::int64_t n = 0;
  for (const Event& event : events) n += event.sends ? event.n_bytes : 0;
  return n;
}

std::int64_t HostTrace::messages_sent() const {
  return std::count_if(events.begin(), events.end(), [](const Event& e) { return e.sends; });
}

Result<HostTrace> RehearseHost(const Model& model, const Plan& plan, Spread spread,
                               std::span<const HostShare> shares, std::size_t host,
                               std::stop_token stop) {
  ModelState& state = *internal::ModelAccess::StateOf(model);
  const std::vector<Token> tokens = SomeTokens(state, plan.n_context);
  KvStore store({state.pass->layers().begin(), state.pass->layers().end()});
  Profile profile;
  LoneRoute route;
  internal::ShareWork work;
  work.spread = spread;
  work.shares = shares;
  work.place = host;
  work.anchor_size = plan.anchor_size;
  work.route = &route;
  work.stop = std::move(stop);
  work.on_progress = [](std::size_t, double) { return Ok(); };
  const Status encoded = internal::EncodeShare(state, tokens, work, store, &profile);
  if (!encoded) return encoded.error();
  HostTrace trace = route.Finish();
  trace.kv_bytes = store.bytes();
  return trace;
}

double ReplaySeconds(std::span<const HostTrace> traces, bool ring, double link_bytes_per_second,
                     double link_seconds) {
  std::vector<Player> players(traces.size());
  for (std::size_t i = 0; i < traces.size(); ++i) players[i].trace = &traces[i];
  const auto next_of = [&](std::size_t i) -> Player* {
    if (i + 1 < players.size()) return &players[i + 1];
    return ring && players.size() > 1 ? players.data() : nullptr;
  };
  bool moves = true;
  while (moves) {
    moves = false;
    for (std::size_t i = 0; i < players.size(); ++i) {
      moves |= Advance(players[i], next_of(i), link_bytes_per_second, link_seconds);
    }
  }
  double last = 0;
  for (const Player& player : players) {
    ASTER_CHECK(player.is_done(), "a host waits for event %zu for ever", player.next_event);
    last = std::max(last, player.clock + player.trace->work_after);
  }
  return last;
}

HostSpeed MeasureHostSpeed(const Model& model) {
  return internal::MeasureSpeed(*internal::ModelAccess::StateOf(model));
}

}  // namespace aster
