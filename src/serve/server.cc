#include "serve/server.h"

#include <httplib.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "serve/answer_json.h"
#include "serve/connection_threads.h"
#include "serve/delivery.h"
#include "serve/gate.h"
#include "serve/listener.h"
#include "serve/page.h"
#include "serve/random_id.h"
#include "serve/reply.h"
#include "serve/tls.h"
#include "serve/token_routes.h"

namespace aster::serve {
namespace {

using httplib::Request;
using httplib::Response;
using Handled = httplib::Server::HandlerResponse;

constexpr int kWriteTimeout = 30;  // s; also for what still comes in or goes out at the end

// The request that this thread serves: what its log line needs.
struct UnderWay {
  Clock::time_point start;
  std::shared_ptr<Ticket> ticket;
  bool streams = false;  // it is over when the stream is, and logged then
};
thread_local UnderWay under_way;

// Star over less than a block is what dense attention does.
void FitPlan(PlanOptions& plan, std::int64_t n_context) {
  if (plan.attention != Attention::kStar) return;
  if (n_context < kMinBlockSize) {
    plan = {.attention = Attention::kDense, .ubatch_size = plan.ubatch_size};
    return;
  }
  plan.block_size = std::min(plan.block_size, n_context);
  plan.anchor_size = std::min(plan.anchor_size, n_context);
}

}  // namespace

class Server::Impl {
 public:
  Impl(const Model& model, const ServerOptions& options, std::function<void(const RequestLog&)> log,
       std::unique_ptr<httplib::Server> http)
      : model_(model),
        options_(options),
        log_(std::move(log)),
        store_(model, options.kv_bytes, metrics_),
        scheduler_(model, options.scheduler, store_, metrics_),
        gate_({options.host, options.api_keys, options.cors_origin}),
        delivery_(options.ping_interval),
        http_(std::move(http)),
        listener_(*http_, options.host, options.port) {
    SetLimits();
    SetGuards();
    SetRoutes();
  }
  ~Impl() { static_cast<void>(Stop()); }

  Status Listen() { return listener_.Start(); }
  int port() const { return listener_.port(); }
  Status Wait(const std::stop_token& stop) { return listener_.Wait(stop); }

  bool Stop() {
    const bool idle = scheduler_.Drain(std::chrono::seconds(options_.drain_seconds));
    // What is computed is still to be written.
    delivery_.WaitUntilOver(std::chrono::seconds(kWriteTimeout));
    return listener_.Stop(std::chrono::seconds(kWriteTimeout)) && idle;
  }

 private:
  void SetLimits();
  void SetGuards();
  void SetRoutes();
  void AddRoute(const char* method, const char* path, const httplib::Server::Handler& handler);
  void Log(const std::string& method, const std::string& path, int status, const UnderWay& work);

  Json Props() const;
  Json Models() const;
  Gauges Now() const;
  void Chat(const Request& request, Response& response);
  void Completion(const Request& request, Response& response);
  void MakeContext(const Request& request, Response& response);

  // The request's body as `read` understands it; nullopt: refused.
  template <class Call>
  std::optional<Call> Read(const Request& request, Response& response,
                           ApiResult<Call> (*read)(const Json&, const Defaults&)) const {
    const ApiResult<Json> body = ParseBody(request.body);
    ApiResult<Call> call = ErrorOf(body) ? ApiResult<Call>(*ErrorOf(body))
                                         : read(std::get<Json>(body), options_.defaults);
    if (Call* whole = std::get_if<Call>(&call)) return std::move(*whole);
    Refuse(response, *ErrorOf(call));
    return std::nullopt;
  }
  // The rest of what a request for an answer needs; nullptr: refused.
  std::shared_ptr<Ticket> Submit(const Request& request, Response& response, Model::Prompt prompt,
                                 AnswerRequest common, const std::string& context_id);
  std::shared_ptr<Ticket> Queue(Response& response, Job job);
  bool FitsInBytes(Response& response, std::size_t n_bytes, bool allow_long) const;
  StreamOptions StreamOf(const AnswerRequest& common, const char* prefix) const;
  // The ticket's answer: events() as they come, or whole(state) at its end.
  template <class Events, class Whole>
  void Respond(const Request& request, Response& response, const std::shared_ptr<Ticket>& ticket,
               bool streams, Events events, Whole whole);

