// The flags of aster serve.
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <limits>

#include "flag_values.h"
#include "flags.h"
#include "numbers.h"

namespace aster::cli {
namespace {

Setter Whole(std::int64_t least, std::int64_t most, int& value) {
  return [least, most, &value](const std::string& text) {
    const auto n = ParseInteger(text);
    if (!n || *n < least || *n > most) return false;
    value = static_cast<int>(*n);
    return true;
  };
}

Setter Seconds(double least, double most, double& value) {
  return [least, most, &value](const std::string& text) {
    const auto x = ParseReal(text);
    if (!x || *x < least || *x > most) return false;
    value = *x;
    return true;
  };
}

Setter Bytes(std::int64_t least, std::int64_t& value) {
  return [least, &value](const std::string& text) {
    const auto n = ParseBytes(text);
    if (!n || *n < least) return false;
    value = *n;
    return true;
  };
}

void AddWhere(CLI::App& app, ServeOptions& serve) {
  app.option_defaults()->group("Server");
  AddValue(app, "--host", "ADDRESS",
           "Where to listen. Anything but a loopback address lets others\n"
           "in: give --api-key and TLS too. Default: 127.0.0.1.",
           "an address", Into(serve.host, NotEmpty));
  AddValue(app, "--port", "N", "0 = one that is free. Default: 8080.",
           "a whole number from 0 to 65535", Whole(0, 65535, serve.port));
  AddValue(app, "--alias", "NAME", "The model's name in answers. Default: the file's.", "a name",
           Into(serve.alias, NotEmpty));
  AddList(app, "--api-key", "KEY",
          "Who gives one of these keys is let in, with contexts of its\n"
          "own. Others see it in the list of processes: better a file.",
          serve.api_keys);
  AddValue(app, "--api-key-file", "FILE", "Keys, one a line.", "a file",
           Into(serve.api_key_file, NotEmpty));
  AddValue(app, "--tls-cert", "FILE", "HTTPS, with this certificate (PEM).", "a file",
           Into(serve.tls_cert, NotEmpty));
  AddValue(app, "--tls-key", "FILE", "Its key (PEM).", "a file", Into(serve.tls_key, NotEmpty));
  AddValue(app, "--cors-origin", "ORIGIN",
           "Pages of this origin are let in; * = of any.\n"
           "Default: only the server's own.",
           "an origin, such as https://example.org, or *", Into(serve.cors_origin, NotEmpty));
}

void AddMany(CLI::App& app, ServeOptions& serve) {
  app.option_defaults()->group("Memory and load");
  AddValue(app, "--kv-memory", "SIZE",
           "Most memory of keys and values, such as 8G. Default: half\n"
           "of what is free at the start.",
           "a size of at least 1M, such as 8G or 512M", Bytes(1 << 20, serve.kv_bytes));
  AddValue(app, "--parallel", "N", "Answers that run together, 1 to 256. Default: 16.",
           "a whole number from 1 to 256", Whole(1, 256, serve.parallel));
  AddValue(app, "--queue", "N", "Requests that may wait; more get 503. Default: 64.",
           "a whole number from 0 to 10000", Whole(0, 10000, serve.queue));
  AddValue(app, "--max-gap", "SECONDS",
           "How long an answer may stand still while another request's\n"
           "context is encoded, or as long as 48 to 95 tokens take,\n"
           "whichever is more. Default: 0.5.",
           "a number from 0.01 to 60", Seconds(0.01, 60, serve.max_gap));
  AddValue(app, "--max-body", "SIZE", "Largest body of a request. Default: 64M.",
           "a size of at least 1K, such as 64M", Bytes(1 << 10, serve.max_body));
  AddValue(app, "--read-timeout", "SECONDS",
           "How long one read from a client may take. Default: 15.",
           "a whole number from 1 to 3600", Whole(1, 3600, serve.read_timeout));
  AddValue(app, "--ping-interval", "SECONDS",
           "A comment in a silent stream, so that no proxy ends it.\n"
           "Default: 15.",
           "a number from 0.1 to 3600", Seconds(0.1, 3600, serve.ping_interval));
  AddValue(app, "--drain", "SECONDS", "What requests under way get after SIGTERM. Default: 30.",
           "a whole number from 0 to 86400", Whole(0, 86400, serve.drain));
}

}  // namespace

void AddServeFlags(CLI::App& app, Options& options) {
  AddWhere(app, options.serve);
  AddMany(app, options.serve);
}

void AddServeAnswerFlags(CLI::App& app, Options& options) {
  app.option_defaults()->group("Answers that do not say otherwise");
  AddValue(app, "-n,--n-predict,--predict", "N", "Most tokens of an answer. Default: 2048.",
           "a whole number of at least 1", [&options](const std::string& text) {
             const auto n = ParseInteger(text);
             if (!n || *n < 1 || *n > std::numeric_limits<std::int32_t>::max()) return false;
             options.serve.max_tokens = *n;
             return true;
           });
  AddSamplingFlags(app, options.sampling);
  app.option_defaults()->group("Output");
  AddValue(app, "--log-format", "FORM", "plain, json or none: a line a request. Default: plain.",
           "plain, json or none",
           Into(options.serve.log, OneOf<LogFormat>({{"plain", LogFormat::kPlain},
                                                     {"json", LogFormat::kJson},
                                                     {"none", LogFormat::kNone}})));
  AddVerboseFlag(app, options);
}

}  // namespace aster::cli
