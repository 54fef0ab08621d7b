#include "text.h"

#include <algorithm>
#include <cstdint>

namespace aster::cli {
namespace {

// Bytes of the well-formed character that the text starts with; 0 when there is none.
std::size_t CharacterLength(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<std::uint8_t>(text[i]) : std::uint8_t{0};
  };
  const auto continues = [&](std::size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool overlong = lead == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = lead == 0xED && byte(1) > 0x9F;
    return !overlong && !surrogate && continues(1) && continues(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool overlong = lead == 0xF0 && byte(1) < 0x90;
    const bool too_high = lead == 0xF4 && byte(1) > 0x8F;
    return !overlong && !too_high && continues(1) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

std::string Hex(std::uint8_t byte) {
  const char* const digits = "0123456789ABCDEF";
  return {digits[byte >> 4], digits[byte & 15]};
}

// What to show for the character of `length` bytes (0: one bad byte) that the text starts with.
std::string Visible(std::string_view text, std::size_t length, bool keep_layout) {
  const std::uint8_t first = static_cast<std::uint8_t>(text[0]);
  if (length == 0) return "<" + Hex(first) + ">";
  if (length == 2 && first == 0xC2 && static_cast<std::uint8_t>(text[1]) < 0xA0) {
    return "<U+00" + Hex(static_cast<std::uint8_t>(text[1])) + ">";
  }
  if (first == 0x7F) return "^?";
  if (first >= 0x20 || (keep_layout && (first == '\n' || first == '\t'))) {
    return std::string(text.substr(0, length));
  }
  return {'^', static_cast<char>(first + '@')};
}

std::string Neutralised(std::string_view text, bool keep_layout) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = CharacterLength(text);
    out += Visible(text, length, keep_layout);
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out;
}

}  // namespace

std::optional<std::size_t> FindInvalidUtf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t length = CharacterLength(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return std::nullopt;
}

bool IsBlank(std::string_view text) {
  return text.find_first_not_of(" \t\n\v\f\r") == std::string_view::npos;
}

std::string Printable(std::string_view text) { return Neutralised(text, true); }
std::string OneLine(std::string_view text) { return Neutralised(text, false); }

std::string Shown(std::string_view value) {
  constexpr std::size_t kLongest = 60;
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\n'; };
  if (value.empty() || is_space(value.front()) || is_space(value.back())) {
    return "'" + std::string(value.substr(0, std::min(value.size(), kLongest))) + "'";
  }
  if (value.size() <= kLongest) return std::string(value);
  std::size_t cut = kLongest;
  while (cut > 0 && (static_cast<std::uint8_t>(value[cut]) & 0xC0) == 0x80) --cut;
  return std::string(value.substr(0, cut)) + "...";
}

}  // namespace aster::cli
