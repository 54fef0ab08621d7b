// The HTTP server: OpenAI's endpoints, contexts, metrics, a page.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "aster/model.h"
#include "aster/status.h"
#include "serve/request.h"
#include "serve/scheduler.h"

namespace aster::serve {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8080;  // 0: one that is free
  std::string model_name;
  std::string version;
  std::vector<std::string> api_keys;  // none: everyone is let in
  std::string tls_cert, tls_key;      // files; both or none
  std::string cors_origin;            // empty: other pages are refused; "*": all are let in
  std::int64_t max_body_bytes = 64 << 20;
  int read_timeout = 15;  // s, of one read
  double ping_interval = 15;
  int drain_seconds = 30;
  std::int64_t kv_bytes = 0;
  SchedulerOptions scheduler;
  Defaults defaults;
};

// What is told of a request when it is over; no text of it.
struct RequestLog {
  std::string method, route;
  int status = 0;
  double seconds = 0;
  std::int64_t n_prompt = 0, n_cached = 0, n_answer = 0;  // tokens
  double ttft_seconds = 0;
};

class Server {
 public:
  // Listens and serves, on threads of its own. Errors: kWorld when the address, the certificate or
  // the key can't be used. The model must outlive the server. `log` is called by several threads.
  static Result<std::unique_ptr<Server>> Start(const Model& model, const ServerOptions& options,
                                               std::function<void(const RequestLog&)> log);
  ~Server();

  int port() const;
  // Blocks until stop is requested, or nothing more can be accepted. Errors: kWorld, then.
  Status Wait(const std::stop_token& stop);
  // Takes no more requests, lets those under way finish, and cancels them after drain_seconds.
  // False: an answer or a connection has not ended for all that, say of a client that sends its
  // request a byte at a time; the destructor would wait for it.
  [[nodiscard]] bool Stop();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace aster::serve
