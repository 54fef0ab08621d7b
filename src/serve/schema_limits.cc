#include "serve/schema_limits.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace aster::serve {
namespace {

// What a quantifier at the front of `rest` multiplies by, and its length; {1, 0} for none.
std::pair<double, std::size_t> Quantifier(std::string_view rest) {
  if (rest.empty()) return {1, 0};
  if (rest.front() == '?' || rest.front() == '*' || rest.front() == '+') return {2, 1};
  if (rest.front() != '{') return {1, 0};
  const std::size_t end = rest.find('}');
  if (end == std::string_view::npos) return {1, 0};
  const std::string inside(rest.substr(1, end - 1));
  if (inside.find_first_not_of("0123456789,") != std::string::npos) return {1, 0};
  const std::size_t comma = inside.find(',');
  const double least = std::atof(inside.c_str());
  const double most = comma == std::string::npos ? least : std::atof(inside.c_str() + comma + 1);
  return {std::max({least, most, 1.0}), end + 1};
}

// The end of the atom at `at` that is no group: a character, an escape, a class.
std::size_t AtomEnd(std::string_view pattern, std::size_t at) {
  if (pattern[at] == '\\') return std::min(at + 2, pattern.size());
  if (pattern[at] != '[') return at + 1;
  for (++at; at < pattern.size() && pattern[at] != ']'; ++at) {
    if (pattern[at] == '\\') ++at;
  }
  return std::min(at + 1, pattern.size());
}

// The length of an escape that grammars have too, at the front of `rest`; 0: it is none.
std::size_t KeptEscape(std::string_view rest) {
  if (rest.size() < 2) return 0;
  if (std::string_view("trn\\\"[]-").find(rest[1]) != std::string_view::npos) return 2;
  const std::size_t n_hex = rest[1] == 'x' ? 2 : rest[1] == 'u' ? 4 : rest[1] == 'U' ? 8 : 0;
  const std::string_view digits = rest.substr(2, n_hex);
  const bool is_hex = n_hex > 0 && digits.size() == n_hex &&
                      digits.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
  return is_hex ? 2 + n_hex : 0;
}

// The end of a class whose escapes are all kept; npos: of another.
std::size_t KeptClassEnd(std::string_view pattern, std::size_t at) {
  for (++at; at < pattern.size() && pattern[at] != ']';) {
    const std::size_t length = pattern[at] == '\\' ? KeptEscape(pattern.substr(at)) : 1;
    if (length == 0) return std::string_view::npos;
    at += length;
  }
  return at < pattern.size() ? at + 1 : std::string_view::npos;
}

std::size_t KeptBracesEnd(std::string_view pattern, std::size_t at) {
  const std::size_t end = pattern.find('}', at);
  if (end == std::string_view::npos) return end;
  const std::string_view inside = pattern.substr(at + 1, end - at - 1);
  const std::size_t comma = inside.find(',');
  const bool has_both = comma != 0 && comma < inside.size() - 1;
  const std::string text(inside);
  const bool fits = !inside.empty() && inside.size() <= 9 &&
                    inside.find_first_not_of("0123456789,") == std::string_view::npos &&
                    std::ranges::count(inside, ',') <= 1 &&
                    !(has_both && std::atoi(text.c_str()) > std::atoi(text.c_str() + comma + 1));
  return fits ? end + 1 : std::string_view::npos;
}

// One step through what is between ^ and $; npos: what grammars do not have.
std::size_t KeptEnd(std::string_view inner, std::size_t at) {
  switch (inner[at]) {
    case '[':
      return KeptClassEnd(inner, at);
    case '{':
      return KeptBracesEnd(inner, at);
    case '(':
      return inner.substr(at + 1).starts_with('?') && !inner.substr(at + 1).starts_with("?:")
                 ? std::string_view::npos
                 : at + (inner.substr(at + 1).starts_with('?') ? 3 : 1);
    case '^':
    case '$':
    case ']':
    case '}':
      return std::string_view::npos;
    case '\\': {
      if (at + 1 < inner.size() &&
          std::string_view("^$.[]()|{}*+?").find(inner[at + 1]) != std::string_view::npos) {
        return at + 2;
      }
      const std::size_t length = KeptEscape(inner.substr(at));
      return length == 0 ? std::string_view::npos : at + length;
    }
    default:
      return at + 1;
  }
}

// Calls visit(schema) for each schema of a document, and not for what stands among values.
template <class Document, class Visit>
void VisitSchemas(Document& schema, const Visit& visit, bool is_names = false) {
  static constexpr std::array kValues = {"const", "enum", "default", "examples"};
  static constexpr std::array kNames = {"properties", "$defs", "definitions", "patternProperties",
                                        "dependentSchemas"};
  if (!schema.is_structured()) return;
  if (schema.is_object() && !is_names) visit(schema);
  for (auto at = schema.begin(); at != schema.end(); ++at) {
    const bool has_key = schema.is_object() && !is_names;
    if (has_key && std::ranges::find(kValues, at.key()) != kValues.end()) continue;
    VisitSchemas(*at, visit, has_key && std::ranges::find(kNames, at.key()) != kNames.end());
  }
}

// Of a schema's own pattern and counts; empty: all is well.
std::string TooMuchOfStrings(const Json& schema) {
  const auto pattern = schema.find("pattern");
  if (pattern != schema.end() && pattern->is_string() &&
      NestedRepetitions(pattern->get_ref<const std::string&>()) > kMaxRepetitions) {
    return "patterns whose nested repetitions multiply to at most 1000";
  }
  for (const char* name : {"minItems", "maxItems", "minLength", "maxLength"}) {
    const auto count = schema.find(name);
    if (count != schema.end() && count->is_number() && count->get<double>() > kMaxCount) {
      return std::string(name) + " of at most " + std::to_string(kMaxCount);
    }
  }
  const std::pair<const char*, const char*> bounds[] = {
      {"minItems", "maxItems"}, {"minLength", "maxLength"}, {"minimum", "maximum"}};
  for (const auto& [least, most] : bounds) {
    const auto low = schema.find(least), high = schema.find(most);
    if (low != schema.end() && high != schema.end() && low->is_number() && high->is_number() &&
        low->get<double>() > high->get<double>()) {
      return std::string(least) + " of at most " + most;
    }
  }
  return {};
}

// A schema as llama.cpp's builder and converter go through it: each reference once, but the parts
// of an allOf wherever it stands, and the alternatives of a list of types each by itself.
class Unfolding {
 public:
  // n_all: the parts of the request's other schemas; this one's are added.
  Unfolding(const Json& root, std::size_t& n_all) : root_(root), n_all_(n_all) {}

