// Counts and times for Prometheus (text format 0.0.4). Threads: all members.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace aster::serve {

// Times in seconds, in buckets from 5 ms to 20 min.
class Histogram {
 public:
  static constexpr std::array<double, 18> kBounds = {
      0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1200};
  void Observe(double seconds);
  std::string Text(const std::string& name, const std::string& help) const;

 private:
  mutable std::mutex mutex_;
  std::array<std::uint64_t, kBounds.size()> counts_ = {};
  std::uint64_t count_ = 0;
  double sum_ = 0;
};

// What only the scheduler and the store know at the moment of asking.
struct Gauges {
  std::int64_t n_running = 0;
  std::int64_t n_waiting = 0;
  std::int64_t n_contexts = 0;
  std::int64_t kv_bytes = 0;
  std::int64_t kv_limit_bytes = 0;
};

class Metrics {
 public:
  Histogram ttft;                                // from the request to its first token
  Histogram queue;                               // until it was let in
  Histogram prefill;                             // from there to the first token
  Histogram decode;                              // from the first token to the last
  Histogram time_per_token;                      // of decode, per token of an answer
  std::atomic<std::uint64_t> prompt_tokens = 0;  // encoded
  std::atomic<std::uint64_t> cached_tokens = 0;  // of prompts, not encoded again
  std::atomic<std::uint64_t> answer_tokens = 0;
  std::atomic<std::uint64_t> cache_queries = 0;  // prompts
  std::atomic<std::uint64_t> cache_hits = 0;     // of them, with something taken over
  std::atomic<std::uint64_t> evictions = 0;
  std::atomic<std::uint64_t> cancelled = 0;

  void CountRequest(const std::string& route, int status);
  std::string Text(const Gauges& gauges) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, std::uint64_t> requests_;
};

}  // namespace aster::serve
