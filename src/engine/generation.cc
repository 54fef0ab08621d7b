#include "engine/generation.h"

#include <algorithm>
#include <exception>

#include "engine/model_state.h"

namespace aster::internal {
namespace {

std::span<const Token> Recent(std::span<const Token> seen, const AskOptions& options) {
  const auto n = static_cast<std::size_t>(std::max(options.sampling.repeat_last_n, 0));
  return seen.last(std::min(n, seen.size()));
}

}  // namespace

Generation::Generation(const ModelState& model, const AskOptions& options, std::int64_t limit,
                       std::span<const Token> seen)
    : model_(model),
      options_(options),
      limit_(limit),
      sampler_(options.sampling, static_cast<std::int32_t>(model.info.n_vocab),
               Recent(seen, options), model.llama.get()),
      stream_(options.stop_strings, options.on_text) {}

void Generation::Draw(std::span<const float> logits) {
  if (answer_.tokens.empty()) {
    const auto n = static_cast<std::size_t>(std::max(options_.n_top_logprobs, 1));
    answer_.top_logprobs = TopLogprobs(logits, n);
  }
  drawn_.reset();
  try {
    drawn_ = sampler_.Draw(logits);
  } catch (const std::exception&) {  // when a grammar has come to its end
    return;
  }
  if (options_.n_logprobs >= 0) {
    drawn_logprob_ = LogprobOf(logits, *drawn_, static_cast<std::size_t>(options_.n_logprobs));
  }
  if (answer_.tokens.empty()) first_token_ = Clock::now();
  answer_.decode_seconds = SecondsSince(first_token_);
}

std::optional<Token> Generation::Show() {
  if (!drawn_) End(Finish::kEndOfText);
  if (ended_ || Ends(*drawn_)) return std::nullopt;
  return drawn_;
}

void Generation::End(Finish finish) {
  if (ended_) return;
  ended_ = true;
  answer_.finish = finish;
  stream_.Finish();
  answer_.text = stream_.text();
}

bool Generation::Ends(Token token) {
  const LlamaModel& llama = *model_.llama;
  if (llama.IsEndOfText(token) && !options_.ignore_end_of_text) {
    End(Finish::kEndOfText);
    return true;
  }
  answer_.tokens.push_back(token);
  if (drawn_logprob_) answer_.logprobs.push_back(std::move(*drawn_logprob_));
  const bool shown = std::ranges::find(options_.shown_tokens, token) != options_.shown_tokens.end();
  if (!stream_.Add(llama.Piece(token, shown))) {
    End(Finish::kStopString);
    return true;
  }
  const auto n = static_cast<std::int64_t>(answer_.tokens.size());
  if (n >= limit_) {
    End(n == options_.max_tokens ? Finish::kMaxTokens : Finish::kContextFull);
    return true;
  }
  return false;
}

}  // namespace aster::internal
