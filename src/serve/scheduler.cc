#include "serve/scheduler.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <utility>

namespace aster::serve {
namespace {

using Phase = TicketState::Phase;

// Steps of this size when the speed is not known yet.
constexpr std::int64_t kFirstStep = 64;

ApiError Busy(std::string message) { return {503, std::move(message), {}}; }
ApiError Broken(const char* why) { return {500, std::string("the server failed: ") + why, {}}; }

void End(Ticket& ticket, ApiError error) {
  ticket.Write([&](TicketState& state) {
    state.phase = Phase::kFailed;
    state.error = std::move(error);
  });
}

std::int64_t CommonStart(const std::vector<Token>& a, const std::vector<Token>& b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace

struct Scheduler::Running {
  std::shared_ptr<Ticket> ticket;
  std::vector<Session> sessions;  // one until the prompt is there
  std::int64_t promised = 0;      // bytes that it may come to take
  std::int64_t bytes_before = 0;  // of the store's pages that it shares
  Clock::time_point started = Clock::now();
  Clock::time_point first_token;
  bool context_kept = false;
  std::int64_t n_kept = 0;  // tokens of it that were put into the store for others that wait
  bool over = false;

  bool is_prefilling() const { return !over && !sessions.front().prefilled(); }
  bool is_answering() const { return !over && sessions.front().prefilled(); }
  std::int64_t n_left() const {
    const Progress progress = sessions.front().progress();
    return progress.n_total - progress.n_done;
  }
};

Scheduler::Scheduler(const Model& model, const SchedulerOptions& options, ContextStore& store,
                     Metrics& metrics)
    : model_(model), options_(options), store_(store), metrics_(metrics) {
  thread_ = std::jthread([this] { Loop(); });
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = draining_ = true;
    for (const auto& ticket : waiting_) ticket->Cancel();
    for (const auto& running : running_) running->ticket->Cancel();
  }
  work_.notify_all();
}

std::int64_t Scheduler::BytesOf(const Job& job) const {
  const auto n_prompt = static_cast<std::int64_t>(job.prompt.tokens.size());
  const std::int64_t n_answer = job.options.wants_answer ? job.options.answer.max_tokens : 0;
  // The context is kept too, and so is what each answer leaves: each may have a last page of its
  // own.
  const std::int64_t page = PredictKvBytes(model_, 1);
  std::int64_t bytes = PredictKvBytes(model_, n_prompt + n_answer) + page;
  if (job.n_answers > 1) bytes += (job.n_answers - 1) * (PredictKvBytes(model_, n_answer) + page);
  return bytes;
}

ApiResult<std::shared_ptr<Ticket>> Scheduler::Submit(Job job) {
  const std::int64_t bytes = BytesOf(job);
  if (bytes > store_.limit_bytes()) {
    return ApiError{400,
                    "the request needs " + std::to_string(bytes) + " bytes of KV memory (prompt " +
                        std::to_string(job.prompt.tokens.size()) + " tokens, answer at most " +
                        std::to_string(job.options.answer.max_tokens) +
                        "), but the server's --kv-memory is " +
                        std::to_string(store_.limit_bytes()),
                    {}};
  }
  if (job.n_answers > options_.max_running) {
    return ApiError{400,
                    "n: " + std::to_string(job.n_answers) + ", expected at most " +
                        std::to_string(options_.max_running),
                    "n"};
  }
  auto ticket = std::make_shared<Ticket>(std::move(job));
  {
    const std::lock_guard lock(mutex_);
    if (draining_) return Busy("the server is about to end");
    const std::int64_t n_queued = QueueBefore(*ticket);
    if (n_queued > options_.max_waiting) {
      return Busy("the server is busy: " + std::to_string(n_queued - 1) +
                  " requests wait already; try again later");
    }
    waiting_.push_back(ticket);
  }
  work_.notify_all();
  return ticket;
}

// How many would wait for a place with it; 0: there is one for it, and it only has to be let in.
std::int64_t Scheduler::QueueBefore(const Ticket& ticket) const {
  std::int64_t n_free = options_.max_running, n_queued = 0;
  for (const auto& running : running_) n_free -= running->ticket->job.n_answers;
  const auto finds_place = [&](const Job& job) {
    if (n_queued > 0 || job.n_answers > n_free) return false;
    n_free -= job.n_answers;
    return true;
  };
  for (const auto& waiting : waiting_) n_queued += !finds_place(waiting->job);
  return finds_place(ticket.job) ? 0 : n_queued + 1;
}

bool Scheduler::Drain(std::chrono::milliseconds most) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  const auto is_idle = [this] { return waiting_.empty() && running_.empty(); };
  if (idle_.wait_for(lock, most, is_idle)) return true;
  for (const auto& ticket : waiting_) ticket->Cancel();
  for (const auto& running : running_) running->ticket->Cancel();
  work_.notify_all();
  return idle_.wait_for(lock, std::chrono::seconds(10), is_idle);
}

std::int64_t Scheduler::n_running() const {
  const std::lock_guard lock(mutex_);
  return std::ssize(running_);
}

std::int64_t Scheduler::n_waiting() const {
  const std::lock_guard lock(mutex_);
  return std::ssize(waiting_);
}

void Scheduler::Loop() {
  while (true) {
    try {
      if (!AwaitWork()) return;
      DecodePass();
      PrefillStep();
      RemoveFinished();
    } catch (const std::exception& e) {  // no memory, or a library's: none of them is sound
      FailAll(e.what());
    }
  }
}

bool Scheduler::AwaitWork() {
  std::unique_lock lock(mutex_);
  Admit();
  if (!running_.empty()) return true;
  idle_.notify_all();
  if (ending_ && waiting_.empty()) return false;
  // A client may leave while it waits for room: looked at now and then.
  work_.wait_for(lock, std::chrono::milliseconds(waiting_.empty() ? 1000 : 100));
  return true;
}

void Scheduler::FailAll(const char* why) {
  const std::lock_guard lock(mutex_);
  for (const auto& running : running_) {
    if (!running->over) Fail(*running, Broken(why));
  }
  running_.clear();
  blocked_ = false;
}

std::int64_t Scheduler::Promised() const {
  std::int64_t bytes = 0;
  for (const auto& running : running_) {
    std::int64_t taken = -running->bytes_before;
    for (const Session& session : running->sessions) {
      taken += PredictKvBytes(model_, session.n_tokens());
      if (&session != &running->sessions.front()) {
        taken -= PredictKvBytes(model_, session.n_prompt());
      }
    }
    bytes += std::max<std::int64_t>(running->promised - std::max<std::int64_t>(taken, 0), 0);
  }
  return bytes;
}

// A prompt whose start another request of the tenant is encoding waits until that is there, and not
// for what follows it.
bool Scheduler::MayStart(const Ticket& ticket) {
  constexpr std::int64_t kWorthWaiting = 256;
  for (const auto& running : running_) {
    const Job& other = running->ticket->job;
    if (!running->is_prefilling() || other.tenant != ticket.job.tenant) continue;
    const std::int64_t common = std::min(CommonStart(other.prompt.tokens, ticket.job.prompt.tokens),
                                         other.prompt.n_context);
    if (common < kWorthWaiting || running->n_kept >= common) continue;
    const std::int64_t now =
        store_.Reusable(ticket.job.tenant, ticket.job.prompt, ticket.job.options.plan);
    if (now + kWorthWaiting > common) continue;
    const Session& session = running->sessions.front();
    if (session.n_tokens() < common) return false;
    running->n_kept = session.n_tokens();
    if (Result<Context> start = session.Snapshot()) store_.Keep(other.tenant, std::move(*start));
  }
  return true;
}

void Scheduler::Admit() {
  std::int64_t n_sessions = 0;
  for (const auto& running : running_) n_sessions += running->ticket->job.n_answers;
  const auto n_left = std::erase_if(waiting_, [this](const std::shared_ptr<Ticket>& ticket) {
    if (!ticket->stop().stop_requested()) return false;
    ++metrics_.cancelled;
    ticket->Write([](TicketState& state) {
      state.phase = Phase::kFailed;
      state.error = Busy("cancelled while it waited");
    });
    return true;
  });
  // Who found no memory may have been the one who left, and a context that was forgotten left some.
  if (n_left > 0 || store_.n_forgotten() != n_forgotten_) blocked_ = false;
  n_forgotten_ = store_.n_forgotten();
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    const std::shared_ptr<Ticket>& ticket = *at;
    if (n_sessions + ticket->job.n_answers > options_.max_running) return;
    try {
      if (!MayStart(*ticket)) {
        ++at;
        continue;
      }
      if (blocked_) return;
      const std::size_t n_before = running_.size();
      blocked_ = !LetIn(ticket);
      if (blocked_) return;  // for want of memory: those behind it wait too
      if (running_.size() > n_before) n_sessions += ticket->job.n_answers;
    } catch (const std::exception& e) {
      End(*ticket, Broken(e.what()));
    }
    at = waiting_.erase(at);
  }
}

