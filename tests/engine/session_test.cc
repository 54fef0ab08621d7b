// Sessions that decode together and share what they have in common answer as contexts alone do.
#include "aster/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "aster/context.h"
#include "support/tiny_engine.h"
#include "support/tiny_gguf.h"

namespace aster {
namespace {

Model::Prompt Prompt(const std::vector<Token>& context, const std::vector<Token>& query) {
  Model::Prompt prompt{context, static_cast<std::int64_t>(context.size())};
  prompt.tokens.insert(prompt.tokens.end(), query.begin(), query.end());
  return prompt;
}

SessionOptions Greedy(Attention attention, std::int64_t block_size = 0, int n_tokens = 12) {
  SessionOptions options;
  options.plan.attention = attention;
  options.plan.block_size = block_size;
  options.answer.max_tokens = n_tokens;
  options.answer.sampling.temperature = 0;
  options.answer.ignore_end_of_text = true;
  return options;
}

class SessionTest : public testing::TestWithParam<TinyArchitecture> {
 protected:
  SessionTest()
      : file_(TinyModel{.architecture = GetParam()}), model_(MustLoadTiny(file_.path(), 32, 8)) {}

  Session MustStart(const Model::Prompt& prompt, const SessionOptions& options,
                    const Context* held = nullptr, Reuse reuse = {}) {
    Result<Session> session = Session::Start(model_, prompt, options, held, reuse);
    if (!session) ADD_FAILURE() << session.error().message;
    return std::move(*session);
  }

  void MustPrefill(Session& session, std::int64_t n = 1000) {
    while (!session.prefilled()) ASSERT_TRUE(session.Prefill(n, {}).ok());
  }

  // What a session leaves behind that has encoded its prompt.
  Context MustHold(const Model::Prompt& prompt, const SessionOptions& options,
                   const Context* held = nullptr, Reuse reuse = {}) {
    Session session = MustStart(prompt, options, held, reuse);
    MustPrefill(session);
    Result<Context> context = session.Snapshot();
    if (!context) ADD_FAILURE() << context.error().message;
    return std::move(*context);
  }

  std::vector<Token> MustFinish(Session& session) {
    MustPrefill(session);
    Session* one = &session;
    while (!session.done()) EXPECT_TRUE(Session::DecodeTogether(model_, {&one, 1}, {}).ok());
    return session.answer().tokens;
  }

  // What a context of its own answers.
  std::vector<Token> Alone(const Model::Prompt& prompt, const SessionOptions& options) {
    EncodeOptions encode;
    encode.plan = options.plan;
    const auto n = static_cast<std::size_t>(prompt.n_context);
    Result<Context> context = Context::Encode(model_, std::span(prompt.tokens).first(n), encode);
    if (!context) ADD_FAILURE() << context.error().message;
    const Result<Answer> answer = context->Ask(std::span(prompt.tokens).subspan(n), options.answer);
    if (!answer) ADD_FAILURE() << answer.error().message;
    return answer->tokens;
  }

