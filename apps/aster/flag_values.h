// Values of flags: readers that take a text or refuse it, and what makes a Setter of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "aster/plan.h"
#include "flags.h"
#include "numbers.h"

namespace aster::cli {

inline constexpr const char* kTokens = "a number of tokens, such as 4096 or 4K";

template <class T>
void AddInteger(CLI::App& app, const std::string& names, const std::string& help,
                std::int64_t least, std::int64_t most, T& value) {
  const std::string expected =
      most == std::numeric_limits<std::int32_t>::max()
          ? "a whole number of at least " + std::to_string(least)
          : "a whole number from " + std::to_string(least) + " to " + std::to_string(most);
  AddValue(app, names, "N", help, expected, [least, most, &value](const std::string& text) {
    const auto n = ParseInteger(text);
    if (!n || *n < least || *n > most) return false;
    value = static_cast<T>(*n);
    return true;
  });
}

// Reads a value from text; nullopt for one that is refused.
template <class T>
using Reader = std::function<std::optional<T>(const std::string&)>;

template <class T>
Setter Into(T& value, std::type_identity_t<Reader<T>> read) {
  return [&value, read](const std::string& text) {
    const std::optional<T> found = read(text);
    if (found) value = *found;
    return found.has_value();
  };
}

// Items between commas.
template <class T>
Reader<std::vector<T>> List(Reader<T> read) {
  return [read](const std::string& text) -> std::optional<std::vector<T>> {
    std::vector<T> items;
    for (std::size_t at = 0; at <= text.size();) {
      const std::size_t comma = std::min(text.find(',', at), text.size());
      const std::optional<T> item = read(text.substr(at, comma - at));
      if (!item) return std::nullopt;
      items.push_back(*item);
      at = comma + 1;
    }
    return items;
  };
}

inline Reader<std::int64_t> TokenCount(
    std::int64_t least, std::int64_t most = std::numeric_limits<std::int32_t>::max()) {
  return [least, most](const std::string& text) -> std::optional<std::int64_t> {
    const Result<std::int64_t> n = ParseTokenCount(text);
    if (!n || *n < least || *n > most) return std::nullopt;
    return *n;
  };
}

// "auto" stands for the value that the plan reads as auto.
inline Reader<std::int64_t> OrAuto(std::int64_t auto_value, Reader<std::int64_t> read) {
  return [auto_value, read](const std::string& text) {
    return text == "auto" ? std::optional(auto_value) : read(text);
  };
}

// One of a few names.
template <class T>
Reader<T> OneOf(std::vector<std::pair<const char*, T>> names) {
  return [names](const std::string& text) -> std::optional<T> {
    for (const auto& [name, value] : names) {
      if (text == name) return value;
    }
    return std::nullopt;
  };
}

inline std::optional<std::string> NotEmpty(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional(text);
}

inline std::optional<Attention> ReadAttention(const std::string& text) {
  const Result<Attention> kind = ParseAttention(text);
  return kind ? std::optional(*kind) : std::nullopt;
}

inline Reader<std::int64_t> ReadWindow() { return OrAuto(kAutoWindow, TokenCount(0, kMostWindow)); }

}  // namespace aster::cli
