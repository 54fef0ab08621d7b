// A tiny model in the engine, and tokens for it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "aster/model.h"
#include "support/f32_kernels.h"

namespace aster {

// On one thread, with ggml's own linear layers: the same numbers on every machine of a kind.
inline Model MustLoadTiny(const std::string& path, std::int64_t ubatch_size = 32,
                          int max_sessions = 1) {
  ModelOptions options;
  options.n_threads = 1;
  options.ubatch_size = ubatch_size;
  options.max_sessions = max_sessions;
  options.linear = ModelOptions::Linear::kGgml;
  return std::move(*Model::Load(path, options));
}

// Those of two seeds differ from the first one on.
inline std::vector<Token> SomeTokens(int n, int seed = 7) {
  std::vector<Token> tokens;
  for (int i = 0; i < n; ++i) {
    tokens.push_back(10 + (i * i * seed + i * 31 + i / 9 + 13 * (seed + 243)) % 250);
  }
  return tokens;
}

}  // namespace aster
