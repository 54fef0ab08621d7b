// Running a model three ways, and how far apart two runs are.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aster/plan.h"
#include "llama/forward_pass.h"
#include "llama/llama_model.h"
#include "llama/stock_pass.h"

namespace aster {

// Logits of the last n positions, row-major [n, n_vocab].
struct Logits {
  std::vector<float> values;
  std::int64_t n_vocab = 0;

  std::int64_t n_rows() const { return static_cast<std::int64_t>(values.size()) / n_vocab; }
  std::span<const float> row(std::int64_t i) const {
    return std::span(values).subspan(static_cast<std::size_t>(i * n_vocab),
                                     static_cast<std::size_t>(n_vocab));
  }
};

std::unique_ptr<LlamaModel> MustLoad(const std::string& path);

// Tokens that vary and repeat: runs of a small alphabet, so that attention finds matches.
std::vector<Token> RandomTokens(std::int64_t n, std::int64_t n_vocab, std::uint32_t seed);

struct RunOptions {
  std::int64_t ubatch_size = 128;
  std::int64_t n_last = 256;  // positions whose logits are wanted
  int n_threads = 2;
  ModelOptions::Linear linear = ModelOptions::Linear::kGgml;
};

Logits RunStock(const LlamaModel& model, std::span<const Token> tokens, const RunOptions& options,
                StockCache cache = StockCache::kF16);
Logits RunAster(const LlamaModel& model, std::span<const Token> tokens, const RunOptions& options);

struct Divergence {
  double mean_kl = 0;  // of q's next-token distributions from p's, in nats
  double max_kl = 0;
  double same_top = 0;  // share of positions with the same most likely token
};

// REQUIRES: the same shape.
Divergence Compare(const Logits& p, const Logits& q);

}  // namespace aster
