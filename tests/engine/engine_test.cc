// The library as a caller sees it, on the default model.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <semaphore>
#include <thread>

#include "aster/context.h"
#include "base/system.h"

namespace aster {
namespace {

const char* ModelPath() { return std::getenv("ASTER_TEST_MODEL"); }

// One model for all tests of this file.
Model& SharedModel() {
  static Result<Model> model = Model::Load(ModelPath(), {});
  if (!model) {
    std::fprintf(stderr, "%s\n", model.error().message.c_str());
    std::abort();
  }
  return *model;
}

class Engine : public ::testing::Test {
 protected:
  void SetUp() override {
    if (ModelPath() == nullptr) GTEST_SKIP() << "ASTER_TEST_MODEL names no model";
  }
};

// Prose of about n tokens with one odd fact in the middle.
std::vector<Token> Document(std::int64_t n_tokens) {
  const char* const sentences[] = {
      "The keeper wrote the height of the tide into the book before breakfast. ",
      "Two boats came in with the evening wind and unloaded salt and timber. ",
      "Nobody had seen the ferry since the storm broke the northern pier. ",
      "In the village hall they argued about the price of wool until midnight. ",
  };
  std::string text;
  std::vector<Token> tokens;
  for (int i = 0; static_cast<std::int64_t>(tokens.size()) < n_tokens; ++i) {
    for (int j = 0; j < 8; ++j)
      text += sentences[(i * 3 + j * j) % 4] + std::to_string(i * 8 + j) + ". ";
    tokens = *SharedModel().Tokenize(text, true, false);
  }
  tokens.resize(static_cast<std::size_t>(n_tokens));
  return tokens;
}

std::vector<Token> Query(const char* text) { return *SharedModel().Tokenize(text, false, true); }

AskOptions Greedy(std::int64_t max_tokens) {
  AskOptions options;
  options.max_tokens = max_tokens;
  options.sampling.temperature = 0;
  return options;
}

Context MustEncode(std::span<const Token> tokens, Attention attention,
                   std::int64_t block_size = 0) {
  EncodeOptions options;
  options.plan.attention = attention;
  options.plan.block_size = block_size;
  Result<Context> context = Context::Encode(SharedModel(), tokens, options);
  if (!context) ADD_FAILURE() << context.error().message;
  return std::move(*context);
}

std::string MustAsk(Context& context, const char* query, AskOptions options) {
  Result<Answer> answer = context.Ask(Query(query), options);
  if (!answer) {
    ADD_FAILURE() << answer.error().message;
    return {};
  }
  return answer->text;
}

constexpr char kQuestion[] = "\n\nWhat did the keeper write into the book? The keeper wrote";

TEST_F(Engine, DenseGivesTheGreedyTextOfStockLlama) {
  const std::vector<Token> tokens = Document(700);
  Context ours = MustEncode(tokens, Attention::kDense);
  Context stock = MustEncode(tokens, Attention::kLlama);
  const std::string text = MustAsk(ours, kQuestion, Greedy(24));
  EXPECT_EQ(text, MustAsk(stock, kQuestion, Greedy(24)));
  EXPECT_GT(text.size(), 10u);
}

TEST_F(Engine, ASecondQuestionFindsTheContextAsItWas) {
  Context context = MustEncode(Document(600), Attention::kStar, 256);
  const std::string first = MustAsk(context, kQuestion, Greedy(16));
  MustAsk(context, " Tell me about the boats and the salt.", Greedy(16));
  EXPECT_EQ(context.tokens().size(), 600u);
  EXPECT_EQ(MustAsk(context, kQuestion, Greedy(16)), first);
}

TEST_F(Engine, AKeptTurnIsSeenByTheNextQuery) {
  const std::vector<Token> tokens = Document(300);
  Context context = MustEncode(tokens, Attention::kDense);
  AskOptions keep = Greedy(8);
  keep.keep_turn = true;
  Result<Answer> first = context.Ask(Query(" The secret word is marmalade."), keep);
  ASSERT_TRUE(first.ok());
  const std::vector<Token> held(context.tokens().begin(), context.tokens().end());
  // The answer's last token was drawn but never run.
  EXPECT_EQ(held.size(), tokens.size() + first->n_query + first->tokens.size() - 1);
  // A context encoded from the same tokens at once answers the same.
  Context whole = MustEncode(held, Attention::kDense);
  EXPECT_EQ(MustAsk(context, " The secret word is", Greedy(8)),
            MustAsk(whole, " The secret word is", Greedy(8)));
}

TEST_F(Engine, RewindingForgetsExactly) {
  const std::vector<Token> tokens = Document(500);
  Context rewound = MustEncode(tokens, Attention::kDense);
  ASSERT_TRUE(rewound.Rewind(333).ok());
  Context fresh = MustEncode(std::span(tokens).first(333), Attention::kDense);
  EXPECT_EQ(MustAsk(rewound, kQuestion, Greedy(16)), MustAsk(fresh, kQuestion, Greedy(16)));
  EXPECT_EQ(rewound.CommonPrefix(tokens), 333);
}

TEST_F(Engine, OneBlockAndTwoBlocksBehindAWholeAnchorEqualDense) {
  const std::vector<Token> tokens = Document(512);
  Context dense = MustEncode(tokens, Attention::kDense);
  const std::string expected = MustAsk(dense, kQuestion, Greedy(16));
  for (const std::int64_t block_size : {512, 256, 300}) {
    Context star = MustEncode(tokens, Attention::kStar, block_size);
    EXPECT_EQ(MustAsk(star, kQuestion, Greedy(16)), expected) << "block size " << block_size;
  }
}

TEST_F(Engine, StarWithFourBlocksSeesLessThanDense) {
  const std::vector<Token> tokens = Document(1024);
  Result<Answer> dense = MustEncode(tokens, Attention::kDense).Ask(Query(kQuestion), Greedy(1));
  Result<Answer> star = MustEncode(tokens, Attention::kStar, 128).Ask(Query(kQuestion), Greedy(1));
  ASSERT_TRUE(dense.ok() && star.ok());
  bool differs = false;
  for (std::size_t i = 0; i < 10; ++i) {
    differs |= dense->top_logprobs[i].token != star->top_logprobs[i].token ||
               std::abs(dense->top_logprobs[i].logprob - star->top_logprobs[i].logprob) > 1e-3f;
  }
  EXPECT_TRUE(differs) << "the mask of star was not applied";
}

TEST_F(Engine, TopLogprobsAreTheTenBestAndTheGreedyTokenIsTheirFirst) {
  Context context = MustEncode(Document(200), Attention::kDense);
  Result<Answer> answer = context.Ask(Query(kQuestion), Greedy(1));
  ASSERT_TRUE(answer.ok());
  ASSERT_EQ(answer->top_logprobs.size(), 10u);
  EXPECT_EQ(answer->top_logprobs[0].token, answer->tokens[0]);
  double sum = 0;
  for (std::size_t i = 0; i < 10; ++i) {
    sum += std::exp(answer->top_logprobs[i].logprob);
    if (i > 0) {
      EXPECT_LE(answer->top_logprobs[i].logprob, answer->top_logprobs[i - 1].logprob);
    }
  }
  EXPECT_LE(sum, 1.0 + 1e-5);
  EXPECT_GT(sum, 0.1);
}

TEST_F(Engine, TheStreamIsTheAnswerAndAStopStringEndsIt) {
  Context context = MustEncode(Document(300), Attention::kDense);
  std::string streamed;
  AskOptions options = Greedy(32);
  options.on_text = [&](std::string_view text) { streamed += text; };
  Result<Answer> whole = context.Ask(Query(kQuestion), options);
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ(streamed, whole->text);
  ASSERT_GT(whole->text.size(), 12u);
  const std::string stop = whole->text.substr(8, 4);
  options.stop_strings = {stop};
  Result<Answer> cut = context.Ask(Query(kQuestion), options);
  ASSERT_TRUE(cut.ok());
  EXPECT_EQ(cut->finish, Finish::kStopString);
  EXPECT_EQ(cut->text, whole->text.substr(0, whole->text.find(stop)));
}

TEST_F(Engine, SamplingIsRepeatableBySeedAndVariesWithIt) {
  Context context = MustEncode(Document(200), Attention::kDense);
  AskOptions options;
  options.max_tokens = 24;
  options.sampling.temperature = 1.5f;
  options.sampling.seed = 7;
  const std::string first = MustAsk(context, kQuestion, options);
  EXPECT_EQ(MustAsk(context, kQuestion, options), first);
  options.sampling.seed = 8;
  EXPECT_NE(MustAsk(context, kQuestion, options), first);
}

TEST_F(Engine, CancellingAnEncodeLeavesTheModelUsable) {
  std::stop_source source;
  EncodeOptions options;
  options.plan.attention = Attention::kDense;
  options.stop = source.get_token();
  options.on_progress = [&](const Progress& p) {
    if (p.n_done >= 512) source.request_stop();
  };
  Result<Context> cancelled = Context::Encode(SharedModel(), Document(2000), options);
  ASSERT_FALSE(cancelled.ok());
  EXPECT_EQ(cancelled.error().kind, ErrorKind::kCancelled);
  Context context = MustEncode(Document(100), Attention::kDense);
  EXPECT_FALSE(MustAsk(context, kQuestion, Greedy(4)).empty());
}

TEST_F(Engine, CancellingFromAnotherThreadEndsTheAnswerAndKeepsTheContext) {
  Context context = MustEncode(Document(300), Attention::kDense);
  const std::string expected = MustAsk(context, kQuestion, Greedy(8));
  // The first piece of text waits until the other thread has asked for the stop: whatever the model
  // says on this machine, the answer cannot have ended before.
  std::stop_source source;
  AskOptions options = Greedy(4000);
  options.stop = source.get_token();
  std::binary_semaphore begun{0};
  std::binary_semaphore stopped{0};
  std::jthread killer([&] {
    begun.acquire();
    source.request_stop();
    stopped.release();
  });
  options.on_text = [&](std::string_view) {
    if (source.stop_requested()) return;
    begun.release();
    stopped.acquire();
  };
  Result<Answer> answer = context.Ask(Query(kQuestion), options);
  if (!source.stop_requested()) begun.release();  // no text at all: let the thread end
  ASSERT_TRUE(answer.ok()) << answer.error().message;
  EXPECT_EQ(answer->finish, Finish::kCancelled);
  EXPECT_EQ(context.tokens().size(), 300u);
  EXPECT_EQ(MustAsk(context, kQuestion, Greedy(8)), expected);
}

TEST_F(Engine, ContextsLiveSideBySideAndInTurnsOfTwoThreads) {
  Context a = MustEncode(Document(300), Attention::kDense);
  Context b = MustEncode(Document(420), Attention::kStar, 128);
  const std::string from_a = MustAsk(a, kQuestion, Greedy(12));
  const std::string from_b = MustAsk(b, kQuestion, Greedy(12));
  std::string again_a;
  std::string again_b;
  {
    std::jthread one([&] { again_a = MustAsk(a, kQuestion, Greedy(12)); });
    std::jthread two([&] { again_b = MustAsk(b, kQuestion, Greedy(12)); });
  }
  EXPECT_EQ(again_a, from_a);
  EXPECT_EQ(again_b, from_b);
}

TEST_F(Engine, KvMemoryIsAsPredictedAndGivenBack) {
  const auto encode = [] { return MustEncode(Document(1500), Attention::kStar, 512); };
  encode();  // from here on the model has its working memory
  const std::int64_t before = ResidentBytes();
  {
    Context context = encode();
    EXPECT_EQ(context.kv_bytes(), PredictKvBytes(SharedModel(), 1500));
    EXPECT_GT(ResidentBytes() - before, context.kv_bytes() * 8 / 10);
  }
  EXPECT_LT(ResidentBytes() - before, PredictKvBytes(SharedModel(), 1500) / 10);
}

// oneDNN compiles a product for each number of rows, and keeps it.
TEST_F(Engine, PromptsOfNewLengthsTakeNoMoreMemory) {
  const auto encode = [](int n) { MustEncode(Document(n), Attention::kDense); };
  for (int n : {64, 128, 192, 256, 512}) encode(n);
  const std::int64_t before = ResidentBytes();
  for (int n = 255; n > 192; n -= 2) encode(n);  // at 0.1 MB and more each, if it kept them all
  EXPECT_LT(ResidentBytes() - before, 2 << 20);
}

TEST_F(Engine, ProgressEndsAtTheWholeAndTimeLeftAtZero) {
  EncodeOptions options;
  options.plan.attention = Attention::kStar;
  options.plan.block_size = 256;
  std::vector<Progress> seen;
  options.on_progress = [&](const Progress& p) { seen.push_back(p); };
  ASSERT_TRUE(Context::Encode(SharedModel(), Document(700), options).ok());
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen.back().n_done, 700);
  EXPECT_EQ(seen.back().n_total, 700);
  EXPECT_DOUBLE_EQ(seen.back().seconds_left, 0);
  EXPECT_GT(seen.front().seconds_left, 0);
}

struct BadCase {
  const char* name;
  std::function<Status()> run;
  ErrorKind kind;
  std::vector<std::string> says;
};

Status Failed(const Result<Context>& result) {
  if (result.ok()) return Ok();
  return result.error();
}

TEST_F(Engine, BadRequestsAreErrorsThatNameBothSides) {
  EncodeOptions big_reserve;
  big_reserve.plan.attention = Attention::kDense;
  big_reserve.reserve_tokens = std::int64_t{1} << 33;
  EncodeOptions anchor;
  anchor.plan.attention = Attention::kStar;
  anchor.plan.block_size = 64;
  anchor.plan.anchor_size = 101;
  const std::vector<Token> some(100, 5);
  const std::vector<Token> beyond(8300, 5);
  const std::vector<Token> outside(100, 1 << 20);
  const BadCase cases[] = {
      {"an empty context",
       [&] { return Failed(Context::Encode(SharedModel(), {}, {})); },
       ErrorKind::kInvalidArgument,
       {"empty"}},
      {"a token outside the vocabulary",
       [&] { return Failed(Context::Encode(SharedModel(), outside, {})); },
       ErrorKind::kInvalidArgument,
       {"1048576", "49151"}},
      {"a context beyond the trained length",
       [&] { return Failed(Context::Encode(SharedModel(), beyond, {})); },
       ErrorKind::kInvalidArgument,
       {"8300", "8192", "--allow-long"}},
      {"an anchor larger than the context",
       [&] { return Failed(Context::Encode(SharedModel(), some, anchor)); },
       ErrorKind::kInvalidArgument,
       {"101", "100"}},
      {"more KV memory than there is",
       [&] { return Failed(Context::Encode(SharedModel(), some, big_reserve)); },
       ErrorKind::kWorld,
       {"TB", "available"}},
  };
  for (const BadCase& c : cases) {
    SCOPED_TRACE(c.name);
    const Status status = c.run();
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().kind, c.kind);
    for (const std::string& words : c.says) {
      EXPECT_NE(status.error().message.find(words), std::string::npos) << status.error().message;
    }
    EXPECT_EQ(status.error().message.find('\n'), std::string::npos);
  }
}

