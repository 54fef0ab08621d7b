// MPI as the transport. Every wait is a loop with a deadline: a rank that was stopped or cut off
// must not hold the others for ever. Rank 0 and each of the others also tell each other that they
// are alive, from a thread that does nothing else.
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <thread>

#include "base/clock.h"
#include "cluster/launched_group.h"

namespace aster {
namespace {

constexpr int Tag(Channel channel) { return channel == Channel::kTalk ? 1 : 2; }
constexpr int kPulseTag = 3;
constexpr int kGoodbye = 1;           // bytes of the last sign of life, which others have none of
constexpr Patience kLongestPulse(1);  // between two signs of life; less where patience is short
// After which nobody waits any more for the thread that computes to notice that a rank is gone.
constexpr Patience kGrace(3);
constexpr std::chrono::seconds kAbortTime(3);

// Looks again and again: at once while an answer is about to come, seldom after a while.
class Waiting {
 public:
  explicit Waiting(Patience patience) : patience_(patience) {}

  // False when the time is over.
  bool Goes() {
    ++n_;
    if (n_ < 2000) {
      sched_yield();
      return true;
    }
    const Patience waited = Clock::now() - start_;
    if (waited >= patience_) return false;
    std::this_thread::sleep_for(std::min<Patience>(waited / 20, Patience(2e-3)));
    return true;
  }

