// Many requests over one model: each gets its own answer, within the memory and the queue's bounds.
#include "serve/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "support/tiny_engine.h"
#include "support/tiny_gguf.h"

namespace aster::serve {
namespace {

using Phase = TicketState::Phase;

Job MakeJob(const std::vector<Token>& context, const std::vector<Token>& query, int n_answer) {
  Job job;
  job.prompt = {context, static_cast<std::int64_t>(context.size())};
  job.prompt.tokens.insert(job.prompt.tokens.end(), query.begin(), query.end());
  job.options.plan.attention = Attention::kDense;
  job.options.answer.max_tokens = n_answer;
  job.options.answer.sampling.temperature = 0;
  job.options.answer.ignore_end_of_text = true;
  return job;
}

Job ContextJob(const std::vector<Token>& context) {
  Job job = MakeJob(context, {}, 1);
  job.options.wants_answer = false;
  job.context.messages = "[]";
  return job;
}

TicketState Finished(const Ticket& ticket) {
  std::uint64_t seen = 0;
  while (!ticket.Read([](const TicketState& state) { return state.is_over(); })) {
    seen = ticket.Wait(seen, std::chrono::seconds(10));
  }
  return ticket.State();
}

template <class F>
void WaitFor(const Ticket& ticket, F holds) {
  std::uint64_t seen = 0;
  while (!ticket.Read(holds)) seen = ticket.Wait(seen, std::chrono::seconds(10));
}

class SchedulerTest : public testing::Test {
 protected:
  SchedulerTest() : file_(TinyModel{.n_layers = 2}), model_(MustLoadTiny(file_.path(), 64, 8)) {}

  // A server without HTTP.
  struct Parts {
    Metrics metrics;
    ContextStore store;
    Scheduler scheduler;

    Parts(const Model& model, std::int64_t kv_bytes, const SchedulerOptions& options)
        : store(model, kv_bytes, metrics), scheduler(model, options, store, metrics) {}
  };

  Parts Make(std::int64_t kv_bytes = std::int64_t{1} << 30,
             const SchedulerOptions& options = {8, 64, 0.05}) {
    return Parts(model_, kv_bytes, options);
  }

  std::shared_ptr<Ticket> MustSubmit(Scheduler& scheduler, Job job) {
    ApiResult<std::shared_ptr<Ticket>> ticket = scheduler.Submit(std::move(job));
    if (const ApiError* error = ErrorOf(ticket)) ADD_FAILURE() << error->message;
    return std::get<std::shared_ptr<Ticket>>(ticket);
  }

  std::int64_t Pages(std::int64_t n) const { return n * PredictKvBytes(model_, 1); }

