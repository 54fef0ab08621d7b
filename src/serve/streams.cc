#include "serve/streams.h"

#include <utility>

#include "serve/random_id.h"

namespace aster::serve {
namespace {

using Phase = TicketState::Phase;

std::string Event(const Json& json) { return "data: " + Dump(json) + "\n\n"; }

constexpr char kDone[] = "data: [DONE]\n\n";

Json AnswerJson(const StreamOptions& options, const char* object, Json choices) {
  return {{"id", options.id},
          {"object", object},
          {"created", options.created},
          {"model", options.model_name},
          {"choices", std::move(choices)}};
}

Json WholeJson(const StreamOptions& options, const char* object, Json choices,
               const TicketState& state) {
  Json json = AnswerJson(options, object, std::move(choices));
  json["usage"] = UsageJson(state);
  json["timings"] = TimingsJson(state);
  return json;
}

// What came to `text` since `seen` of it was told. Nothing when it was taken back.
std::string Grown(const std::string& seen, const std::string& text) {
  return text.starts_with(seen) ? text.substr(seen.size()) : std::string();
}

// One answer of a chat, read as far as it is there.
class ChatAnswerReader {
 public:
  // What is new; null when nothing is.
  Json Read(const ChatReader& reader, const AnswerState& answer) {
    const bool is_whole = answer.is_done && answer.finish != Finish::kMaxTokens &&
                          answer.finish != Finish::kContextFull;
    Result<ChatAnswer> read = reader.Read(answer.text, !is_whole);
    if (!read && is_whole) read = reader.Read(answer.text, true);
    if (!read) {
      if (!answer.is_done) return nullptr;
      read = ChatAnswer{answer.text, {}, {}};  // not in the format: as it is
    }
    Json delta = Json::object();
    Text("reasoning_content", read->reasoning, reasoning_, delta);
    Text("content", read->content, content_, delta);
    for (std::size_t i = 0; i < read->tool_calls.size(); ++i) {
      if (Json call = Call(i, read->tool_calls[i]); !call.is_null()) {
        delta["tool_calls"].push_back(std::move(call));
      }
    }
    return delta.empty() ? Json() : delta;
  }

  const std::string& content() const { return content_; }
  const std::string& reasoning() const { return reasoning_; }
  const std::vector<ToolCall>& calls() const { return calls_; }

 private:
  static void Text(const char* name, const std::string& now, std::string& before, Json& delta) {
    const std::string more = Grown(before, now);
    if (more.empty()) return;
    before = now;
    delta[name] = more;
  }

  Json Call(std::size_t i, const ToolCall& now) {
    if (i == calls_.size()) {
      if (now.name.empty()) return nullptr;
      calls_.push_back(now);
      if (calls_[i].id.empty()) calls_[i].id = RandomId("call_");
      Json json = ToolCallJson(calls_[i]);
      json["index"] = i;
      return json;
    }
    if (i > calls_.size()) return nullptr;
    const std::string more = Grown(calls_[i].arguments, now.arguments);
    if (more.empty()) return nullptr;
    calls_[i].arguments = now.arguments;
    return {{"index", i}, {"function", {{"arguments", more}}}};
  }

  std::string content_, reasoning_;
  std::vector<ToolCall> calls_;
};

// What chat's and completions' events have in common: chunks, progress, usage, errors.
class AnswerEvents : public EventMaker {
 public:
  AnswerEvents(const Model& model, StreamOptions options, const char* object)
      : model_(model), options_(std::move(options)), object_(object) {}

  std::string Events(const TicketState& state) override {
    if (over_) return {};
    std::string events;
    if (options_.return_progress && state.phase == Phase::kPrefill) {
      Json chunk = Chunk(Json::array());
      chunk["prompt_progress"] = ProgressJson(state);
      events += Event(chunk);
    }
    if (state.phase != Phase::kFailed) {
      for (std::size_t i = 0; i < state.answers.size(); ++i) events += AnswerChunks(i, state);
    }
    if (!state.is_over()) return events;
    over_ = true;
    if (state.phase == Phase::kFailed) return events + Event(ErrorJson(state.error)) + kDone;
    if (!options_.include_usage) return events + kDone;
    return events + Event(WholeJson(options_, object_, Json::array(), state)) + kDone;
  }

