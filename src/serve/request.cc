#include "serve/request.h"

#include <algorithm>
#include <limits>

#include "serve/schema_limits.h"

namespace aster::serve {
namespace {

constexpr std::int64_t kMostTokens = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kMostMessages = 4096;
constexpr std::size_t kMostTools = 128;
constexpr std::size_t kMostStops = 16;
constexpr std::size_t kMostStopBytes = 1024;

// -1 is a seed of its own each time, as in llama.cpp; all other numbers count whole.
std::uint32_t FoldSeed(std::int64_t seed) {
  const auto bits = static_cast<std::uint64_t>(seed);
  const auto folded = static_cast<std::uint32_t>(bits ^ (bits >> 32));
  constexpr std::uint32_t kRandom = 0xFFFFFFFFu;
  if (seed == -1) return kRandom;
  return folded == kRandom ? kRandom - 1 : folded;
}

PlanOptions ReadPlan(Fields& fields, const PlanOptions& defaults) {
  PlanOptions plan = defaults;
  if (fields.Has("attention")) {
    const std::string name = fields.Name("attention", {"auto", "dense", "star"}, "auto");
    plan.attention = *ParseAttention(name);
    if (plan.attention == Attention::kDense) {
      plan = {.attention = Attention::kDense, .ubatch_size = plan.ubatch_size};
    }
  }
  const std::int64_t otherwise = plan.block_size > 0 ? plan.block_size : -1;
  const std::int64_t block_size = fields.Integer("block_size", -1, kMostTokens, otherwise);
  if (block_size >= 0 && block_size < kMinBlockSize) {
    fields.Refuse("block_size", "at least " + std::to_string(kMinBlockSize) + ", or -1 for auto");
  }
  plan.block_size = std::max<std::int64_t>(block_size, 0);
  plan.anchor_size = fields.Integer("anchor_size", -1, kMostTokens, plan.anchor_size);
  plan.window = fields.Integer("window", kAutoWindow, kMostWindow, plan.window);
  plan.overlap = fields.Integer("overlap", 0, kMostTokens, plan.overlap);
  if (plan.attention == Attention::kDense) {
    const char* const given = plan.block_size > 0     ? "block_size"
                              : plan.anchor_size >= 0 ? "anchor_size"
                              : plan.window > 0       ? "window"
                              : plan.overlap > 0      ? "overlap"
                                                      : nullptr;
    if (given != nullptr) fields.Refuse(given, "none, since attention is dense");
  }
  return plan;
}

std::vector<std::string> ReadStops(Fields& fields) {
  const Json* stop = fields.Find("stop");
  if (stop == nullptr) return {};
  const char* const expected = "a string or up to 16 strings, each of 1 to 1024 bytes";
  const Json list = stop->is_string() ? Json::array({*stop}) : *stop;
  std::vector<std::string> stops;
  bool fits = list.is_array() && list.size() <= kMostStops;
  for (std::size_t i = 0; fits && i < list.size(); ++i) {
    fits = list[i].is_string() && !list[i].get_ref<const std::string&>().empty() &&
           list[i].get_ref<const std::string&>().size() <= kMostStopBytes;
    if (fits) stops.push_back(list[i].get<std::string>());
  }
  if (!fits) fields.Refuse("stop", expected);
  return stops;
}

SamplingOptions ReadSampling(Fields& fields, SamplingOptions sampling) {
  const auto real = [&fields](const char* name, double least, double most, float otherwise) {
    return static_cast<float>(fields.Real(name, least, most, otherwise));
  };
  sampling.temperature = real("temperature", 0, 2, sampling.temperature);
  sampling.top_p = real("top_p", 0, 1, sampling.top_p);
  sampling.min_p = real("min_p", 0, 1, sampling.min_p);
  sampling.top_k = static_cast<int>(fields.Integer("top_k", 0, kMostTokens, sampling.top_k));
  sampling.repeat_penalty = real("repeat_penalty", 0.01, 100, sampling.repeat_penalty);
  sampling.presence_penalty = real("presence_penalty", -2, 2, sampling.presence_penalty);
  sampling.frequency_penalty = real("frequency_penalty", -2, 2, sampling.frequency_penalty);
  if (fields.Has("seed")) {
    sampling.seed = FoldSeed(fields.Integer("seed", std::numeric_limits<std::int64_t>::min(),
                                            std::numeric_limits<std::int64_t>::max(), -1));
  }
  return sampling;
}

AnswerRequest ReadCommon(Fields& fields, const Defaults& defaults) {
  AnswerRequest request;
  request.plan = ReadPlan(fields, defaults.plan);
  request.allow_long = fields.Bool("allow_long", defaults.allow_long);
  request.answer.sampling = ReadSampling(fields, defaults.sampling);
  request.answer.max_tokens = fields.Integer("max_tokens", 1, kMostTokens, defaults.max_tokens);
  request.answer.max_tokens =
      fields.Integer("max_completion_tokens", 1, kMostTokens, request.answer.max_tokens);
  request.answer.stop_strings = ReadStops(fields);
  request.answer.n_top_logprobs = 1;
  request.answer.allow_long = request.allow_long;
  request.n_answers = static_cast<int>(fields.Integer("n", 1, 8, 1));
  request.streams = fields.Bool("stream", false);
  request.return_progress = fields.Bool("return_progress", false);
  if (const Json* options = fields.Object("stream_options")) {
    if (!request.streams) fields.Refuse("stream_options", "none, since stream is not true");
    Fields inner(*options, "stream_options.");
    request.include_usage = inner.Bool("include_usage", false);
    if (inner.error()) fields.Refuse("stream_options", "include_usage to be true or false");
  }
  if (const Json* bias = fields.Object("logit_bias"); bias != nullptr && !bias->empty()) {
    fields.Refuse("logit_bias", "an empty object: it is not supported");
  }
  return request;
}

// Text parts as one text, a line each.
std::optional<std::string> TextOf(const Json& content) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) return std::nullopt;
  std::string text;
  for (const Json& part : content) {
    const bool is_text = part.is_object() && part.value("type", Json()) == "text" &&
                         part.value("text", Json()).is_string();
    if (!is_text) return std::nullopt;
    if (&part != &content.front()) text += '\n';
    text += part["text"].get<std::string>();
  }
  return text;
}