  TinyGgufFile file_;
  Model model_;
};

TEST_F(SchedulerTest, ManyAtOnceEachGetTheAnswerTheyGetAlone) {
  constexpr int kClients = 20;
  std::vector<std::string> alone(kClients), together(kClients);
  const auto job = [](int i) {
    return MakeJob(SomeTokens(150 + 17 * i, 3 + i), SomeTokens(4, i), 5 + i);
  };
  for (int i = 0; i < kClients; ++i) {
    Parts parts = Make();
    alone[i] = Finished(*MustSubmit(parts.scheduler, job(i))).answers.at(0).text;
    ASSERT_FALSE(alone[i].empty());
  }
  Parts parts = Make();
  {
    std::vector<std::jthread> clients;
    for (int i = 0; i < kClients; ++i) {
      clients.emplace_back([&, i] {
        together[i] = Finished(*MustSubmit(parts.scheduler, job(i))).answers.at(0).text;
      });
    }
  }
  EXPECT_EQ(together, alone);
}

TEST_F(SchedulerTest, ASecondQuestionRunsOnlyItself) {
  Parts parts = Make();
  const std::vector<Token> context = SomeTokens(500, 7);
  const TicketState first =
      Finished(*MustSubmit(parts.scheduler, MakeJob(context, SomeTokens(5, 3), 3)));
  EXPECT_EQ(first.n_reused, 0);
  const TicketState second =
      Finished(*MustSubmit(parts.scheduler, MakeJob(context, SomeTokens(6, 11), 3)));
  EXPECT_EQ(second.n_reused, 500);
  EXPECT_EQ(second.progress.n_total, 6);
}

TEST_F(SchedulerTest, OneTenantGainsNothingFromAnother) {
  Parts parts = Make();
  Job mine = MakeJob(SomeTokens(500, 7), SomeTokens(5, 3), 3);
  mine.tenant = "mine";
  Job yours = MakeJob(SomeTokens(500, 7), SomeTokens(5, 3), 3);
  yours.tenant = "yours";
  Finished(*MustSubmit(parts.scheduler, mine));
  EXPECT_EQ(Finished(*MustSubmit(parts.scheduler, yours)).n_reused, 0);
  EXPECT_EQ(Finished(*MustSubmit(parts.scheduler, mine)).n_reused, 504);

  Job context = ContextJob(SomeTokens(300, 5));
  context.tenant = "mine";
  const ContextInfo info = *Finished(*MustSubmit(parts.scheduler, context)).made;
  EXPECT_TRUE(parts.store.Find("mine", info.id).has_value());
  EXPECT_FALSE(parts.store.Find("yours", info.id).has_value());
  EXPECT_FALSE(parts.store.Erase("yours", info.id));
  EXPECT_TRUE(parts.store.List("yours").empty());
}

TEST_F(SchedulerTest, WhatAClientThatLeftHadEncodedIsThereForTheNext) {
  Parts parts = Make();
  const Job job = MakeJob(SomeTokens(3000, 7), SomeTokens(5, 3), 3);
  const auto ticket = MustSubmit(parts.scheduler, job);
  WaitFor(*ticket, [](const TicketState& state) { return state.progress.n_done >= 300; });
  ticket->Cancel();
  EXPECT_EQ(Finished(*ticket).phase, Phase::kFailed);
  const TicketState again = Finished(*MustSubmit(parts.scheduler, job));
  EXPECT_GE(again.n_reused, 300);
  Parts fresh = Make();
  EXPECT_EQ(again.answers.at(0).text, Finished(*MustSubmit(fresh.scheduler, job)).answers[0].text);
}

TEST_F(SchedulerTest, TwoWhoAskAboutTheSameNewContextEncodeItOnce) {
  Parts parts = Make();
  const std::vector<Token> context = SomeTokens(1500, 7);
  const auto first = MustSubmit(parts.scheduler, MakeJob(context, SomeTokens(5, 3), 3));
  const auto second = MustSubmit(parts.scheduler, MakeJob(context, SomeTokens(5, 11), 3));
  EXPECT_EQ(Finished(*first).n_reused, 0);
  EXPECT_EQ(Finished(*second).n_reused, 1500);
}

TEST_F(SchedulerTest, AnAnswerGoesOnWhileAContextIsEncoded) {
  Parts parts = Make(std::int64_t{1} << 30, {8, 64, 0.01});
  const auto answer = MustSubmit(parts.scheduler, MakeJob({}, SomeTokens(5, 3), 3000));
  WaitFor(*answer, [](const TicketState& state) { return state.phase == Phase::kAnswer; });
  const auto context = MustSubmit(parts.scheduler, ContextJob(SomeTokens(2500, 7)));
  WaitFor(*context, [](const TicketState& state) { return state.progress.n_done > 0; });
  const auto n_tokens = [&] {
    return answer->Read([](const TicketState& state) { return state.answers.at(0).n_tokens; });
  };
  const std::int64_t before = n_tokens();
  EXPECT_EQ(Finished(*context).phase, Phase::kDone);
  // At least a token for each of the steps, which are at most a ubatch.
  EXPECT_GE(n_tokens() - before, 2500 / 64 - 2);
  answer->Cancel();
  EXPECT_EQ(Finished(*answer).answers.at(0).finish, Finish::kCancelled);
}

TEST_F(SchedulerTest, AShortQuestionIsNotStuckBehindALongContext) {
  Parts parts = Make();
  const auto slow = MustSubmit(parts.scheduler, ContextJob(SomeTokens(4000, 7)));
  WaitFor(*slow, [](const TicketState& state) { return state.progress.n_done > 0; });
  const auto quick = MustSubmit(parts.scheduler, MakeJob({}, SomeTokens(5, 3), 1));
  EXPECT_EQ(Finished(*quick).phase, Phase::kDone);
  EXPECT_FALSE(slow->Read([](const TicketState& state) { return state.is_over(); }));
}

TEST_F(SchedulerTest, NorBehindOneThatStartsAsItDoes) {
  Parts parts = Make();
  const std::vector<Token> start = SomeTokens(600, 9);
  std::vector<Token> document = start, short_one = start;
  for (const Token token : SomeTokens(3400, 7)) document.push_back(token);
  for (const Token token : SomeTokens(5, 3)) short_one.push_back(token);
  const auto slow = MustSubmit(parts.scheduler, ContextJob(document));
  WaitFor(*slow, [](const TicketState& state) { return state.progress.n_done > 0; });
  Job job = MakeJob(short_one, SomeTokens(4, 5), 1);
  const auto quick = MustSubmit(parts.scheduler, job);
  const TicketState done = Finished(*quick);
  EXPECT_EQ(done.phase, Phase::kDone);
  EXPECT_GE(done.n_reused, 600);  // and it waited for what they share
  EXPECT_FALSE(slow->Read([](const TicketState& state) { return state.is_over(); }));
}

TEST_F(SchedulerTest, TheQueueIsBounded) {
  Parts parts = Make(std::int64_t{1} << 30, {1, 1, 0.05});
  const auto running = MustSubmit(parts.scheduler, MakeJob({}, SomeTokens(5, 3), 3000));
  WaitFor(*running, [](const TicketState& state) { return state.phase == Phase::kAnswer; });
  const auto waiting = MustSubmit(parts.scheduler, MakeJob({}, SomeTokens(5, 4), 1));
  const auto refused = parts.scheduler.Submit(MakeJob({}, SomeTokens(5, 5), 1));
  ASSERT_NE(ErrorOf(refused), nullptr);
  EXPECT_EQ(ErrorOf(refused)->status, 503);
  running->Cancel();
  EXPECT_EQ(Finished(*waiting).phase, Phase::kDone);
}

TEST_F(SchedulerTest, WhoFindsAPlaceDoesNotQueue) {
  Parts parts = Make(std::int64_t{1} << 30, {2, 0, 0.05});
  const auto one = MustSubmit(parts.scheduler, MakeJob({}, SomeTokens(5, 3), 3000));
  const auto other = MustSubmit(parts.scheduler, MakeJob({}, SomeTokens(5, 4), 3000));
  const auto refused = parts.scheduler.Submit(MakeJob({}, SomeTokens(5, 5), 1));
  ASSERT_NE(ErrorOf(refused), nullptr);
  EXPECT_THAT(ErrorOf(refused)->message, testing::HasSubstr("0 requests wait already"));
  one->Cancel();
  other->Cancel();
  Finished(*one);
  Finished(*other);
}

TEST_F(SchedulerTest, WhatWaitsForMemoryTakesNoContextInVainAndHoldsUpNobodyOnceItLeft) {
  Parts parts = Make(Pages(18));
  const ContextInfo kept =
      *Finished(*MustSubmit(parts.scheduler, ContextJob(SomeTokens(700, 5)))).made;       // 3 pages
  const auto running = MustSubmit(parts.scheduler, MakeJob({}, SomeTokens(5, 3), 3000));  // 13
  WaitFor(*running, [](const TicketState& state) { return state.phase == Phase::kAnswer; });
  const auto large = MustSubmit(parts.scheduler, MakeJob(SomeTokens(1500, 6), SomeTokens(5, 3), 1));
  const auto small = MustSubmit(parts.scheduler, MakeJob({}, SomeTokens(5, 4), 1));
  std::this_thread::sleep_for(
      std::chrono::milliseconds(20));  // it was looked at, and found no room
  EXPECT_TRUE(parts.store.Find("", kept.id).has_value());
  large->Cancel();
  EXPECT_EQ(Finished(*small).phase, Phase::kDone);
  EXPECT_FALSE(running->Read([](const TicketState& state) { return state.is_over(); }));
  running->Cancel();
  Finished(*running);
}

// What runs shares its pages with the context that it left in the store: letting that go gives
// nothing.
TEST_F(SchedulerTest, AContextThatSharesWithWhatRunsIsNoRoom) {
  Parts parts = Make(Pages(18));
  const ContextInfo kept =
      *Finished(*MustSubmit(parts.scheduler, ContextJob(SomeTokens(700, 5)))).made;  // 3 pages
  const auto running =  // 5 pages of context, kept too, and as many promised
      MustSubmit(parts.scheduler, MakeJob(SomeTokens(1500, 8), SomeTokens(5, 3), 1000));
  WaitFor(*running, [](const TicketState& state) { return state.phase == Phase::kAnswer; });
  const auto large = MustSubmit(parts.scheduler, MakeJob(SomeTokens(1800, 6), SomeTokens(5, 3), 1));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // it was looked at
  EXPECT_TRUE(parts.store.Find("", kept.id).has_value());
  EXPECT_EQ(large->Read([](const TicketState& state) { return state.phase; }), Phase::kWaiting);
  running->Cancel();
  EXPECT_EQ(Finished(*large).phase, Phase::kDone);
}

TEST_F(SchedulerTest, WhatCanNeverFitIsRefusedWithBothNumbers) {
  Parts parts = Make(Pages(4));
  const auto refused = parts.scheduler.Submit(MakeJob(SomeTokens(2000, 7), SomeTokens(5, 3), 3));
  ASSERT_NE(ErrorOf(refused), nullptr);
  EXPECT_EQ(ErrorOf(refused)->status, 400);
  EXPECT_THAT(ErrorOf(refused)->message,
              testing::AllOf(testing::HasSubstr(std::to_string(Pages(9))),
                             testing::HasSubstr(std::to_string(Pages(4)))));
}

TEST_F(SchedulerTest, MemoryStaysWithinTheBoundAndWhatWasUsedLongestAgoGoes) {
  const std::int64_t before = KvBytesInUse();
  ASSERT_EQ(before, 0);
  Parts parts = Make(Pages(12));
  std::vector<ContextInfo> made;
  for (int i = 0; i < 3; ++i) {  // 3 pages each
    made.push_back(
        *Finished(*MustSubmit(parts.scheduler, ContextJob(SomeTokens(700, 5 + i)))).made);
    EXPECT_LE(KvBytesInUse(), Pages(12));
  }
  EXPECT_TRUE(parts.store.Find("", made[0].id).has_value());
  Job question = MakeJob(SomeTokens(700, 5), SomeTokens(5, 3), 3);
  question.context_id = made[0].id;
  EXPECT_EQ(Finished(*MustSubmit(parts.scheduler, question)).n_reused, 700);
  // The first was used last, so the second goes.
  made.push_back(*Finished(*MustSubmit(parts.scheduler, ContextJob(SomeTokens(700, 9)))).made);
  EXPECT_LE(KvBytesInUse(), Pages(12));
  EXPECT_FALSE(parts.store.Find("", made[1].id).has_value());
  EXPECT_TRUE(parts.store.Find("", made[0].id).has_value());
  EXPECT_TRUE(parts.store.Find("", made[3].id).has_value());
}

TEST_F(SchedulerTest, RequestsThatDoNotFitBesideOthersWaitForThem) {
  Parts parts = Make(Pages(8));
  std::vector<std::shared_ptr<Ticket>> tickets;
  for (int i = 0; i < 6; ++i) {
    tickets.push_back(
        MustSubmit(parts.scheduler, MakeJob(SomeTokens(600, 5 + i), SomeTokens(5, 3), 20)));
  }
  std::int64_t most = 0;
  for (const auto& ticket : tickets) {
    while (!ticket->Read([](const TicketState& state) { return state.is_over(); })) {
      most = std::max(most, KvBytesInUse());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(Finished(*ticket).phase, Phase::kDone);
  }
  EXPECT_LE(most, Pages(8));
  EXPECT_GT(most, Pages(3));
}

TEST_F(SchedulerTest, AConversationThatDoesNotContinueItsContextIsRefused) {
  Parts parts = Make();
  const ContextInfo info =
      *Finished(*MustSubmit(parts.scheduler, ContextJob(SomeTokens(400, 7)))).made;
  Job other = MakeJob(SomeTokens(400, 8), SomeTokens(5, 3), 3);
  other.context_id = info.id;
  const TicketState refused = Finished(*MustSubmit(parts.scheduler, other));
  EXPECT_EQ(refused.phase, Phase::kFailed);
  EXPECT_EQ(refused.error.status, 400);
  ASSERT_TRUE(parts.store.Erase("", info.id));
  EXPECT_EQ(Finished(*MustSubmit(parts.scheduler, other)).error.status, 404);
}

TEST_F(SchedulerTest, AfterADrainNothingIsTakenAndAllHasEnded) {
  Parts parts = Make();
  const auto done = MustSubmit(parts.scheduler, MakeJob({}, SomeTokens(5, 3), 20));
  EXPECT_TRUE(parts.scheduler.Drain(std::chrono::seconds(60)));
  EXPECT_EQ(done->Read([](const TicketState& state) { return state.phase; }), Phase::kDone);
  const auto refused = parts.scheduler.Submit(MakeJob({}, SomeTokens(5, 3), 20));
  ASSERT_NE(ErrorOf(refused), nullptr);
  EXPECT_EQ(ErrorOf(refused)->status, 503);
}

TEST_F(SchedulerTest, ADrainThatTakesTooLongCancels) {
  Parts parts = Make();
  const auto slow = MustSubmit(parts.scheduler, MakeJob({}, SomeTokens(5, 3), 4000));
  WaitFor(*slow, [](const TicketState& state) { return state.phase == Phase::kAnswer; });
  EXPECT_TRUE(parts.scheduler.Drain(std::chrono::milliseconds(10)));
  EXPECT_EQ(Finished(*slow).answers.at(0).finish, Finish::kCancelled);
}

}  // namespace
}  // namespace aster::serve
