#include "engine/key_route.h"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <new>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "engine/host_messages.h"

namespace aster::internal {
namespace {

constexpr std::size_t kMostWaiting = 2;                 // messages, each way
constexpr std::chrono::milliseconds kLookInterval(20);  // at stops and failures, while waiting
constexpr std::chrono::microseconds kShortestNap(20), kLongestNap(1000);

KeysHeader HeaderOf(const Bytes& message) {
  KeysHeader header;
  if (message.size() >= sizeof header) std::memcpy(&header, message.data(), sizeof header);
  return header;
}

bool IsEnd(const Bytes& message) { return message.empty(); }

// Two threads: one sends, one receives ahead.
class Route : public KeyRoute {
 public:
  Route(Group& group, const Neighbours& neighbours, Patience patience)
      : group_(group), neighbours_(neighbours), patience_(patience) {
    std::vector<int> ranks;
    for (const int rank : {neighbours.previous, neighbours.next}) {
      if (rank >= 0) ranks.push_back(rank);
    }
    group.MindAlso(ranks);
    if (neighbours.next >= 0) {
      sender_ = std::jthread([this](const std::stop_token& stop) { SendAll(stop); });
    }
    if (neighbours.previous >= 0) {
      receiver_ = std::jthread([this](const std::stop_token& stop) { ReceiveAll(stop); });
    }
  }

  ~Route() override { group_.MindAlso({}); }

  Status Send(SharedBytes message) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return outbox_.size() < kMostWaiting || failed_; });
    if (failed_) return *failed_;
    outbox_.push_back(std::move(message));
    changed_.notify_all();
    return Ok();
  }

  Result<SharedBytes> Receive(const KeysHeader& expected,
                              const std::function<Status()>& look) override {
    Result<SharedBytes> message = Take(look);
    if (!message) return message;
    const Bytes& bytes = **message;
    if (IsEnd(bytes)) {
      heard_end_ = true;
      return Cancelled("rank " + std::to_string(neighbours_.previous) + " has stopped");
    }
    const bool fits = bytes.size() == sizeof expected + expected.n_bytes;
    if (!fits || !(HeaderOf(bytes) == expected)) {
      return Garbled(neighbours_.previous,
                     "expected the keys of layer " + std::to_string(expected.layer));
    }
    return message;
  }

  Status Close() override {
    if (neighbours_.next >= 0) {
      if (Status sent = Send(std::make_shared<const Bytes>()); !sent) return sent;
    }
    while (neighbours_.previous >= 0 && !heard_end_) {
      const Result<SharedBytes> message = Take([] { return Ok(); });
      if (!message) return message.error();
      heard_end_ = IsEnd(**message);
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return outbox_.empty() || failed_; });
    return failed_ ? Status(*failed_) : Ok();
  }

 private:
  Result<SharedBytes> Take(const std::function<Status()>& look) {
    const auto start = Clock::now();
    std::unique_lock lock(mutex_);
    while (true) {
      const bool woken =
          changed_.wait_for(lock, kLookInterval, [&] { return !inbox_.empty() || failed_; });
      if (!inbox_.empty()) break;
      if (failed_) return *failed_;
      if (woken) continue;
      lock.unlock();
      if (Status status = look(); !status) return status.error();
      if (Status alive = group_.Alive(); !alive) return alive.error();
      if (patience_ != kForever && Clock::now() - start > patience_) {
        return WorldError("rank " + std::to_string(neighbours_.previous) + " sent no keys for " +
                          std::to_string(static_cast<long>(patience_.count())) + " s");
      }
      lock.lock();
    }
    SharedBytes message = std::move(inbox_.front());
    inbox_.pop_front();
    changed_.notify_all();
    return message;
  }

  void SendAll(const std::stop_token& stop) {
    while (true) {
      SharedBytes message;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, stop, [&] { return !outbox_.empty(); });
        if (stop.stop_requested()) return;
        message = outbox_.front();
      }
      const Status sent = group_.SendShared(neighbours_.next, Channel::kKeys, message);
      const std::lock_guard lock(mutex_);
      if (!sent) failed_ = sent.error();
      outbox_.pop_front();
      changed_.notify_all();
      if (!sent || IsEnd(*message)) return;
    }
  }

  void ReceiveAll(const std::stop_token& stop) {
    auto nap = kShortestNap;
    while (!stop.stop_requested()) {
      if (!group_.HasMessage(neighbours_.previous, Channel::kKeys)) {
        std::this_thread::sleep_for(nap);
        nap = std::min(nap * 2, kLongestNap);
        continue;
      }
      nap = kShortestNap;
      Result<Bytes> message = ReceiveOne();
      std::unique_lock lock(mutex_);
      const bool is_last = !message || IsEnd(*message);
      if (!message) failed_ = message.error();
      if (message) inbox_.push_back(std::make_shared<const Bytes>(std::move(*message)));
      changed_.notify_all();
      if (is_last) return;
      changed_.wait(lock, stop, [&] { return inbox_.size() < kMostWaiting; });
    }
  }

  Result<Bytes> ReceiveOne() {
    try {
      return group_.Receive(neighbours_.previous, Channel::kKeys, patience_);
    } catch (const std::bad_alloc&) {
      return WorldError("no memory for keys of rank " + std::to_string(neighbours_.previous));
    }
  }

  Group& group_;
  const Neighbours neighbours_;
  const Patience patience_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<SharedBytes> outbox_, inbox_;
  std::optional<Error> failed_;
  bool heard_end_ = false;
  std::jthread sender_, receiver_;  // last, so that they end first
};

}  // namespace

std::unique_ptr<KeyRoute> MakeKeyRoute(Group& group, const Neighbours& neighbours,
                                       Patience patience) {
  return std::make_unique<Route>(group, neighbours, WorkPatience(group, patience));
}

}  // namespace aster::internal