  // What is expected instead; empty: all is well.
  std::string TooMuch() {
    Part(root_, 0);
    for (const Json* one : parts_) {
      if (wrong_.empty()) Alternatives(*one);
    }
    return wrong_;
  }

 private:
  void Refuse(const std::string& expected) {
    if (wrong_.empty()) wrong_ = expected;
  }
  bool Spend(std::size_t n, int depth) {
    n_parts_ += n;
    n_all_ += n;
    if (n_parts_ > kMaxSchemaParts) {
      Refuse("a schema of at most " + std::to_string(kMaxSchemaParts) + " parts");
    }
    if (n_all_ > kMaxToolsParts) {
      Refuse("schemas of at most " + std::to_string(kMaxToolsParts) + " parts in all");
    }
    if (depth > kMaxSchemaDepth) {
      Refuse("a schema of at most " + std::to_string(kMaxSchemaDepth) +
             " parts within each other, references followed");
    }
    return wrong_.empty();
  }
  void CheckName(const std::string& name) {
    if (name.size() > kMaxNameBytes) {
      Refuse("names of at most " + std::to_string(kMaxNameBytes) + " bytes in a schema");
    }
  }

  // What a reference of this document names, as llama.cpp finds it; null: nothing, which it says.
  const Json* Resolve(const std::string& reference) const {
    if (!reference.starts_with("#/")) return nullptr;
    const Json* target = &root_;
    for (std::size_t at = 2; at <= reference.size();) {
      const std::size_t end = std::min(reference.find('/', at), reference.size());
      const std::string name = reference.substr(at, end - at);
      at = end + 1;
      if (target->is_object() && target->contains(name)) {
        target = &target->at(name);
        continue;
      }
      if (!target->is_array()) return nullptr;
      try {
        const std::size_t index = std::stoull(name);
        if (index >= target->size()) return nullptr;
        target = &target->at(index);
      } catch (const std::logic_error&) {
        return nullptr;
      }
    }
    return target;
  }

  static const std::string* ReferenceOf(const Json& schema) {
    if (!schema.is_object()) return nullptr;
    const auto reference = schema.find("$ref");
    if (reference == schema.end() || !reference->is_string()) return nullptr;
    return &reference->get_ref<const std::string&>();
  }

  // The first schema behind references that is none itself.
  const Json* Behind(const Json& schema) {
    const Json* found = &schema;
    std::set<std::string> seen;
    while (found != nullptr) {
      const std::string* reference = ReferenceOf(*found);
      if (reference == nullptr) return found;
      if (!seen.insert(*reference).second || seen.size() > kMaxSchemaDepth) {
        Refuse("references that lead somewhere");
        return nullptr;
      }
      found = Resolve(*reference);
    }
    return nullptr;
  }

