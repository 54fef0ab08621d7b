// Many requests over one model: who is let in, and whose tokens are computed next.
//
// One thread takes turns: a pass that gives every running answer its next token, and a step of one
// request's prefill. While answers run a step is short, and then as much time goes to answers as
// the step took. Steps go in turn to the request with the least left and to the one that was let in
// first.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "serve/context_store.h"
#include "serve/metrics.h"
#include "serve/ticket.h"

namespace aster::serve {

struct SchedulerOptions {
  int max_running = 16;  // answers that run together; at most the model's max_sessions
  int max_waiting = 64;  // requests
  double max_gap = 0.5;  // longest step of a prefill beside running answers, s; see kMinStep
};

// A step is at least so many tokens, however long that takes; more where Session::Prefill runs
// more.
inline constexpr std::int64_t kMinStep = 16;

class Scheduler {
 public:
  Scheduler(const Model& model, const SchedulerOptions& options, ContextStore& store,
            Metrics& metrics);
  ~Scheduler();  // cancels what is under way
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Errors: 503 when the queue is full or the server is about to end; 400 with both numbers when
  // the request can never fit the store.
  ApiResult<std::shared_ptr<Ticket>> Submit(Job job);

  // From now on nothing is taken. Waits until all is done, at most that long, then cancels.
  // False: 10 s after that some step has still not ended.
  [[nodiscard]] bool Drain(std::chrono::milliseconds most);

  std::int64_t n_running() const;
  std::int64_t n_waiting() const;

 private:
  struct Running;  // a ticket that was let in, and its sessions

  void Loop();
  // Lets waiting requests in; where nothing runs then, waits for a while. False: all is over.
  bool AwaitWork();
  void FailAll(const char* why);
  // Lets waiting requests in while there is room. With mutex_ held.
  void Admit();
  bool MayStart(const Ticket& ticket);
  std::int64_t QueueBefore(const Ticket& ticket) const;
  // False: not now.
  bool LetIn(const std::shared_ptr<Ticket>& ticket);
  std::int64_t BytesOf(const Job& job) const;
  std::int64_t Promised() const;

  void PrefillStep();
  Running* NextToPrefill();
  std::int64_t StepSize() const;
  void AfterPrefill(Running& running);
  void DecodePass();
  Status DecodeAlone(Running& running);
  void RemoveFinished();
  void Finish(Running& running);
  void Fail(Running& running, ApiError error);
  void Publish(Running& running);

  const Model& model_;
  const SchedulerOptions options_;
  ContextStore& store_;
  Metrics& metrics_;

  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable idle_;
  std::deque<std::shared_ptr<Ticket>> waiting_;
  std::vector<std::unique_ptr<Running>> running_;  // changed by the thread alone, with mutex_ held
  bool blocked_ = false;  // the first that waits found no room; until something ends or goes
  std::uint64_t n_forgotten_ = 0;  // contexts, as it was then
  bool draining_ = false;
  bool ending_ = false;

  // The thread's own.
  double seconds_per_token_ = 0;  // of prefill steps, lately; 0 = not seen
  double owed_ = 0;               // time that answers are to get before the next step
  bool shortest_first_ = true;
  std::jthread thread_;
};

}  // namespace aster::serve
