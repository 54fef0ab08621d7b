// aster chat: a document, then questions from standard input, one a line. Every turn renders the
// whole conversation anew; what the context holds of it already is not run again.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "commands.h"
#include "document.h"
#include "line_reader.h"
#include "session.h"
#include "text.h"

namespace aster::cli {
namespace {

bool IsPrompted() { return isatty(STDIN_FILENO) == 1 && StderrIsTerminal(); }

// The next question; nullopt at the end of the input or after /exit.
Result<std::optional<std::string>> NextQuestion(LineReader& reader) {
  while (true) {
    if (IsPrompted()) WriteStderr("> ");
    Result<std::optional<std::string>> line = reader.Next();
    if (!line) return line;
    if (!*line && IsPrompted()) WriteStderr("\n");
    if (!*line || **line == "/exit") return std::optional<std::string>();
    if (IsBlank(**line)) continue;
    if (!FindInvalidUtf8(**line)) return line;
    Note("the question is not UTF-8; expected UTF-8 text");
  }
}

// A person may ask something else after a question that cannot be asked; a script may not notice.
bool CanGoOn(const Error& error) {
  return error.kind == ErrorKind::kInvalidArgument && IsPrompted();
}

class Chat {
 public:
  Chat(const Options& options, const LoadedModel& loaded, Hosts& hosts, std::string document)
      : options_(options),
        model_(loaded.model),
        document_(std::move(document)),
        session_(options, loaded, hosts) {}

  // Encodes the document before there is a question, so that the first answer comes soon. The cut
  // does not depend on the question but for a token or two at the seam, which the turn puts right.
  Status Load() {
    constexpr const char* kAnyQuestion = "What is this?";
    const auto prompt =
        model_.BuildPrompt(FirstTurn(options_, document_, kAnyQuestion), kAnyQuestion);
    if (!prompt) return prompt.error();
    const auto n_prompt = static_cast<std::int64_t>(prompt->tokens.size());
    Interruptible work;
    Result<Context> context = session_.Encode(
        std::span(prompt->tokens).first(static_cast<std::size_t>(prompt->n_context)),
        {n_prompt - prompt->n_context, TurnsRoom(prompt->n_context)}, work);
    if (!context) return context.error();
    encode_seconds_ = context->encode_seconds();
    context_.emplace(std::move(*context));
    return Ok();
  }

  // One question and its answer.
  Status Turn(const std::string& question) {
    std::vector<Message> messages = turns_;
    if (messages.empty()) {
      messages = FirstTurn(options_, document_, question);
      first_question_ = question;
    } else {
      messages.push_back({"user", question});
    }
    const auto prompt = model_.BuildPrompt(messages, first_question_);
    if (!prompt) return prompt.error();
    Interruptible work;
    const Result<Answer> answer =
        session_.Ask(*context_, prompt->tokens, std::exchange(encode_seconds_, 0), true, work);
    signal_ = work.signal();
    if (!answer) return answer.error();
    messages.push_back({"assistant", answer->text});
    turns_ = std::move(messages);
    return Ok();
  }

  // The signal that ended the last answer; 0 = none.
  int signal() const { return signal_; }

 private:
  // llama.cpp's own cache cannot grow, so a whole conversation must fit from the start.
  std::int64_t TurnsRoom(std::int64_t n_context) const {
    const std::int64_t answer = AnswerRoom(options_);
    if (options_.plan.attention != Attention::kLlama) return answer;
    return std::clamp<std::int64_t>(model_.info().n_ctx_train - n_context, answer, 32768);
  }

  const Options& options_;
  const Model& model_;
  const std::string document_;
  Session session_;
  std::optional<Context> context_;
  std::vector<Message> turns_;
  std::string first_question_;
  double encode_seconds_ = 0;  // until the first answer has counted it
  int signal_ = 0;
};

}  // namespace

Result<int> RunChat(const Options& options, Hosts& hosts) {
  Result<std::string> document = ReadDocuments(options.files);
  if (!document) return document.error();
  const Result<LoadedModel> loaded = LoadModel(options, hosts);
  if (!loaded) return loaded.error();
  WarnAboutSpecialTokens(loaded->model, *document);
  Chat chat(options, *loaded, hosts, std::move(*document));
  if (const Status encoded = chat.Load(); !encoded) return encoded.error();
  LineReader reader;
  while (true) {
    const Result<std::optional<std::string>> question = NextQuestion(reader);
    if (!question) return question.error();
    if (!*question) return 0;
    const Status answered = chat.Turn(**question);
    if (!answered && !CanGoOn(answered.error())) return answered.error();
    if (!answered) Note(answered.error().message);
    if (chat.signal() != 0 && chat.signal() != SIGINT) return ExitCodeOf(chat.signal());
  }
}

}  // namespace aster::cli