  TinyGgufFile file_;
  Model model_;
};

TEST_P(SessionTest, SessionsThatDecodeTogetherAnswerAsEachAlone) {
  std::vector<Session> sessions;
  std::vector<std::vector<Token>> alone;
  for (int i = 0; i < 5; ++i) {
    const auto prompt = Prompt(SomeTokens(60 + 41 * i, 5 + i), SomeTokens(3 + i, 11));
    const auto options = i % 2 == 0 ? Greedy(Attention::kDense, 0, 6 + 3 * i)
                                    : Greedy(Attention::kStar, 32, 6 + 3 * i);
    alone.push_back(Alone(prompt, options));
    sessions.push_back(MustStart(prompt, options));
    MustPrefill(sessions.back(), 13 + i);  // in pieces of another size than the plan's
  }
  while (true) {
    std::vector<Session*> running;
    for (Session& session : sessions) {
      if (!session.done()) running.push_back(&session);
    }
    if (running.empty()) break;
    ASSERT_TRUE(Session::DecodeTogether(model_, running, {}).ok());
  }
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    EXPECT_EQ(sessions[i].answer().tokens, alone[i]) << "session " << i;
    EXPECT_EQ(sessions[i].answer().finish, Finish::kMaxTokens);
  }
}

TEST_P(SessionTest, AFollowUpRunsOnlyWhatIsNew) {
  const auto options = Greedy(Attention::kStar, 48);
  const auto first = Prompt(SomeTokens(200), SomeTokens(7, 3));
  Session session = MustStart(first, options);
  const std::vector<Token> answer = MustFinish(session);
  const Result<Context> held = session.Snapshot();
  ASSERT_TRUE(held.ok());
  // All but the answer's last token, which was never run.
  ASSERT_EQ(held->tokens().size(), 200 + 7 + answer.size() - 1);

  std::vector<Token> context(held->tokens().begin(), held->tokens().end());
  const auto second = Prompt(context, SomeTokens(5, 9));
  const Reuse reuse = FindReuse(model_, *held, second, options.plan);
  EXPECT_TRUE(reuse.continues);
  EXPECT_EQ(reuse.n_tokens, static_cast<std::int64_t>(context.size()));
  Session follow_up = MustStart(second, options, &*held, reuse);
  EXPECT_EQ(follow_up.progress().n_total, 5);
  const std::vector<Token> got = MustFinish(follow_up);

  // The same conversation in one context that keeps its turns.
  EncodeOptions encode;
  encode.plan = options.plan;
  Result<Context> kept = Context::Encode(model_, SomeTokens(200), encode);
  AskOptions keep = options.answer;
  keep.keep_turn = true;
  ASSERT_EQ(kept->Ask(SomeTokens(7, 3), keep)->tokens, answer);
  EXPECT_EQ(kept->Ask(SomeTokens(5, 9), keep)->tokens, got);
}

TEST_P(SessionTest, AFollowUpGoesOnBehindAWindowUnlessAnotherIsAskedFor) {
  auto options = Greedy(Attention::kStar, 48);
  options.plan.window = 1;
  Session session = MustStart(Prompt(SomeTokens(300), SomeTokens(7, 3)), options);
  MustFinish(session);
  const Result<Context> held = session.Snapshot();
  ASSERT_TRUE(held.ok());
  const auto follow_up = Prompt({held->tokens().begin(), held->tokens().end()}, SomeTokens(5, 9));
  const struct {
    const char* name;
    PlanOptions plan;
    bool continues;
  } cases[] = {
      {"the same", options.plan, true},
      {"all auto", {.attention = Attention::kAuto}, true},
      {"auto sizes with that window", {.attention = Attention::kStar, .window = 1}, true},
      {"another window", {.attention = Attention::kStar, .window = 2}, false},
      {"none", {.attention = Attention::kStar, .window = 0}, false},
      {"an overlap", {.attention = Attention::kStar, .window = 1, .overlap = 16}, false},
      {"an overlap of auto", {.attention = Attention::kStar, .overlap = 16}, false},
      {"none, as a block size means", {.attention = Attention::kStar, .block_size = 48}, false},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(FindReuse(model_, *held, follow_up, c.plan).continues, c.continues) << c.name;
  }
}

TEST_P(SessionTest, AnotherContextWithTheSameStartEncodesOnlyTheRest) {
  const auto options = Greedy(Attention::kStar, 64);
  const Context held = MustHold(Prompt(SomeTokens(256), SomeTokens(4, 3)), options);

  std::vector<Token> longer = SomeTokens(200);
  const std::vector<Token> rest = SomeTokens(300, 13);
  longer.insert(longer.end(), rest.begin(), rest.end());
  const auto prompt = Prompt(longer, SomeTokens(4, 3));
  struct Case {
    const char* name;
    SessionOptions options;
    std::int64_t n_reused;
  };
  const Case cases[] = {
      {"the same plan", options, 200},
      {"two blocks are as dense has them", Greedy(Attention::kDense), 128},
      {"two blocks of 32 are as dense has them", Greedy(Attention::kStar, 32), 64},
      {"two blocks of 64 are", Greedy(Attention::kStar, 100), 128},
  };
  for (const Case& c : cases) {
    const Reuse reuse = FindReuse(model_, held, prompt, c.options.plan);
    EXPECT_FALSE(reuse.continues) << c.name;
    EXPECT_EQ(reuse.n_tokens, c.n_reused) << c.name;
    Session other = MustStart(prompt, c.options, &held, reuse);
    EXPECT_EQ(MustFinish(other), Alone(prompt, c.options)) << c.name;
  }
}

// A conversation may name its context and still differ in the last tokens before its own, where a
// text's end merges with what follows. Those are its query, and of no use to others.
TEST_P(SessionTest, AContextThatWentOnWithinItsLastTokensLendsOnlyWhatItEncoded) {
  const auto options = Greedy(Attention::kStar, 64);
  const std::vector<Token> all = SomeTokens(256);
  const Context held = MustHold(Prompt(all, SomeTokens(4, 3)), options);
  EXPECT_EQ(held.n_encoded(), 256);

  std::vector<Token> seam = {all.begin(), all.begin() + 250};
  for (int i = 0; i < 6; ++i) seam.push_back(all[static_cast<std::size_t>(i)] + 1);
  const Context gone_on = MustHold(Prompt(seam, SomeTokens(4, 5)), options, &held, {250, true});
  EXPECT_EQ(gone_on.n_encoded(), 250);

  std::vector<Token> longer = seam;
  const std::vector<Token> rest = SomeTokens(300, 13);
  longer.insert(longer.end(), rest.begin(), rest.end());
  const auto prompt = Prompt(longer, SomeTokens(4, 3));
  const Reuse reuse = FindReuse(model_, gone_on, prompt, options.plan);
  EXPECT_FALSE(reuse.continues);
  EXPECT_EQ(reuse.n_tokens, 250);
  Session other = MustStart(prompt, options, &gone_on, reuse);
  EXPECT_EQ(MustFinish(other), Alone(prompt, options));
}

// What the longer context encoded behind its blocks is the shorter one's query, which sees all.
TEST_P(SessionTest, AShorterContextTakesNoMoreThanItHolds) {
  const auto options = Greedy(Attention::kStar, 64);
  const std::vector<Token> all = SomeTokens(256);
  const Context held = MustHold(Prompt(all, SomeTokens(4, 3)), options);
  std::vector<Token> query(all.begin() + 150, all.end());
  query.push_back(7);
  const auto prompt = Prompt({all.begin(), all.begin() + 150}, query);
  const Reuse reuse = FindReuse(model_, held, prompt, options.plan);
  EXPECT_FALSE(reuse.continues);
  EXPECT_EQ(reuse.n_tokens, 150);
  Session other = MustStart(prompt, options, &held, reuse);
  EXPECT_EQ(MustFinish(other), Alone(prompt, options));
}

TEST_P(SessionTest, ASessionThatWasStoppedHalfWayIsGoneOnWith) {
  const auto options = Greedy(Attention::kStar, 64);
  const auto prompt = Prompt(SomeTokens(300), SomeTokens(4, 3));
  std::int64_t n_held = 0;
  Result<Context> held = WorldError("none");
  {
    Session session = MustStart(prompt, options);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(session.Prefill(37, {}).ok());
    std::stop_source stop;
    stop.request_stop();
    const Status stopped = session.Prefill(37, stop.get_token());
    ASSERT_FALSE(stopped.ok());
    EXPECT_EQ(stopped.error().kind, ErrorKind::kCancelled);
    n_held = session.n_tokens();
    held = session.Snapshot();
  }
  ASSERT_TRUE(held.ok());
  const Reuse reuse = FindReuse(model_, *held, prompt, options.plan);
  EXPECT_FALSE(reuse.continues);
  EXPECT_EQ(reuse.n_tokens, n_held);
  Session again = MustStart(prompt, options, &*held, reuse);
  EXPECT_EQ(MustFinish(again), Alone(prompt, options));
}

TEST_P(SessionTest, SeveralAnswersToOnePromptShareIt) {
  const auto options = Greedy(Attention::kDense);
  const auto prompt = Prompt(SomeTokens(600), SomeTokens(4, 3));
  Session first = MustStart(prompt, options);
  MustPrefill(first);
  const std::int64_t before = KvBytesInUse();
  Result<Session> second = first.Branch(options.answer);
  ASSERT_TRUE(second.ok());
  EXPECT_LE(KvBytesInUse() - before, PredictKvBytes(model_, 1)) << "more than one page";
  Session* both[] = {&first, &*second};
  while (!first.done()) ASSERT_TRUE(Session::DecodeTogether(model_, both, {}).ok());
  EXPECT_EQ(second->answer().tokens, first.answer().tokens);
  EXPECT_EQ(first.answer().tokens, Alone(prompt, options));
}

TEST_P(SessionTest, MemoryGoesBackWhenTheLastOneThatSharesItGoes) {
  const std::int64_t before = KvBytesInUse();
  {
    Session session =
        MustStart(Prompt(SomeTokens(700), SomeTokens(4, 3)), Greedy(Attention::kDense));
    MustPrefill(session);
    const std::int64_t one = KvBytesInUse() - before;
    EXPECT_EQ(one, PredictKvBytes(model_, 704));
    Result<Context> held = session.Snapshot();
    EXPECT_EQ(KvBytesInUse() - before, one + PredictKvBytes(model_, 1));
    { const Session gone = std::move(session); }
    EXPECT_EQ(KvBytesInUse() - before, one);
    EXPECT_TRUE(held->Rewind(10).ok());
    EXPECT_EQ(KvBytesInUse() - before, PredictKvBytes(model_, 10));
  }
  EXPECT_EQ(KvBytesInUse(), before);
}

TEST_P(SessionTest, AnswersComeWithTheLogprobsAskedFor) {
  SessionOptions options = Greedy(Attention::kDense, 0, 5);
  options.answer.n_logprobs = 3;
  Session session = MustStart(Prompt(SomeTokens(50), SomeTokens(4, 3)), options);
  MustFinish(session);
  const Answer& answer = session.answer();
  ASSERT_EQ(answer.logprobs.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(answer.logprobs[i].token.token, answer.tokens[i]);
    ASSERT_EQ(answer.logprobs[i].top.size(), 3u);
    EXPECT_EQ(answer.logprobs[i].top[0].token, answer.tokens[i]) << "greedy takes the likeliest";
    EXPECT_EQ(answer.logprobs[i].top[0].logprob, answer.logprobs[i].token.logprob);
    EXPECT_GE(answer.logprobs[i].top[0].logprob, answer.logprobs[i].top[1].logprob);
  }
}

TEST_P(SessionTest, AGrammarHoldsTheAnswer) {
  SessionOptions options = Greedy(Attention::kDense, 0, 40);
  options.answer.ignore_end_of_text = false;
  options.answer.sampling.grammar.text = "root ::= \"a\" (\"b\" | \"c\") \"d\"";
  Session session = MustStart(Prompt(SomeTokens(50), SomeTokens(4, 3)), options);
  MustFinish(session);
  EXPECT_TRUE(session.answer().text == "abd" || session.answer().text == "acd")
      << session.answer().text;
  EXPECT_EQ(session.answer().finish, Finish::kEndOfText);

  options.answer.sampling.grammar.text = "root ::= \"a";
  const Result<Session> refused =
      Session::Start(model_, Prompt(SomeTokens(50), SomeTokens(4, 3)), options);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalidArgument);
}

