// A request's body as JSON, checked at the border: depth, UTF-8, types, ranges.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serve/api_error.h"

namespace aster::serve {

using Json = nlohmann::ordered_json;

inline constexpr int kMaxJsonDepth = 64;
inline constexpr std::int64_t kMaxJsonNames = 1000;  // of one object

// Whether JSON keeps to both, as far as brackets and colons tell: what is in a string does not
// count.
bool IsShallow(std::string_view json);

// Errors, 400: no JSON object, arrays and objects nested deeper than kMaxJsonDepth, an object of
// more than kMaxJsonNames names, bytes that are no UTF-8, numbers that are none,
// a name twice in one object, a NUL.
ApiResult<Json> ParseBody(std::string_view body);

// Reads fields of one object. The first that is wrong is the error; what comes after it is read as
// if it were not there. A field that is null counts as not there.
class Fields {
 public:
  explicit Fields(const Json& object, std::string prefix = {})
      : object_(object), prefix_(std::move(prefix)) {}

  bool Has(const char* name) const;
  const Json* Find(const char* name) const;  // null: not there

  bool Bool(const char* name, bool otherwise);
  std::int64_t Integer(const char* name, std::int64_t least, std::int64_t most,
                       std::int64_t otherwise);
  double Real(const char* name, double least, double most, double otherwise);
  // At most max_bytes long.
  std::string String(const char* name, const std::string& otherwise,
                     std::size_t max_bytes = std::numeric_limits<std::size_t>::max());
  // One of `names`.
  std::string Name(const char* name, const std::vector<std::string>& names,
                   const std::string& otherwise);
  const Json* Array(const char* name, std::size_t least, std::size_t most);
  const Json* Object(const char* name);
  // Says what is wrong with a field, unless another was before.
  void Refuse(const std::string& name, const std::string& expected);

  const std::optional<ApiError>& error() const { return error_; }

 private:
  const Json& object_;
  const std::string prefix_;  // of names in errors: "stream_options."
  std::optional<ApiError> error_;
};

// A value for an error message: itself when it is short, else its type.
std::string Brief(const Json& value);

}  // namespace aster::serve
