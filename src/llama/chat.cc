// From a conversation to tokens, through the model's own chat template and llama.cpp's Jinja
// engine.

#include "chat.h"

#include <algorithm>
#include <exception>

#include "llama.h"
#include "llama/llama_model.h"

namespace aster {
namespace {

std::string_view Trim(std::string_view text) {
  const char* const spaces = " \t\r\n\f\v";
  const std::size_t first = text.find_first_not_of(spaces);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(spaces) - first + 1);
}

// A model without a template gets the bare text.
std::string Joined(std::span<const Message> messages) {
  std::string text;
  for (const Message& message : messages) {
    if (!text.empty()) text += "\n\n";
    text += message.content;
  }
  return text;
}

// Where the question starts in the rendered text. Templates may trim a message, so the trimmed
// message is looked for; npos when the template changed its text.
std::size_t FindQuestion(std::string_view rendered, std::string_view message,
                         std::string_view question) {
  const std::string_view whole = Trim(message);
  const std::string_view asked = Trim(question);
  const std::size_t begin = rendered.find(whole);
  if (begin == std::string_view::npos || asked.empty()) return std::string_view::npos;
  return begin + whole.size() - asked.size();
}

}  // namespace

bool LlamaModel::has_chat_template() const {
  return !chat_template_.empty() || llama_model_chat_template(model_, nullptr) != nullptr;
}

const common_chat_templates* LlamaModel::templates() const {
  std::call_once(templates_made_,
                 [this] { templates_ = common_chat_templates_init(model_, chat_template_); });
  return templates_.get();
}

common_chat_templates_inputs LlamaModel::TemplateInputs() const {
  common_chat_templates_inputs inputs;
  inputs.use_jinja = true;
  inputs.add_generation_prompt = true;
  // The tokenizer adds these; the template engine then leaves them out of the text.
  inputs.add_bos = llama_vocab_get_add_bos(vocab_);
  inputs.add_eos = llama_vocab_get_add_eos(vocab_);
  return inputs;
}

Result<std::string> LlamaModel::RenderChat(std::span<const Message> messages) const {
  if (!has_chat_template()) return Joined(messages);
  try {
    common_chat_templates_inputs inputs = TemplateInputs();
    for (const Message& message : messages) {
      common_chat_msg copy;
      copy.role = message.role;
      copy.content = message.content;
      inputs.messages.push_back(std::move(copy));
    }
    return common_chat_templates_apply(templates(), inputs).prompt;
  } catch (const std::exception& e) {
    return WorldError(path_ + ": its chat template failed: " + e.what());
  }
}

Result<Model::Prompt> LlamaModel::BuildPrompt(std::span<const Message> messages,
                                              std::string_view question,
                                              std::string_view answer_prefix) const {
  const auto user = std::find_if(messages.begin(), messages.end(),
                                 [](const Message& m) { return m.role == "user"; });
  if (user == messages.end()) return InvalidArgument("a conversation without a user's message");
  if (Trim(question).empty()) return InvalidArgument("the question is empty; expected some text");

  Result<std::string> rendered = RenderChat(messages);
  if (!rendered) return rendered.error();
  const std::size_t cut = FindQuestion(*rendered, user->content, question);
  if (cut == std::string_view::npos) {
    return WorldError(path_ + ": its chat template changes the text of messages");
  }
  return CutPrompt(rendered->append(answer_prefix), cut);
}

Result<Model::Prompt> LlamaModel::CutPrompt(std::string_view text, std::size_t cut) const {
  Result<std::vector<Token>> tokens = Tokenize(text, true, true);
  if (!tokens) return tokens.error();
  Result<std::vector<Token>> before = Tokenize(text.substr(0, cut), true, true);
  if (!before) return before.error();

  Model::Prompt prompt;
  prompt.tokens = std::move(*tokens);
  const auto seam =
      std::mismatch(prompt.tokens.begin(), prompt.tokens.end(), before->begin(), before->end());
  prompt.n_context = seam.first - prompt.tokens.begin();
  // A BPE merge may join the last character before the question with the question: such a token
  // differs in `before` and so belongs to the query. At least one token is left to ask with.
  prompt.n_context =
      std::min<std::int64_t>(prompt.n_context, static_cast<std::int64_t>(prompt.tokens.size()) - 1);
  return prompt;
}

}  // namespace aster
