// llama.cpp's samplers in llama.cpp's order: penalties, top-k, top-p, min-p, temperature, draw. A
// grammar is asked about the token drawn, and only if it refuses about all of them, as llama.cpp
// does.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "aster/context.h"

struct llama_sampler;
struct llama_token_data;

namespace aster {

class LlamaModel;

class Sampler {
 public:
  // `recent`: tokens before the answer that the penalties look back on. `model`: whose text a
  // grammar is held against; may be null without one. REQUIRES: CheckGrammar of that grammar.
  Sampler(const SamplingOptions& options, std::int32_t n_vocab, std::span<const Token> recent,
          const LlamaModel* model = nullptr);
  ~Sampler();
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // Draws the next token from logits [n_vocab] and remembers it.
  Token Draw(std::span<const float> logits);

 private:
  Token DrawFreely(std::span<const float> logits);
  Token Select(std::span<const float> logits, bool by_grammar);
  bool GrammarTakes(Token token) const;

  const bool takes_likeliest_;  // greedy and nothing else
  llama_sampler* chain_;
  llama_sampler* grammar_ = nullptr;                           // null: there is none
  std::unique_ptr<std::vector<llama_token_data>> candidates_;  // kept from draw to draw
};

// A token takes longer, the longer the grammar is.
inline constexpr std::size_t kMaxGrammarBytes = 32 << 10;
// Errors: kInvalidArgument for a grammar that is longer, or that llama.cpp can't read.
Status CheckGrammar(const Grammar& grammar, const LlamaModel& model);

// The n most likely tokens with the natural logs of their probabilities, best first.
std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, std::size_t n);

// One token's logprob, and the n most likely ones'.
AnswerLogprob LogprobOf(std::span<const float> logits, Token token, std::size_t n);

}  // namespace aster
