// What every request passes before its handler: host, origin, key, path, method, type of body.
#pragma once

#include <httplib.h>

#include <string>
#include <utility>
#include <vector>

namespace aster::serve {

struct GateOptions {
  std::string host;                   // that the server listens on
  std::vector<std::string> api_keys;  // none: everyone is let in
  std::string cors_origin;            // empty: other pages are refused; "*": all are let in
};

class Gate {
 public:
  explicit Gate(GateOptions options) : options_(std::move(options)) {}

  // A method of a path. One part of it may be ":id" and stands for any name then; it is the last.
  void AddRoute(const std::string& method, const std::string& path);
  // The path as it was added; "other" where none fits.
  std::string RouteOf(const std::string& path) const;

  // False: the request is answered already, with a refusal or as OPTIONS.
  bool LetIn(const httplib::Request& request, httplib::Response& response) const;
  // "key 3"; empty without keys.
  std::string Tenant(const httplib::Request& request) const;

 private:
  struct Route {
    std::string path;
    std::string methods;
  };

  const Route* FindRoute(const std::string& path) const;
  bool LetInFrom(const httplib::Request& request, httplib::Response& response) const;
  bool IsOpenOrHasKey(const httplib::Request& request) const;

  const GateOptions options_;
  std::vector<Route> routes_;
};

}  // namespace aster::serve
