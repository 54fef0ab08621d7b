// Fuzz target: bodies of requests, headers. What must hold of any that is taken is checked.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "serve/guard.h"
#include "serve/request.h"

namespace aster::serve {
namespace {

void CheckRefusal(const ApiError& error) {
  ASTER_CHECK(error.status == 400 && !error.message.empty(), "status %d", error.status);
  ASTER_CHECK(error.message.size() < 1000, "a message of %zu bytes", error.message.size());
  Json(error.message).dump();  // throws where it is no UTF-8
}

void CheckPlan(const PlanOptions& plan) {
  ASTER_CHECK(plan.block_size == 0 || plan.block_size >= kMinBlockSize, "block size");
  ASTER_CHECK(plan.anchor_size >= -1, "anchor size");
  ASTER_CHECK(plan.window >= kAutoWindow && plan.window <= kMostWindow, "window");
  ASTER_CHECK(plan.overlap >= 0, "overlap");
}

void CheckCommon(const AnswerRequest& request) {
  const SamplingOptions& s = request.answer.sampling;
  ASTER_CHECK(s.temperature >= 0 && s.temperature <= 2 && s.top_p >= 0 && s.top_p <= 1, "sampling");
  ASTER_CHECK(s.min_p >= 0 && s.min_p <= 1 && s.top_k >= 0 && s.repeat_penalty > 0, "sampling");
  ASTER_CHECK(std::abs(s.presence_penalty) <= 2 && std::abs(s.frequency_penalty) <= 2, "penalty");
  ASTER_CHECK(request.n_answers >= 1 && request.n_answers <= 8, "n %d", request.n_answers);
  ASTER_CHECK(request.answer.max_tokens >= 1, "max_tokens");
  for (const std::string& stop : request.answer.stop_strings) {
    ASTER_CHECK(!stop.empty() && stop.size() <= 1024, "a stop of %zu bytes", stop.size());
  }
  CheckPlan(request.plan);
}

void FuzzChat(const Json& body) {
  ApiResult<ChatCall> read = ReadChatCall(body, {});
  if (const ApiError* error = ErrorOf(read)) return CheckRefusal(*error);
  ChatCall& call = std::get<ChatCall>(read);
  CheckCommon(call.common);
  const Json messages = Json::parse(call.chat.messages);
  ASTER_CHECK(messages.is_array() && !messages.empty(), "no messages");
  for (const Json& message : messages) {
    ASTER_CHECK(message["role"].is_string() && message["content"].is_string(), "a message");
  }
  ASTER_CHECK(call.chat.tools.empty() || !Json::parse(call.chat.tools).empty(), "no tools");
  GoOnBehind(R"([{"role":"user","content":"a text"}])", call);
  ASTER_CHECK(!Json::parse(call.chat.messages).empty(), "nothing behind a context");
}

void FuzzBody(std::string_view bytes) {
  const ApiResult<Json> parsed = ParseBody(bytes);
  if (const ApiError* error = ErrorOf(parsed)) return CheckRefusal(*error);
  const Json& body = std::get<Json>(parsed);
  FuzzChat(body);
  const ApiResult<CompletionCall> completion = ReadCompletionCall(body, {});
  if (const ApiError* error = ErrorOf(completion)) {
    CheckRefusal(*error);
  } else {
    CheckCommon(std::get<CompletionCall>(completion).common);
  }
  const ApiResult<ContextCall> context = ReadContextCall(body, {});
  if (const ApiError* error = ErrorOf(context)) {
    CheckRefusal(*error);
  } else {
    CheckPlan(std::get<ContextCall>(context).plan);
    ASTER_CHECK(!Json::parse(std::get<ContextCall>(context).messages).empty(), "an empty context");
  }
}

}  // namespace
}  // namespace aster::serve

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  aster::serve::FuzzBody(bytes);
  static const std::vector<std::string> kKeys = {"secret"};
  ASTER_CHECK(!aster::serve::FindKey(kKeys, bytes) || bytes.ends_with("secret"), "let in");
  aster::serve::IsLoopbackHost(bytes);
  aster::serve::IsOwnOrigin(bytes, bytes);
  return 0;
}
