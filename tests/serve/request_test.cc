// Bodies of requests: what is taken, and what each refusal names.
#include "serve/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "aster/chat.h"
#include "serve/guard.h"
#include "serve/schema_limits.h"

namespace aster::serve {
namespace {

using testing::HasSubstr;

constexpr char kHi[] = R"("messages": [{"role": "user", "content": "hi"}])";

ApiResult<ChatCall> Chat(const std::string& fields) {
  const ApiResult<Json> body = ParseBody("{" + fields + "}");
  if (const ApiError* error = ErrorOf(body)) return *error;
  return ReadChatCall(std::get<Json>(body), {});
}

ChatCall MustChat(const std::string& fields) {
  ApiResult<ChatCall> call = Chat(fields);
  if (const ApiError* error = ErrorOf(call)) {
    ADD_FAILURE() << fields << ": " << error->message;
    return {};
  }
  return std::get<ChatCall>(call);
}

TEST(ParseBody, RefusesWhatIsNoJsonObject) {
  const std::string deep(65, '[');
  for (const std::string& body : {std::string(), std::string("{"), std::string("[1]"),
                                  std::string("nul"), std::string("{\"a\": NaN}"),
                                  std::string("{\"a\": 1e999}"), std::string("{\"a\": \"\xff\"}"),
                                  "{\"a\": " + deep, "{\"a\": " + std::string(1000000, '[')}) {
    const ApiResult<Json> parsed = ParseBody(body);
    ASSERT_NE(ErrorOf(parsed), nullptr) << body.substr(0, 40);
    EXPECT_EQ(ErrorOf(parsed)->status, 400);
    EXPECT_LT(ErrorOf(parsed)->message.size(), 400u);
  }
  EXPECT_EQ(ErrorOf(ParseBody("{\"a\": " + std::string(63, '[') + std::string(63, ']') + "}")),
            nullptr);
  for (const char* body :
       {R"({"a": 1, "a": 2})", R"({"b": {"a": 1, "a": 2}})", R"({"a": "\u0000"})"}) {
    EXPECT_NE(ErrorOf(ParseBody(body)), nullptr) << body;
  }
  EXPECT_NE(ErrorOf(ParseBody(std::string_view("{}\0 x", 5))), nullptr);
  EXPECT_EQ(ErrorOf(ParseBody(R"({"a": {"a": 1}, "b": {"a": "\\u0000"}})")), nullptr);
  std::string names = "{\"a\": 1";
  for (int i = 0; i < 1000; ++i) names += ", \"a" + std::to_string(i) + "\": 1";
  EXPECT_NE(ErrorOf(ParseBody(names + "}")), nullptr);
  EXPECT_EQ(ErrorOf(ParseBody(R"({"a": "[[[[\"[[[["})")), nullptr);
}

TEST(ReadChatCall, TakesWhatOpenAiTakes) {
  const ChatCall call =
      MustChat(std::string(kHi) +
               R"(, "temperature": 0.5, "top_p": 1, "seed": 7, "n": 2, "stop": "x",
      "max_completion_tokens": 5, "max_tokens": 9, "stream": true, "user": "me", "metadata": {},
      "stream_options": {"include_usage": true}, "logit_bias": {}, "logprobs": true,
      "top_logprobs": 3, "unknown": [1, 2])");
  EXPECT_EQ(call.common.n_answers, 2);
  EXPECT_EQ(call.common.answer.max_tokens, 5);
  EXPECT_EQ(call.common.answer.stop_strings, std::vector<std::string>{"x"});
  EXPECT_EQ(call.common.answer.n_logprobs, 3);
  EXPECT_FLOAT_EQ(call.common.answer.sampling.temperature, 0.5f);
  EXPECT_EQ(call.common.answer.sampling.seed, 7u);
  EXPECT_TRUE(call.common.include_usage);
}

TEST(ReadChatCall, PutsThePlanOverTheServersOwn) {
  Defaults defaults;
  defaults.plan.attention = Attention::kStar;
  defaults.plan.block_size = 64;
  defaults.plan.window = 2;
  defaults.plan.overlap = 64;
  const auto plan_of = [&](const std::string& fields) {
    const ApiResult<Json> body = ParseBody("{" + std::string(kHi) + fields + "}");
    return std::get<ChatCall>(ReadChatCall(std::get<Json>(body), defaults)).common.plan;
  };
  EXPECT_EQ(plan_of("").window, 2);
  EXPECT_EQ(plan_of(R"(, "window": 0)").window, 0);
  EXPECT_EQ(plan_of(R"(, "window": 0)").overlap, 64);
  EXPECT_EQ(plan_of(R"(, "overlap": 0)").overlap, 0);
  EXPECT_EQ(plan_of(R"(, "window": 0)").block_size, 64);
  EXPECT_EQ(plan_of(R"(, "window": -1, "block_size": -1)").chosen_window(), 0);
  EXPECT_EQ(plan_of(R"(, "window": -1, "block_size": -1, "overlap": 0)").chosen_window(), 1);
  const PlanOptions dense = plan_of(R"(, "attention": "dense")");
  EXPECT_EQ(dense.block_size, 0);
  EXPECT_TRUE(MakePlan(1000, dense).ok());
}

TEST(ReadChatCall, MakesOneTextOfParts) {
  const ChatCall call = MustChat(R"("messages": [
      {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "user", "content": "hi"}])");
  EXPECT_EQ(call.chat.messages,
            R"([{"role":"system","content":"a\nb"},{"role":"user","content":"hi"}])");
}

TEST(ReadChatCall, NamesTheFieldThatIsWrong) {
  struct Case {
    const char* param;
    const char* fields;
  };
  const Case cases[] = {
      {"messages", R"("messages": [])"},
      {"messages", R"("messages": {})"},
      {"messages", R"("messages": null)"},
      {"messages", R"("messages": [1])"},
      {"messages", R"("messages": [{"role": "king", "content": "x"}])"},
      {"messages", R"("messages": [{"role": "user"}])"},
      {"messages", R"("messages": [{"role": "user", "content": 1}])"},
      {"messages", R"("messages": [{"role": "user", "content": [{"type": "image_url"}]}])"},
      {"messages", R"("messages": [{"role": "user", "content": "x", "tool_calls": []}])"},
      {"messages", R"("messages": [{"role": "assistant", "tool_calls": [{"id": 1}]}])"},
      {"temperature", R"("temperature": -0.1)"},
      {"temperature", R"("temperature": 2.1)"},
      {"temperature", R"("temperature": "hot")"},
      {"top_p", R"("top_p": -0.1)"},
      {"top_p", R"("top_p": 1.01)"},
      {"min_p", R"("min_p": -1)"},
      {"top_k", R"("top_k": -1)"},
      {"top_k", R"("top_k": 1e300)"},
      {"max_tokens", R"("max_tokens": 0)"},
      {"max_tokens", R"("max_tokens": -1)"},
      {"max_tokens", R"("max_tokens": 1.5)"},
      {"max_tokens", R"("max_tokens": 99999999999999999999)"},
      {"max_completion_tokens", R"("max_completion_tokens": true)"},
      {"n", R"("n": 9)"},
      {"n", R"("n": 0)"},
      {"seed", R"("seed": 1.5)"},
      {"seed", R"("seed": 9223372036854775808)"},
      {"stop", R"("stop": "")"},
      {"stop", R"("stop": [1])"},
      {"stop", R"("stop": ["1","2","3","4","5","6","7","8","9","a","b","c","d","e","f","g","h"])"},
      {"stream", R"("stream": "yes")"},
      {"stream_options", R"("stream_options": {"include_usage": true})"},
      {"stream_options", R"("stream": true, "stream_options": {"include_usage": 1})"},
      {"top_logprobs", R"("top_logprobs": 3)"},
      {"top_logprobs", R"("logprobs": true, "top_logprobs": 21)"},
      {"presence_penalty", R"("presence_penalty": 3)"},
      {"logit_bias", R"("logit_bias": {"5": 1})"},
      {"tools", R"("tools": [{"type": "function", "function": {"name": "a b"}}])"},
      {"tools", R"("tools": [{"type": "code"}])"},
      {"tools", R"("tools": {})"},
      {"tool_choice", R"("tool_choice": "required")"},
      {"tool_choice", R"("tool_choice": {"type": "function", "function": {"name": "a"}})"},
      {"response_format", R"("response_format": {"type": "xml"})"},
      {"response_format", R"("response_format": {"type": "json_schema"})"},
      {"response_format", R"("response_format": "json")"},
      {"attention", R"("attention": "llama")"},
      {"block_size", R"("block_size": 3)"},
      {"block_size", R"("block_size": 0)"},
      {"block_size", R"("attention": "dense", "block_size": 64)"},
      {"window", R"("window": -2)"},
      {"window", R"("window": 1025)"},
      {"window", R"("attention": "dense", "window": 1)"},
      {"overlap", R"("overlap": -1)"},
      {"overlap", R"("attention": "dense", "overlap": 1)"},
      {"context_id", R"("context_id": 7)"},
      {"question", R"("question": [])"},
  };
  for (const Case& c : cases) {
    const bool has_messages = std::string(c.param) == "messages";
    const std::string fields = has_messages ? c.fields : std::string(kHi) + ", " + c.fields;
    const ApiResult<ChatCall> call = Chat(fields);
    ASSERT_NE(ErrorOf(call), nullptr) << c.fields;
    EXPECT_EQ(ErrorOf(call)->status, 400) << c.fields;
    EXPECT_EQ(ErrorOf(call)->param, c.param) << c.fields;
    EXPECT_THAT(ErrorOf(call)->message, HasSubstr("expected")) << c.fields;
  }
}

TEST(ReadChatCall, SchemasOfAllToolsHaveALimit) {
  Json schema = {{"type", "object"}, {"properties", Json::object()}};
  for (int i = 0; i < 99; ++i) {
    schema["properties"]["p" + std::to_string(i)] = {{"type", "string"}};
  }
  const auto tools = [&schema](int n) {
    Json list = Json::array();
    for (int i = 0; i < n; ++i) {
      const std::string name = "f" + std::to_string(i);
      list.push_back(
          {{"type", "function"}, {"function", {{"name", name}, {"parameters", schema}}}});
    }
    return Chat("\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"tools\": " +
                list.dump());
  };
  EXPECT_EQ(ErrorOf(tools(40)), nullptr);
  const auto refused = tools(41);
  ASSERT_NE(ErrorOf(refused), nullptr);
  EXPECT_THAT(ErrorOf(refused)->message, HasSubstr("4000 parts in all"));
}

TEST(ReadChatCall, ArgumentsOfToolCallsAreShallow) {
  const auto message = [](const std::string& arguments) {
    return Json{
        {"role", "assistant"},
        {"tool_calls", {{{"id", "1"}, {"function", {{"name", "f"}, {"arguments", arguments}}}}}}};
  };
  const auto read = [&](int depth) {
    const std::string arguments = std::string(depth, '[') + std::string(depth, ']');
    const Json messages = {message(arguments), {{"role", "user"}, {"content", "x"}}};
    return Chat("\"messages\": " + messages.dump());
  };
  EXPECT_EQ(ErrorOf(read(kMaxJsonDepth)), nullptr);
  const auto refused = read(kMaxJsonDepth + 1);
  ASSERT_NE(ErrorOf(refused), nullptr);
  EXPECT_THAT(ErrorOf(refused)->message, HasSubstr("nested at most 64 deep"));
}

TEST(ReadContextCall, TakesOneOfThreeForms) {
  const auto read = [](const std::string& body) {
    return ReadContextCall(std::get<Json>(ParseBody(body)), {});
  };
  const auto files =
      read(R"({"files": [{"name": "a.txt", "text": "A"}, {"name": "b", "text": "B"}]})");
  ASSERT_EQ(ErrorOf(files), nullptr);
  EXPECT_EQ(std::get<ContextCall>(files).messages,
            "[{\"role\":\"user\",\"content\":\"## a.txt\\n\\nA\\n\\n## b\\n\\nB\"}]");
  for (const char* body : {"{}", R"({"text": ""})", R"({"text": "a", "messages": []})",
                           R"({"files": []})", R"({"files": [{"name": "a"}]})"}) {
    EXPECT_NE(ErrorOf(read(body)), nullptr) << body;
  }
}

TEST(GoOnBehind, JoinsTheFirstUserMessageToTheContexts) {
  ChatCall call;
  call.chat.messages = R"([{"role":"user","content":"Why?"}])";
  GoOnBehind(R"([{"role":"user","content":"A text."}])", call);
  EXPECT_EQ(call.chat.messages, "[{\"role\":\"user\",\"content\":\"A text.\\n\\nWhy?\"}]");
  EXPECT_EQ(call.chat.question, "Why?");

  ChatCall later;
  later.chat.messages = R"([{"role":"user","content":"Why?"},{"role":"assistant","content":"So."},
                            {"role":"user","content":"Ah."}])";
  GoOnBehind(R"([{"role":"system","content":"A text."}])", later);
  EXPECT_EQ(Json::parse(later.chat.messages).size(), 4u);
  EXPECT_EQ(later.chat.question, "");
}

TEST(Guard, ComparesSecretsWhole) {
  EXPECT_TRUE(SameSecret("abc", "abc"));
  for (const char* other : {"", "ab", "abd", "abcd", "abcabc"}) {
    EXPECT_FALSE(SameSecret("abc", other)) << other;
    EXPECT_FALSE(SameSecret(other, "abc")) << other;
  }
}

TEST(Guard, FindsTheKeyOfABearer) {
  const std::vector<std::string> keys = {"one", "two"};
  EXPECT_EQ(FindKey(keys, "Bearer two"), 1u);
  EXPECT_EQ(FindKey(keys, "bearer one"), 0u);
  for (const char* given :
       {"", "one", "Basic one", "Bearer", "Bearer ", "Bearer one ", "Bearer on"}) {
    EXPECT_FALSE(FindKey(keys, given).has_value()) << given;
  }
}

TEST(Guard, KnowsItsOwnNames) {
  for (const char* host :
       {"localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.0.0.2:80", "[::1]:1"}) {
    EXPECT_TRUE(IsLoopbackHost(host)) << host;
  }
  for (const char* host : {"", "localhost.evil.org", "evil.org", "127.0.0.1.evil.org",
                           "localhost:", "localhost:8080x", "localhost@evil.org"}) {
    EXPECT_FALSE(IsLoopbackHost(host)) << host;
  }
  EXPECT_TRUE(IsJsonType("Application/JSON ; charset=utf-8"));
  EXPECT_FALSE(IsJsonType("text/plain"));
  EXPECT_FALSE(IsJsonType(""));
  EXPECT_TRUE(IsOwnOrigin("http://localhost:8080", "localhost:8080"));
  EXPECT_FALSE(IsOwnOrigin("http://evil.org", "localhost:8080"));
  EXPECT_FALSE(IsOwnOrigin("null", "localhost:8080"));
}

}  // namespace
}  // namespace aster::serve
