#include "serve/listener.h"

#include <httplib.h>

#include <utility>

namespace aster::serve {

Listener::Listener(httplib::Server& http, std::string host, int port)
    : http_(http), host_(std::move(host)), port_(port) {}

Status Listener::Start() {
  const std::string where = host_ + ":" + std::to_string(port_);
  const bool bound =
      port_ == 0 ? (port_ = http_.bind_to_any_port(host_)) > 0 : http_.bind_to_port(host_, port_);
  if (!bound) return WorldError(where + ": can't listen there (in use, or no such address)");
  thread_ = std::jthread([this] {
    http_.listen_after_bind();
    const std::lock_guard lock(mutex_);
    has_failed_ = has_failed_ || !is_stopping_;
    has_ended_ = true;
    changed_.notify_all();
  });
  http_.wait_until_ready();
  return Ok();
}

Status Listener::Wait(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, stop, [this] { return has_failed_; });
  if (!has_failed_) return Ok();
  return WorldError(host_ + ":" + std::to_string(port_) +
                    ": the system lets no more connections in");
}

bool Listener::Stop(std::chrono::seconds patience) {
  if (!thread_.joinable()) return true;  // it never started
  std::unique_lock lock(mutex_);
  is_stopping_ = true;
  lock.unlock();
  http_.stop();
  lock.lock();
  return changed_.wait_for(lock, patience, [this] { return has_ended_; });
}

void Listener::OnEnd() {
  const std::lock_guard lock(mutex_);
  has_failed_ = !is_stopping_;
  changed_.notify_all();
}

}  // namespace aster::serve