 protected:
  virtual std::string AnswerChunks(std::size_t i, const TicketState& state) = 0;

  // The last of an answer. Clients that ask for no usage may know no chunk without a choice, so the
  // timings are in this one.
  std::string FinishChunk(Json choice, const TicketState& state) const {
    Json chunk = Chunk(Json::array({std::move(choice)}));
    if (!options_.include_usage) chunk["timings"] = TimingsJson(state);
    return Event(chunk);
  }

  Json Chunk(Json choices) const { return AnswerJson(options_, object_, std::move(choices)); }

  const Model& model_;
  const StreamOptions options_;

 private:
  const char* const object_;
  bool over_ = false;
};

class ChatEvents : public AnswerEvents {
 public:
  ChatEvents(const Model& model, StreamOptions options, ChatReader reader)
      : AnswerEvents(model, std::move(options), "chat.completion.chunk"),
        reader_(std::move(reader)) {}

 private:
  struct Told {
    ChatAnswerReader answer;
    std::size_t n_logprobs = 0;
    std::int64_t n_tokens = -1;
    bool finished = false;
  };

  std::string ChoiceChunk(std::size_t i, Json delta, Json logprobs) const {
    Json choice = {{"index", i}, {"delta", std::move(delta)}};
    if (!logprobs.is_null()) choice["logprobs"] = std::move(logprobs);
    choice["finish_reason"] = nullptr;
    return Event(Chunk(Json::array({std::move(choice)})));
  }

  std::string AnswerChunks(std::size_t i, const TicketState& state) override {
    if (told_.size() <= i) told_.resize(i + 1);
    Told& told = told_[i];
    const AnswerState& answer = state.answers[i];
    if (told.finished || (told.n_tokens == answer.n_tokens && !answer.is_done)) return {};
    std::string events;
    if (told.n_tokens < 0) {
      events += ChoiceChunk(i, {{"role", "assistant"}, {"content", ""}}, nullptr);
    }
    told.n_tokens = answer.n_tokens;
    Json delta = told.answer.Read(reader_, answer);
    if (!delta.is_null()) {
      Json logprobs;
      if (answer.logprobs.size() > told.n_logprobs) {
        logprobs = ChatLogprobsJson(model_, std::span(answer.logprobs).subspan(told.n_logprobs));
        told.n_logprobs = answer.logprobs.size();
      }
      events += ChoiceChunk(i, std::move(delta), std::move(logprobs));
    }
    if (!answer.is_done) return events;
    told.finished = true;
    const std::string reason = FinishReason(answer.finish, !told.answer.calls().empty());
    Json choice = {{"index", i}, {"delta", Json::object()}};
    if (answer.logprobs.size() > told.n_logprobs) {  // of tokens that added no text
      choice["logprobs"] =
          ChatLogprobsJson(model_, std::span(answer.logprobs).subspan(told.n_logprobs));
    }
    choice["finish_reason"] = reason;
    return events + FinishChunk(std::move(choice), state);
  }

  const ChatReader reader_;
  std::vector<Told> told_;
};

class CompletionEvents : public AnswerEvents {
 public:
  CompletionEvents(const Model& model, StreamOptions options)
      : AnswerEvents(model, std::move(options), "text_completion") {}

 private:
  struct Told {
    std::size_t n_bytes = 0;
    std::size_t n_logprobs = 0;
    bool finished = false;
  };