bool Scheduler::LetIn(const std::shared_ptr<Ticket>& ticket) {
  const Job& job = ticket->job;
  ApiResult<Session> session = store_.Start(job.tenant, job.context_id, job.prompt, job.options);
  if (const ApiError* error = ErrorOf(session)) {
    End(*ticket, *error);
    return true;
  }
  auto running = std::make_unique<Running>();
  running->ticket = ticket;
  running->sessions.push_back(std::move(std::get<Session>(session)));
  const Session& first = running->sessions.front();
  // Of what is taken over whole pages are shared.
  running->bytes_before = std::max<std::int64_t>(
      PredictKvBytes(model_, first.n_reused()) - PredictKvBytes(model_, 1), 0);
  running->promised = BytesOf(job) - running->bytes_before;
  const std::int64_t taken = PredictKvBytes(model_, first.n_reused()) - running->bytes_before;
  store_.Pin(job.context_id, 1);
  if (!store_.MakeRoom(running->promised - taken, Promised())) {
    store_.Pin(job.context_id, -1);
    if (!running_.empty()) return false;
    // Nothing else runs, so it would never fit: its context is what is left.
    End(*ticket, {400,
                  "the request needs " + std::to_string(running->promised) +
                      " bytes of KV memory beside the context that it goes on from, but the "
                      "server's --kv-memory is " +
                      std::to_string(store_.limit_bytes()),
                  {}});
    return true;
  }
  metrics_.queue.Observe(SecondsSince(ticket->submitted));
  ++metrics_.cache_queries;  // once a prompt, however often it asked for memory
  metrics_.cache_hits += first.n_reused() > 0;
  metrics_.cached_tokens += static_cast<std::uint64_t>(first.n_reused());
  Publish(*running);
  running_.push_back(std::move(running));
  return true;
}

