// A context over several hosts, which are threads of this process: its answers are those of one.
#include "engine/hosts.h"

#include <gtest/gtest.h>

#include <mutex>
#include <thread>
#include <vector>

#include "aster/context.h"
#include "aster/rehearsal.h"
#include "engine/hosts_fixture.h"
#include "engine/model_state.h"

namespace aster {
namespace {

TEST_F(HostsTest, AnswerAsOneHostDoes) {
  const Model model = MustLoadTiny(file_.path());
  const std::vector<Token> tokens = SomeTokens(430);
  struct Shape {
    std::int64_t block_size, anchor_size;
  };
  for (const auto& [block_size, anchor_size] :
       {Shape{50, -1}, Shape{64, 64}, Shape{100, 30}, Shape{200, 0}, Shape{430, -1}}) {
    Context alone = std::move(*Context::Encode(model, tokens, Star(block_size, anchor_size)));
    const std::vector<Answer> want = AskTwice(alone);
    for (const int size : {1, 2, 3, 4, 8}) {
      for (const AnchorFrom from : {AnchorFrom::kRecompute, AnchorFrom::kBroadcast}) {
        SCOPED_TRACE("block " + std::to_string(block_size) + ", " + std::to_string(size) +
                     " hosts, anchor mode " + std::to_string(static_cast<int>(from)));
        ContextHosts others(file_.path(), size, from);
        Model query_host = others.QueryHost(file_.path());
        {
          Result<Context> context =
              Context::Encode(query_host, tokens, Star(block_size, anchor_size));
          ASSERT_TRUE(context.ok()) << context.error().message;
          EXPECT_EQ(std::ssize(context->tokens()), 430);
          ExpectAlike(AskTwice(*context), want);
        }
        for (const std::string& why : others.End()) EXPECT_EQ(why, "");
      }
    }
  }
}

TEST_F(HostsTest, UnevenHostsAnswerAsOneToo) {
  const Model model = MustLoadTiny(file_.path());
  const std::vector<Token> tokens = SomeTokens(430);
  Context alone = std::move(*Context::Encode(model, tokens, Star(50)));
  const std::vector<Answer> want = AskTwice(alone);
  for (const AnchorFrom from : {AnchorFrom::kRecompute, AnchorFrom::kBroadcast}) {
    struct Uneven {
      std::vector<double> weights;
      std::ptrdiff_t without_block;  // a rank; -1: none
    };
    for (const auto& [weights, without_block] :
         {Uneven{{3, 1, 0.5}, -1}, Uneven{{1e-12, 1, 1}, 0}, Uneven{{1, 1e-12, 1}, 1}}) {
      ContextHosts others(file_.path(), 3, from);
      others.hosts()->options.weights = weights;
      Model query_host = others.QueryHost(file_.path());
      const Plan plan = *MakePlan(430, Star(50).plan);
      {
        const std::lock_guard talk(others.hosts()->talk);
        const auto choice =
            others.hosts()->Choose(*internal::ModelAccess::StateOf(query_host), plan);
        ASSERT_TRUE(choice.ok()) << choice.error().message;
        for (std::ptrdiff_t rank = 0; rank < 3; ++rank) {
          EXPECT_EQ(choice->shares[static_cast<std::size_t>(rank)].passes.empty(),
                    rank == without_block);
        }
      }
      Result<Context> context = Context::Encode(query_host, tokens, Star(50));
      ASSERT_TRUE(context.ok()) << context.error().message;
      ExpectAlike(AskTwice(*context), want);
    }
  }
}

TEST_F(HostsTest, ARingAnswersAsDenseDoes) {
  const Model model = MustLoadTiny(file_.path());
  for (const int n : {430, 64, 17, 5, 1}) {
    const std::vector<Token> tokens = SomeTokens(n);
    Context alone = std::move(*Context::Encode(model, tokens, Exact(Attention::kDense)));
    const std::vector<Answer> want = AskTwice(alone);
    for (const int size : {1, 2, 3, 4, 8}) {
      SCOPED_TRACE(std::to_string(n) + " tokens, " + std::to_string(size) + " hosts");
      ContextHosts others(file_.path(), size);
      Model query_host = others.QueryHost(file_.path());
      {
        Result<Context> context = Context::Encode(query_host, tokens, Exact(Attention::kRing));
        ASSERT_TRUE(context.ok()) << context.error().message;
        ExpectAlike(AskTwice(*context), want);
        ASSERT_TRUE(alone.Rewind(n / 2 + 1).ok());
        ASSERT_TRUE(context->Rewind(n / 2 + 1).ok());
        ExpectAlike(AskTwice(*context), AskTwice(alone));
        alone = std::move(*Context::Encode(model, tokens, Exact(Attention::kDense)));
      }
      for (const std::string& why : others.End()) EXPECT_EQ(why, "");
    }
  }
}

// Windows, softcaps, sinks, heads of their own size: whatever a model's attention has.
TEST_F(HostsTest, EveryArchitectureMayBeSpread) {
  for (const auto a : {TinyArchitecture::kQwen3, TinyArchitecture::kGemma2,
                       TinyArchitecture::kGemma3, TinyArchitecture::kGptOss}) {
    const TinyGgufFile file(TinyModel{.architecture = a});
    const Model model = MustLoadTiny(file.path());
    const std::vector<Token> tokens = SomeTokens(300);
    for (const EncodeOptions& options : {Star(50), Exact(Attention::kRing)}) {
      SCOPED_TRACE("architecture " + std::to_string(static_cast<int>(a)) + ", " +
                   std::string(AttentionName(options.plan.attention)));
      Context alone = std::move(*Context::Encode(model, tokens, options));
      ContextHosts others(file.path(), 3, AnchorFrom::kBroadcast);
      Model query_host = others.QueryHost(file.path());
      Result<Context> context = Context::Encode(query_host, tokens, options);
      ASSERT_TRUE(context.ok()) << context.error().message;
      ExpectAlike(AskTwice(*context), AskTwice(alone));
    }
  }
}

TEST_F(HostsTest, PartialResultsMayTravelInBf16) {
  const Model model = MustLoadTiny(file_.path());
  const std::vector<Token> tokens = SomeTokens(430);
  Context alone = std::move(*Context::Encode(model, tokens, Star(50)));
  ContextHosts others(file_.path(), 3);
  others.hosts()->options.bf16_partials = true;
  Model query_host = others.QueryHost(file_.path());
  Context spread = std::move(*Context::Encode(query_host, tokens, Star(50)));
  const Answer want = *alone.Ask(std::vector<Token>{20, 30}, Greedy(1));
  const Answer got = *spread.Ask(std::vector<Token>{20, 30}, Greedy(1));
  const double kl = Divergence(want, got);
  EXPECT_LT(kl, 1e-3);
  EXPECT_NE(kl, 0);
}

TEST_F(HostsTest, AutoChoosesAnAnchorAndSaysWhy) {
  ContextHosts others(file_.path(), 3);
  Model model = others.QueryHost(file_.path());
  const std::vector<Token> tokens = SomeTokens(430);
  {
    const std::lock_guard talk(others.hosts()->talk);
    const Plan plan = *MakePlan(430, {.attention = Attention::kStar, .block_size = 50});
    const Result<SpreadChoice> choice =
        others.hosts()->Choose(*internal::ModelAccess::StateOf(model), plan);
    ASSERT_TRUE(choice.ok()) << choice.error().message;
    EXPECT_NE(choice->reason.find("by broadcast"), std::string::npos) << choice->reason;
    EXPECT_EQ(choice->shares.size(), 3u);
  }
  EXPECT_TRUE(Context::Encode(model, tokens, Star(50)).ok());
}

TEST_F(HostsTest, AWeightIsNothingToARing) {
  ContextHosts others(file_.path(), 2);
  others.hosts()->options.weights = {1, 2};
  Model model = others.QueryHost(file_.path());
  const Result<Context> context = Context::Encode(model, SomeTokens(100), Exact(Attention::kRing));
  ASSERT_FALSE(context.ok());
  EXPECT_EQ(context.error().kind, ErrorKind::kInvalidArgument);
}

TEST_F(HostsTest, EachHoldsItsBlocksOnly) {
  ContextHosts others(file_.path(), 4);
  Model model = others.QueryHost(file_.path());
  const std::vector<Token> tokens = SomeTokens(2048);
  Result<Context> context = Context::Encode(model, tokens, Star(256));
  ASSERT_TRUE(context.ok()) << context.error().message;
  EXPECT_EQ(context->kv_bytes(), PredictKvBytes(model, 512));  // two of eight blocks, a page each
  EXPECT_EQ(KvBytesInUse(), PredictKvBytes(model, 2048));      // no other keeps the anchor
  Result<Context> ring = Context::Encode(model, tokens, Exact(Attention::kRing));
  ASSERT_TRUE(ring.ok()) << ring.error().message;
  EXPECT_EQ(ring->kv_bytes(), PredictKvBytes(model, 512));
}

// What a host alone with made-up neighbours holds, sends and needs.
TEST_F(HostsTest, NoneHoldsMoreThanItsShareAndABlock) {
  const Model model = MustLoadTiny(file_.path());
  for (const Attention attention : {Attention::kStar, Attention::kRing}) {
    PlanOptions options;
    options.attention = attention;
    options.block_size = attention == Attention::kStar ? 256 : 0;
    options.ubatch_size = 32;
    const Plan plan = *MakePlan(3000, options);
    for (const Spread spread : {Spread::kRecompute, Spread::kBroadcast, Spread::kRing}) {
      if ((spread == Spread::kRing) != (attention == Attention::kRing)) continue;
      const std::vector<HostShare> shares = DealShares(plan, spread, 4, {});
      std::vector<HostTrace> traces;
      for (std::size_t host = 0; host < shares.size(); ++host) {
        SCOPED_TRACE(std::string(SpreadName(spread)) + ", host " + std::to_string(host));
        const Result<HostTrace> trace = RehearseHost(model, plan, spread, shares, host, {});
        ASSERT_TRUE(trace.ok()) << trace.error().message;
        // Two pieces of a ring may each begin and end within a page.
        EXPECT_LE(trace->kv_bytes, PredictKvBytes(model, shares[host].n_held() + 512));
        EXPECT_EQ(trace->events.empty(), spread == Spread::kRecompute);
        EXPECT_GT(trace->work(), 0);
        traces.push_back(*trace);
      }
      const bool ring = spread == Spread::kRing;
      const double fast = ReplaySeconds(traces, ring, 1e12, 0);
      double slowest = 0;
      for (const HostTrace& trace : traces) slowest = std::max(slowest, trace.work());
      EXPECT_GE(fast, slowest * (1 - 1e-9));  // the same sum in another order
      EXPECT_GE(ReplaySeconds(traces, ring, 1e6, 0), fast);
    }
  }
}

// Two hosts and a third, by hand: links of 10 bytes/s, 0.5 s one way.
TEST(Replay, WaitsForMessagesAndForTheLink) {
  const HostTrace::Event send{true, 1, 20};  // after 1 s of work, 2 s on the link
  const HostTrace::Event receive{false, 1, 20};
  const HostTrace first{{send, send}, 1, 0};
  const HostTrace last{{receive, receive}, 1, 0};
  // Sent at 1 and 2, off the link at 3 and 5, there at 3.5 and 5.5; then 1 s of work.
  EXPECT_DOUBLE_EQ(ReplaySeconds(std::vector{first, last}, false, 10, 0.5), 6.5);
  EXPECT_DOUBLE_EQ(ReplaySeconds(std::vector{first}, false, 10, 0.5), 3);
  // Sent on as soon as it is there: at 3.5 and 5.5, there at 6 and 8.
  const HostTrace middle{{receive, {true, 0, 20}, receive, {true, 0, 20}}, 0, 0};
  EXPECT_DOUBLE_EQ(ReplaySeconds(std::vector{first, middle, last}, false, 10, 0.5), 9);
  // In a ring of two each sends at 1 and needs the other's, there at 3.5.
  const HostTrace member{{send, receive}, 2, 0};
  EXPECT_DOUBLE_EQ(ReplaySeconds(std::vector{member, member}, true, 10, 0.5), 5.5);
}

TEST_F(HostsTest, AHeldContextCanBeCutAnywhereAndGoesOn) {
  const std::vector<Token> tokens = SomeTokens(300);
  const Model one = MustLoadTiny(file_.path());
  Context alone = std::move(*Context::Encode(one, tokens, Star(50)));
  ContextHosts others(file_.path(), 3);
  Model model = others.QueryHost(file_.path());
  Context spread = std::move(*Context::Encode(model, tokens, Star(50)));
  for (const std::int64_t n : {290, 230, 120, 60}) {
    ASSERT_TRUE(alone.Rewind(n).ok());
    ASSERT_TRUE(spread.Rewind(n).ok());
    ExpectAlike(AskTwice(spread), AskTwice(alone));
  }
}

TEST_F(HostsTest, ContextsLiveSideBySide) {
  ContextHosts others(file_.path(), 2);
  Model model = others.QueryHost(file_.path());
  const std::vector<Token> tokens = SomeTokens(300), more = SomeTokens(200);
  Context first = std::move(*Context::Encode(model, tokens, Star(50)));
  const Answer before = *first.Ask(std::vector<Token>{20, 30}, Greedy(8));
  {
    Context second = std::move(*Context::Encode(model, more, Star(40)));
    EXPECT_EQ(second.Ask(std::vector<Token>{20, 30}, Greedy(8))->tokens.size(), 8u);
  }
  EXPECT_EQ(first.Ask(std::vector<Token>{20, 30}, Greedy(8))->tokens, before.tokens);
}

// Threads take turns with what the contexts of a model share: its forward pass, its logits, its
// hosts.
TEST_F(HostsTest, SeveralThreadsMayAskAtOnce) {
  for (const int size : {1, 3}) {
    ContextHosts others(file_.path(), size);
    Model model = MustLoadTiny(file_.path());
    if (size > 1) HostTeam::Join(model, others.hosts());
    const auto ask = [&](int i) {
      Context context = std::move(*Context::Encode(model, SomeTokens(200 + 50 * i), Star(50)));
      return context.Ask(std::vector<Token>{20, 30, 40}, Greedy(10))->tokens;
    };
    const std::vector<std::vector<Token>> want = {ask(0), ask(1), ask(2)};
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&, i] {
        for (int round = 0; round < 5; ++round) {
          EXPECT_EQ(ask(i), want[i]) << size << " hosts, thread " << i << ", round " << round;
        }
      });
    }
  }
}

TEST_F(HostsTest, ProgressCountsTheTokensOfAll) {
  for (const Way& way : Ways()) {
    SCOPED_TRACE(way.name);
    ContextHosts others(file_.path(), 3, way.anchor);
    Model model = others.QueryHost(file_.path());
    EncodeOptions options = way.options;
    std::int64_t last = 0;
    options.on_progress = [&](const Progress& progress) {
      EXPECT_GE(progress.n_done, last);
      EXPECT_EQ(progress.n_total, 430);
      last = progress.n_done;
    };
    ASSERT_TRUE(Context::Encode(model, SomeTokens(430), options).ok());
    EXPECT_EQ(last, 430);
  }
}

}  // namespace
}  // namespace aster
