#include "serve/guard.h"

#include <algorithm>
#include <cctype>

namespace aster::serve {
namespace {

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

}  // namespace

bool SameSecret(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const char other = b.empty() ? '\0' : b[i % b.size()];
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(other);
  }
  return difference == 0;
}

std::optional<std::size_t> FindKey(const std::vector<std::string>& keys,
                                   std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (Lower(authorization.substr(0, kScheme.size())) != kScheme) return std::nullopt;
  const std::string_view given = authorization.substr(kScheme.size());
  std::optional<std::size_t> found;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (SameSecret(given, keys[i])) found = i;
  }
  return found;
}

bool IsLoopbackHost(std::string_view host) {
  const std::string name = Lower(host);
  const std::size_t port = name.rfind(':');
  const bool is_v4 = name.starts_with("127.") &&
                     name.substr(0, port).find_first_not_of("0123456789.") == std::string::npos;
  const std::string v4 = is_v4 ? name.substr(0, port) : "127.0.0.1";
  for (const std::string_view own :
       {std::string_view("localhost"), std::string_view(v4), std::string_view("[::1]")}) {
    if (!name.starts_with(own)) continue;
    const std::string_view rest = std::string_view(name).substr(own.size());
    const bool is_port = rest.starts_with(':') && rest.size() > 1 &&
                         rest.find_first_not_of("0123456789", 1) == std::string_view::npos;
    if (rest.empty() || is_port) return true;
  }
  return false;
}

bool IsJsonType(std::string_view content_type) {
  std::string_view type = content_type.substr(0, content_type.find(';'));
  while (type.ends_with(' ')) type.remove_suffix(1);
  return Lower(type) == "application/json";
}

bool IsOwnOrigin(std::string_view origin, std::string_view host) {
  const std::string from = Lower(origin), own = Lower(host);
  return from == "http://" + own || from == "https://" + own;
}

}  // namespace aster::serve
