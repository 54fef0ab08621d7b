#include "serve/gate.h"

#include <algorithm>

#include "serve/guard.h"
#include "serve/page.h"
#include "serve/reply.h"

namespace aster::serve {
namespace {

using httplib::Request;
using httplib::Response;

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

}  // namespace

void Gate::AddRoute(const std::string& method, const std::string& path) {
  const auto at = std::ranges::find(routes_, path, &Route::path);
  if (at == routes_.end()) {
    routes_.push_back({path, method});
  } else {
    at->methods += ", " + method;
  }
}

const Gate::Route* Gate::FindRoute(const std::string& path) const {
  for (const Route& route : routes_) {
    const std::size_t id = route.path.find(":id");
    const bool fits = id == std::string::npos
                          ? path == route.path
                          : path.size() > id && path.compare(0, id, route.path, 0, id) == 0 &&
                                path.find('/', id) == std::string::npos;
    if (fits) return &route;
  }
  return nullptr;
}

std::string Gate::RouteOf(const std::string& path) const {
  const Route* route = FindRoute(path);
  return route != nullptr ? route->path : "other";
}

std::string Gate::Tenant(const Request& request) const {
  const auto key = FindKey(options_.api_keys, request.get_header_value("Authorization"));
  return key ? "key " + std::to_string(*key) : std::string();
}

bool Gate::IsOpenOrHasKey(const Request& request) const {
  const bool is_open = request.path == "/health" || request.method == "OPTIONS" ||
                       std::ranges::any_of(PageFiles(), [&](const PageFile& file) {
                         return file.path == request.path;
                       });
  return options_.api_keys.empty() || is_open || !Tenant(request).empty();
}

bool Gate::LetInFrom(const Request& request, Response& response) const {
  const std::string host = request.get_header_value("Host");
  if (IsLoopback(options_.host) && options_.api_keys.empty() && !IsLoopbackHost(host)) {
    Refuse(response, {403, "the Host header names another machine: expected localhost", {}});
    return false;
  }
  if (request.has_header("Origin")) {
    const std::string origin = request.get_header_value("Origin");
    const bool may = options_.cors_origin == "*" || options_.cors_origin == origin;
    if (may) {
      response.set_header("Access-Control-Allow-Origin", options_.cors_origin);
      response.set_header("Vary", "Origin");
    } else if (!IsOwnOrigin(origin, host)) {
      Refuse(response, {403, "a page of another origin; --cors-origin lets one in", {}});
      return false;
    }
  }
  if (IsOpenOrHasKey(request)) return true;
  Refuse(response, {401, "no valid API key: expected Authorization: Bearer KEY", {}});
  return false;
}

bool Gate::LetIn(const Request& request, Response& response) const {
  if (!LetInFrom(request, response)) return false;
  const Route* route = FindRoute(request.path);
  if (route == nullptr) {
    Refuse(response, {404, "there is nothing at this path; see /openapi.json", {}});
    return false;
  }
  if (request.method == "OPTIONS") {
    response.status = 204;
    response.set_header("Allow", route->methods + ", OPTIONS");
    if (!options_.cors_origin.empty()) {
      response.set_header("Access-Control-Allow-Methods", route->methods);
      // Clients send headers of their own, such as X-Stainless-OS of OpenAI's for JavaScript.
      const std::string asked = request.get_header_value("Access-Control-Request-Headers");
      response.set_header("Access-Control-Allow-Headers",
                          asked.empty() ? "Authorization, Content-Type" : asked);
    }
    return false;
  }
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  if (route->methods.find(method) == std::string::npos) {
    response.set_header("Allow", route->methods + ", OPTIONS");
    Refuse(response, {405, "this path does not take that method: expected " + route->methods, {}});
    return false;
  }
  if (method == "POST" && !IsJsonType(request.get_header_value("Content-Type"))) {
    Refuse(response, {415, "Content-Type: expected application/json", {}});
    return false;
  }
  return true;
}

}  // namespace aster::serve
