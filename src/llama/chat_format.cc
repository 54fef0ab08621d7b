// Conversations in OpenAI's JSON, through llama.cpp's chat code: templates, tool calls, schemas.
#include <algorithm>
#include <exception>
#include <regex>
#include <utility>

#include "aster/chat.h"
#include "chat.h"
#include "json-schema-to-grammar.h"
#include "llama.h"
#include "llama/llama_model.h"

namespace aster {
namespace internal {

struct ChatFormat {
  common_chat_parser_params parser;
  bool one_call = false;  // of several calls only the first counts
};

}  // namespace internal

namespace {

// Stands where the last user message does, to see where that starts: no text begins with it.
constexpr char kProbe[] = "\x1A?";

Error Unreadable(const char* what, const std::exception& e) {
  return InvalidArgument(std::string(what) + ": " + e.what());
}

std::string EscapedForRegex(std::string_view word) {
  std::string pattern;
  for (const char c : word) {
    if (std::string_view(".^$|()*+?[]{}\\-").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

std::string PatternOf(const common_grammar_trigger& trigger) {
  if (trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN) return trigger.value;
  if (trigger.type != COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL) {
    return EscapedForRegex(trigger.value);
  }
  std::string pattern = trigger.value;
  if (!pattern.starts_with('^')) pattern.insert(0, "^");
  if (!pattern.ends_with('$')) pattern += '$';
  return pattern;
}

Grammar GrammarOf(const common_chat_params& params) {
  Grammar grammar;
  grammar.text = params.grammar;
  grammar.lazy = params.grammar_lazy;
  for (const auto& trigger : params.grammar_triggers) {
    grammar.trigger_patterns.push_back(PatternOf(trigger));
  }
  if (!grammar.text.empty()) grammar.prefill = params.generation_prompt;
  return grammar;
}

// Without the free text that the grammar of a required call has in front of it ("until-7?" in its
// root): a small model talks until its tokens are spent and calls nothing.
std::string CallAtOnce(std::string grammar) {
  const std::size_t begin = grammar.starts_with("root ::=") ? 0 : grammar.find("\nroot ::=") + 1;
  const std::size_t end = std::min(grammar.find('\n', begin), grammar.size());
  static const std::regex kFreeText(" until-[0-9]+[?]?(?= )");
  const std::string root = grammar.substr(begin, end - begin);
  return grammar.replace(begin, end - begin, std::regex_replace(root, kFreeText, ""));
}

std::size_t LastUser(const std::vector<common_chat_msg>& messages) {
  for (std::size_t i = messages.size(); i-- > 0;) {
    if (messages[i].role == "user") return i;
  }
  return messages.size();
}

std::size_t FloorToCharacter(std::string_view text, std::size_t at) {
  while (at > 0 && at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

// Where two texts part, at a character's start.
std::size_t PartAt(std::string_view text, std::string_view other) {
  const auto [at, ignored] = std::mismatch(text.begin(), text.end(), other.begin(), other.end());
  return FloorToCharacter(text, static_cast<std::size_t>(at - text.begin()));
}

bool TakesTools(const LlamaModel& model) {
  try {
    const auto caps = common_chat_templates_get_caps(model.templates());
    const auto at = caps.find("supports_tools");
    return at != caps.end() && at->second;
  } catch (const std::exception&) {
    return false;  // the template can't be read: said when it is applied
  }
}

// The request as llama.cpp's chat code takes it.
Result<common_chat_templates_inputs> InputsOf(const LlamaModel& model, const ChatRequest& request) {
  common_chat_templates_inputs inputs = model.TemplateInputs();
  try {
    inputs.messages = common_chat_msgs_parse_oaicompat(common_json::parse(request.messages));
  } catch (const std::exception& e) {
    return Unreadable("messages", e);
  }
  try {
    if (!request.tools.empty()) {
      inputs.tools = common_chat_tools_parse_oaicompat(common_json::parse(request.tools));
    }
    inputs.tool_choice = common_chat_tool_choice_parse_oaicompat(request.tool_choice);
  } catch (const std::exception& e) {
    return Unreadable("tools", e);
  }
  if (!inputs.tools.empty() && !TakesTools(model)) {
    return InvalidArgument("tools: the model's chat template has no place for them");
  }
  inputs.json_schema = request.json_schema;
  inputs.parallel_tool_calls = request.parallel_tool_calls;
  inputs.reasoning_format = COMMON_REASONING_FORMAT_AUTO;
  return inputs;
}

Result<common_chat_params> Apply(const LlamaModel& model,
                                 const common_chat_templates_inputs& inputs) {
  try {
    return common_chat_templates_apply(model.templates(), inputs);
  } catch (const std::exception& e) {
    return InvalidArgument(std::string("the model's chat template refuses this: ") + e.what());
  }
}

// Where in the rendered text the context ends: the last user message, or the question at its end.
Result<std::size_t> FindCut(const LlamaModel& model, common_chat_templates_inputs inputs,
                            const std::string& rendered, const std::string& question) {
  const std::size_t user = LastUser(inputs.messages);
  if (user == inputs.messages.size()) {
    if (!question.empty()) return InvalidArgument("question: there is no user message");
    return std::size_t{0};
  }
  std::string& content = inputs.messages[user].content;
  if (!content.ends_with(question)) {
    return InvalidArgument("question: expected the end of the last user message");
  }
  content =
      (question.empty() ? std::string() : content.substr(0, content.size() - question.size())) +
      kProbe;
  Result<common_chat_params> probed = Apply(model, inputs);
  if (!probed) return probed.error();
  return PartAt(rendered, probed->prompt);
}

std::vector<Token> TokensOf(const LlamaModel& model, const std::vector<std::string>& texts) {
  std::vector<Token> tokens;
  for (const std::string& text : texts) {
    const Result<std::vector<Token>> one = model.Tokenize(text, false, true);
    if (one && one->size() == 1) tokens.push_back(one->front());
  }
  return tokens;
}

}  // namespace

ChatReader::ChatReader() = default;
ChatReader::ChatReader(std::shared_ptr<const internal::ChatFormat> format)
    : format_(std::move(format)) {}

Result<ChatAnswer> ChatReader::Read(std::string_view text, bool partial) const {
  if (format_ == nullptr) return ChatAnswer{std::string(text), {}, {}};
  try {
    const common_chat_msg message = common_chat_parse(std::string(text), partial, format_->parser);
    ChatAnswer answer{message.content, message.reasoning_content, {}};
    for (const common_chat_tool_call& call : message.tool_calls) {
      answer.tool_calls.push_back({call.id, call.name, call.arguments});
      if (format_->one_call) break;
    }
    return answer;
  } catch (const std::exception& e) {
    return WorldError(std::string("the answer is not in the format of the chat template: ") +
                      e.what());
  }
}

Result<ChatPrompt> LlamaModel::BuildChat(const ChatRequest& request) const {
  Result<common_chat_templates_inputs> inputs = InputsOf(*this, request);
  if (!inputs) return inputs.error();
  Result<common_chat_params> params = Apply(*this, *inputs);
  if (!params) return params.error();
  const Result<std::size_t> cut = FindCut(*this, *inputs, params->prompt, request.question);
  if (!cut) return cut.error();
  Result<Model::Prompt> prompt = CutPrompt(params->prompt, *cut);
  if (!prompt) return prompt.error();
  if (!request.tool.empty()) {
    // The prompt has all tools, as earlier ones had; what is held to is the form of the one.
    std::erase_if(inputs->tools, [&](const auto& tool) { return tool.name != request.tool; });
    params = Apply(*this, *inputs);
    if (!params) return params.error();
  }

  ChatPrompt chat;
  chat.prompt = std::move(*prompt);
  chat.grammar = GrammarOf(*params);
  if (request.tool_choice == "required") chat.grammar.text = CallAtOnce(chat.grammar.text);
  chat.stop_strings = params->additional_stops;
  chat.shown_tokens = TokensOf(*this, params->preserved_tokens);
  auto format = std::make_shared<internal::ChatFormat>();
  format->parser = common_chat_parser_params(*params);
  format->parser.reasoning_format = COMMON_REASONING_FORMAT_AUTO;
  format->one_call = !request.parallel_tool_calls;
  format->parser.parse_tool_calls = !request.tools.empty() && request.tool_choice != "none";
  try {
    if (!params->parser.empty()) format->parser.parser.load(params->parser);
  } catch (const std::exception& e) {
    return Unreadable("the chat template's answer format", e);
  }
  chat.reader = ChatReader(std::move(format));
  return chat;
}

Result<std::vector<Token>> LlamaModel::BuildChatContext(const std::string& messages,
                                                        const std::string& tools) const {
  Result<common_chat_templates_inputs> inputs =
      InputsOf(*this, {.messages = messages, .tools = tools});
  if (!inputs) return inputs.error();
  // Two conversations that go on in different ways part where the context ends.
  std::vector<common_chat_msg>& list = inputs->messages;
  if (list.empty()) return InvalidArgument("messages: expected at least one");
  if (list.back().role == "user") {
    list.back().content += "\n\n";
  } else {
    list.push_back({});
    list.back().role = "user";
  }
  const std::string before = list.back().content;
  list.back().content = before + kProbe;
  const Result<common_chat_params> one = Apply(*this, *inputs);
  if (!one) return one.error();
  list.back().content = before + "A";
  const Result<common_chat_params> other = Apply(*this, *inputs);
  if (!other) return other.error();
  return Tokenize(std::string_view(one->prompt).substr(0, PartAt(one->prompt, other->prompt)), true,
                  true);
}

Result<std::string> GrammarOfSchema(const std::string& json_schema) {
  try {
    return json_schema_to_grammar(common_json::parse(json_schema));
  } catch (const std::exception& e) {
    return Unreadable("the JSON schema", e);
  }
}

}  // namespace aster
