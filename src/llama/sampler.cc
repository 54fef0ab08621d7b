#include "llama/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "llama.h"

namespace aster {

Sampler::Sampler(const SamplingOptions& options, std::int32_t n_vocab,
                 std::span<const Token> recent)
    : takes_likeliest_(options.temperature <= 0.0f && options.repeat_penalty == 1.0f),
      chain_(llama_sampler_chain_init(llama_sampler_chain_default_params())),
      candidates_(std::make_unique<std::vector<llama_token_data>>()) {
  const auto add = [this](llama_sampler* s) { llama_sampler_chain_add(chain_, s); };
  if (options.repeat_penalty != 1.0f) {
    add(llama_sampler_init_penalties(n_vocab, options.repeat_last_n, options.repeat_penalty, 0.0f,
                                     0.0f));
  }
  if (options.temperature <= 0.0f) {
    add(llama_sampler_init_greedy());
  } else {
    if (options.top_k > 0) add(llama_sampler_init_top_k(options.top_k));
    if (options.top_p < 1.0f) add(llama_sampler_init_top_p(options.top_p, 1));
    if (options.min_p > 0.0f) add(llama_sampler_init_min_p(options.min_p, 1));
    add(llama_sampler_init_temp(options.temperature));
    add(llama_sampler_init_dist(options.seed));
  }
  for (const Token token : recent) llama_sampler_accept(chain_, token);
}

Sampler::~Sampler() { llama_sampler_free(chain_); }

Token Sampler::Draw(std::span<const float> logits) {
  if (takes_likeliest_) {  // what the chain would do, without a list of all candidates
    return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  std::vector<llama_token_data>& candidates = *candidates_;
  candidates.resize(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    candidates[i] = {static_cast<llama_token>(i), logits[i], 0.0f};
  }
  llama_token_data_array array = {candidates.data(), candidates.size(), -1, false};
  llama_sampler_apply(chain_, &array);
  ASTER_CHECK(array.selected >= 0 && array.selected < static_cast<std::int64_t>(array.size),
              "no token drawn of %zu", array.size);
  const Token token = array.data[array.selected].id;
  llama_sampler_accept(chain_, token);
  return token;
}

std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, std::size_t n) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - max));
  const double log_sum = max + std::log(sum);

  n = std::min(n, logits.size());
  std::vector<Token> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n), order.end(),
                    [&](Token a, Token b) { return logits[a] > logits[b]; });
  std::vector<TokenLogprob> top(n);
  for (std::size_t i = 0; i < n; ++i) {
    top[i] = {order[i], static_cast<float>(logits[order[i]] - log_sum)};
  }
  return top;
}

}  // namespace aster