TEST_F(Engine, ThePromptIsTokenisedWholeAndCutBeforeTheQuestion) {
  const Model& model = SharedModel();
  const std::string document = "The lamp was lit at nine. The fog came later.";
  for (const std::string question :
       {"When was the lamp lit?", "  spaced out?  ", "\xC3\xA4h?", "1"}) {
    SCOPED_TRACE(question);
    const std::vector<Message> messages = {{"user", document + "\n\n" + question}};
    Result<Model::Prompt> prompt = model.BuildPrompt(messages, question);
    ASSERT_TRUE(prompt.ok()) << prompt.error().message;
    const std::string rendered = *model.RenderChat(messages);
    EXPECT_EQ(prompt->tokens, *model.Tokenize(rendered, true, true));
    const std::string context =
        model.Detokenize(std::span(prompt->tokens).first(prompt->n_context));
    const std::string rest = model.Detokenize(std::span(prompt->tokens).subspan(prompt->n_context));
    EXPECT_EQ(context + rest, rendered);
    EXPECT_NE(context.find("fog came later."), std::string::npos);
    EXPECT_EQ(context.find(question), std::string::npos);
    EXPECT_LE(rest.find_first_not_of(" \n"), 4u) << "the query starts at the question: " << rest;
  }
}

}  // namespace
}  // namespace aster
