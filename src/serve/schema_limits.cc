#include "serve/schema_limits.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

namespace aster::serve {
namespace {

// What a quantifier at the front of `rest` multiplies by, and its length; {1, 0} for none.
std::pair<double, std::size_t> Quantifier(std::string_view rest) {
  if (rest.empty()) return {1, 0};
  if (rest.front() == '?' || rest.front() == '*' || rest.front() == '+') return {2, 1};
  const std::size_t end = rest.find('}');
  if (rest.front() != '{' || end == std::string_view::npos) return {1, 0};
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

}  // namespace

double NestedRepetitions(std::string_view pattern) {
  std::vector<double> most = {1};  // of each open group
  for (std::size_t at = 0; at < pattern.size();) {
    if (pattern[at] == '(') {
      most.push_back(1);
      ++at;
      continue;
    }
    double inner = 1;
    if (pattern[at] == ')' && most.size() > 1) {
      inner = most.back();
      most.pop_back();
      ++at;
    } else {
      at = AtomEnd(pattern, at);
    }
    while (true) {  // a{2}{3} is one within the other
      const auto [factor, length] = Quantifier(pattern.substr(at));
      if (length == 0) break;
      inner *= factor;
      at += length;
    }
    most.back() = std::max(most.back(), inner);
  }
  return *std::ranges::max_element(most);
}

bool PatternsAreTame(const Json& schema) {
  if (schema.is_object()) {
    const auto pattern = schema.find("pattern");
    if (pattern != schema.end() && pattern->is_string() &&
        NestedRepetitions(pattern->get_ref<const std::string&>()) > kMaxRepetitions) {
      return false;
    }
  }
  return !schema.is_structured() || std::ranges::all_of(schema, PatternsAreTame);
}

}  // namespace aster::serve
