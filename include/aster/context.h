// A long document, encoded once, that answers any number of questions.
//
//   auto context = Context::Encode(model, tokens, {});
//   auto answer = context->Ask(query_tokens, {.max_tokens = 128});
//
// Phase 1 (Encode) fills the context's own KV store by the plan; phase 2 (Ask) lets the query, and
// every generated token, see all of it. Contexts are independent of each other and may live side by
// side; each gives its memory back when it goes. One context is used by one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aster/model.h"
#include "aster/plan.h"
#include "aster/profile.h"
#include "aster/status.h"

namespace aster {

struct Progress {
  std::int64_t n_done = 0;   // tokens encoded
  std::int64_t n_total = 0;  // tokens to encode
  double seconds = 0;        // since the start
  double seconds_left = 0;   // estimate from the attention and linear work still to do
};

class Context;

struct EncodeOptions {
  PlanOptions plan;  // ubatch_size is taken from the model
  // Null, or a context of the same model: tokens that both begin with, as far as both plans encode
  // them alike, are taken over and their pages shared. That is exact up to rounding: the other may
  // have computed them in steps of other lengths. Nothing is taken over under kLlama, nor from or
  // for a context that is spread over several hosts.
  const Context* start = nullptr;
  // Called after every step, on the calling thread. It may use other contexts of the model, unless
  // several hosts share the work.
  std::function<void(const Progress&)> on_progress;
  std::stop_token stop;     // raised: Encode returns kCancelled within one step
  bool allow_long = false;  // go on past the length the model was trained for
  // Query and answer tokens to leave room for when memory is checked, and, under
  // Attention::kLlama, in its cache of fixed size.
  std::int64_t reserve_tokens = 1024;
};

// What an answer must look like, in llama.cpp's GBNF with the root symbol "root".
struct Grammar {
  std::string text;  // empty: anything goes
  // Lazy: it holds only from where one of the patterns (regular expressions) matches.
  bool lazy = false;
  std::vector<std::string> trigger_patterns;
  std::string prefill;  // text that the grammar counts as the start of the answer

  bool operator==(const Grammar&) const = default;
};

struct SamplingOptions {             // llama.cpp's samplers, names and defaults
  float temperature = 0.8f;          // 0 = greedy
  int top_k = 40;                    // 0 = off
  float top_p = 0.95f;               // 1 = off
  float min_p = 0.05f;               // 0 = off
  float repeat_penalty = 1.0f;       // 1 = off
  int repeat_last_n = 64;            // tokens the penalty looks back on
  float presence_penalty = 0.0f;     // 0 = off; looks back on repeat_last_n tokens too
  float frequency_penalty = 0.0f;    // 0 = off; the same
  std::uint32_t seed = 0xFFFFFFFFu;  // 0xFFFFFFFF = a random one
  Grammar grammar;
};

struct AskOptions {
  std::int64_t max_tokens = -1;  // -1 = until the answer ends or the trained length is reached
  SamplingOptions sampling;
  std::vector<std::string> stop_strings;  // the answer ends before the first of these
  // Pieces of the answer as they come; always whole UTF-8 characters. It may use other contexts of
  // the model, unless several hosts share the work.
  std::function<void(std::string_view)> on_text;
  std::stop_token stop;  // raised: the answer ends there, finish = kCancelled
  // Query and answer join what the next query sees: all of the answer's tokens when it ended by
  // itself, else all but the last, which was drawn and not run.
  bool keep_turn = false;
  bool allow_long = false;
  bool ignore_end_of_text = false;  // go on past it, to max_tokens: for benchmarks
  int n_top_logprobs = 10;          // of Answer::top_logprobs; more than there are means all
  int n_logprobs = -1;              // of Answer::logprobs, beside the token's own; -1 = none
  // Special tokens that are part of the text all the same: a format's marks.
  std::vector<Token> shown_tokens;
};

enum class Finish {
  kEndOfText,    // the model ended its answer
  kStopString,   // a stop string came
  kMaxTokens,    // max_tokens are there
  kContextFull,  // the trained length (or, under Attention::kLlama, the cache) is used up
  kCancelled,    // the stop token was raised
};

struct TokenLogprob {
  Token token = 0;
  float logprob = 0;  // natural log, of the unmodified distribution
};

// Of one token of an answer, from the unmodified distribution.
struct AnswerLogprob {
  TokenLogprob token;
  std::vector<TokenLogprob> top;  // the likeliest, best first
};

struct Answer {
  std::string text;
  std::vector<Token> tokens;  // without the end-of-text token
  Finish finish = Finish::kEndOfText;
  std::int64_t n_query = 0;
  double query_seconds = 0;                // from Ask to the first token
  double decode_seconds = 0;               // from the first token to the last
  std::vector<TokenLogprob> top_logprobs;  // of the first answer token, best first
  std::vector<AnswerLogprob> logprobs;     // of each token, if asked for
};

namespace internal {
class ContextState;
}

class Context {
 public:
  // Encodes the tokens by the plan that the options ask for. Before any work it checks the plan,
  // the trained length and the memory: kInvalidArgument or kWorld with both numbers.
  static Result<Context> Encode(const Model& model, std::span<const Token> tokens,
                                const EncodeOptions& options);

  // Lets the query see everything and answers. The query must hold at least one token. Without
  // keep_turn the context is afterwards as it was before, and so it is when nothing of an answer
  // came before a cancel.
  Result<Answer> Ask(std::span<const Token> query, const AskOptions& options);

  // Tokens that the next query will see: the context and the turns kept.
  std::span<const Token> tokens() const;
  // How many tokens of `prompt` are already here, from the start.
  std::int64_t CommonPrefix(std::span<const Token> prompt) const;
  // Forgets all but the first n tokens. Exact: no token depends on a later one.
  // Errors: kWorld under Attention::kLlama when llama.cpp's cache has dropped what lies behind a
  // sliding window. REQUIRES: 0 <= n <= tokens().size().
  Status Rewind(std::int64_t n);

  const Plan& plan() const;
  // Tokens of the plan's context that were encoded as it says: all, unless it went on from fewer.
  // The others see everything, as a query does.
  std::int64_t n_encoded() const;
  std::int64_t n_taken_over() const;  // from EncodeOptions::start
  double encode_seconds() const;      // without what those took
  const Profile& profile() const;     // of all passes of this context up to now
  std::int64_t kv_bytes() const;      // memory of the KV store now

  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;
  ~Context();

 private:
  friend class Session;
  friend std::int64_t KvBytesOnlyIn(std::span<const Context* const> contexts);
  explicit Context(std::unique_ptr<internal::ContextState> state);
  // How many of the tokens are here as the plan would encode them.
  std::int64_t CountAlike(std::span<const Token> tokens, const Plan& plan) const;
  std::unique_ptr<internal::ContextState> state_;
};

// Bytes of the KV stores of all contexts and sessions of this process; what several share counts
// once.
std::int64_t KvBytesInUse();

// Of them, what would be given back if these contexts went; none of Attention::kLlama. Meanwhile no
// context or session that shares with them may be made or go.
std::int64_t KvBytesOnlyIn(std::span<const Context* const> contexts);

// Bytes that the KV store of n_tokens tokens takes, whole pages.
std::int64_t PredictKvBytes(const Model& model, std::int64_t n_tokens);

// Memory this process may still take, in bytes: the machine's available memory or what is left of
// the cgroup's limit, whichever is less; 0 when the system does not say.
std::int64_t AvailableMemoryBytes();

}  // namespace aster