  // Some chat formats ask a parameter for its types, through all that it may be.
  void Alternatives(const Json& schema) {
    if (!schema.is_object()) return;
    if (++n_alternatives_ > kMaxAlternatives) {
      return Refuse("a schema whose alternatives unfold to at most " +
                    std::to_string(kMaxAlternatives));
    }
    if (const std::string* reference = ReferenceOf(schema)) {
      const Json* target = Resolve(*reference);
      if (target == nullptr || std::ranges::count(open_, target) > 0) return;
      open_.push_back(target);
      Alternatives(*target);
      open_.pop_back();
      return;
    }
    for (const char* name : {"oneOf", "anyOf", "allOf"}) {
      if (!schema.contains(name) || !schema[name].is_array()) continue;
      for (const Json& one : schema[name]) {
        if (wrong_.empty()) Alternatives(one);
      }
    }
  }

  void Part(const Json& schema, int depth) {
    if (!schema.is_object() || !Spend(1, depth)) return;
    parts_.push_back(&schema);
    if (const std::string* reference = ReferenceOf(schema)) {
      CheckName(*reference);
      const Json* target = Resolve(*reference);
      if (Behind(schema) != nullptr && references_.insert(*reference).second) {
        Part(*target, depth + 1);
      }
      return;
    }
    for (const char* name : {"oneOf", "anyOf"}) {
      if (schema.contains(name)) return Parts(schema[name], depth);
    }
    OfTypes(schema, schema.contains("type") ? schema["type"] : Json(), depth);
  }

  void Parts(const Json& list, int depth) {
    if (!list.is_array()) return;
    for (const Json& one : list) Part(one, depth + 1);
  }

  void OfTypes(const Json& schema, const Json& type, int depth) {
    if (!type.is_array()) return Body(schema, depth);
    // The converter copies the schema for each of them.
    const std::size_t n_bytes = schema.dump(-1, ' ', false, Json::error_handler_t::replace).size();
    if (!Spend(type.size() * (n_bytes / kBytesAPart), depth)) return;
    for (const Json& one : type) {
      if (Spend(1, depth)) OfTypes(schema, one, depth + 1);
    }
  }

  void Body(const Json& schema, int depth) {
    if (schema.contains("const") || schema.contains("enum")) {
      if (schema.contains("enum")) Spend(schema["enum"].size(), depth);
      return;
    }
    const auto pattern = schema.find("pattern");
    if (pattern != schema.end() && pattern->is_string() &&
        !IsPatternKept(pattern->get_ref<const std::string&>())) {
      Refuse("no $ref to a pattern among values");  // others were taken out or refused
    }
    if (std::string wrong = TooMuchOfStrings(schema); !wrong.empty()) Refuse(wrong);
    const std::size_t n_optional = Properties(schema, depth);
    CheckOptional(n_optional);
    if (schema.contains("additionalProperties")) Part(schema["additionalProperties"], depth + 1);
    for (const char* name : {"items", "prefixItems"}) {
      if (!schema.contains(name)) continue;
      schema[name].is_array() ? Parts(schema[name], depth) : Part(schema[name], depth + 1);
    }
    if (schema.contains("allOf") && schema["allOf"].is_array()) AllOf(schema["allOf"], depth);
  }

  // How many of them may be left out.
  std::size_t Properties(const Json& schema, int depth) {
    const auto properties = schema.find("properties");
    if (properties == schema.end() || !properties->is_object()) return 0;
    for (const auto& [name, property] : properties->items()) {
      CheckName(name);
      Part(property, depth + 1);
      if (!wrong_.empty()) return 0;
    }
    std::set<std::string> required;
    if (schema.contains("required") && schema["required"].is_array()) {
      for (const Json& name : schema["required"]) {
        if (name.is_string()) required.insert(name.get<std::string>());
      }
    }
    std::size_t n = 0;
    for (const auto& [name, property] : properties->items()) n += !required.contains(name);
    return n;
  }

  void CheckOptional(std::size_t n) {
    if (n > kMaxOptional) {
      Refuse("objects with at most " + std::to_string(kMaxOptional) +
             " properties that are not required");
    }
  }

  void AllOf(const Json& list, int depth) {
    if (std::ranges::count(open_, &list) > 0) {
      return Refuse("no allOf that holds itself: a $ref alone may");
    }
    open_.push_back(&list);
    std::size_t n_optional = 0;
    for (const Json& child : list) {
      if (!wrong_.empty()) break;
      if (!child.is_object()) continue;
      const char* key = child.contains("oneOf") ? "oneOf" : "anyOf";
      if (ReferenceOf(child) == nullptr && child.contains(key) && child[key].is_array()) {
        for (const Json& one : child[key]) n_optional += Component(one, depth);
      } else {
        Component(child, depth);
      }
      Part(child, depth + 1);
    }
    CheckOptional(n_optional);
    open_.pop_back();
  }

