#include "serve/tls.h"

#include <httplib.h>

namespace aster::serve {

Result<std::unique_ptr<httplib::Server>> MakeHttpServer(const std::string& cert,
                                                        const std::string& key) {
  if (cert.empty() && key.empty()) return std::make_unique<httplib::Server>();
#ifdef CPPHTTPLIB_OPENSSL_SUPPORT
  auto server = std::make_unique<httplib::SSLServer>(cert.c_str(), key.c_str());
  if (!server->is_valid()) {
    return WorldError("TLS: " + cert + " and " + key +
                      ": expected a certificate and its key, both in PEM");
  }
  return std::unique_ptr<httplib::Server>(std::move(server));
#else
  return WorldError("TLS: this build has no OpenSSL (libssl-dev)");
#endif
}

}  // namespace aster::serve
