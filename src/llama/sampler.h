// llama.cpp's samplers in llama.cpp's order: penalties, top-k, top-p, min-p, temperature, draw.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "aster/context.h"

struct llama_sampler;
struct llama_token_data;

namespace aster {

class Sampler {
 public:
  // `recent`: tokens before the answer that the repeat penalty looks back on.
  Sampler(const SamplingOptions& options, std::int32_t n_vocab, std::span<const Token> recent);
  ~Sampler();
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // Draws the next token from logits [n_vocab] and remembers it.
  Token Draw(std::span<const float> logits);

 private:
  const bool takes_likeliest_;  // greedy and nothing else
  llama_sampler* chain_;
  std::unique_ptr<std::vector<llama_token_data>> candidates_;  // kept from draw to draw
};

// The n most likely tokens with the natural logs of their probabilities, best first.
std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, std::size_t n);

}  // namespace aster
