// Names of answers and contexts.
#pragma once

#include <random>
#include <string>

namespace aster::serve {

// The prefix and 24 letters and digits, 142 random bits: no id can be guessed.
inline std::string RandomId(std::string prefix) {
  static constexpr char kLetters[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  std::random_device random;
  std::uniform_int_distribution<std::size_t> letter(0, sizeof kLetters - 2);
  for (int i = 0; i < 24; ++i) prefix += kLetters[letter(random)];
  return prefix;
}

}  // namespace aster::serve
