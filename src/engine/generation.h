// From logits to an answer, one token at a time; who runs the tokens is the caller's matter.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "aster/context.h"
#include "base/clock.h"
#include "engine/text_stream.h"
#include "llama/sampler.h"

namespace aster::internal {

class ModelState;

class Generation {
 public:
  // limit: most tokens of the answer. seen: the tokens before it. The sampling's grammar must have
  // been checked (Sampler::Check).
  Generation(const ModelState& model, const AskOptions& options, std::int64_t limit,
             std::span<const Token> seen);

  // Draws a token from the logits [n_vocab] of all that is there.
  void Draw(std::span<const float> logits);
  // Takes what was drawn into the answer and shows its text: calls on_text, which the model's turn
  // must not be held for. Returns it when the answer goes on behind it; nullopt when it has ended.
  std::optional<Token> Show();
  void End(Finish finish);
  bool ended() const { return ended_; }
  const Answer& answer() const { return answer_; }            // its text comes with the end
  const std::string& text() const { return stream_.text(); }  // shown up to now

 private:
  bool Ends(Token token);  // takes the token into the answer

  const ModelState& model_;
  const AskOptions options_;
  const std::int64_t limit_;
  Sampler sampler_;
  TextStream stream_;
  Answer answer_;
  std::optional<Token> drawn_;  // nullopt: nothing may come
  std::optional<AnswerLogprob> drawn_logprob_;
  Clock::time_point first_token_;
  bool ended_ = false;
};

}  // namespace aster::internal