Scheduler::Running* Scheduler::NextToPrefill() {
  Running* oldest = nullptr;
  Running* shortest = nullptr;
  for (const auto& running : running_) {
    if (!running->is_prefilling()) continue;
    if (oldest == nullptr) oldest = running.get();
    if (shortest == nullptr || running->n_left() < shortest->n_left()) shortest = running.get();
  }
  shortest_first_ = !shortest_first_;
  return shortest_first_ ? oldest : shortest;
}

std::int64_t Scheduler::StepSize() const {
  const bool beside_answers =
      std::ranges::any_of(running_, [](const auto& running) { return running->is_answering(); });
  const std::int64_t n_prefilling =
      std::ranges::count_if(running_, [](const auto& running) { return running->is_prefilling(); });
  if (!beside_answers && n_prefilling < 2) return model_.ubatch_size();
  if (seconds_per_token_ == 0) return kFirstStep;
  const double n = options_.max_gap / seconds_per_token_;
  return std::clamp(static_cast<std::int64_t>(std::min(n, 1e9)), kMinStep, model_.ubatch_size());
}

void Scheduler::PrefillStep() {
  if (owed_ > 0) return;
  Running* running = NextToPrefill();
  if (running == nullptr) return;
  Session& session = running->sessions.front();
  const auto start = Clock::now();
  const std::int64_t n_before = session.n_tokens();
  const Status status = session.Prefill(StepSize(), running->ticket->stop());
  if (!status) {
    if (status.error().kind != ErrorKind::kCancelled)
      return Fail(*running, FromError(status.error()));
    // What is encoded is there for the next who asks.
    if (Result<Context> part = session.Snapshot()) {
      store_.Keep(running->ticket->job.tenant, std::move(*part));
    }
    ++metrics_.cancelled;
    return Fail(*running, Busy("cancelled"));
  }
  const auto n = static_cast<double>(session.n_tokens() - n_before);
  const double seconds = SecondsSince(start);
  metrics_.prompt_tokens += static_cast<std::uint64_t>(n);
  if (n >= kMinStep) seconds_per_token_ = seconds / n;
  owed_ = seconds;
  const bool makes_context = !running->ticket->job.options.wants_answer;
  if (!running->context_kept && session.context_encoded() && !makes_context) {
    running->context_kept = true;
    if (Result<Context> context = session.Snapshot()) {
      store_.Keep(running->ticket->job.tenant, std::move(*context));
    }
  }
  if (session.prefilled()) AfterPrefill(*running);
  if (!running->over) Publish(*running);
}

void Scheduler::AfterPrefill(Running& running) {
  const Job& job = running.ticket->job;
  running.first_token = Clock::now();
  metrics_.prefill.Observe(SecondsSince(running.started));
  if (!job.options.wants_answer) return Finish(running);
  metrics_.ttft.Observe(SecondsSince(running.ticket->submitted));
  for (int i = 1; i < job.n_answers; ++i) {
    AskOptions options = job.options.answer;
    constexpr std::uint32_t kRandom = 0xFFFFFFFFu;  // each answer has one of its own anyway
    std::uint32_t& seed = options.sampling.seed;
    if (seed != kRandom) seed = (std::uint64_t{seed} + static_cast<std::uint64_t>(i)) % kRandom;
    Result<Session> branch = running.sessions.front().Branch(options);
    if (!branch) return Fail(running, FromError(branch.error()));
    running.sessions.push_back(std::move(*branch));
  }
}

