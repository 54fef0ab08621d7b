// From token pieces to text a person can be shown: whole UTF-8 characters, nothing of a stop
// string.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace aster {

class TextStream {
 public:
  TextStream(std::vector<std::string> stop_strings, std::function<void(std::string_view)> on_text);

  // Adds the bytes of one token. False when a stop string is complete: the text ends before it.
  bool Add(std::string_view piece);
  // The end: shows what was held back. Bytes that never became a character are kept as they are.
  void Finish();

  const std::string& text() const { return text_; }  // all that was shown

 private:
  // Bytes of held_ that can be shown now: no open character, no possible start of a stop string.
  std::size_t Showable() const;
  void Show(std::size_t n_bytes);

  std::vector<std::string> stop_strings_;
  std::function<void(std::string_view)> on_text_;
  std::string text_;
  std::string held_;
};

}  // namespace aster