// Its positions are looked up: the next one would be read from behind the table.
TEST(PositionTable, EndsAnAnswerThatMayBeLong) {
  const TinyGgufFile file(
      {.architecture = TinyArchitecture::kGpt2, .n_kv_heads = 4, .n_ctx_train = 64});
  const Model model = MustLoadTiny(file.path());
  EncodeOptions encode;
  encode.plan.attention = Attention::kDense;
  Result<Context> context = Context::Encode(model, SomeTokens(40), encode);
  ASSERT_TRUE(context.ok()) << context.error().message;
  for (const std::int64_t most : {std::int64_t{500}, std::int64_t{-1}}) {
    AskOptions ask;
    ask.max_tokens = most;
    ask.ignore_end_of_text = true;
    ask.allow_long = true;
    const Result<Answer> answer = context->Ask(SomeTokens(5, 3), ask);
    ASSERT_TRUE(answer.ok()) << answer.error().message;
    EXPECT_EQ(answer->finish, Finish::kContextFull);
    EXPECT_EQ(answer->tokens.size(), 20u);  // the last one is said and not run
  }
}

// A caller that is told may use the model: its turn is not held meanwhile.
TEST_P(SessionTest, CallbacksMayUseAnotherContextOfTheModel) {
  int n_progress = 0, n_texts = 0;
  AskOptions other_ask;
  other_ask.max_tokens = 1;
  const auto use_model = [&] {
    Result<Context> other = Context::Encode(model_, SomeTokens(20), {});
    ASSERT_TRUE(other.ok()) << other.error().message;
    EXPECT_TRUE(other->Ask(SomeTokens(3, 3), other_ask).ok());
  };
  EncodeOptions encode;
  encode.on_progress = [&](const Progress&) {
    ++n_progress;
    use_model();
  };
  AskOptions ask;
  ask.max_tokens = 3;
  ask.ignore_end_of_text = true;
  ask.sampling.temperature = 0;
  ask.on_text = [&](std::string_view) {
    ++n_texts;
    use_model();
  };
  Result<Context> context = Context::Encode(model_, SomeTokens(40), encode);
  ASSERT_TRUE(context.ok()) << context.error().message;
  const Result<Answer> answer = context->Ask(SomeTokens(5, 3), ask);
  ASSERT_TRUE(answer.ok()) << answer.error().message;
  EXPECT_GT(n_progress, 0);
  EXPECT_GT(n_texts, 0);

  SessionOptions options = Greedy(Attention::kDense, 0, 3);
  options.answer.on_text = ask.on_text;
  const int before = n_texts;
  Session session = MustStart(Prompt(SomeTokens(50), SomeTokens(4, 3)), options);
  MustFinish(session);
  EXPECT_GT(n_texts, before);
}

