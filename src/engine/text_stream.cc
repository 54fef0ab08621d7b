#include "engine/text_stream.h"

#include <algorithm>

namespace aster {
namespace {

// Bytes at the end of `text` that start a UTF-8 character but do not finish it.
std::size_t OpenCharacterBytes(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;  // a continuation byte: its start lies further back
    const std::size_t needed = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return needed > back ? back : 0;
  }
  return 0;
}

// Longest end of `text` that is a beginning of `stop`.
std::size_t PossibleStart(std::string_view text, std::string_view stop) {
  for (std::size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n) {
    if (text.substr(text.size() - n) == stop.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

TextStream::TextStream(std::vector<std::string> stop_strings,
                       std::function<void(std::string_view)> on_text)
    : stop_strings_(std::move(stop_strings)), on_text_(std::move(on_text)) {
  std::erase_if(stop_strings_, [](const std::string& stop) { return stop.empty(); });
}

bool TextStream::Add(std::string_view piece) {
  held_ += piece;
  std::size_t first = std::string::npos;
  for (const std::string& stop : stop_strings_) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    held_.resize(first);
    return false;
  }
  Show(Showable());
  return true;
}

void TextStream::Finish() { Show(held_.size()); }

std::size_t TextStream::Showable() const {
  std::size_t keep = OpenCharacterBytes(held_);
  for (const std::string& stop : stop_strings_) keep = std::max(keep, PossibleStart(held_, stop));
  return held_.size() - keep;
}

void TextStream::Show(std::size_t n_bytes) {
  if (n_bytes == 0) return;
  const std::string shown = held_.substr(0, n_bytes);
  held_.erase(0, n_bytes);
  text_ += shown;
  if (on_text_) on_text_(shown);
}

}  // namespace aster