  const Model& model_;
  const ServerOptions options_;
  const std::function<void(const RequestLog&)> log_;
  const std::int64_t started_ = UnixTime();
  Metrics metrics_;
  ContextStore store_;
  Scheduler scheduler_;
  Gate gate_;
  Delivery delivery_;
  std::unique_ptr<httplib::Server> http_;
  Listener listener_;
};

void Server::Impl::SetLimits() {
  // Not SO_REUSEPORT, the library's way: a second server on the port must hear that it is taken.
  http_->set_socket_options(
      [](auto socket) { httplib::set_socket_opt(socket, SOL_SOCKET, SO_REUSEADDR, 1); });
  http_->set_payload_max_length(static_cast<std::size_t>(options_.max_body_bytes));
  http_->set_read_timeout(options_.read_timeout);
  http_->set_write_timeout(kWriteTimeout);
  http_->set_keep_alive_max_count(1000);
  const auto n_requests = static_cast<std::size_t>(options_.scheduler.max_running) +
                          static_cast<std::size_t>(options_.scheduler.max_waiting);
  const std::size_t most = n_requests + 512;  // threads, one a connection
  http_->new_task_queue = [this, most] {
    return new ConnectionThreads(most, [this] { listener_.OnEnd(); });
  };
  http_->set_default_headers(
      {{"X-Content-Type-Options", "nosniff"},
       {"Referrer-Policy", "no-referrer"},
       {"Cache-Control", "no-store"},
       {"Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"}});
}

void Server::Impl::SetGuards() {
  http_->set_pre_routing_handler([this](const Request& request, Response& response) {
    under_way = {Clock::now(), nullptr, false};
    return gate_.LetIn(request, response) ? Handled::Unhandled : Handled::Handled;
  });
  // What the library refuses by itself gets OpenAI's form too.
  const auto most = static_cast<std::uint64_t>(options_.max_body_bytes);
  http_->set_error_handler([most](const Request& request, Response& response) {
    if (!response.body.empty()) return Handled::Unhandled;
    const bool is_large = request.get_header_value_u64("Content-Length") > most;
    const int status = is_large ? 413 : response.status;
    const char* const what = status == 413   ? "the body is larger than the server takes"
                             : status == 414 ? "the path is longer than the server takes"
                             : status == 431 ? "more headers than the server takes"
                             : status == 404 ? "there is nothing at this path; see /openapi.json"
                             : status >= 500 ? "the server failed"
                                             : "not a request that the server understands";
    Refuse(response, {status, what, {}});
    return Handled::Handled;
  });
  http_->set_exception_handler([](const Request&, Response& response, std::exception_ptr) {
    Refuse(response, {500, "the server failed", {}});
  });
  http_->set_logger([this](const Request& request, const Response& response) {
    if (!under_way.streams) Log(request.method, request.path, response.status, under_way);
    under_way = {};
  });
}

void Server::Impl::Log(const std::string& method, const std::string& path, int status,
                       const UnderWay& work) {
  RequestLog log;
  log.method = method;
  log.route = gate_.RouteOf(path);
  log.status = status;
  // What the library refuses by itself never came to the gate.
  log.seconds = work.start != Clock::time_point() ? SecondsSince(work.start) : 0;
  if (work.ticket != nullptr) {
    work.ticket->Read([&log](const TicketState& state) {
      log.n_prompt = state.n_prompt;
      log.n_cached = state.n_reused;
      for (const AnswerState& answer : state.answers) log.n_answer += answer.n_tokens;
      log.ttft_seconds = state.prefill_seconds;
    });
  }
  metrics_.CountRequest(log.route, log.status);
  if (log_) log_(log);
}

void Server::Impl::AddRoute(const char* method, const char* path,
                            const httplib::Server::Handler& handler) {
  gate_.AddRoute(method, path);
  const std::string name = method;
  if (name == "GET") http_->Get(path, handler);
  if (name == "POST") http_->Post(path, handler);
  if (name == "DELETE") http_->Delete(path, handler);
}

Gauges Server::Impl::Now() const {
  return {scheduler_.n_running(), scheduler_.n_waiting(), store_.size(), KvBytesInUse(),
          store_.limit_bytes()};
}

Json Server::Impl::Models() const {
  const ModelInfo& info = model_.info();
  Json model = {{"id", options_.model_name},
                {"object", "model"},
                {"created", started_},
                {"owned_by", "aster"},
                {"meta",
                 {{"n_ctx_train", info.n_ctx_train},
                  {"n_params", info.n_parameters},
                  {"size", info.n_bytes},
                  {"n_vocab", info.n_vocab}}}};
  return {{"object", "list"}, {"data", Json::array({std::move(model)})}};
}

Json Server::Impl::Props() const {
  const PlanOptions& plan = options_.defaults.plan;
  return {{"model", options_.model_name},
          {"version", options_.version},
          {"n_ctx_train", model_.info().n_ctx_train},
          {"n_threads", model_.n_threads()},
          {"isa", model_.isa()},
          {"linear", model_.linear()},
          {"kv_memory", {{"limit_bytes", store_.limit_bytes()}, {"used_bytes", KvBytesInUse()}}},
          {"attention", AttentionName(plan.attention)},
          {"block_size", plan.block_size > 0 ? plan.block_size : -1},
          {"anchor_size", plan.anchor_size},
          {"window", plan.window},
          {"overlap", plan.overlap},
          {"max_tokens", options_.defaults.max_tokens},
          {"parallel", options_.scheduler.max_running},
          {"queue", options_.scheduler.max_waiting}};
}

// A text that is too long however it is tokenised is refused before that takes time and memory.
bool Server::Impl::FitsInBytes(Response& response, std::size_t n_bytes, bool allow_long) const {
  const ModelInfo& info = model_.info();
  // Of JSON: an escape sequence ("\\u0001") is six bytes for one.
  const auto n_text = static_cast<std::int64_t>(n_bytes / 6);
  if (allow_long || n_text <= info.n_ctx_train * info.max_token_bytes) return true;
  const Status too_long = model_.CheckLength(n_text / info.max_token_bytes, false);
  Refuse(response, {400, "a text of at least " + too_long.error().message, {}});
  return false;
}

std::shared_ptr<Ticket> Server::Impl::Queue(Response& response, Job job) {
  ApiResult<std::shared_ptr<Ticket>> submitted = scheduler_.Submit(std::move(job));
  if (const ApiError* error = ErrorOf(submitted)) {
    Refuse(response, *error);
    return nullptr;
  }
  under_way.ticket = std::get<std::shared_ptr<Ticket>>(submitted);
  return under_way.ticket;
}

std::shared_ptr<Ticket> Server::Impl::Submit(const Request& request, Response& response,
                                             Model::Prompt prompt, AnswerRequest common,
                                             const std::string& context_id) {
  const auto n_prompt = static_cast<std::int64_t>(prompt.tokens.size());
  if (Status fits = model_.CheckLength(n_prompt, common.allow_long); !fits) {
    Refuse(response, FromError(fits.error()));
    return nullptr;
  }
  Job job;
  job.tenant = gate_.Tenant(request);
  job.context_id = context_id;
  job.n_answers = common.n_answers;
  job.options.plan = common.plan;
  FitPlan(job.options.plan, prompt.n_context);
  job.options.allow_long = common.allow_long;
  job.options.answer = std::move(common.answer);
  if (!common.allow_long) {
    const std::int64_t room = std::max<std::int64_t>(model_.info().n_ctx_train - n_prompt + 1, 1);
    job.options.answer.max_tokens = std::min(job.options.answer.max_tokens, room);
  }
  job.prompt = std::move(prompt);
  return Queue(response, std::move(job));
}

StreamOptions Server::Impl::StreamOf(const AnswerRequest& common, const char* prefix) const {
  return {RandomId(prefix), options_.model_name, UnixTime(), common.include_usage,
          common.return_progress};
}

template <class Events, class Whole>
void Server::Impl::Respond(const Request& request, Response& response,
                           const std::shared_ptr<Ticket>& ticket, bool streams, Events events,
                           Whole whole) {
  if (ticket == nullptr) return;  // that was said
  if (streams) {
    under_way.streams = delivery_.Stream(
        response, ticket, events(),
        [this, path = request.path, work = under_way] { Log("POST", path, 200, work); });
    return;
  }
  TicketState state;
  if (AwaitEnd(request, response, *ticket, state)) Reply(response, whole(state));
}

void Server::Impl::Chat(const Request& request, Response& response) {
  std::optional<ChatCall> call = Read(request, response, ReadChatCall);
  if (!call) return;
  const std::size_t n_bytes = call->chat.messages.size() + call->chat.tools.size();
  if (!FitsInBytes(response, n_bytes, call->common.allow_long)) return;
  if (!call->chat.json_schema.empty()) {
    const Result<std::string> grammar = GrammarOfSchema(call->chat.json_schema);
    if (!grammar) return Refuse(response, FromError(grammar.error(), "response_format"));
  }
  if (!call->context_id.empty()) {
    const auto context = store_.Find(gate_.Tenant(request), call->context_id);
    if (!context) {
      return Refuse(response, {404, "context_id: there is no such context, or it had to make room",
                               "context_id"});
    }
    GoOnBehind(context->messages, *call);
  }
  Result<ChatPrompt> chat = BuildChat(model_, call->chat);
  if (!chat) {
    const bool is_question = chat.error().message.starts_with("question:");
    return Refuse(response, FromError(chat.error(), is_question ? "question" : ""));
  }
  AskOptions& answer = call->common.answer;
  answer.sampling.grammar = std::move(chat->grammar);
  answer.shown_tokens = std::move(chat->shown_tokens);
  answer.stop_strings.insert(answer.stop_strings.end(), chat->stop_strings.begin(),
                             chat->stop_strings.end());
  const StreamOptions stream = StreamOf(call->common, "chatcmpl-");
  const bool streams = call->common.streams;
  const auto ticket =
      Submit(request, response, std::move(chat->prompt), std::move(call->common), call->context_id);
  Respond(
      request, response, ticket, streams,
      [&] { return MakeChatEvents(model_, stream, std::move(chat->reader)); },
      [&](const TicketState& state) {
        return ChatAnswerJson(model_, stream, chat->reader, state);
      });
}

void Server::Impl::Completion(const Request& request, Response& response) {
  std::optional<CompletionCall> call = Read(request, response, ReadCompletionCall);
  if (!call ||
      !FitsInBytes(response, call->context.size() + call->prompt.size(), call->common.allow_long)) {
    return;
  }
  Result<Model::Prompt> prompt =
      model_.CutPrompt(call->context + call->prompt, call->context.size());
  if (!prompt) return Refuse(response, FromError(prompt.error()));
  const StreamOptions stream = StreamOf(call->common, "cmpl-");
  const bool streams = call->common.streams;
  const auto ticket =
      Submit(request, response, std::move(*prompt), std::move(call->common), std::string());
  Respond(
      request, response, ticket, streams, [&] { return MakeCompletionEvents(model_, stream); },
      [&](const TicketState& state) { return CompletionJson(model_, stream, state); });
}

void Server::Impl::MakeContext(const Request& request, Response& response) {
  std::optional<ContextCall> call = Read(request, response, ReadContextCall);
  if (!call) return;
  const std::size_t n_bytes = call->messages.size() + call->tools.size();
  if (!FitsInBytes(response, n_bytes, call->allow_long)) return;
  Result<std::vector<Token>> tokens = BuildChatContext(model_, call->messages, call->tools);
  if (!tokens) return Refuse(response, FromError(tokens.error()));
  const auto n = static_cast<std::int64_t>(tokens->size());
  if (Status fits = model_.CheckLength(n, call->allow_long); !fits) {
    return Refuse(response, FromError(fits.error()));
  }
  Job job;
  job.tenant = gate_.Tenant(request);
  job.prompt = {std::move(*tokens), n};
  job.options.plan = call->plan;
  FitPlan(job.options.plan, n);
  job.options.allow_long = call->allow_long;
  job.options.wants_answer = false;
  job.context.name = std::move(call->name);
  job.context.messages = std::move(call->messages);
  Respond(request, response, Queue(response, std::move(job)), call->streams, MakeContextEvents,
          [](const TicketState& state) { return ContextJson(*state.made); });
}

void Server::Impl::SetRoutes() {
  for (const PageFile& file : PageFiles()) {
    AddRoute("GET", std::string(file.path).c_str(), [file](const Request&, Response& response) {
      response.set_content(file.bytes.data(), file.bytes.size(), std::string(file.content_type));
    });
  }
  AddRoute("GET", "/openapi.json", [](const Request&, Response& response) {
    response.set_content(OpenApi().data(), OpenApi().size(), "application/json");
  });
  AddRoute("GET", "/health", [](const Request&, Response& response) {
    Reply(response, {{"status", "ok"}});
  });
  AddRoute("GET", "/v1/models",
           [this](const Request&, Response& response) { Reply(response, Models()); });
  AddRoute("GET", "/props",
           [this](const Request&, Response& response) { Reply(response, Props()); });
  AddRoute("GET", "/metrics", [this](const Request&, Response& response) {
    response.set_content(metrics_.Text(Now()), "text/plain; version=0.0.4; charset=utf-8");
  });
  AddRoute("POST", "/tokenize", [this](const Request& request, Response& response) {
    Tokenize(model_, request, response);
  });
  AddRoute("POST", "/detokenize", [this](const Request& request, Response& response) {
    Detokenize(model_, request, response);
  });
  AddRoute("POST", "/v1/chat/completions",
           [this](const Request& request, Response& response) { Chat(request, response); });
  AddRoute("POST", "/v1/completions",
           [this](const Request& request, Response& response) { Completion(request, response); });
  AddRoute("POST", "/v1/contexts",
           [this](const Request& request, Response& response) { MakeContext(request, response); });
  AddRoute("GET", "/v1/contexts", [this](const Request& request, Response& response) {
    Json data = Json::array();
    for (const ContextInfo& info : store_.List(gate_.Tenant(request)))
      data.push_back(ContextJson(info));
    Reply(response, {{"object", "list"}, {"data", std::move(data)}});
  });
  const auto none = [](Response& response) {
    Refuse(response, {404, "there is no such context, or it had to make room", {}});
  };
  AddRoute("GET", "/v1/contexts/:id", [this, none](const Request& request, Response& response) {
    const auto info = store_.Find(gate_.Tenant(request), request.path_params.at("id"));
    if (!info) return none(response);
    Reply(response, ContextJson(*info));
  });
  AddRoute("DELETE", "/v1/contexts/:id", [this, none](const Request& request, Response& response) {
    const std::string& id = request.path_params.at("id");
    if (!store_.Erase(gate_.Tenant(request), id)) return none(response);
    Reply(response, {{"id", id}, {"object", "context.deleted"}, {"deleted", true}});
  });
}

Result<std::unique_ptr<Server>> Server::Start(const Model& model, const ServerOptions& options,
                                              std::function<void(const RequestLog&)> log) {
  Result<std::unique_ptr<httplib::Server>> http = MakeHttpServer(options.tls_cert, options.tls_key);
  if (!http) return http.error();
  auto impl = std::make_unique<Impl>(model, options, std::move(log), std::move(*http));
  if (Status listening = impl->Listen(); !listening) return listening.error();
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;
int Server::port() const { return impl_->port(); }
Status Server::Wait(const std::stop_token& stop) { return impl_->Wait(stop); }
bool Server::Stop() { return impl_->Stop(); }

}  // namespace aster::serve
