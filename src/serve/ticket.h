// A request on its way through the scheduler: what it asks for, and what has come of it so far.
//
// The scheduler's thread writes, the request's own thread reads. A reader that is slow costs nobody
// anything: there is one state, not a queue. Threads: all members.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "aster/session.h"
#include "base/clock.h"
#include "serve/api_error.h"
#include "serve/context_store.h"

namespace aster::serve {

struct Job {
  std::string tenant;
  Model::Prompt prompt;
  SessionOptions options;  // wants_answer: false for one that only makes a context
  int n_answers = 1;
  std::string context_id;  // it goes on behind this one; empty: behind whatever there is
  ContextInfo context;     // name and messages of the context to make
};

// One answer as far as it is there.
struct AnswerState {
  std::string text;
  std::int64_t n_tokens = 0;
  std::vector<AnswerLogprob> logprobs;
  bool is_done = false;
  Finish finish = Finish::kEndOfText;
};

struct TicketState {
  enum class Phase { kWaiting, kPrefill, kAnswer, kDone, kFailed };
  Phase phase = Phase::kWaiting;
  Progress progress;  // of the prefill
  std::int64_t n_prompt = 0;
  std::int64_t n_reused = 0;
  PlanShape plan;
  double prefill_seconds = 0;  // from when it was let in to the first token
  double decode_seconds = 0;
  std::vector<AnswerState> answers;
  std::optional<ContextInfo> made;  // of a job that makes a context
  ApiError error;                   // of kFailed

  bool is_over() const { return phase == Phase::kDone || phase == Phase::kFailed; }
};

class Ticket {
 public:
  explicit Ticket(Job asked) : job(std::move(asked)) {}

  const Job job;
  const Clock::time_point submitted = Clock::now();

  // The client has left: the work ends within a step.
  void Cancel() { stop_.request_stop(); }
  std::stop_token stop() const { return stop_.get_token(); }

  // Waits until the state is another than number `seen`, or for that long; returns its number.
  std::uint64_t Wait(std::uint64_t seen, std::chrono::milliseconds most) const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, most, [&] { return version_ != seen; });
    return version_;
  }
  template <class F>
  auto Read(F look) const {
    const std::lock_guard lock(mutex_);
    return look(state_);
  }
  TicketState State() const {
    return Read([](const TicketState& now) { return now; });
  }
  template <class F>
  void Write(F change) {
    {
      const std::lock_guard lock(mutex_);
      change(state_);
      ++version_;
    }
    changed_.notify_all();
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  TicketState state_;
  std::uint64_t version_ = 0;
  std::stop_source stop_;
};

}  // namespace aster::serve