bool IsToolCall(const Json& call) {
  if (!call.is_object() || !call.value("id", Json("")).is_string()) return false;
  const Json function = call.value("function", Json());
  const Json arguments = function.is_object() ? function.value("arguments", Json()) : Json();
  // Chat templates parse them.
  return function.is_object() && function.value("name", Json()).is_string() &&
         arguments.is_string() && IsShallow(arguments.get_ref<const std::string&>());
}

// One message as the chat code takes it; what is wrong with it, if something is.
std::string Normalise(const Json& given, Json& message) {
  if (!given.is_object()) return "an object";
  const Json role = given.value("role", Json());
  const char* const roles[] = {"system", "developer", "user", "assistant", "tool"};
  if (!role.is_string() || std::ranges::count(roles, role.get<std::string>()) == 0) {
    return "a role of system, developer, user, assistant or tool";
  }
  message["role"] = role == "developer" ? "system" : role.get<std::string>();
  const Json content = given.value("content", Json());
  const Json calls = given.value("tool_calls", Json());
  const bool may_lack = role == "assistant" && !calls.is_null();
  if (content.is_null() && !may_lack) return "content: a string or an array of text parts";
  if (!content.is_null()) {
    const std::optional<std::string> text = TextOf(content);
    if (!text) return "content: a string or an array of text parts";
    message["content"] = *text;
  }
  if (!calls.is_null()) {
    if (role != "assistant" || !calls.is_array() || !std::ranges::all_of(calls, IsToolCall)) {
      return "tool_calls: of an assistant, each with id, function.name and function.arguments, "
             "JSON nested at most " +
             std::to_string(kMaxJsonDepth) + " deep";
    }
    if (content.is_null()) message["content"] = "";
    message["tool_calls"] = calls;
  }
  for (const char* name : {"tool_call_id", "name", "reasoning_content"}) {
    const Json value = given.value(name, Json());
    if (value.is_null()) continue;
    if (!value.is_string()) return std::string(name) + ": a string";
    message[name] = value;
  }
  return {};
}

