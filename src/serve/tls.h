// The HTTP library's server, with TLS where a certificate is given.
#pragma once

#include <memory>
#include <string>

#include "aster/status.h"

namespace httplib {
class Server;
}

namespace aster::serve {

// cert and key: PEM files, or both empty. Errors: kWorld when they can't be used, and when this
// build has no OpenSSL.
Result<std::unique_ptr<httplib::Server>> MakeHttpServer(const std::string& cert,
                                                        const std::string& key);

}  // namespace aster::serve