 private:
  const Patience patience_;
  const Clock::time_point start_ = Clock::now();
  int n_ = 0;
};

class MpiGroup : public Group {
 public:
  explicit MpiGroup(Patience patience) : patience_(patience) {
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    last_sign_.assign(static_cast<std::size_t>(size_), Clock::now());
    left_.assign(static_cast<std::size_t>(size_), std::nullopt);
    if (size_ > 1) pulse_ = std::jthread([this](const std::stop_token& stop) { Pulse(stop); });
  }
  // MPI_Finalize waits for all ranks. Where one is in trouble all are ended instead.
  ~MpiGroup() override {
    pulse_ = {};
    if (failed_) {
      Abort();
    } else {
      for (const int peer : Peers())
        MPI_Send("", kGoodbye, MPI_BYTE, peer, kPulseTag, MPI_COMM_WORLD);
      MPI_Finalize();
    }
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Status Send(int to, Channel channel, std::span<const std::byte> message) override {
    if (message.size() > std::numeric_limits<int>::max()) {
      return WorldError("a message of " + std::to_string(message.size()) + " bytes to rank " +
                        std::to_string(to) + ": MPI takes less than 2 GiB");
    }
    MPI_Request request = MPI_REQUEST_NULL;
    int result = Call([&] {
      return MPI_Isend(message.data(), static_cast<int>(message.size()), MPI_BYTE, to, Tag(channel),
                       MPI_COMM_WORLD, &request);
    });
    if (result == MPI_SUCCESS && !Finish(&request, &result)) return NotAlive();
    return result == MPI_SUCCESS ? Ok() : Status(Fail(to, result));
  }

  Result<Bytes> Receive(int from, Channel channel, Patience patience) override {
    MPI_Message handle;
    MPI_Status status;
    Waiting waiting(patience);
    while (true) {
      int there = 0;
      // Open MPI looks before it lets messages in, so what has just come is seen the second time.
      const int result = Call([&] {
        int code = MPI_Improbe(from, Tag(channel), MPI_COMM_WORLD, &there, &handle, &status);
        if (there == 0 && code == MPI_SUCCESS) {
          code = MPI_Improbe(from, Tag(channel), MPI_COMM_WORLD, &there, &handle, &status);
        }
        return code;
      });
      if (result != MPI_SUCCESS) return Fail(from, result);
      if (there != 0) break;
      if (Status alive = Alive(); !alive) return alive.error();
      if (!waiting.Goes()) return Fail(from, "sent nothing for", patience);
    }
    int n = 0;
    MPI_Get_count(&status, MPI_BYTE, &n);
    Bytes message(static_cast<std::size_t>(n));
    MPI_Request request = MPI_REQUEST_NULL;
    int result = Call([&] { return MPI_Imrecv(message.data(), n, MPI_BYTE, &handle, &request); });
    if (result == MPI_SUCCESS && !Finish(&request, &result)) return NotAlive();
    if (result != MPI_SUCCESS) return Fail(from, result);
    return message;
  }

  bool TellsLife() const override { return true; }
  void SetPhase(const char* phase) override { phase_ = phase; }

  Status Alive() override {
    return SilentFor(patience_) < 0 && Gone() < 0 ? Ok() : Status(NotAlive());
  }

  bool HasMessage(int from, Channel channel) override {
    int there = 0;
    Call([&] { return MPI_Iprobe(from, Tag(channel), MPI_COMM_WORLD, &there, MPI_STATUS_IGNORE); });
    return there != 0;
  }

 private:
  // The ranks whose life matters to this one.
  std::vector<int> Peers() const {
    if (rank_ > 0) return {0};
    std::vector<int> others(static_cast<std::size_t>(size_ - 1));
    std::iota(others.begin(), others.end(), 1);
    return others;
  }

  // A rank that has given no sign of life for so long, and did not say goodbye; -1: none.
  int SilentFor(Patience time) {
    const std::lock_guard lock(mutex_);
    for (const int peer : Peers()) {
      const auto at = static_cast<std::size_t>(peer);
      if (!left_[at] && Clock::now() - last_sign_[at] > time) return peer;
    }
    return -1;
  }

  // A rank that said goodbye a while ago, when its last messages must have been heard; -1: none.
  // Asked by who still waits for something, it is a rank that failed for a reason of its own.
  int Gone() {
    const std::lock_guard lock(mutex_);
    for (const int peer : Peers()) {
      const auto& left = left_[static_cast<std::size_t>(peer)];
      if (left && Clock::now() - *left > kGrace) return peer;
    }
    return -1;
  }

  // All ranks end now, this one too.
  [[noreturn]] void Abort() {
    // Whoever lost its link may not get through to mpirun.
    std::thread([] {
      std::this_thread::sleep_for(kAbortTime);
      std::_Exit(EXIT_FAILURE);
    }).detach();
    MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    std::_Exit(EXIT_FAILURE);
  }

  void Pulse(const std::stop_token& stop) {
    const std::vector<int> peers = Peers();
    const Patience interval = std::min(kLongestPulse, patience_ / 8);
    std::vector<MPI_Request> sent(static_cast<std::size_t>(size_), MPI_REQUEST_NULL);
    std::mutex mutex;
    std::condition_variable_any stopped;
    while (!stop.stop_requested()) {
      for (const int peer : peers) {
        MPI_Request& request = sent[static_cast<std::size_t>(peer)];
        const int result = Call([&] {
          int there = 0, done = 1;
          MPI_Status status;
          while (MPI_Iprobe(peer, kPulseTag, MPI_COMM_WORLD, &there, &status) == MPI_SUCCESS &&
                 there != 0) {
            char sign = 0;
            int n = 0;
            MPI_Recv(&sign, kGoodbye, MPI_BYTE, peer, kPulseTag, MPI_COMM_WORLD, &status);
            MPI_Get_count(&status, MPI_BYTE, &n);
            last_sign_[static_cast<std::size_t>(peer)] = Clock::now();
            if (n == kGoodbye) left_[static_cast<std::size_t>(peer)] = Clock::now();
          }
          if (request != MPI_REQUEST_NULL) MPI_Test(&request, &done, MPI_STATUS_IGNORE);
          if (done == 0) return MPI_SUCCESS;  // it has not even taken the last one
          return MPI_Isend(nullptr, 0, MPI_BYTE, peer, kPulseTag, MPI_COMM_WORLD, &request);
        });
        if (result != MPI_SUCCESS) failed_ = true;
      }
      // The pass that computes may be long in one layer; the others need not stay for that.
      if (const int silent = SilentFor(patience_ + kGrace); silent >= 0) {
        const std::string who = rank_ > 0 ? "rank " + std::to_string(rank_) + ": " : "";
        std::fprintf(stderr, "aster: %swhile %s, rank %d gave no sign of life for %ld s\n",
                     who.c_str(), phase_.load(), silent, static_cast<long>(patience_.count()));
        Abort();
      }
      std::unique_lock lock(mutex);
      stopped.wait_for(lock, stop, interval, [] { return false; });
    }
  }

  // MPI is entered by one thread at a time, and never for long.
  template <class F>
  int Call(F call) {
    const std::lock_guard lock(mutex_);
    return call();
  }

  Error NotAlive() {
    if (const int gone = Gone(); gone >= 0) {
      failed_ = true;
      return WorldError("rank " + std::to_string(gone) + " has ended");
    }
    return Fail(std::max(SilentFor(patience_), 0), "gave no sign of life for", patience_);
  }

  // Until the request is done, or failed with `result`. False when a rank is not alive.
  bool Finish(MPI_Request* request, int* result) {
    Waiting waiting(kForever);
    while (true) {
      int done = 0;
      *result = Call([&] { return MPI_Test(request, &done, MPI_STATUS_IGNORE); });
      if (done != 0 || *result != MPI_SUCCESS) return true;
      if (!waiting.Goes() || SilentFor(patience_) >= 0 || Gone() >= 0) return false;
    }
  }

  Error Fail(int rank, const char* what, Patience patience) {
    failed_ = true;
    return WorldError("rank " + std::to_string(rank) + " " + what + " " +
                      std::to_string(static_cast<long>(patience.count())) + " s");
  }
  Error Fail(int rank, int result) {
    failed_ = true;
    char text[MPI_MAX_ERROR_STRING];
    int n = 0;
    MPI_Error_string(result, text, &n);
    return WorldError("rank " + std::to_string(rank) + ": " +
                      std::string(text, static_cast<std::size_t>(n)));
  }

  const Patience patience_;
  int rank_ = 0;
  int size_ = 1;
  std::atomic<bool> failed_ = false;
  std::atomic<const char*> phase_ = "starting";
  std::mutex mutex_;
  std::vector<Clock::time_point> last_sign_;            // by rank
  std::vector<std::optional<Clock::time_point>> left_;  // when a rank said goodbye
  std::jthread pulse_;
};

}  // namespace

Result<std::unique_ptr<Group>> LaunchedGroup(Patience patience) {
  if (!HasLauncher()) return std::unique_ptr<Group>();
  int provided = 0;
  // Several threads, one at a time.
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS ||
      provided < MPI_THREAD_SERIALIZED) {
    return WorldError("MPI cannot start, or not for several threads");
  }
  return std::unique_ptr<Group>(std::make_unique<MpiGroup>(patience));
}

}  // namespace aster
