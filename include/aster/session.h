// One request of many: a prompt and its answer, moved on step by step by a scheduler.
//
//   auto session = Session::Start(model, prompt, options);
//   while (!session->prefilled()) session->Prefill(128, stop);
//   while (!session->done()) Session::DecodeTogether(model, {&session, 1}, stop);
//
// Sessions share the keys and values of what their prompts have in common: a session may start from
// a context, and leaves one behind. One thread moves all sessions of a model, one step at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <string>

#include "aster/context.h"
#include "aster/model.h"
#include "aster/plan.h"
#include "aster/status.h"

namespace aster {

namespace internal {
class SessionState;
}

struct SessionOptions {
  PlanOptions plan;   // ubatch_size is taken from the model; kLlama and kRing are refused
  AskOptions answer;  // its stop token and keep_turn are not used
  bool allow_long = false;
  bool wants_answer = true;  // false: the prompt is encoded and that is all
};

// How much of a context a prompt can take over.
struct Reuse {
  std::int64_t n_tokens = 0;  // from the start
  // The context's plan stays as it is and all that follows joins the query; else the prompt's
  // context is encoded by a plan of its own, behind tokens that both plans encode alike.
  bool continues = false;
};

// The most that `prompt` can take over from `held`. A prompt continues a context when it starts
// with all of it, the options do not ask for another plan, and no more than one block of what
// follows is context. At least one token is left to run.
Reuse FindReuse(const Model& model, const Context& held, const Model::Prompt& prompt,
                const PlanOptions& options);

class Session {
 public:
  // Checks the prompt, the plan and the trained length, and computes nothing. `held` may be null;
  // else it holds what `reuse` takes over, which is shared, not copied. Errors: kInvalidArgument or
  // kWorld with what was given and expected. REQUIRES: reuse.n_tokens is common to both.
  static Result<Session> Start(const Model& model, Model::Prompt prompt,
                               const SessionOptions& options, const Context* held = nullptr,
                               Reuse reuse = {});

  // Runs the next tokens of the prompt, at most max_tokens of them, or more where fewer would be
  // computed by other linear layers than the whole (below 96).
  // The last ones also give the answer's first token. Errors: kCancelled (nothing of this step
  // counts) and kWorld. REQUIRES: !prefilled().
  Status Prefill(std::int64_t max_tokens, const std::stop_token& stop);
  bool prefilled() const;
  bool context_encoded() const;  // what the plan covers is there
  Progress progress() const;     // of the prefill, in tokens that were not taken over

  // The next token of each session, in one pass. kWorld, kCancelled: none has moved on.
  // REQUIRES: all are prefilled() and not done(), of `model`, at most its max_sessions.
  static Status DecodeTogether(const Model& model, std::span<Session* const> sessions,
                               const std::stop_token& stop);
  bool done() const;  // prefilled, and the answer (if one is wanted) has ended
  // The answer's text that may be shown: whole characters, no part of a stop string.
  const std::string& text() const;
  // The answer up to now; its text and finish come with the end.
  const Answer& answer() const;
  // The answer ends here.
  void End(Finish finish);

  // A second answer to the same prompt, from the same first distribution. REQUIRES: prefilled(),
  // and no token was decoded since.
  Result<Session> Branch(const AskOptions& answer) const;

  // What is there now, as a context: the prompt as far as it is encoded, and the answer. It shares
  // what it can. Errors: kWorld when there is no memory for the rest.
  Result<Context> Snapshot() const;

  const Plan& plan() const;
  std::int64_t n_prompt() const;
  std::int64_t n_reused() const;
  std::int64_t n_tokens() const;  // prompt and answer up to now

  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

 private:
  explicit Session(std::unique_ptr<internal::SessionState> state);
  std::unique_ptr<internal::SessionState> state_;
};

}  // namespace aster