// Linear layers are a matrix library's where a pass has rows enough, if the build has one.
class LinearOfPasses : public testing::Test {
 protected:
  static constexpr std::int64_t kMinRows = 48;  // fewer are ggml's

  Result<Model> Load(ModelOptions::Linear linear, int max_sessions = 1) {
    ModelOptions options;
    options.n_threads = 1;
    options.ubatch_size = 256;
    options.linear = linear;
    options.max_sessions = max_sessions;
    return Model::Load(file_.path(), options);
  }

  void SetUp() override {
    const Result<Model> model = Load(ModelOptions::Linear::kOneDnn);
    if (model) return;
    ASSERT_NE(model.error().message.find("no oneDNN"), std::string::npos) << model.error().message;
    GTEST_SKIP() << "this build has no oneDNN";
  }

  // Sizes of the pieces in which a prompt of 250 + 256 + 99 tokens is run, in steps of 256.
  static std::vector<std::int64_t> Pieces(const Model& model, std::int64_t most) {
    Result<Session> session = Session::Start(
        model, Prompt(SomeTokens(250 + 256), SomeTokens(99, 3)), Greedy(Attention::kDense));
    std::vector<std::int64_t> pieces;
    while (session.ok() && !session->prefilled()) {
      const std::int64_t before = session->n_tokens();
      if (!session->Prefill(most, {})) break;
      pieces.push_back(session->n_tokens() - before);
    }
    EXPECT_EQ(std::accumulate(pieces.begin(), pieces.end(), std::int64_t{0}), 250 + 256 + 99);
    return pieces;
  }

