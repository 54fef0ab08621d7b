#include "serve/json_body.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

namespace aster::serve {
namespace {

struct Shape {
  int depth = 0;             // of arrays and objects
  std::int64_t n_names = 0;  // of the object with the most
};

Shape ShapeOf(std::string_view body) {
  Shape shape;
  std::vector<std::int64_t> n_names;  // of what is open
  bool in_string = false;
  for (std::size_t i = 0; i < body.size() && shape.depth <= kMaxJsonDepth; ++i) {
    const char c = body[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      n_names.push_back(0);
      shape.depth = std::max(shape.depth, static_cast<int>(n_names.size()));
    } else if ((c == '}' || c == ']') && !n_names.empty()) {
      n_names.pop_back();
    } else if (c == ':' && !n_names.empty()) {
      shape.n_names = std::max(shape.n_names, ++n_names.back());
    }
  }
  return shape;
}

// What JSON leaves open and no request means: a name given twice, a NUL within a text.
struct Strictness {
  std::string wrong;
  std::string field;                         // of the body, that is being read
  std::vector<std::set<std::string>> names;  // of the objects that are open

  bool Look(Json::parse_event_t event, const Json& value) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start) names.emplace_back();
    if (event == Event::object_end) names.pop_back();
    if (event != Event::key && event != Event::value) return true;
    if (!value.is_string()) return true;
    const auto& text = value.get_ref<const std::string&>();
    if (event == Event::key && names.size() == 1 && wrong.empty()) field = text;
    if (text.find('\0') != std::string::npos && wrong.empty()) wrong = "has a NUL in " + field;
    if (event == Event::key && !names.back().insert(text).second && wrong.empty()) {
      wrong = "has " + Brief(value) + " twice in one object: expected once";
    }
    return true;
  }
};

std::string Number(double value) { return Json(value).dump(); }

}  // namespace

bool IsShallow(std::string_view json) {
  const Shape shape = ShapeOf(json);
  return shape.depth <= kMaxJsonDepth && shape.n_names <= kMaxJsonNames;
}

ApiResult<Json> ParseBody(std::string_view body) {
  if (body.empty()) return ApiError{400, "the body is empty: expected a JSON object", {}};
  const Shape shape = ShapeOf(body);
  if (shape.depth > kMaxJsonDepth) {
    return ApiError{400,
                    "the body is nested more than " + std::to_string(kMaxJsonDepth) +
                        " deep: expected at most that",
                    {}};
  }
  if (shape.n_names > kMaxJsonNames) {
    return ApiError{400,
                    "the body has an object of " + std::to_string(shape.n_names) +
                        " names: expected at most " + std::to_string(kMaxJsonNames),
                    {}};
  }
  if (body.find('\0') != std::string_view::npos) {
    return ApiError{400, "the body holds a NUL byte: expected JSON", {}};
  }
  try {
    Strictness strict;
    Json json = Json::parse(body, [&strict](int, Json::parse_event_t event, Json& value) {
      return strict.Look(event, value);
    });
    if (!strict.wrong.empty()) return ApiError{400, "the body " + strict.wrong, strict.field};
    if (!json.is_object()) {
      return ApiError{
          400, std::string("the body is a JSON ") + json.type_name() + ": expected an object", {}};
    }
    return json;
  } catch (const nlohmann::json::exception& e) {
    // What nlohmann says may quote the input; whatever is no UTF-8 in it is replaced.
    const std::string why = Json(e.what()).dump(-1, ' ', true, Json::error_handler_t::replace);
    return ApiError{
        400,
        "the body is no JSON: " + why.substr(1, std::min<std::size_t>(why.size() - 2, 300)),
        {}};
  }
}

std::string Brief(const Json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= 40 ? text : std::string("a ") + value.type_name();
}

const Json* Fields::Find(const char* name) const {
  const auto at = object_.find(name);
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

bool Fields::Has(const char* name) const { return Find(name) != nullptr; }

void Fields::Refuse(const std::string& name, const std::string& expected) {
  if (error_) return;
  const auto at = object_.find(name);
  const std::string given = at == object_.end() ? "nothing" : Brief(*at);
  error_ = ApiError{400, prefix_ + name + ": " + given + ", expected " + expected, prefix_ + name};
}

bool Fields::Bool(const char* name, bool otherwise) {
  const Json* value = Find(name);
  if (value == nullptr) return otherwise;
  if (value->is_boolean()) return value->get<bool>();
  Refuse(name, "true or false");
  return otherwise;
}

std::int64_t Fields::Integer(const char* name, std::int64_t least, std::int64_t most,
                             std::int64_t otherwise) {
  const Json* value = Find(name);
  if (value == nullptr) return otherwise;
  bool fits = false;
  std::int64_t number = 0;
  if (value->is_number_unsigned()) {
    const auto given = value->get<std::uint64_t>();
    fits = most >= 0 && given <= static_cast<std::uint64_t>(most);
    number = fits ? static_cast<std::int64_t>(given) : 0;
  } else if (value->is_number_integer()) {
    number = value->get<std::int64_t>();
    fits = number <= most;
  } else if (value->is_number_float()) {  // 16.0 is a whole number too
    const double given = value->get<double>();
    fits =
        given == std::floor(given) && std::abs(given) < 9e15 && given <= static_cast<double>(most);
    number = fits ? static_cast<std::int64_t>(given) : 0;
  }
  if (fits && number >= least) return number;
  Refuse(name, "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  return otherwise;
}

double Fields::Real(const char* name, double least, double most, double otherwise) {
  const Json* value = Find(name);
  if (value == nullptr) return otherwise;
  if (value->is_number()) {
    const double given = value->get<double>();
    if (given >= least && given <= most) return given;
  }
  Refuse(name, "a number from " + Number(least) + " to " + Number(most));
  return otherwise;
}

std::string Fields::String(const char* name, const std::string& otherwise, std::size_t max_bytes) {
  const Json* value = Find(name);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) {
    Refuse(name, "a string");
    return otherwise;
  }
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() <= max_bytes) return text;
  Refuse(name, "a string of at most " + std::to_string(max_bytes) + " bytes");
  return otherwise;
}

std::string Fields::Name(const char* name, const std::vector<std::string>& names,
                         const std::string& otherwise) {
  const Json* value = Find(name);
  if (value == nullptr) return otherwise;
  if (value->is_string() && std::ranges::count(names, value->get<std::string>()) > 0) {
    return value->get<std::string>();
  }
  std::string list;
  for (std::size_t i = 0; i < names.size(); ++i) {
    list += (i == 0 ? "" : i + 1 < names.size() ? ", " : " or ") + names[i];
  }
  Refuse(name, list);
  return otherwise;
}

const Json* Fields::Array(const char* name, std::size_t least, std::size_t most) {
  const Json* value = Find(name);
  if (value == nullptr) return nullptr;
  if (value->is_array() && value->size() >= least && value->size() <= most) return value;
  Refuse(name, "an array of " + std::to_string(least) + " to " + std::to_string(most) + " items");
  return nullptr;
}

const Json* Fields::Object(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr || value->is_object()) return value;
  Refuse(name, "an object");
  return nullptr;
}

}  // namespace aster::serve
