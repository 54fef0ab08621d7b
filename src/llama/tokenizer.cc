#include "llama/tokenizer.h"

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <limits>
#include <optional>
#include <semaphore>
#include <stdexcept>

#include "llama.h"

namespace aster {
namespace {

// Measured with GCC 12's std::regex and the expressions of gpt-oss: up to 400 bytes of stack a
// character, 2,600 under AddressSanitizer. A match spans two runs at most: a word and the line ends
// behind it.
#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t kStackPerByte = 2 * 4096;
#else
constexpr std::size_t kStackPerByte = 2 * 512;
#endif
// Runs up to this need less than what every thread has.
constexpr std::size_t kShortRun = 512;
// A stack of the longest words may come to be used: only so many at once.
constexpr int kMaxLargeStacks = 4;

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::vector<Token> Ask(const llama_vocab* vocab, std::string_view text, bool add_special,
                       bool parse_special) {
  // A token holds at least one byte of text, but for the special ones around it.
  std::vector<Token> tokens(text.size() + 8);
  const auto size = static_cast<std::int32_t>(text.size());
  const auto ask = [&] {
    return llama_tokenize(vocab, text.data(), size, tokens.data(),
                          static_cast<std::int32_t>(tokens.size()), add_special, parse_special);
  };
  int n = ask();
  if (n == std::numeric_limits<std::int32_t>::min()) {
    throw std::length_error("more tokens than it can count");
  }
  if (n < 0) {
    tokens.resize(static_cast<std::size_t>(-n));
    n = ask();
  }
  tokens.resize(static_cast<std::size_t>(std::max(n, 0)));
  tokens.shrink_to_fit();
  return tokens;
}

// Runs f on a thread of that stack. False: there is no memory for it.
bool RunOnStack(std::size_t bytes, const std::function<void()>& f) {
  static std::counting_semaphore<kMaxLargeStacks> free(kMaxLargeStacks);
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  free.acquire();
  pthread_t thread;
  const auto run = [](void* work) -> void* {
    (*static_cast<const std::function<void()>*>(work))();
    return nullptr;
  };
  const bool started =
      pthread_attr_setstacksize(&attributes, bytes) == 0 &&
      pthread_create(&thread, &attributes, run, const_cast<std::function<void()>*>(&f)) == 0;
  if (started) pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  free.release();
  return started;
}

}  // namespace

std::size_t LongestRun(std::string_view text) {
  std::size_t longest = 0;
  std::size_t begin = 0;
  for (std::size_t i = 1; i <= text.size(); ++i) {
    if (i < text.size() && IsSpace(text[i]) == IsSpace(text[begin])) continue;
    longest = std::max(longest, i - begin);
    begin = i;
  }
  return longest;
}

Tokenizer::Tokenizer(const llama_vocab* vocab, std::size_t part_bytes)
    : vocab_(vocab), part_bytes_(part_bytes) {
  const auto type = llama_vocab_type(vocab);
  splits_words_ = type == LLAMA_VOCAB_TYPE_BPE;
  may_cut_ = type == LLAMA_VOCAB_TYPE_BPE || type == LLAMA_VOCAB_TYPE_SPM;
  for (Token token = 0; token < llama_vocab_n_tokens(vocab); ++token) {
    const int attributes = llama_vocab_get_attr(vocab, token);
    constexpr int kControl = LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN;
    if ((attributes & (kControl | LLAMA_TOKEN_ATTR_USER_DEFINED)) == 0) continue;
    Mark mark{llama_vocab_get_text(vocab, token), (attributes & kControl) != 0, false};
    if (mark.text.empty()) continue;
    // Its neighbours may take white space away from around themselves.
    mark.may_cut =
        (attributes & LLAMA_TOKEN_ATTR_RSTRIP) == 0 && std::ranges::none_of(mark.text, IsSpace);
    const Mark& kept = marks_.emplace_back(std::move(mark));
    mark_of_[kept.text] = &kept;
    max_size_ = std::max(max_size_, kept.text.size());
    auto& sizes = sizes_[static_cast<unsigned char>(kept.text.front())];
    if (std::ranges::find(sizes, kept.text.size()) == sizes.end()) {
      sizes.push_back(kept.text.size());
    }
  }
  for (auto& sizes : sizes_) std::ranges::sort(sizes, std::greater());
}

const Tokenizer::Mark* Tokenizer::FindMark(std::string_view text, bool parse_special) const {
  const auto at = mark_of_.find(text);
  if (at == mark_of_.end()) return nullptr;
  return at->second->is_control && !parse_special ? nullptr : at->second;
}

// llama.cpp looks for longer ones first, so one may hold shorter ones.
bool Tokenizer::StandsAlone(std::string_view text, std::size_t begin, std::size_t size,
                            bool parse_special) const {
  const std::size_t end = begin + size;
  for (std::size_t at = begin - std::min(begin, max_size_ - 1); at < end; ++at) {
    for (const std::size_t other : sizes_[static_cast<unsigned char>(text[at])]) {
      const bool overlaps = at + other > begin && at + other <= text.size();
      const bool is_within = at >= begin && at + other <= end && other < size;
      const bool is_itself = at == begin && other == size;
      if (!overlaps || is_within || is_itself) continue;
      if (FindMark(text.substr(at, other), parse_special) != nullptr) return false;
    }
  }
  return true;
}

std::size_t Tokenizer::FindCut(std::string_view text, std::size_t from, bool parse_special) const {
  for (std::size_t at = from; at < text.size(); ++at) {
    for (const std::size_t size : sizes_[static_cast<unsigned char>(text[at])]) {
      if (at + size > text.size()) continue;
      const Mark* mark = FindMark(text.substr(at, size), parse_special);
      if (mark == nullptr || !mark->may_cut) continue;
      if (StandsAlone(text, at, size, parse_special)) return at + size;
    }
  }
  return std::string_view::npos;
}

std::vector<Token> Tokenizer::InParts(std::string_view text, bool add_special,
                                      bool parse_special) const {
  std::vector<Token> tokens;
  std::optional<Token> end_token;  // that a text which is cut has behind its first part
  std::size_t begin = 0;
  do {
    std::size_t end = text.size();
    if (may_cut_ && end - begin > part_bytes_) {
      end = std::min(end, FindCut(text, begin + part_bytes_, parse_special));
    }
    const bool is_first = begin == 0;
    std::vector<Token> part =
        Ask(vocab_, text.substr(begin, end - begin), add_special && is_first, parse_special);
    const bool is_cut = is_first && end < text.size();
    if (is_cut && add_special && llama_vocab_get_add_eos(vocab_)) {
      end_token = part.back();
      part.pop_back();
    }
    tokens.insert(tokens.end(), part.begin(), part.end());
    begin = end;
  } while (begin < text.size());
  if (end_token) tokens.push_back(*end_token);
  return tokens;
}

Result<std::vector<Token>> Tokenizer::Tokenize(std::string_view text, bool add_special,
                                               bool parse_special) const {
  if (text.size() > std::numeric_limits<std::int32_t>::max() / 2) {
    return InvalidArgument("a text of " + std::to_string(text.size()) +
                           " bytes: at most 1073741823 can be tokenised at once");
  }
  const std::size_t longest_run = splits_words_ ? LongestRun(text) : 0;
  const std::string run = std::to_string(longest_run) + " bytes that white space does not part";
  if (longest_run > kMaxWordBytes) {
    return InvalidArgument("the text has " + run + ": expected at most " +
                           std::to_string(kMaxWordBytes));
  }
  Result<std::vector<Token>> tokens = std::vector<Token>();
  const auto work = [&] {
    try {
      tokens = InParts(text, add_special, parse_special);
    } catch (const std::exception& e) {
      tokens = WorldError(std::string("the model's tokenizer failed: ") + e.what());
    }
  };
  if (longest_run <= kShortRun) {
    work();
  } else if (!RunOnStack((longest_run + 1024) * kStackPerByte, work)) {
    return WorldError("no memory to tokenise " + run);
  }
  return tokens;
}

}  // namespace aster
