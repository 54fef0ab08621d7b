// What an encoding over hosts would take, found on one machine: each host's work is run alone and
// its messages noted; then the messages are replayed over links of a given speed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>
#include <vector>

#include "aster/model.h"
#include "aster/plan.h"
#include "aster/spread.h"
#include "aster/status.h"

namespace aster {

// A host's work, cut where it sends keys on or needs those of the host before.
struct HostTrace {
  struct Event {
    bool sends = false;  // else it receives
    double work = 0;     // seconds of work since the event before
    std::int64_t n_bytes = 0;
  };
  std::vector<Event> events;
  double work_after = 0;      // seconds, after the last event
  std::int64_t kv_bytes = 0;  // that the host holds at the end

  double work() const;  // seconds, all of it
  std::int64_t bytes_sent() const;
  std::int64_t messages_sent() const;
};

// The work of shares[host], run alone; keys that others would send are made up.
// Errors: kWorld for memory; kCancelled.
Result<HostTrace> RehearseHost(const Model& model, const Plan& plan, Spread spread,
                               std::span<const HostShare> shares, std::size_t host,
                               std::stop_token stop);

// Seconds until the last of the hosts is done, each with a link to the next: a chain, or a ring
// where the last one sends to the first. A link carries one message at a time.
// REQUIRES: each receives what the one before it sends.
double ReplaySeconds(std::span<const HostTrace> traces, bool ring, double link_bytes_per_second,
                     double link_seconds);

// For the cost model: this machine's speed; the link's numbers are zero. Takes about a second.
HostSpeed MeasureHostSpeed(const Model& model);

}  // namespace aster
