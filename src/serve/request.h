// OpenAI's requests as values, every field checked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "aster/chat.h"
#include "aster/context.h"
#include "aster/plan.h"
#include "serve/api_error.h"
#include "serve/json_body.h"

namespace aster::serve {

// What a request leaves out.
struct Defaults {
  PlanOptions plan;
  SamplingOptions sampling;
  std::int64_t max_tokens = 2048;
  bool allow_long = false;
};

// What all requests for answers have in common.
struct AnswerRequest {
  PlanOptions plan;
  bool allow_long = false;
  AskOptions answer;
  int n_answers = 1;
  bool streams = false;
  bool include_usage = false;
  bool return_progress = false;
};

struct ChatCall {
  AnswerRequest common;
  ChatRequest chat;
  std::string context_id;
};

struct CompletionCall {
  AnswerRequest common;
  std::string context, prompt;
};

struct ContextCall {
  PlanOptions plan;
  bool allow_long = false;
  std::string messages;  // JSON
  std::string tools;     // JSON; empty: none
  std::string name;
  bool streams = false;
};

ApiResult<ChatCall> ReadChatCall(const Json& body, const Defaults& defaults);
ApiResult<CompletionCall> ReadCompletionCall(const Json& body, const Defaults& defaults);
ApiResult<ContextCall> ReadContextCall(const Json& body, const Defaults& defaults);

// The call's messages behind a context's: the first user message joins a user's that the context
// ends with.
void GoOnBehind(const std::string& context_messages, ChatCall& call);

}  // namespace aster::serve
