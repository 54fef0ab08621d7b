// A thread for each connection, up to a bound: the HTTP library's own pool may leave a connection
// without one while there is room, when several come at once.
#pragma once

#include <httplib.h>

#include <atomic>
#include <functional>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace aster::serve {

class ConnectionThreads final : public httplib::TaskQueue {
 public:
  // on_end is called once, when no more connections will come.
  ConnectionThreads(std::size_t most, std::function<void()> on_end)
      : most_(most), on_end_(std::move(on_end)) {}

  // False: there are as many as there may be, or as the system allows; the library closes the
  // connection.
  bool enqueue(std::function<void()> serve) override {
    const std::lock_guard lock(mutex_);
    threads_.remove_if([](const Connection& connection) { return connection.is_over.load(); });
    if (threads_.size() >= most_) return false;
    Connection& connection = threads_.emplace_back();
    try {
      connection.thread = std::jthread([&connection, serve = std::move(serve)] {
        serve();
        connection.is_over = true;
      });
    } catch (const std::system_error&) {
      threads_.pop_back();
      return false;
    }
    return true;
  }

  void shutdown() override {
    on_end_();
    const std::lock_guard lock(mutex_);
    threads_.clear();  // joins
  }

 private:
  struct Connection {
    std::atomic<bool> is_over = false;
    std::jthread thread;  // gone before the flag
  };

  const std::size_t most_;
  const std::function<void()> on_end_;
  std::mutex mutex_;
  std::list<Connection> threads_;
};

}  // namespace aster::serve