Json ReadMessages(Fields& fields) {
  Json messages = Json::array();
  if (!fields.Has("messages")) {
    fields.Refuse("messages", "an array of messages");
    return messages;
  }
  const Json* given = fields.Array("messages", 1, kMostMessages);
  for (std::size_t i = 0; given != nullptr && i < given->size(); ++i) {
    Json message = Json::object();
    const std::string wrong = Normalise((*given)[i], message);
    if (!wrong.empty()) {
      fields.Refuse("messages", "of message " + std::to_string(i) + " " + wrong);
      break;
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

bool IsToolName(const Json& name) {
  if (!name.is_string()) return false;
  const auto& text = name.get_ref<const std::string&>();
  return !text.empty() && text.size() <= 64 &&
         text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
             std::string::npos;
}

// Refuses what asks too much of the grammar. Patterns that it can't hold to are refused where the
// answer has to keep to them, else taken out.
void CheckSchema(Fields& fields, const char* name, Json& schema, bool must_keep,
                 std::size_t& n_parts) {
  const std::string pattern = LeaveOutPatterns(schema);
  if (must_keep && !pattern.empty()) {
    fields.Refuse(name,
                  "patterns that begin with ^ and end with $, without \\d and its like, "
                  "look-around and anchors within, not " +
                      pattern);
  }
  CloseLongBounds(schema);
  const std::string most = TooMuchOf(schema, n_parts);
  if (!most.empty()) fields.Refuse(name, most);
}

Json ReadTools(Fields& fields) {
  Json tools = Json::array();
  const Json* given = fields.Array("tools", 0, kMostTools);
  std::size_t n_parts = 0;
  for (std::size_t i = 0; given != nullptr && i < given->size(); ++i) {
    const Json& tool = (*given)[i];
    const Json function = tool.is_object() ? tool.value("function", Json()) : Json();
    const bool fits =
        function.is_object() && tool.value("type", Json()) == "function" &&
        IsToolName(function.value("name", Json())) &&
        (function.value("description", Json()).is_null() || function["description"].is_string()) &&
        (function.value("parameters", Json()).is_null() || function["parameters"].is_object());
    if (!fits) {
      fields.Refuse("tools", "of tool " + std::to_string(i) +
                                 " a type of function, and function.name of 1 to 64 letters, "
                                 "digits, _ or -");
      break;
    }
    tools.push_back(tool);
    Json& copy = tools.back()["function"];
    if (copy.value("description", Json()).is_null()) copy["description"] = "";
    if (copy.value("parameters", Json()).is_null()) copy["parameters"] = Json::object();
    const bool is_strict = copy.value("strict", Json()) == true;
    CheckSchema(fields, "tools", copy["parameters"], is_strict, n_parts);
    if (n_parts > kMaxToolsParts) break;  // refused
  }
  return tools;
}

// Takes the tools and which of them may or must be called.
void ReadToolUse(Fields& fields, ChatRequest& chat) {
  const Json tools = ReadTools(fields);
  const Json* choice = fields.Find("tool_choice");
  if (choice != nullptr && choice->is_object()) {
    const Json function = choice->value("function", Json());
    const Json name = function.is_object() ? function.value("name", Json()) : Json();
    const bool is_there = std::ranges::any_of(
        tools, [&name](const Json& tool) { return tool["function"]["name"] == name; });
    if (is_there) {
      chat.tool = name.get<std::string>();
    } else {
      fields.Refuse("tool_choice", "the name of one of the tools");
    }
    chat.tool_choice = "required";
  } else {
    chat.tool_choice = fields.Name("tool_choice", {"none", "auto", "required"}, "auto");
    if (chat.tool_choice == "required" && tools.empty()) {
      fields.Refuse("tool_choice", "none or auto, since there are no tools");
    }
  }
  if (!tools.empty()) chat.tools = tools.dump();
  chat.parallel_tool_calls = fields.Bool("parallel_tool_calls", true);
}

void ReadFormat(Fields& fields, ChatRequest& chat) {
  const Json* format = fields.Object("response_format");
  if (format == nullptr) return;
  const Json type = format->value("type", Json());
  if (type == "text") return;
  if (type == "json_object") {
    chat.json_schema = R"({"type": "object"})";
    return;
  }
  const Json wrapper = format->value("json_schema", Json());
  Json schema = wrapper.is_object() ? wrapper.value("schema", Json()) : Json();
  if (type != "json_schema" || !schema.is_object()) {
    fields.Refuse("response_format",
                  "a type of text, json_object, or json_schema with json_schema.schema");
    return;
  }
  std::size_t n_parts = 0;
  CheckSchema(fields, "response_format", schema, true, n_parts);
  chat.json_schema = schema.empty() ? R"({"type": "object"})" : schema.dump();
}

void ReadChatLogprobs(Fields& fields, AskOptions& answer) {
  const bool wanted = fields.Bool("logprobs", false);
  const std::int64_t n = fields.Integer("top_logprobs", 0, 20, 0);
  if (wanted) answer.n_logprobs = static_cast<int>(n);
  if (!wanted && fields.Has("top_logprobs") && n > 0) {
    fields.Refuse("top_logprobs", "none, since logprobs is not true");
  }
}

// "## name", its text, a blank line between files.
std::optional<std::string> TextOfFiles(const Json& files) {
  std::string text;
  for (const Json& file : files) {
    const bool fits = file.is_object() && file.value("name", Json()).is_string() &&
                      file.value("text", Json()).is_string();
    if (!fits) return std::nullopt;
    if (!text.empty()) text += "\n\n";
    text += "## " + file["name"].get<std::string>() + "\n\n" + file["text"].get<std::string>();
  }
  return text;
}

}  // namespace

ApiResult<ChatCall> ReadChatCall(const Json& body, const Defaults& defaults) {
  Fields fields(body);
  ChatCall call;
  call.common = ReadCommon(fields, defaults);
  call.chat.messages = ReadMessages(fields).dump();
  call.chat.question = fields.String("question", "");
  call.context_id = fields.String("context_id", "", 64);
  if (fields.Has("context_id") && call.context_id.empty()) {
    fields.Refuse("context_id", "the id of a context");
  }
  ReadToolUse(fields, call.chat);
  ReadFormat(fields, call.chat);
  if (!call.chat.tools.empty() && !call.chat.json_schema.empty() &&
      call.chat.tool_choice == "required") {
    fields.Refuse("response_format", "type text, since a tool must be called");
  }
  ReadChatLogprobs(fields, call.common.answer);
  if (fields.error()) return *fields.error();
  return call;
}

ApiResult<CompletionCall> ReadCompletionCall(const Json& body, const Defaults& defaults) {
  Fields fields(body);
  CompletionCall call;
  call.common = ReadCommon(fields, defaults);
  call.context = fields.String("context", "");
  call.prompt = fields.String("prompt", "");
  if (call.prompt.empty()) fields.Refuse("prompt", "a string of at least one byte");
  call.common.answer.n_logprobs = static_cast<int>(fields.Integer("logprobs", 0, 5, -1));
  if (fields.Bool("echo", false)) fields.Refuse("echo", "false: it is not supported");
  if (fields.Has("suffix")) fields.Refuse("suffix", "none: it is not supported");
  if (fields.error()) return *fields.error();
  return call;
}

ApiResult<ContextCall> ReadContextCall(const Json& body, const Defaults& defaults) {
  Fields fields(body);
  ContextCall call;
  call.plan = ReadPlan(fields, defaults.plan);
  call.allow_long = fields.Bool("allow_long", defaults.allow_long);
  call.name = fields.String("name", "", 1024);
  call.streams = fields.Bool("stream", false);
  const int n_given = fields.Has("text") + fields.Has("files") + fields.Has("messages");
  Json messages = Json::array();
  if (n_given != 1) {
    fields.Refuse("text", "exactly one of text, files and messages");
  } else if (fields.Has("messages")) {
    messages = ReadMessages(fields);
  } else {
    std::string text = fields.String("text", "");
    if (const Json* files = fields.Array("files", 1, kMostMessages)) {
      std::optional<std::string> joined = TextOfFiles(*files);
      if (!joined) fields.Refuse("files", "of each file a name and a text");
      text = joined.value_or("");
    }
    if (text.empty()) fields.Refuse(fields.Has("files") ? "files" : "text", "some text");
    messages.push_back({{"role", "user"}, {"content", std::move(text)}});
  }
  const Json tools = ReadTools(fields);
  if (fields.error()) return *fields.error();
  call.messages = messages.dump();
  if (!tools.empty()) call.tools = tools.dump();
  return call;
}

void GoOnBehind(const std::string& context_messages, ChatCall& call) {
  Json all = Json::parse(context_messages);
  Json own = Json::parse(call.chat.messages);
  const bool joins = !own.empty() && all.back()["role"] == "user" && own[0]["role"] == "user";
  if (joins) {
    const std::string first = own[0]["content"].get<std::string>();
    const bool is_last = std::ranges::none_of(
        own.begin() + 1, own.end(), [](const Json& message) { return message["role"] == "user"; });
    // Its own text is the query, not what the context brings.
    if (is_last && call.chat.question.empty()) call.chat.question = first;
    all.back()["content"] = all.back()["content"].get<std::string>() + "\n\n" + first;
  }
  all.insert(all.end(), own.begin() + (joins ? 1 : 0), own.end());
  call.chat.messages = all.dump();
}

}  // namespace aster::serve
