#include "llama/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <memory>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "llama.h"
#include "llama/llama_log.h"
#include "llama/llama_model.h"

namespace aster {

namespace {

bool HasPenalties(const SamplingOptions& options) {
  return options.repeat_penalty != 1.0f || options.presence_penalty != 0.0f ||
         options.frequency_penalty != 0.0f;
}

// Null when llama.cpp can't read it.
llama_sampler* MakeGrammar(const Grammar& grammar, const LlamaModel& model) {
  const llama_vocab* vocab = llama_model_get_vocab(model.get());
  if (!grammar.lazy) return llama_sampler_init_grammar(vocab, grammar.text.c_str(), "root");
  std::vector<const char*> patterns;
  for (const std::string& pattern : grammar.trigger_patterns) patterns.push_back(pattern.c_str());
  return llama_sampler_init_grammar_lazy_patterns(vocab, grammar.text.c_str(), "root",
                                                  patterns.data(), patterns.size(), nullptr, 0);
}

// The start of the answer that stands in the prompt already. Errors: what llama.cpp says.
Status TakePrefill(const Grammar& grammar, const LlamaModel& model, llama_sampler* sampler) {
  if (grammar.lazy || grammar.prefill.empty()) return Ok();
  const Result<std::vector<Token>> tokens = model.Tokenize(grammar.prefill, false, true);
  if (!tokens) return tokens.error();
  try {
    for (const Token token : *tokens) llama_sampler_accept(sampler, token);
  } catch (const std::exception& e) {
    return WorldError(std::string("the chat template's start of an answer is not what its grammar "
                                  "expects: ") +
                      e.what());
  }
  return Ok();
}

// The end of what stands in quotes or brackets from `at` on.
std::size_t QuotedEnd(std::string_view grammar, std::size_t at) {
  const char closing = grammar[at] == '"' ? '"' : ']';
  for (++at; at < grammar.size() && grammar[at] != closing; ++at) at += grammar[at] == '\\';
  return std::min(at + 1, grammar.size());
}

// The end of spaces, line ends and comments from `at` on.
std::size_t BlankEnd(std::string_view grammar, std::size_t at) {
  while (at < grammar.size() &&
         std::string_view(" \t\r\n#").find(grammar[at]) != std::string_view::npos) {
    at = grammar[at] == '#' ? std::min(grammar.find_first_of("\r\n", at), grammar.size()) : at + 1;
  }
  return at;
}

// The number at `at`, which is moved behind it and what is blank there; nullopt: there is none.
std::optional<unsigned long long> TakeNumber(std::string_view grammar, std::size_t* at) {
  const std::size_t end = std::min(grammar.find_first_not_of("0123456789", *at), grammar.size());
  if (end == *at) return std::nullopt;
  const std::string digits(grammar.substr(*at, end - *at));
  *at = BlankEnd(grammar, end);
  return std::strtoull(digits.c_str(), nullptr, 10);
}

// The first repetition {least,most} of a grammar with more for least; empty: there is none.
// llama.cpp counts from the one down to the other and never ends; its own converter makes some of
// integers whose only bound has 17 digits and more. It takes comments within braces too.
std::string ReversedRepetition(std::string_view grammar) {
  for (std::size_t at = 0; at < grammar.size(); ++at) {
    if (grammar[at] == '"' || grammar[at] == '[') {
      at = QuotedEnd(grammar, at) - 1;
    } else if (grammar[at] == '#') {
      at = BlankEnd(grammar, at) - 1;
    } else if (grammar[at] == '{') {
      std::size_t end = BlankEnd(grammar, at + 1);
      const auto least = TakeNumber(grammar, &end);
      if (!least || end >= grammar.size() || grammar[end] != ',') continue;
      end = BlankEnd(grammar, end + 1);
      const auto most = TakeNumber(grammar, &end);
      if (most && *least > *most) {
        return std::string(grammar.substr(at, grammar.find('}', at) + 1 - at));
      }
    }
  }
  return {};
}

double LogSum(std::span<const float> logits) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - max));
  return max + std::log(sum);
}

}  // namespace

