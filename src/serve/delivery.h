// What comes of a ticket, on its way to the client: whole at its end, or as events while it is
// made.
#pragma once

#include <httplib.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

#include "serve/streams.h"
#include "serve/ticket.h"

namespace aster::serve {

// Waits for the ticket's end and leaves it in `state`. False: the client has left, which cancels
// the ticket, or it failed, which `response` says.
bool AwaitEnd(const httplib::Request& request, httplib::Response& response, Ticket& ticket,
              TicketState& state);

// The event streams of a server. Threads: all members.
class Delivery {
 public:
  // ping_interval: s; a stream that has been silent for that long gets a comment.
  explicit Delivery(double ping_interval) : ping_interval_(ping_interval) {}

  // From now on `response` is what `maker` makes of the ticket; `over` is called once, when no more
  // will be written. False: the ticket failed within a second, and `response` says so.
  bool Stream(httplib::Response& response, std::shared_ptr<Ticket> ticket,
              std::unique_ptr<EventMaker> maker, std::function<void()> over);

  // Until every stream is over, at most that long.
  void WaitUntilOver(std::chrono::seconds most);

 private:
  void Count(int by);

  const double ping_interval_;
  std::mutex mutex_;
  std::condition_variable all_over_;
  int n_streams_ = 0;
};

}  // namespace aster::serve
