// Who is let in: keys, hosts and origins.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aster::serve {

// Compares in a time that depends on the lengths alone.
bool SameSecret(std::string_view a, std::string_view b);

// Which of the keys an Authorization header ("Bearer KEY") has; nullopt: none. Looks at all of
// them.
std::optional<std::size_t> FindKey(const std::vector<std::string>& keys,
                                   std::string_view authorization);

// Whether a server that listens on a loopback address is meant by a Host header: its own name, not
// one that somebody's DNS points here.
bool IsLoopbackHost(std::string_view host);

// "application/json", in any case, with any parameters.
bool IsJsonType(std::string_view content_type);

// "http://localhost:8080" for "localhost:8080": a page of this server's own.
bool IsOwnOrigin(std::string_view origin, std::string_view host);

}  // namespace aster::serve
