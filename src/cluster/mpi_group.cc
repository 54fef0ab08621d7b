// MPI as the transport. Every wait is a loop with a deadline: a rank that was stopped or cut off
// must not hold the others for ever. Rank 0 and each of the others, and those that send each other
// keys, also tell each other that they are alive, from a thread that does nothing else.
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

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

void SleepUnlessStopped(const std::stop_token& stop, Patience time) {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::condition_variable_any stopped;
  stopped.wait_for(lock, stop, time, [] { return false; });
}

class MpiGroup : public Group {
 public:
  explicit MpiGroup(Patience patience) : patience_(patience) {
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    peers_.resize(static_cast<std::size_t>(size_));
    for (int other = 0; other < size_; ++other) {
      const bool minded = other != rank_ && (rank_ == 0 || other == 0);
      PeerOf(other).is_minded = PeerOf(other).has_pulse = minded;
    }
    if (size_ > 1) pulse_ = std::jthread([this](const std::stop_token& stop) { Pulse(stop); });
  }
  // MPI_Finalize waits for all ranks, for ever. So it is entered when they have said goodbye, up to
  // which signs of life go on; where one is in trouble all are ended instead.
  ~MpiGroup() override {
    phase_ = "ending";
    if (!failed_ && size_ > 1) SayGoodbye();
    pulse_ = {};
    if (failed_) Abort();
    const std::jthread watchdog = EndAfter(patience_ + kGrace);
    MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Status Send(int to, Channel channel, std::span<const std::byte> message) override {
    return SendShared(to, channel, std::make_shared<const Bytes>(message.begin(), message.end()));
  }

  Status SendShared(int to, Channel channel, const SharedBytes& shared) override {
    const Bytes& message = *shared;
    if (message.size() > std::numeric_limits<int>::max()) {
      return WorldError("a message of " + std::to_string(message.size()) + " bytes to rank " +
                        std::to_string(to) + ": MPI takes less than 2 GiB");
    }
    MPI_Request request = MPI_REQUEST_NULL;
    int result = Call([&] {
      return MPI_Isend(message.data(), static_cast<int>(message.size()), MPI_BYTE, to, Tag(channel),
                       MPI_COMM_WORLD, &request);
    });
    if (result == MPI_SUCCESS && !Finish(&request, &result)) {
      Keep(shared);
      return NotAlive();
    }
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
    if (result == MPI_SUCCESS && !Finish(&request, &result)) {
      Keep(std::make_shared<const Bytes>(std::move(message)));
      return NotAlive();
    }
    if (result != MPI_SUCCESS) return Fail(from, result);
    return message;
  }

  bool TellsLife() const override { return true; }
  void SetPhase(const char* phase) override { phase_ = phase; }

  void MindAlso(std::span<const int> ranks) override {
    const std::lock_guard lock(mutex_);
    for (int other = 1; rank_ > 0 && other < size_; ++other) {
      Peer& peer = PeerOf(other);
      const bool minded = std::ranges::find(ranks, other) != ranks.end();
      // It may hear later than this one that the two are neighbours.
      if (minded && !peer.is_minded)
        peer.last_sign = Clock::now() + std::chrono::duration_cast<Clock::duration>(patience_);
      peer.is_minded = minded;
      peer.has_pulse |= minded;  // for good: it may mind this one for longer
    }
  }

  Status Alive() override {
    return SilentFor(patience_) < 0 && Gone() < 0 ? Ok() : Status(NotAlive());
  }

  bool HasMessage(int from, Channel channel) override {
    int there = 0;
    Call([&] { return MPI_Iprobe(from, Tag(channel), MPI_COMM_WORLD, &there, MPI_STATUS_IGNORE); });
    return there != 0;
  }

 private:
  struct Peer {
    bool is_minded = false;  // its life matters to this rank now
    bool has_pulse = false;  // it is told that this rank is alive
    Clock::time_point last_sign = Clock::now();
    std::optional<Clock::time_point> left;  // when it said goodbye
    MPI_Request pulse = MPI_REQUEST_NULL;   // the last one to it
  };
  Peer& PeerOf(int rank) { return peers_[static_cast<std::size_t>(rank)]; }

  // A rank that has given no sign of life for so long, and did not say goodbye; -1: none.
  int SilentFor(Patience time) {
    const std::lock_guard lock(mutex_);
    for (int other = 0; other < size_; ++other) {
      const Peer& peer = PeerOf(other);
      if (peer.is_minded && !peer.left && Clock::now() - peer.last_sign > time) return other;
    }
    return -1;
  }

  // A rank that said goodbye a while ago, when its last messages must have been heard; -1: none.
  // Asked by who still waits for something, it is a rank that failed for a reason of its own.
  int Gone() {
    const std::lock_guard lock(mutex_);
    for (int other = 0; other < size_; ++other) {
      const Peer& peer = PeerOf(other);
      if (peer.is_minded && peer.left && Clock::now() - *peer.left > kGrace) return other;
    }
    return -1;
  }

  // What MPI may still read or write, after a wait that was given up. The group has failed by then,
  // and ends the process without giving it back.
  void Keep(SharedBytes message) {
    const std::lock_guard lock(mutex_);
    kept_.push_back(std::move(message));
  }

  // This process ends after that time, unless the thread is told to stop before.
  static std::jthread EndAfter(Patience time) {
    return std::jthread([time](const std::stop_token& stop) {
      SleepUnlessStopped(stop, time);
      if (!stop.stop_requested()) std::_Exit(EXIT_FAILURE);
    });
  }

  // All ranks end now, this one too.
  [[noreturn]] void Abort() {
    // Whoever lost its link may not get through to mpirun.
    const std::jthread watchdog = EndAfter(kAbortTime);
    MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    std::_Exit(EXIT_FAILURE);
  }

  // REQUIRES: mutex_ is held.
  void HearSigns(int rank) {
    Peer& peer = PeerOf(rank);
    int there = 0;
    MPI_Status status;
    while (MPI_Iprobe(rank, kPulseTag, MPI_COMM_WORLD, &there, &status) == MPI_SUCCESS &&
           there != 0) {
      char sign = 0;
      int n = 0;
      MPI_Recv(&sign, kGoodbye, MPI_BYTE, rank, kPulseTag, MPI_COMM_WORLD, &status);
      MPI_Get_count(&status, MPI_BYTE, &n);
      peer.last_sign = Clock::now();
      if (n == kGoodbye) peer.left = Clock::now();
    }
  }

  // REQUIRES: mutex_ is held.
  static int GiveSign(int rank, Peer& peer) {
    int done = 1;
    if (peer.pulse != MPI_REQUEST_NULL) MPI_Test(&peer.pulse, &done, MPI_STATUS_IGNORE);
    if (done == 0) return MPI_SUCCESS;  // it has not even taken the last one
    return MPI_Isend(nullptr, 0, MPI_BYTE, rank, kPulseTag, MPI_COMM_WORLD, &peer.pulse);
  }

  // Until the ranks that this one minds have said it too, or one of them is no longer alive: then
  // the pulse ends all.
  void SayGoodbye() {
    for (int other = 0; other < size_; ++other) {
      const int result = Call([&] {
        if (!PeerOf(other).has_pulse) return MPI_SUCCESS;
        MPI_Request request = MPI_REQUEST_NULL;
        const int code =
            MPI_Isend("", kGoodbye, MPI_BYTE, other, kPulseTag, MPI_COMM_WORLD, &request);
        if (code != MPI_SUCCESS) return code;
        return MPI_Request_free(&request);  // it is sent all the same
      });
      if (result != MPI_SUCCESS) failed_ = true;
    }
    Waiting waiting(kForever);
    const auto is_waited_for = [](const Peer& peer) { return peer.is_minded && !peer.left; };
    while (!failed_) {
      bool waits = false;
      for (int other = 0; other < size_; ++other) {
        const std::lock_guard lock(mutex_);
        if (is_waited_for(PeerOf(other))) HearSigns(other);
        waits |= is_waited_for(PeerOf(other));
      }
      if (!waits) return;
      waiting.Goes();
    }
  }

  void Pulse(const std::stop_token& stop) {
    const Patience interval = std::min(kLongestPulse, patience_ / 8);
    while (!stop.stop_requested()) {
      for (int other = 0; other < size_; ++other) {
        const std::lock_guard lock(mutex_);
        Peer& peer = PeerOf(other);
        if (!peer.has_pulse) continue;
        HearSigns(other);
        if (GiveSign(other, peer) != MPI_SUCCESS) failed_ = true;
      }
      // The pass that computes may be long in one layer; the others need not stay for that.
      if (const int silent = SilentFor(patience_ + kGrace); silent >= 0) {
        const std::string who = rank_ > 0 ? "rank " + std::to_string(rank_) + ": " : "";
        std::fprintf(stderr, "aster: %swhile %s, rank %d gave no sign of life for %ld s\n",
                     who.c_str(), phase_.load(), silent, static_cast<long>(patience_.count()));
        Abort();
      }
      SleepUnlessStopped(stop, interval);
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
  std::vector<Peer> peers_;  // by rank
  std::vector<SharedBytes> kept_;
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
