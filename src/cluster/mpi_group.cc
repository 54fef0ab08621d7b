// MPI as the transport. Every wait is a loop with a deadline: a rank that was stopped or cut off
// must not hold the others for ever.
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <string>
#include <thread>

#include "cluster/launched_group.h"

namespace aster {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kTag = 1;

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
  }
  // MPI_Finalize waits for all ranks. Where one is in trouble all are ended instead.
  ~MpiGroup() override {
    if (failed_) {
      MPI_Abort(MPI_COMM_WORLD, 1);
    } else {
      MPI_Finalize();
    }
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Status Send(int to, std::span<const std::byte> message) override {
    MPI_Request request;
    int done = 0;
    int result = MPI_Isend(message.data(), static_cast<int>(message.size()), MPI_BYTE, to, kTag,
                           MPI_COMM_WORLD, &request);
    Waiting waiting(patience_);
    while (result == MPI_SUCCESS) {
      result = MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (done != 0 || result != MPI_SUCCESS) break;
      if (!waiting.Goes()) return Fail(to, "took no message for", patience_);
    }
    if (result != MPI_SUCCESS) return Fail(to, result);
    return Ok();
  }

  Result<Bytes> Receive(int from, Patience patience) override {
    MPI_Message handle;
    MPI_Status status;
    Waiting waiting(patience);
    while (true) {
      int there = 0;
      const int result = MPI_Improbe(from, kTag, MPI_COMM_WORLD, &there, &handle, &status);
      if (result != MPI_SUCCESS) return Fail(from, result);
      if (there != 0) break;
      if (!waiting.Goes()) return Fail(from, "sent nothing for", patience);
    }
    int n = 0;
    MPI_Get_count(&status, MPI_BYTE, &n);
    Bytes message(static_cast<std::size_t>(n));
    const int result = MPI_Mrecv(message.data(), n, MPI_BYTE, &handle, MPI_STATUS_IGNORE);
    if (result != MPI_SUCCESS) return Fail(from, result);
    return message;
  }

  bool HasMessage(int from) override {
    int there = 0;
    MPI_Iprobe(from, kTag, MPI_COMM_WORLD, &there, MPI_STATUS_IGNORE);
    return there != 0;
  }

 private:
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
  bool failed_ = false;
};

}  // namespace

Result<std::unique_ptr<Group>> LaunchedGroup(Patience patience) {
  if (!HasLauncher()) return std::unique_ptr<Group>();
  int provided = 0;
  // Contexts may be asked from several threads, one at a time.
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS ||
      provided < MPI_THREAD_SERIALIZED) {
    return WorldError("MPI cannot start, or not for several threads");
  }
  return std::unique_ptr<Group>(std::make_unique<MpiGroup>(patience));
}

}  // namespace aster
