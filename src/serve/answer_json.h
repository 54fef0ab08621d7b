// OpenAI's answers, of what has come of a request.
#pragma once

#include <span>
#include <string>

#include "aster/chat.h"
#include "aster/model.h"
#include "serve/api_error.h"
#include "serve/json_body.h"
#include "serve/ticket.h"

namespace aster::serve {

// As text; bytes that are no UTF-8 become U+FFFD.
std::string Dump(const Json& json);

Json ErrorJson(const ApiError& error);
Json UsageJson(const TicketState& state);
Json TimingsJson(const TicketState& state);   // llama-server's
Json ProgressJson(const TicketState& state);  // llama-server's, and the time left
Json ContextJson(const ContextInfo& info);
Json ContextProgressJson(const TicketState& state);
Json ChatLogprobsJson(const Model& model, std::span<const AnswerLogprob> logprobs);
Json CompletionLogprobsJson(const Model& model, std::span<const AnswerLogprob> logprobs,
                            std::size_t text_offset);
// "stop", "length" or "tool_calls".
std::string FinishReason(Finish finish, bool has_tool_calls);
Json ToolCallJson(const ToolCall& call);

}  // namespace aster::serve
