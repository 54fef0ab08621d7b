// aster serve: the command line's side of the HTTP server.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/system.h"
#include "commands.h"
#include "numbers.h"
#include "output.h"
#include "serve/server.h"
#include "session.h"
#include "signals.h"
#include "text.h"

namespace aster::cli {
namespace {

// Keys, one a line; blank lines and those that start with # are none.
Status ReadKeys(const std::string& path, std::vector<std::string>& keys) {
  std::ifstream file(path);
  if (!file) return WorldError(path + ": can't be read; expected a file of API keys");
  const std::size_t n_before = keys.size();
  for (std::string line; std::getline(file, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty() && line.front() != '#') keys.push_back(line);
  }
  if (keys.size() == n_before) return WorldError(path + ": holds no key; expected one a line");
  return Ok();
}

std::string PlainLine(const serve::RequestLog& log) {
  std::string line = log.method + " " + log.route + ": " + std::to_string(log.status) + " in " +
                     FormatSeconds(log.seconds);
  if (log.n_prompt > 0) {
    line += "; prompt " + FormatCount(log.n_prompt) + " tokens, " + FormatCount(log.n_cached) +
            " cached; answer " + FormatCount(log.n_answer) + "; prefill " +
            FormatSeconds(log.ttft_seconds);
  }
  return line;
}

std::string JsonLine(const serve::RequestLog& log) {
  const nlohmann::ordered_json json = {{"event", "request"},
                                       {"method", log.method},
                                       {"route", log.route},
                                       {"status", log.status},
                                       {"seconds", log.seconds},
                                       {"prompt_tokens", log.n_prompt},
                                       {"cached_tokens", log.n_cached},
                                       {"completion_tokens", log.n_answer},
                                       {"prefill_seconds", log.ttft_seconds}};
  return json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

std::function<void(const serve::RequestLog&)> LogOf(LogFormat format) {
  switch (format) {
    case LogFormat::kPlain:
      return [](const serve::RequestLog& log) { Note(PlainLine(log)); };
    case LogFormat::kJson:
      return [](const serve::RequestLog& log) { WriteStderr(JsonLine(log)); };
    case LogFormat::kNone:
      return {};
  }
  return {};
}

Result<serve::ServerOptions> OptionsOf(const Options& options, const std::string& model_path) {
  const ServeOptions& given = options.serve;
  serve::ServerOptions server;
  server.host = given.host;
  server.port = given.port;
  server.version = ASTER_VERSION;
  server.model_name =
      given.alias.empty() ? std::filesystem::path(model_path).stem().string() : given.alias;
  server.api_keys = given.api_keys;
  if (!given.api_key_file.empty()) {
    if (Status read = ReadKeys(given.api_key_file, server.api_keys); !read) return read.error();
  }
  server.tls_cert = given.tls_cert;
  server.tls_key = given.tls_key;
  server.cors_origin = given.cors_origin;
  server.max_body_bytes = given.max_body;
  server.read_timeout = given.read_timeout;
  server.ping_interval = given.ping_interval;
  server.drain_seconds = given.drain;
  server.kv_bytes = given.kv_bytes > 0 ? given.kv_bytes : AvailableMemoryBytes() / 2;
  if (server.kv_bytes == 0) {
    return WorldError("--kv-memory: this system does not say what memory is free; expected a size");
  }
  server.scheduler = {given.parallel, given.queue, given.max_gap};
  server.defaults = {options.plan, options.sampling, given.max_tokens, options.allow_long};
  return server;
}

}  // namespace

Result<int> RunServe(const Options& options) {
  Options own = options;
  own.model_options.max_sessions = options.serve.parallel;
  const Result<LoadedModel> loaded = LoadModel(own);
  if (!loaded) return loaded.error();
  const Result<serve::ServerOptions> server_options = OptionsOf(own, loaded->path);
  if (!server_options) return server_options.error();
  Interruptible work;
  Result<std::unique_ptr<serve::Server>> server =
      serve::Server::Start(loaded->model, *server_options, LogOf(options.serve.log));
  if (!server) return server.error();
  const std::string host = server_options->host.find(':') != std::string::npos
                               ? "[" + server_options->host + "]"
                               : server_options->host;
  Note("listening on " + std::string(server_options->tls_cert.empty() ? "http" : "https") + "://" +
       host + ":" + std::to_string((*server)->port()) + "; KV memory at most " +
       FormatBytes(server_options->kv_bytes) + ", " +
       FormatCount(server_options->kv_bytes / loaded->model.info().kv_bytes_per_token) + " tokens");

  const Status listening = (*server)->Wait(work.token());
  Note("ending: what is under way gets " + std::to_string(options.serve.drain) + " s");
  if (!(*server)->Stop()) {
    Note("what has not ended is cut off: a client that still sends or takes, or a step");
    if (!listening) Note(listening.error().message);
    std::_Exit(listening ? 0 : 1);  // such a thread ends with the process alone
  }
  if (!listening) return listening.error();
  return 0;
}

}  // namespace aster::cli
