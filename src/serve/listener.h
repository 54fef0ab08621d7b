// The thread that lets connections in.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "aster/status.h"

namespace httplib {
class Server;
}

namespace aster::serve {

class Listener {
 public:
  // port 0: any that is free. http outlives the listener.
  Listener(httplib::Server& http, std::string host, int port);
  // Waits for all connections' threads, however long. Stop comes first.
  ~Listener() = default;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Returns when connections are let in. Errors: kWorld, the address can't be had.
  Status Start();
  int port() const { return port_; }

  // Blocks until stop is requested, or nothing more can be let in. Errors: kWorld, then.
  Status Wait(const std::stop_token& stop);
  // Lets nothing more in. False: after so long some connection's thread has not ended.
  bool Stop(std::chrono::seconds patience);
  // Called when nothing more is let in, while connections may still be at work.
  void OnEnd();

 private:
  httplib::Server& http_;
  const std::string host_;
  int port_;
  std::mutex mutex_;  // of the three below
  std::condition_variable_any changed_;
  bool is_stopping_ = false;
  bool has_failed_ = false;
  bool has_ended_ = false;  // and all connections with it
  std::jthread thread_;
};

}  // namespace aster::serve