  std::string AnswerChunks(std::size_t i, const TicketState& state) override {
    if (told_.size() <= i) told_.resize(i + 1);
    Told& told = told_[i];
    const AnswerState& answer = state.answers[i];
    const std::string more = answer.text.substr(told.n_bytes);
    if (told.finished || (more.empty() && !answer.is_done)) return {};
    Json choice = {{"index", i}, {"text", more}};
    if (answer.logprobs.size() > told.n_logprobs) {
      choice["logprobs"] = CompletionLogprobsJson(
          model_, std::span(answer.logprobs).subspan(told.n_logprobs), told.n_bytes);
    }
    told.n_logprobs = answer.logprobs.size();
    told.n_bytes = answer.text.size();
    told.finished = answer.is_done;
    if (answer.is_done) {
      choice["finish_reason"] = FinishReason(answer.finish, false);
      return FinishChunk(std::move(choice), state);
    }
    choice["finish_reason"] = nullptr;
    return Event(Chunk(Json::array({std::move(choice)})));
  }

  std::vector<Told> told_;
};

class ContextEvents : public EventMaker {
 public:
  std::string Events(const TicketState& state) override {
    if (over_ || state.phase == Phase::kWaiting) return {};
    if (state.phase == Phase::kPrefill) return Event(ContextProgressJson(state));
    if (!state.is_over()) return {};
    over_ = true;
    if (state.phase == Phase::kFailed) return Event(ErrorJson(state.error)) + kDone;
    return Event(ContextProgressJson(state)) + Event(ContextJson(*state.made)) + kDone;
  }

 private:
  bool over_ = false;
};

}  // namespace

std::unique_ptr<EventMaker> MakeChatEvents(const Model& model, StreamOptions options,
                                           ChatReader reader) {
  return std::make_unique<ChatEvents>(model, std::move(options), std::move(reader));
}

std::unique_ptr<EventMaker> MakeCompletionEvents(const Model& model, StreamOptions options) {
  return std::make_unique<CompletionEvents>(model, std::move(options));
}

std::unique_ptr<EventMaker> MakeContextEvents() { return std::make_unique<ContextEvents>(); }

Json ChatAnswerJson(const Model& model, const StreamOptions& options, const ChatReader& reader,
                    const TicketState& state) {
  Json choices = Json::array();
  for (std::size_t i = 0; i < state.answers.size(); ++i) {
    const AnswerState& answer = state.answers[i];
    ChatAnswerReader read;
    read.Read(reader, answer);
    Json message = {{"role", "assistant"}, {"content", read.content()}};
    if (!read.reasoning().empty()) message["reasoning_content"] = read.reasoning();
    if (!read.calls().empty()) {
      if (read.content().empty()) message["content"] = nullptr;
      message["tool_calls"] = Json::array();
      for (const ToolCall& call : read.calls()) message["tool_calls"].push_back(ToolCallJson(call));
    }
    Json choice = {{"index", i},
                   {"message", std::move(message)},
                   {"logprobs", nullptr},
                   {"finish_reason", FinishReason(answer.finish, !read.calls().empty())}};
    if (!answer.logprobs.empty()) choice["logprobs"] = ChatLogprobsJson(model, answer.logprobs);
    choices.push_back(std::move(choice));
  }
  return WholeJson(options, "chat.completion", std::move(choices), state);
}

Json CompletionJson(const Model& model, const StreamOptions& options, const TicketState& state) {
  Json choices = Json::array();
  for (std::size_t i = 0; i < state.answers.size(); ++i) {
    const AnswerState& answer = state.answers[i];
    Json choice = {{"index", i},
                   {"text", answer.text},
                   {"logprobs", nullptr},
                   {"finish_reason", FinishReason(answer.finish, false)}};
    if (!answer.logprobs.empty()) {
      choice["logprobs"] = CompletionLogprobsJson(model, answer.logprobs, 0);
    }
    choices.push_back(std::move(choice));
  }
  return WholeJson(options, "text_completion", std::move(choices), state);
}

}  // namespace aster::serve