void Scheduler::DecodePass() {
  std::vector<Session*> sessions;
  for (const auto& running : running_) {
    if (!running->is_answering()) continue;
    const bool left = running->ticket->stop().stop_requested();
    for (Session& session : running->sessions) {
      if (left) session.End(Finish::kCancelled);
      if (!session.done()) sessions.push_back(&session);
    }
  }
  if (sessions.empty()) {
    owed_ = 0;
    return;
  }
  const auto start = Clock::now();
  const Status together = Session::DecodeTogether(model_, sessions, {});
  owed_ -= SecondsSince(start);
  for (const auto& running : running_) {
    if (!running->is_answering()) continue;
    const Status status = together ? together : DecodeAlone(*running);
    if (!status) {
      Fail(*running, FromError(status.error()));
    } else {
      Publish(*running);
    }
  }
}

// After a pass that failed: it may be for the lack of one request's memory, and costs only that
// one.
Status Scheduler::DecodeAlone(Running& running) {
  std::vector<Session*> sessions;
  for (Session& session : running.sessions) {
    if (!session.done()) sessions.push_back(&session);
  }
  return sessions.empty() ? Ok() : Session::DecodeTogether(model_, sessions, {});
}

void Scheduler::Publish(Running& running) {
  running.ticket->Write([&](TicketState& state) {
    const Session& first = running.sessions.front();
    state.phase = first.prefilled() ? Phase::kAnswer : Phase::kPrefill;
    state.progress = first.progress();
    state.n_prompt = first.n_prompt();
    state.n_reused = first.n_reused();
    state.plan = ShapeOf(first.plan());
    if (!first.prefilled()) return;
    state.prefill_seconds = SecondsBetween(running.started, running.first_token);
    state.decode_seconds = SecondsSince(running.first_token);
    state.answers.resize(running.sessions.size());
    for (std::size_t i = 0; i < running.sessions.size(); ++i) {
      const Session& session = running.sessions[i];
      AnswerState& answer = state.answers[i];
      if (answer.is_done) continue;
      const Answer& made = session.answer();
      answer.text.append(session.text(), answer.text.size());
      answer.n_tokens = std::ssize(made.tokens);
      answer.logprobs.insert(answer.logprobs.end(),
                             made.logprobs.begin() + std::ssize(answer.logprobs),
                             made.logprobs.end());
      answer.is_done = session.done();
      answer.finish = made.finish;
    }
  });
}

void Scheduler::RemoveFinished() {
  for (const auto& running : running_) {
    const bool answered =
        running->is_answering() && std::ranges::all_of(running->sessions, &Session::done);
    if (answered) Finish(*running);
  }
  const std::lock_guard lock(mutex_);
  const auto n = std::erase_if(running_, [](const auto& running) { return running->over; });
  if (n > 0) blocked_ = false;
}

void Scheduler::Finish(Running& running) {
  const Job& job = running.ticket->job;
  std::optional<ContextInfo> made;
  for (Session& session : running.sessions) {
    Result<Context> context = session.Snapshot();
    if (!context && !job.options.wants_answer) {
      return Fail(running, FromError(context.error()));
    }
    if (!context) continue;
    if (job.options.wants_answer) {
      store_.Keep(job.tenant, std::move(*context));
      continue;
    }
    ContextInfo info = job.context;
    info.n_reused = session.n_reused();
    made = store_.KeepNamed(job.tenant, std::move(*context), std::move(info));
  }
  for (const Session& session : running.sessions) {
    const Answer& answer = session.answer();
    const auto n = answer.tokens.size();
    metrics_.answer_tokens += n;
    if (n == 0) continue;
    metrics_.decode.Observe(answer.decode_seconds);
    if (n > 1) metrics_.time_per_token.Observe(answer.decode_seconds / static_cast<double>(n - 1));
  }
  const bool was_cut = running.ticket->stop().stop_requested();
  if (was_cut) ++metrics_.cancelled;
  if (job.options.wants_answer) Publish(running);
  running.over = true;
  store_.Pin(job.context_id, -1);
  running.ticket->Write([&](TicketState& state) {
    state.made = std::move(made);
    state.progress = running.sessions.front().progress();
    state.phase = was_cut && job.options.wants_answer ? Phase::kFailed : Phase::kDone;
    if (was_cut) state.error = Busy("cancelled: the client left, or the server is about to end");
  });
  running.sessions.erase(running.sessions.begin() + 1, running.sessions.end());
}

void Scheduler::Fail(Running& running, ApiError error) {
  running.over = true;
  store_.Pin(running.ticket->job.context_id, -1);
  End(*running.ticket, std::move(error));
}

}  // namespace aster::serve
