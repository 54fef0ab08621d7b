#include "serve/delivery.h"

#include <string>
#include <utility>

#include "base/clock.h"
#include "serve/reply.h"

namespace aster::serve {
namespace {

// How often a request that waits looks whether its client is still there.
constexpr std::chrono::milliseconds kLook(200);

}  // namespace

bool AwaitEnd(const httplib::Request& request, httplib::Response& response, Ticket& ticket,
              TicketState& state) {
  std::uint64_t seen = 0;
  while (!ticket.Read([](const TicketState& now) { return now.is_over(); })) {
    seen = ticket.Wait(seen, kLook);
    if (!request.is_connection_closed()) continue;
    ticket.Cancel();
    Refuse(response, {503, "cancelled", {}});
    return false;
  }
  state = ticket.State();
  if (state.phase != TicketState::Phase::kFailed) return true;
  Refuse(response, state.error);
  return false;
}

bool Delivery::Stream(httplib::Response& response, std::shared_ptr<Ticket> ticket,
                      std::unique_ptr<EventMaker> maker, std::function<void()> over) {
  // What is refused when it is let in has a status of its own, if that is soon.
  ticket->Wait(0, std::chrono::seconds(1));
  const TicketState first = ticket->State();
  if (first.phase == TicketState::Phase::kFailed) {
    Refuse(response, first.error);
    return false;
  }
  struct Told {
    std::uint64_t version = 0;
    Clock::time_point last_write = Clock::now();
  };
  const auto told = std::make_shared<Told>();
  const std::shared_ptr<EventMaker> events = std::move(maker);
  const auto pump = [ping_interval = ping_interval_, told, events, ticket](
                        std::size_t, httplib::DataSink& sink) {
    const std::uint64_t version = ticket->Wait(told->version, kLook);
    if (!sink.is_writable()) return false;
    std::string bytes;
    bool is_last = false;
    if (version != told->version) {
      told->version = version;
      const TicketState state = ticket->State();
      is_last = state.is_over();
      bytes = events->Events(state);
    }
    const bool is_silent = SecondsSince(told->last_write) >= ping_interval;
    if (bytes.empty() && is_silent) bytes = ": ping\n\n";
    if (!bytes.empty()) {
      told->last_write = Clock::now();
      if (!sink.write(bytes.data(), bytes.size())) return false;
    }
    if (is_last) sink.done();
    return true;
  };
  response.set_header("X-Accel-Buffering", "no");
  Count(1);
  const auto release = [this, ticket, over = std::move(over)](bool) {
    ticket->Cancel();
    over();
    Count(-1);
  };
  response.set_chunked_content_provider("text/event-stream", pump, release);
  return true;
}

void Delivery::WaitUntilOver(std::chrono::seconds most) {
  std::unique_lock lock(mutex_);
  all_over_.wait_for(lock, most, [this] { return n_streams_ == 0; });
}

void Delivery::Count(int by) {
  const std::lock_guard lock(mutex_);
  n_streams_ += by;
  if (n_streams_ == 0) all_over_.notify_all();
}

}  // namespace aster::serve
