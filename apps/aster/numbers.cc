#include "numbers.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace aster::cli {
namespace {

template <class T>
std::optional<T> ParseWhole(std::string_view text) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end) return std::nullopt;
  return value;
}

std::string Fixed(double value, int digits) {
  char text[400];
  const auto [end, error] =
      std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, digits);
  return error == std::errc() ? std::string(text, end) : "?";
}

std::string TwoDigits(std::int64_t n) { return (n < 10 ? "0" : "") + std::to_string(n); }

}  // namespace

std::optional<std::int64_t> ParseInteger(std::string_view text) {
  return ParseWhole<std::int64_t>(text);
}

std::optional<double> ParseReal(std::string_view text) {
  const std::optional<double> value = ParseWhole<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::optional<std::int64_t> ParseBytes(std::string_view text) {
  constexpr std::string_view kUnits = "KMGT";
  std::int64_t unit = 1;
  const std::size_t at = text.empty() ? std::string_view::npos : kUnits.find(text.back());
  if (at != std::string_view::npos) {
    unit = std::int64_t{1} << (10 * (at + 1));
    text.remove_suffix(1);
  }
  const std::optional<std::int64_t> n = ParseInteger(text);
  if (!n || *n < 0 || *n > std::numeric_limits<std::int64_t>::max() / unit) return std::nullopt;
  return *n * unit;
}

std::string FormatCount(std::int64_t n) {
  std::string text = std::to_string(n);
  const std::size_t first_digit = n < 0 ? 1 : 0;
  for (std::size_t i = text.size(); i > first_digit + 3;) text.insert(i -= 3, 1, ',');
  return text;
}

std::string FormatRate(double value) {
  if (!(value > 0)) return "0";
  if (value >= 99.95) return FormatCount(std::llround(value));
  const int digits = 2 - static_cast<int>(std::floor(std::log10(value)));
  return Fixed(value, std::clamp(digits, 0, 6));
}

std::string FormatSeconds(double seconds) {
  if (!(seconds > 0)) return "0 s";
  if (seconds < 0.0995) return std::to_string(std::llround(1000 * seconds)) + " ms";
  if (seconds < 9.995) return Fixed(seconds, 2) + " s";
  if (seconds < 59.95) return Fixed(seconds, 1) + " s";
  const std::int64_t s = std::llround(std::min(seconds, 1e9));
  const std::string tail = TwoDigits(s % 60);
  if (s < 3600) return std::to_string(s / 60) + ":" + tail + " min";
  return std::to_string(s / 3600) + ":" + TwoDigits(s / 60 % 60) + ":" + tail + " h";
}

std::string FormatPercent(double share) {
  return std::to_string(std::llround(100 * std::clamp(share, 0.0, 1.0))) + " %";
}

}  // namespace aster::cli