Status CheckGrammar(const Grammar& grammar, const LlamaModel& model) {
  if (grammar.text.empty()) return Ok();
  if (grammar.text.size() > kMaxGrammarBytes) {
    return InvalidArgument("the grammar (of a schema or of tools) has " +
                           std::to_string(grammar.text.size()) + " bytes, expected at most " +
                           std::to_string(kMaxGrammarBytes));
  }
  if (const std::string reversed = ReversedRepetition(grammar.text); !reversed.empty()) {
    return InvalidArgument("the grammar (of a schema or of tools) repeats something " + reversed +
                           " times: at least more than at most");
  }
  try {
    TakeLlamaError();
    const std::unique_ptr<llama_sampler, decltype(&llama_sampler_free)> sampler(
        MakeGrammar(grammar, model), &llama_sampler_free);
    if (sampler == nullptr) {
      return InvalidArgument("the grammar can't be read: " + TakeLlamaError());
    }
    return TakePrefill(grammar, model, sampler.get());
  } catch (const std::exception& e) {
    return InvalidArgument(std::string("the grammar can't be read: ") + e.what());
  }
}

Sampler::Sampler(const SamplingOptions& options, std::int32_t n_vocab,
                 std::span<const Token> recent, const LlamaModel* model)
    : takes_likeliest_(options.temperature <= 0.0f && !HasPenalties(options)),
      chain_(llama_sampler_chain_init(llama_sampler_chain_default_params())),
      candidates_(std::make_unique<std::vector<llama_token_data>>()) {
  const auto add = [this](llama_sampler* s) { llama_sampler_chain_add(chain_, s); };
  if (HasPenalties(options)) {
    add(llama_sampler_init_penalties(n_vocab, options.repeat_last_n, options.repeat_penalty,
                                     options.frequency_penalty, options.presence_penalty));
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
  if (options.grammar.text.empty()) return;
  grammar_ = MakeGrammar(options.grammar, *model);
  ASTER_CHECK(grammar_ != nullptr, "a grammar of %zu bytes was not checked",
              options.grammar.text.size());
  const Status taken = TakePrefill(options.grammar, *model, grammar_);
  ASTER_CHECK(taken.ok(), "%s", taken.error().message.c_str());
}

Sampler::~Sampler() {
  llama_sampler_free(chain_);
  if (grammar_ != nullptr) llama_sampler_free(grammar_);
}

Token Sampler::Draw(std::span<const float> logits) {
  Token token = DrawFreely(logits);
  if (grammar_ != nullptr) {
    if (!GrammarTakes(token)) token = Select(logits, true);
    llama_sampler_accept(grammar_, token);
  }
  if (!takes_likeliest_) llama_sampler_accept(chain_, token);
  return token;
}

Token Sampler::DrawFreely(std::span<const float> logits) {
  if (!takes_likeliest_) return Select(logits, false);
  // What the chain would do, without a list of all candidates.
  return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

Token Sampler::Select(std::span<const float> logits, bool by_grammar) {
  std::vector<llama_token_data>& candidates = *candidates_;
  candidates.resize(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    candidates[i] = {static_cast<llama_token>(i), logits[i], 0.0f};
  }
  llama_token_data_array array = {candidates.data(), candidates.size(), -1, false};
  if (by_grammar) {
    llama_sampler_apply(grammar_, &array);
    // A token drawn all the same would end the process, were it one that ends the text.
    const auto is_out = [](const llama_token_data& one) { return one.logit == -INFINITY; };
    if (std::ranges::all_of(candidates, is_out)) {
      throw std::runtime_error("the grammar leaves no token that may come next");
    }
  }
  llama_sampler_apply(chain_, &array);
  ASTER_CHECK(array.selected >= 0 && array.selected < static_cast<std::int64_t>(array.size),
              "no token drawn of %zu", array.size);
  return array.data[array.selected].id;
}

bool Sampler::GrammarTakes(Token token) const {
  llama_token_data one = {token, 1.0f, 0.0f};
  llama_token_data_array array = {&one, 1, -1, false};
  llama_sampler_apply(grammar_, &array);
  return one.logit != -INFINITY;
}

std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, std::size_t n) {
  const double log_sum = LogSum(logits);
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

AnswerLogprob LogprobOf(std::span<const float> logits, Token token, std::size_t n) {
  const auto logprob = static_cast<float>(logits[static_cast<std::size_t>(token)] - LogSum(logits));
  return {{token, logprob}, TopLogprobs(logits, n)};
}

}  // namespace aster
