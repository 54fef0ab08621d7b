// llama.cpp's tokenizer, for texts that nobody vouches for.
//
// It gives llama.cpp's tokens, but bounds what a text can cost:
//   - Many tokenizers split words by std::regex, which recurses for each character of a word: a
//     long one would end the process. Texts with long words run on a stack that holds them, and
//     words beyond kMaxWordBytes are refused.
//   - Finding special tokens takes the square of their number. Long texts are cut behind special
//     tokens that stand alone, where the parts' tokens are the whole's.
#pragma once

#include <array>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "aster/model.h"
#include "aster/status.h"

struct llama_vocab;

namespace aster {

class Tokenizer {
 public:
  // Bytes without white space between them, or of nothing else.
  static constexpr std::size_t kMaxWordBytes = 1 << 20;
  // Texts are cut at the first place behind so many bytes, and again behind as many more.
  static constexpr std::size_t kPartBytes = 1 << 14;

  explicit Tokenizer(const llama_vocab* vocab, std::size_t part_bytes = kPartBytes);

  // Errors: kInvalidArgument for a text or a word that is too long, kWorld when llama.cpp's fails.
  Result<std::vector<Token>> Tokenize(std::string_view text, bool add_special,
                                      bool parse_special) const;

  // The end of the first special token at or behind `from` that no other one overlaps, so that it
  // is one whatever surrounds it; npos where there is none. REQUIRES: from <= text.size().
  std::size_t FindCut(std::string_view text, std::size_t from, bool parse_special) const;

 private:
  struct Mark {
    std::string text;
    bool is_control = false;  // found with parse_special only
    bool may_cut = false;     // what is beside it stays as it is
  };

  std::vector<Token> InParts(std::string_view text, bool add_special, bool parse_special) const;
  const Mark* FindMark(std::string_view text, bool parse_special) const;
  bool StandsAlone(std::string_view text, std::size_t begin, std::size_t size,
                   bool parse_special) const;

  const llama_vocab* vocab_;
  const std::size_t part_bytes_;
  bool splits_words_ = false;  // by regular expressions
  bool may_cut_ = false;
  std::deque<Mark> marks_;
  std::unordered_map<std::string_view, const Mark*> mark_of_;
  std::array<std::vector<std::size_t>, 256> sizes_;  // of marks, by first byte; longest first
  std::size_t max_size_ = 0;
};

// The longest run of bytes that are all white space or all not.
std::size_t LongestRun(std::string_view text);

}  // namespace aster
