#include "eval/score.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "unicode.h"

namespace aster::eval {
namespace {

// As RULER's scorer reads a prediction: control characters as line feeds, no space around it.
std::string Cleaned(std::string_view prediction) {
  std::string text(prediction);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, '\n');
  constexpr const char* kSpaces = " \n";
  const std::size_t first = text.find_first_not_of(kSpaces);
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpaces) - first + 1);
}

// The two places where Unicode's lower case is not a letter for a letter.
constexpr std::uint32_t kDottedI = 0x130, kDotAbove = 0x307;
constexpr std::uint32_t kSigma = 0x3A3, kFinalSigma = 0x3C2;

// The character that starts at *at, which moves behind it; a byte that starts none is passed alone.
std::optional<std::uint32_t> NextLetter(const std::string& text, std::size_t* at) {
  const std::size_t begin = *at;
  try {
    return unicode_cpt_from_utf8(text, *at);
  } catch (const std::exception&) {
    *at = begin + 1;
    return std::nullopt;
  }
}

bool LetterAt(const std::string& text, std::size_t at) {
  const auto letter = at < text.size() ? NextLetter(text, &at) : std::nullopt;
  return letter && unicode_cpt_flags_from_cpt(*letter).is_letter;
}

bool Holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

double ScoreReferences(std::string_view prediction, std::span<const std::string> references,
                       bool any) {
  const std::string text = LowerCase(Cleaned(prediction));
  const auto n_found = std::count_if(
      references.begin(), references.end(),
      [&text](const std::string& reference) { return Holds(text, LowerCase(reference)); });
  if (any) return n_found > 0 ? 1 : 0;
  return static_cast<double>(n_found) / static_cast<double>(references.size());
}

// Up to a full stop, or to where a model goes on with an example of its own.
std::string FirstSentence(std::string text) {
  for (const char* end : {".", "<context>", "<example>"}) text = text.substr(0, text.find(end));
  return text;
}

// The labels of a reference, which may be several with commas between; "n,w" is one, a path.
std::vector<std::string> LabelsOf(const std::string& reference) {
  constexpr std::size_t kPathSize = 3;
  std::vector<std::string> labels(1);
  for (const char c : reference) {
    if (c == ',' && reference.size() > kPathSize) {
      labels.emplace_back();
    } else {
      labels.back() += c;
    }
  }
  return labels;
}

double ScoreLabel(const Task& task, std::string_view prediction, std::string_view reference,
                  std::string_view question) {
  const std::string asked = LowerCase(question);
  const std::string text = FirstSentence(LowerCase(prediction));
  const std::vector<std::string> right = LabelsOf(LowerCase(reference));
  std::size_t n_named = 0;
  for (const std::string_view label : task.labels) {
    if (Holds(asked, label) || !Holds(text, label)) continue;
    if (std::ranges::find(right, label) == right.end()) return 0;
    ++n_named;
  }
  return n_named == right.size() ? 1 : 0;
}

}  // namespace

std::string LowerCase(std::string_view text) {
  std::string lower;
  const std::string copy(text);
  bool after_letter = false;
  for (std::size_t at = 0; at < copy.size();) {
    const std::size_t begin = at;
    const std::optional<std::uint32_t> letter = NextLetter(copy, &at);
    const std::uint32_t low = letter ? unicode_tolower(*letter) : 0;
    if (letter == kDottedI) {
      lower += "i" + unicode_cpt_to_utf8(kDotAbove);
    } else if (letter == kSigma && after_letter && !LetterAt(copy, at)) {
      lower += unicode_cpt_to_utf8(kFinalSigma);
    } else {
      lower += letter && low != *letter ? unicode_cpt_to_utf8(low) : copy.substr(begin, at - begin);
    }
    after_letter = letter && unicode_cpt_flags_from_cpt(*letter).is_letter;
  }
  return lower;
}

double Score(const Task& task, std::string_view prediction, std::span<const std::string> references,
             std::string_view question) {
  if (task.scorer == Scorer::kLabel) {
    return ScoreLabel(task, prediction, references.front(), question);
  }
  return ScoreReferences(prediction, references, task.scorer == Scorer::kAny);
}

}  // namespace aster::eval
