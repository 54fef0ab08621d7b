#include "serve/answer_json.h"

#include <algorithm>

namespace aster::serve {
namespace {

double PerSecond(std::int64_t n, double seconds) {
  return seconds > 0 ? static_cast<double>(n) / seconds : 0.0;
}

double PerToken(std::int64_t n, double milliseconds) {
  return n > 0 ? milliseconds / static_cast<double>(n) : 0.0;
}

std::int64_t AnswerTokens(const TicketState& state) {
  std::int64_t n = 0;
  for (const AnswerState& answer : state.answers) n += answer.n_tokens;
  return n;
}

Json BytesJson(const std::string& text) {
  Json bytes = Json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

Json TokenLogprobJson(const Model& model, const TokenLogprob& token) {
  const std::string text = model.TokenText(token.token);
  return {
      {"token", text}, {"logprob", std::max(token.logprob, -9999.0f)}, {"bytes", BytesJson(text)}};
}

void AddPlan(const PlanShape& plan, Json& json) {
  json["attention"] = AttentionName(plan.attention);
  json["block_size"] = plan.block_size;
  json["anchor_size"] = plan.anchor_size;
  json["window"] = plan.window;
  json["overlap"] = plan.overlap;
  json["blocks"] = plan.n_blocks;
}

const char* TypeOf(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 503:
      return "overloaded_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

Json CodeOf(int status) {
  if (status == 401) return "invalid_api_key";
  if (status == 404) return "not_found";
  return nullptr;
}

}  // namespace

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json ErrorJson(const ApiError& error) {
  std::string message = error.message;  // a library's may have several lines
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  if (message.size() > 1000) message = message.substr(0, 990) + "...";
  return {{"error",
           {{"message", message},
            {"type", TypeOf(error.status)},
            {"param", error.param.empty() ? Json() : Json(error.param)},
            {"code", CodeOf(error.status)}}}};
}

Json UsageJson(const TicketState& state) {
  const std::int64_t n_answer = AnswerTokens(state);
  return {{"prompt_tokens", state.n_prompt},
          {"completion_tokens", n_answer},
          {"total_tokens", state.n_prompt + n_answer},
          {"prompt_tokens_details", {{"cached_tokens", state.n_reused}}}};
}

Json TimingsJson(const TicketState& state) {
  const std::int64_t n_prompt = state.n_prompt - state.n_reused;
  const std::int64_t n_answer = AnswerTokens(state);
  const double prompt_ms = state.prefill_seconds * 1e3, answer_ms = state.decode_seconds * 1e3;
  return {{"cache_n", state.n_reused},
          {"prompt_n", n_prompt},
          {"prompt_ms", prompt_ms},
          {"prompt_per_token_ms", PerToken(n_prompt, prompt_ms)},
          {"prompt_per_second", PerSecond(n_prompt, state.prefill_seconds)},
          {"predicted_n", n_answer},
          {"predicted_ms", answer_ms},
          {"predicted_per_token_ms", PerToken(n_answer, answer_ms)},
          {"predicted_per_second", PerSecond(n_answer, state.decode_seconds)}};
}

Json ProgressJson(const TicketState& state) {
  return {{"total", state.n_prompt},
          {"cache", state.n_reused},
          {"processed", state.n_reused + state.progress.n_done},
          {"time_ms", state.progress.seconds * 1e3},
          {"time_left_ms", state.progress.seconds_left * 1e3}};
}

Json ContextJson(const ContextInfo& info) {
  Json json = {{"id", info.id},           {"object", "context"},
               {"created", info.created}, {"last_used", info.last_used},
               {"tokens", info.n_tokens}, {"cached_tokens", info.n_reused}};
  AddPlan(info.plan, json);
  json["bytes"] = info.bytes;
  json["encode_ms"] = info.encode_seconds * 1e3;
  json["name"] = info.name.empty() ? Json() : Json(info.name);
  return json;
}

Json ContextProgressJson(const TicketState& state) {
  Json json = {{"object", "context.progress"}, {"prompt_progress", ProgressJson(state)}};
  AddPlan(state.plan, json);
  return json;
}

Json ChatLogprobsJson(const Model& model, std::span<const AnswerLogprob> logprobs) {
  Json content = Json::array();
  for (const AnswerLogprob& logprob : logprobs) {
    Json token = TokenLogprobJson(model, logprob.token);
    token["top_logprobs"] = Json::array();
    for (const TokenLogprob& top : logprob.top) {
      token["top_logprobs"].push_back(TokenLogprobJson(model, top));
    }
    content.push_back(std::move(token));
  }
  return {{"content", std::move(content)}};
}

Json CompletionLogprobsJson(const Model& model, std::span<const AnswerLogprob> logprobs,
                            std::size_t text_offset) {
  Json json = {{"tokens", Json::array()},
               {"token_logprobs", Json::array()},
               {"top_logprobs", Json::array()},
               {"text_offset", Json::array()}};
  for (const AnswerLogprob& logprob : logprobs) {
    const std::string text = model.TokenText(logprob.token.token);
    json["tokens"].push_back(text);
    json["token_logprobs"].push_back(std::max(logprob.token.logprob, -9999.0f));
    Json top = Json::object();
    for (const TokenLogprob& one : logprob.top) {
      top[model.TokenText(one.token)] = std::max(one.logprob, -9999.0f);
    }
    json["top_logprobs"].push_back(std::move(top));
    json["text_offset"].push_back(text_offset);
    text_offset += text.size();
  }
  return json;
}

std::string FinishReason(Finish finish, bool has_tool_calls) {
  if (finish == Finish::kMaxTokens || finish == Finish::kContextFull) return "length";
  return has_tool_calls ? "tool_calls" : "stop";
}

Json ToolCallJson(const ToolCall& call) {
  return {{"id", call.id},
          {"type", "function"},
          {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

}  // namespace aster::serve