  // A part of an allOf, whose properties become those of the whole; how many.
  std::size_t Component(const Json& part, int depth) {
    const Json* schema = Behind(part);
    if (schema == nullptr || !schema->is_object() || !Spend(1, depth)) return 0;
    std::size_t n_types = 1;
    if (schema->contains("type") && (*schema)["type"].is_array()) {
      n_types = (*schema)["type"].size();
    }
    for (std::size_t i = 0; i < n_types && wrong_.empty(); ++i) Properties(*schema, depth);
    if (schema->contains("enum")) Spend((*schema)["enum"].size(), depth);
    if (!schema->contains("properties")) return 0;
    return n_types * (*schema)["properties"].size();
  }

  const Json& root_;
  std::size_t& n_all_;
  std::size_t n_parts_ = 0;
  std::set<std::string> references_;
  std::vector<const Json*> open_;  // lists of allOf, then targets of references
  std::vector<const Json*> parts_;
  std::size_t n_alternatives_ = 0;
  std::string wrong_;
};

}  // namespace

double NestedRepetitions(std::string_view pattern) {
  double most = 1;
  std::vector<double> sums = {0};  // of the repetitions side by side in each open group
  for (std::size_t at = 0; at < pattern.size();) {
    if (pattern[at] == '(') {
      sums.push_back(0);
      ++at;
      continue;
    }
    double inner = 0;
    if (pattern[at] == ')' && sums.size() > 1) {
      inner = sums.back();
      sums.pop_back();
      ++at;
    } else {
      at = AtomEnd(pattern, at);
    }
    while (true) {  // a{2}{3} is one within the other
      const auto [factor, length] = Quantifier(pattern.substr(at));
      if (length == 0) break;
      inner = std::max(inner, 1.0) * factor;
      most = std::max(most, inner);
      at += length;
    }
    sums.back() += inner;
  }
  return most;
}

bool IsPatternKept(std::string_view pattern) {
  if (pattern.size() < 2 || pattern.size() > kMaxPatternBytes) return false;
  if (!pattern.starts_with('^') || !pattern.ends_with('$')) return false;
  const std::string_view inner = pattern.substr(1, pattern.size() - 2);
  int depth = 0;
  for (std::size_t at = 0; at < inner.size();) {
    if (inner[at] == '(' && ++depth > kMaxSchemaDepth) return false;
    if (inner[at] == ')') --depth;
    at = KeptEnd(inner, at);
    if (at == std::string_view::npos) return false;
  }
  return true;
}

std::string LeaveOutPatterns(Json& schema) {
  std::string first;
  VisitSchemas(schema, [&first](Json& one) {
    const auto pattern = one.find("pattern");
    if (pattern == one.end() || !pattern->is_string() ||
        IsPatternKept(pattern->get_ref<const std::string&>())) {
      return;
    }
    if (first.empty()) first = Brief(*pattern);
    one.erase(pattern);
  });
  return first;
}

void CloseLongBounds(Json& schema) {
  constexpr double kLong = 1e15, kTooLong = 1e16;  // of 16 digits, of 17
  constexpr std::int64_t kLongest = 9'999'999'999'999'999;
  const auto bound = [](const Json& one, const char* name, const char* exclusive) {
    const auto at = one.contains(name) ? one.find(name) : one.find(exclusive);
    return at != one.end() && at->is_number() ? std::optional(at->get<double>()) : std::nullopt;
  };
  VisitSchemas(schema, [&](Json& one) {
    const auto low = bound(one, "minimum", "exclusiveMinimum");
    const auto high = bound(one, "maximum", "exclusiveMaximum");
    if (low && !high && *low >= kLong && *low < kTooLong) one["maximum"] = kLongest;
    if (high && !low && *high <= -kLong && *high > -kTooLong) one["minimum"] = -kLongest;
  });
}

std::string TooMuchOf(const Json& schema) {
  std::size_t n_all = 0;
  return TooMuchOf(schema, n_all);
}

std::string TooMuchOf(const Json& schema, std::size_t& n_all) {
  if (schema.dump(-1, ' ', false, Json::error_handler_t::replace).size() > kMaxSchemaBytes) {
    return "a schema of at most " + std::to_string(kMaxSchemaBytes >> 10) + " KiB";
  }
  if (std::string too_much = Unfolding(schema, n_all).TooMuch(); !too_much.empty()) return too_much;
  std::string too_much;
  VisitSchemas(schema, [&too_much](const Json& one) {
    if (too_much.empty()) too_much = TooMuchOfStrings(one);
  });
  return too_much;
}

}  // namespace aster::serve