  const TinyGgufFile file_{TinyModel{}};
};

TEST_F(LinearOfPasses, APrefillInPiecesHasThoseOfTheWhole) {
  const Result<Model> with_library = Load(ModelOptions::Linear::kOneDnn);
  const Result<Model> plain = Load(ModelOptions::Linear::kGgml);
  ASSERT_TRUE(with_library.ok() && plain.ok());
  for (const std::int64_t most : {1, 16, 47, 48, 60, 95, 96, 100, 203, 255, 256}) {
    for (const std::int64_t n : Pieces(*with_library, most)) {
      EXPECT_GE(n, kMinRows) << most;
      EXPECT_LE(n, std::max(most, 2 * kMinRows - 1)) << most;
    }
    for (const std::int64_t n : Pieces(*plain, most)) EXPECT_LE(n, most);
  }
  EXPECT_EQ(Pieces(*with_library, 60),
            (std::vector<std::int64_t>{60, 60, 60, 76, 60, 60, 60, 70, 51, 48}));
}

TEST_F(LinearOfPasses, ManySessionsDecodeWithThoseOfOne) {
  constexpr int kSessions = kMinRows + 4;
  const Result<Model> model = Load(ModelOptions::Linear::kOneDnnBf16, kSessions);
  ASSERT_TRUE(model.ok()) << model.error().message;
  SessionOptions options = Greedy(Attention::kDense, 0, 4);
  options.answer.n_logprobs = 0;
  const auto start = [&](int i) {
    Session session = std::move(*Session::Start(*model, Prompt({}, SomeTokens(9, i)), options));
    EXPECT_TRUE(session.Prefill(256, {}).ok());
    return session;
  };
  std::vector<Session> together;
  std::vector<Session*> all;
  for (int i = 0; i < kSessions; ++i) together.push_back(start(i));
  for (Session& session : together) all.push_back(&session);
  while (!together.front().done()) ASSERT_TRUE(Session::DecodeTogether(*model, all, {}).ok());
  std::vector<float> differences;
  for (int i = 0; i < kSessions; i += 17) {
    Session alone = start(i);
    Session* one = &alone;
    while (!alone.done()) ASSERT_TRUE(Session::DecodeTogether(*model, {&one, 1}, {}).ok());
    const Answer &got = together[static_cast<std::size_t>(i)].answer(), &want = alone.answer();
    EXPECT_EQ(got.tokens, want.tokens) << i;
    for (std::size_t at = 0; at < want.logprobs.size(); ++at) {
      differences.push_back(
          std::abs(got.logprobs.at(at).token.logprob - want.logprobs[at].token.logprob));
    }
  }
  // Sums of many rows have another order than those of one, on some CPUs, and now and then that
  // turns a key's last bit, for a thousandth. Products rounded to bf16 differ by a hundredth, every
  // time.
  std::ranges::sort(differences);
  EXPECT_LT(differences[differences.size() / 2], 1e-4);
  EXPECT_LT(differences.back(), 5e-3);
}

INSTANTIATE_TEST_SUITE_P(Models, SessionTest,
                         testing::Values(TinyArchitecture::kLlama, TinyArchitecture::kGemma3,
                                         TinyArchitecture::kGptOss),
                         [](const auto& model) {
                           std::string name(ArchitectureName(model.param));
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace aster
