// The steps that ask and chat share: load, encode with plan and progress, answer with a summary.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "aster/context.h"
#include "aster/model.h"
#include "command_line.h"
#include "output.h"
#include "signals.h"

namespace aster::cli {

struct LoadedModel {
  Model model;
  std::string path;
  std::string chat_template;  // that was given for the model's own; empty: none
};

// Finds and loads the model that the options name.
Result<LoadedModel> LoadModel(const Options& options);
// And spreads its contexts over the hosts.
Result<LoadedModel> LoadModel(const Options& options, Hosts& hosts);

// The messages of a first turn: the system's, if any, then the document and the question.
std::vector<Message> FirstTurn(const Options& options, const std::string& document,
                               const std::string& question);

// One line on standard error if the document holds the text of a special token.
void WarnAboutSpecialTokens(const Model& model, const std::string& document);

// Tokens to leave room for beside the context.
struct Room {
  std::int64_t n_query = 0;  // of the longest question, with the template's tokens around it
  std::int64_t n_answer = 0;
};

// Room for the answer that the options ask for; -n -1 has no bound, so a guess.
std::int64_t AnswerRoom(const Options& options);

class Session {
 public:
  Session(const Options& options, const LoadedModel& loaded, Hosts& hosts)
      : options_(options), model_(loaded.model), path_(loaded.path), hosts_(hosts) {}

  // Shows the plan, then encodes. kCancelled after a signal, with how far it came.
  Result<Context> Encode(std::span<const Token> tokens, Room room, Interruptible& work);

  // Asks what of the prompt is not in the context yet, and writes the answer: as it comes, or as
  // one JSON object. What the context holds beyond the prompt is forgotten first. encode_seconds
  // counts towards the TTFT. kWorld when standard output fails.
  Result<Answer> Ask(Context& context, std::span<const Token> prompt, double encode_seconds,
                     bool keep_turn, Interruptible& work);

  Output& output() { return output_; }

 private:
  Status ShowPlan(std::int64_t n_context, std::int64_t n_reserved);
  AskOptions MakeAskOptions(bool keep_turn, Interruptible& work);

  const Options& options_;
  const Model& model_;
  const std::string& path_;
  Hosts& hosts_;
  Output output_;
};

}  // namespace aster::cli
