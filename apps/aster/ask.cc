// aster ask: a document, one or more questions, an answer to each.
#include <unistd.h>

#include <algorithm>

#include "commands.h"
#include "document.h"
#include "session.h"

namespace aster::cli {
namespace {

Result<std::string> ReadDocumentOf(const Options& options) {
  if (!options.files.empty()) return ReadDocuments(options.files);
  if (isatty(STDIN_FILENO) == 1) {
    return InvalidArgument("no document: expected -f FILE, or text on standard input");
  }
  return ReadDocument("-");
}

// All before the encoding starts: a question that cannot be asked is better known then.
Result<std::vector<Model::Prompt>> BuildPrompts(const Model& model, const Options& options,
                                                const std::string& document) {
  std::vector<Model::Prompt> prompts;
  for (const std::string& query : options.queries) {
    auto prompt = model.BuildPrompt(FirstTurn(options, document, query), query);
    if (!prompt) return prompt.error();
    prompts.push_back(std::move(*prompt));
  }
  return prompts;
}

std::int64_t LongestQuery(const std::vector<Model::Prompt>& prompts) {
  std::int64_t longest = 0;
  for (const Model::Prompt& prompt : prompts) {
    longest = std::max(longest, static_cast<std::int64_t>(prompt.tokens.size()) - prompt.n_context);
  }
  return longest;
}

// Tells several answers apart: a blank line between them, each question on standard error.
void ShowQuestion(const Options& options, std::size_t i, Output& output) {
  if (options.queries.size() == 1 || options.json) return;
  if (i > 0) output.Write("\n");
  Note("question " + std::to_string(i + 1) + ": " + options.queries[i]);
}

}  // namespace

Result<int> RunAsk(const Options& options, Hosts& hosts) {
  const Result<std::string> document = ReadDocumentOf(options);
  if (!document) return document.error();
  Result<LoadedModel> loaded = LoadModel(options, hosts);
  if (!loaded) return loaded.error();
  const Result<std::vector<Model::Prompt>> prompts =
      BuildPrompts(loaded->model, options, *document);
  if (!prompts) return prompts.error();
  WarnAboutSpecialTokens(loaded->model, *document);

  Interruptible work;
  Session session(options, *loaded, hosts);
  const Model::Prompt& first = prompts->front();
  Result<Context> context =
      session.Encode(std::span(first.tokens).first(static_cast<std::size_t>(first.n_context)),
                     {LongestQuery(*prompts), AnswerRoom(options)}, work);
  if (!context) return context.error();
  double encode_seconds = context->encode_seconds();
  for (std::size_t i = 0; i < prompts->size(); ++i) {
    ShowQuestion(options, i, session.output());
    const Result<Answer> answer =
        session.Ask(*context, (*prompts)[i].tokens, encode_seconds, false, work);
    if (!answer) return answer.error();
    if (work.signal() != 0) return ExitCodeOf(work.signal());
    encode_seconds = 0;
  }
  return 0;
}

}  // namespace aster::cli
