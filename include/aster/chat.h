// Conversations as OpenAI's API has them: messages, tools and formats in JSON, rendered by the
// model's own chat template; and answers read back as the template writes them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "aster/context.h"
#include "aster/model.h"
#include "aster/status.h"

namespace aster {

namespace internal {
struct ChatFormat;  // src/llama
}

struct ChatRequest {
  std::string messages;              // a JSON array; contents are strings, or null
  std::string tools;                 // a JSON array; empty: none
  std::string tool_choice = "auto";  // "auto", "none" or "required"
  std::string tool;                  // the one that is required; empty: any
  bool parallel_tool_calls = true;
  std::string json_schema;  // what the answer must be; empty: anything
  // The end of the last user message, where the context ends; empty: before that message.
  std::string question;
};

struct ToolCall {
  std::string id;  // empty: the model gave none
  std::string name;
  std::string arguments;  // JSON, as far as it is there

  bool operator==(const ToolCall&) const = default;
};

struct ChatAnswer {
  std::string content;
  std::string reasoning;
  std::vector<ToolCall> tool_calls;
};

// Reads answers to one request. May be copied, and used by several threads.
class ChatReader {
 public:
  ChatReader();  // all is content
  explicit ChatReader(std::shared_ptr<const internal::ChatFormat> format);

  // `text`: the answer up to now, all of it. partial: more may come. Errors: kWorld when the text
  // is not in the format.
  Result<ChatAnswer> Read(std::string_view text, bool partial) const;

 private:
  std::shared_ptr<const internal::ChatFormat> format_;
};

struct ChatPrompt {
  Model::Prompt prompt;
  Grammar grammar;
  std::vector<std::string> stop_strings;  // of the format
  std::vector<Token> shown_tokens;        // AskOptions::shown_tokens
  ChatReader reader;
};

// Renders and tokenises. Errors: kInvalidArgument for messages, tools or a schema that can't be
// read, or that the template refuses; for a question that does not end the last user message.
Result<ChatPrompt> BuildChat(const Model& model, const ChatRequest& request);

// The tokens that every conversation starts with whose first messages are these and whose first
// user message goes on behind the last of them, if that is the user's. The very last ones may
// differ from such a conversation's, where tokens span the seam. messages, tools: as a ChatRequest
// has them; many templates write the tools first, so they are those of the conversation.
Result<std::vector<Token>> BuildChatContext(const Model& model, const std::string& messages,
                                            const std::string& tools);

// The GBNF grammar of what fits a JSON schema. Errors: kInvalidArgument.
Result<std::string> GrammarOfSchema(const std::string& json_schema);

}  // namespace aster
