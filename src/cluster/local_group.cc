#include "cluster/local_group.h"

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "base/check.h"

namespace aster {
namespace {

struct Post {
  std::mutex mutex;
  std::condition_variable arrived;
  std::vector<std::vector<std::map<Channel, std::deque<Bytes>>>> boxes;  // [to][from]
  std::vector<bool> gone;
};

class LocalGroup : public Group {
 public:
  LocalGroup(std::shared_ptr<Post> post, int rank) : post_(std::move(post)), rank_(rank) {}

  ~LocalGroup() override {
    const std::lock_guard lock(post_->mutex);
    post_->gone[At(rank_)] = true;
    post_->arrived.notify_all();
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(post_->boxes.size()); }

  Status Send(int to, Channel channel, std::span<const std::byte> message) override {
    const std::lock_guard lock(post_->mutex);
    if (post_->gone[At(to)]) return Gone(to);
    post_->boxes[At(to)][At(rank_)][channel].emplace_back(message.begin(), message.end());
    post_->arrived.notify_all();
    return Ok();
  }

  Result<Bytes> Receive(int from, Channel channel, Patience patience) override {
    std::unique_lock lock(post_->mutex);
    std::deque<Bytes>& box = post_->boxes[At(rank_)][At(from)][channel];
    const auto done = [&] { return !box.empty() || post_->gone[At(from)]; };
    if (patience == kForever) {
      post_->arrived.wait(lock, done);
    } else if (!post_->arrived.wait_for(lock, patience, done)) {
      return WorldError("rank " + std::to_string(from) + " sent nothing for " +
                        std::to_string(patience.count()) + " s");
    }
    if (box.empty()) return Gone(from);
    Bytes message = std::move(box.front());
    box.pop_front();
    return message;
  }

  bool HasMessage(int from, Channel channel) override {
    const std::lock_guard lock(post_->mutex);
    return !post_->boxes[At(rank_)][At(from)][channel].empty() || post_->gone[At(from)];
  }

 private:
  static std::size_t At(int rank) { return static_cast<std::size_t>(rank); }
  static Error Gone(int rank) { return WorldError("rank " + std::to_string(rank) + " is gone"); }

  std::shared_ptr<Post> post_;
  int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Group>> MakeLocalGroup(int size) {
  ASTER_CHECK(size >= 1, "a group of %d", size);
  auto post = std::make_shared<Post>();
  const auto n = static_cast<std::size_t>(size);
  post->boxes.assign(n, std::vector<std::map<Channel, std::deque<Bytes>>>(n));
  post->gone.assign(n, false);
  std::vector<std::unique_ptr<Group>> ranks;
  for (int rank = 0; rank < size; ++rank) ranks.push_back(std::make_unique<LocalGroup>(post, rank));
  return ranks;
}

}  // namespace aster
