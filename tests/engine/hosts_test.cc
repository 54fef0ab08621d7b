// A context over several hosts, which are threads of this process: its answers are those of one.
#include "engine/hosts.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "aster/context.h"
#include "aster/rehearsal.h"
#include "cluster/local_group.h"
#include "engine/host_messages.h"
#include "engine/model_state.h"
#include "support/tiny_engine.h"
#include "support/tiny_gguf.h"

namespace aster {
namespace {

using internal::HostTeam;

constexpr Patience kPatience(20);

EncodeOptions Star(std::int64_t block_size, std::int64_t anchor_size = -1) {
  EncodeOptions options;
  options.plan.attention = Attention::kStar;
  options.plan.block_size = block_size;
  options.plan.anchor_size = anchor_size;
  return options;
}

EncodeOptions Exact(Attention attention) {
  EncodeOptions options;
  options.plan.attention = attention;
  return options;
}

AskOptions Greedy(int n) {
  AskOptions options;
  options.n_top_logprobs = 1 << 20;  // all
  options.max_tokens = n;
  options.sampling.temperature = 0;
  options.ignore_end_of_text = true;
  return options;
}

// The context hosts of a group, each with a model of its own, for as long as this lives.
class ContextHosts {
 public:
  ContextHosts(const std::string& path, int size, AnchorFrom anchor = AnchorFrom::kAuto)
      : groups_(MakeLocalGroup(size)) {
    ended_.resize(groups_.size());
    for (std::size_t rank = 1; rank < groups_.size(); ++rank) {
      threads_.emplace_back([this, path, rank] {
        Model model = MustLoadTiny(path);
        const Status status = internal::ServeHost(model, *groups_[rank], kPatience);
        ended_[rank] = status.ok() ? "" : status.error().message;
        groups_[rank].reset();
      });
    }
    hosts_ = std::make_shared<HostTeam>();
    hosts_->group = groups_[0].get();
    hosts_->options.anchor = anchor;
  }
  ~ContextHosts() { End(); }

  const std::shared_ptr<HostTeam>& hosts() const { return hosts_; }
  // Whose contexts are spread over them.
  Model QueryHost(const std::string& path) const {
    Model model = MustLoadTiny(path);
    HostTeam::Join(model, hosts_);
    return model;
  }
  // What each host's loop ended with.
  const std::vector<std::string>& End() {
    if (!threads_.empty()) static_cast<void>(hosts_->End());
    threads_.clear();
    return ended_;
  }

 private:
  std::vector<std::unique_ptr<Group>> groups_;
  std::vector<std::string> ended_;
  std::shared_ptr<HostTeam> hosts_;
  std::vector<std::jthread> threads_;
};

class HostsTest : public testing::Test {
 protected:
  HostsTest() : file_(TinyModel{}) {}

  // Two questions, the first kept as a turn.
  static std::vector<Answer> AskTwice(Context& context) {
    const std::vector<Token> first = {20, 30, 40, 50}, second = {60, 70};
    AskOptions keep = Greedy(12);
    keep.keep_turn = true;
    std::vector<Answer> answers;
    answers.push_back(*context.Ask(first, keep));
    answers.push_back(*context.Ask(second, Greedy(12)));
    return answers;
  }

  // Of the whole vocabulary.
  static double Divergence(const Answer& want, const Answer& got) {
    std::map<Token, double> theirs;
    for (const TokenLogprob& q : got.top_logprobs) theirs[q.token] = q.logprob;
    EXPECT_EQ(want.top_logprobs.size(), theirs.size());
    double kl = 0;
    for (const TokenLogprob& p : want.top_logprobs) {
      kl += std::exp(p.logprob) * (p.logprob - theirs.at(p.token));
    }
    return kl;
  }

  static void ExpectAlike(const std::vector<Answer>& got, const std::vector<Answer>& want,
                          double most = 1e-4) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].tokens, want[i].tokens) << "answer " << i;
      EXPECT_GT(want[i].top_logprobs.size(), 100u);
      EXPECT_LT(Divergence(want[i], got[i]), most) << "answer " << i;
    }
  }

  TinyGgufFile file_;
};

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
    // The second leaves rank 0 without a block, the third rank 1.
    for (const std::vector<double>& weights :
         {std::vector<double>{3, 1, 0.5}, {0.001, 1, 1}, {1, 0.001, 1}}) {
      ContextHosts others(file_.path(), 3, from);
      others.hosts()->options.weights = weights;
      Model query_host = others.QueryHost(file_.path());
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

TEST_F(HostsTest, EachHoldsItsBlocksAndTheAnchorOnly) {
  ContextHosts others(file_.path(), 4);
  Model model = others.QueryHost(file_.path());
  const std::vector<Token> tokens = SomeTokens(2048);
  Result<Context> context = Context::Encode(model, tokens, Star(256));
  ASSERT_TRUE(context.ok()) << context.error().message;
  EXPECT_EQ(context->kv_bytes(), PredictKvBytes(model, 512));  // two of eight blocks, a page each
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

// The ways to spread a context, by name.
struct Way {
  const char* name;
  AnchorFrom anchor;
  EncodeOptions options;
};

std::vector<Way> Ways() {
  return {{"recompute", AnchorFrom::kRecompute, Star(50)},
          {"broadcast", AnchorFrom::kBroadcast, Star(50)},
          {"ring", AnchorFrom::kAuto, Exact(Attention::kRing)}};
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

TEST_F(HostsTest, ACancelStopsAllAndTheyStayOfUse) {
  for (const Way& way : Ways()) {
    SCOPED_TRACE(way.name);
    ContextHosts others(file_.path(), 3, way.anchor);
    Model model = others.QueryHost(file_.path());
    const std::vector<Token> tokens = SomeTokens(430);
    for (const int calls : {1, 2, 3, 6}) {
      std::stop_source source;
      EncodeOptions options = way.options;
      options.stop = source.get_token();
      int n = 0;
      options.on_progress = [&](const Progress& progress) {
        if (++n == calls || progress.n_done > 400) source.request_stop();
      };
      const Result<Context> context = Context::Encode(model, tokens, options);
      ASSERT_FALSE(context.ok()) << calls;
      if (context.error().kind != ErrorKind::kCancelled) {
        for (const std::string& why : others.End()) EXPECT_EQ(why, "") << context.error().message;
        return;
      }
    }
    Result<Context> context = Context::Encode(model, tokens, way.options);
    ASSERT_TRUE(context.ok()) << context.error().message;
    EXPECT_EQ(context->Ask(std::vector<Token>{20, 30}, Greedy(8))->tokens.size(), 8u);
    context = Cancelled("");
    for (const std::string& why : others.End()) EXPECT_EQ(why, "");
  }
}

TEST_F(HostsTest, AHostWithAnotherModelIsNamed) {
  // One of another shape, and one that differs in its weights alone.
  for (const TinyModel& kind : {TinyModel{.n_layers = 3}, TinyModel{.seed = 2}}) {
    const TinyGgufFile other(kind);
    ContextHosts others(other.path(), 2);
    Model model = others.QueryHost(file_.path());
    const Result<Context> context = Context::Encode(model, SomeTokens(300), Star(50));
    ASSERT_FALSE(context.ok());
    EXPECT_EQ(context.error().message,
              "rank 1: the query host has another model than " + other.path());
  }
}

TEST_F(HostsTest, AWindowAndALargerAnchorAreOfOneHost) {
  ContextHosts others(file_.path(), 2);
  Model model = others.QueryHost(file_.path());
  EncodeOptions window = Star(50);
  window.plan.window = 1;
  for (const EncodeOptions& options : {window, Star(50, 51)}) {
    const Result<Context> context = Context::Encode(model, SomeTokens(300), options);
    ASSERT_FALSE(context.ok());
    EXPECT_EQ(context.error().kind, ErrorKind::kInvalidArgument);
    EXPECT_NE(context.error().message.find("on several hosts"), std::string::npos);
  }
  EXPECT_TRUE(Context::Encode(model, SomeTokens(300), Star(50, 50)).ok());
}

// What a peer sends is looked at before it is used: each of these differs from a good request in
// one thing.
TEST_F(HostsTest, ARequestThatDoesNotFitIsRefusedWithAReason) {
  using internal::EncodeRequest;
  struct Bad {
    const char* said;
    std::function<void(EncodeRequest&, std::vector<Token>&)> change;
  };
  const std::vector<Bad> cases = {
      {"another version of Aster or byte order", [](auto& r, auto&) { r.protocol += 1; }},
      {"another version of Aster or byte order", [](auto& r, auto&) { r.is_big_endian ^= 1; }},
      {"another model", [](auto& r, auto&) { r.model.n_layers += 1; }},
      {"another model", [](auto& r, auto&) { r.model.fingerprint ^= 1; }},
      {"tokens are missing", [](auto&, auto& tokens) { tokens.pop_back(); }},
      {"tokens are missing", [](auto& r, auto&) { r.n_tokens = -1; }},
      {"tokens are missing", [](auto& r, auto&) { r.n_tokens = std::int64_t{1} << 61; }},
      {"a token is none", [](auto&, auto& tokens) { tokens[7] = -5; }},
      {"a token is none", [](auto&, auto& tokens) { tokens[7] = 1 << 30; }},
      {"block size 1: expected", [](auto& r, auto&) { r.block_size = 1; }},
      {"an anchor larger than a block", [](auto& r, auto&) { r.anchor_size = 200; }},
      {"anchor size -2", [](auto& r, auto&) { r.anchor_size = -2; }},
      {"blocks that the plan has not", [](auto& r, auto&) { r.last_block = 7; }},
      {"blocks that the plan has not", [](auto& r, auto&) { r.first_block = -1; }},
      {"blocks that the plan has not", [](auto& r, auto&) { r.last_block = r.first_block; }},
      {"an unknown way", [](auto& r, auto&) { r.spread = 3; }},
      {"a place among the hosts", [](auto& r, auto&) { r.place = 2; }},
      {"a place among the hosts", [](auto& r, auto&) { r.n_places = 3; }},
      {"a place among the hosts", [](auto& r, auto&) { r.previous = 2; }},
      {"a place among the hosts", [](auto& r, auto&) { r.next = 1; }},
      {"keys that come from nowhere", [](auto& r, auto&) { r.previous = 0; }},
      {"keys that come from nowhere", [](auto& r, auto&) { r.spread = 1; }},
  };
  for (const Bad& bad : cases) {
    SCOPED_TRACE(bad.said);
    const std::vector<std::unique_ptr<Group>> groups = MakeLocalGroup(2);
    std::string ended;
    std::jthread host([&] {
      Model model = MustLoadTiny(file_.path());
      const Status status = internal::ServeHost(model, *groups[1], kPatience);
      ended = status.ok() ? "" : status.error().message;
    });
    const Model model = MustLoadTiny(file_.path());
    std::vector<Token> tokens = SomeTokens(300);
    EncodeRequest request;
    request.context = 1;
    request.model = internal::FactsOf(*internal::ModelAccess::StateOf(model));
    request.n_tokens = 300;
    request.block_size = request.anchor_size = 50;
    request.first_block = 3;
    request.last_block = 6;
    request.place = 1;
    request.n_places = 2;
    bad.change(request, tokens);
    Bytes message;
    internal::Writer writer(internal::Kind::kEncode, &message);
    writer.Put(request);
    writer.PutAll(std::span<const Token>(tokens));
    ASSERT_TRUE(groups[0]->Send(1, Channel::kTalk, message).ok());
    const Result<Bytes> answer = groups[0]->Receive(1, Channel::kTalk, kPatience);
    ASSERT_TRUE(answer.ok());
    internal::Reader reader(*answer);
    EXPECT_EQ(internal::KindOf(&reader), internal::Kind::kFailed);
    EXPECT_NE(reader.Text().find(bad.said), std::string::npos);
    host.join();
    EXPECT_NE(ended.find(bad.said), std::string::npos) << ended;
  }
}

// A context host that does as it is told up to its nth message, and then something else.
enum class Fault { kLeaves, kGarbles, kDrops, kFallsSilent, kDelays };

class FaultyGroup : public Group {
 public:
  FaultyGroup(std::unique_ptr<Group> group, Fault fault, int at, unsigned seed)
      : group_(std::move(group)), fault_(fault), left_(at), random_(seed) {}

  int rank() const override { return group_->rank(); }
  int size() const override { return group_->size(); }
  Status Send(int to, Channel channel, std::span<const std::byte> message) override {
    const int left = left_--;
    if (left > 0) return group_->Send(to, channel, message);
    switch (fault_) {
      case Fault::kLeaves:
        return WorldError("left");
      case Fault::kFallsSilent:
        return Ok();
      case Fault::kDrops:
        return left == 0 ? Ok() : group_->Send(to, channel, message);
      case Fault::kDelays:
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        return group_->Send(to, channel, message);
      case Fault::kGarbles:
        break;
    }
    // Cut short, longer, or with another kind or header: nothing that could pass for an answer.
    Bytes garbled(message.begin(), message.end());
    const unsigned way = random_() % 3;
    if (way == 0) garbled.resize(message.size() / 2);
    if (way == 1) garbled.resize(message.size() + 1 + random_() % 9);
    if (way == 2 && !garbled.empty()) garbled[0] = static_cast<std::byte>(0x80 + random_() % 64);
    return group_->Send(to, channel, garbled);
  }
  Result<Bytes> Receive(int from, Channel channel, Patience patience) override {
    return group_->Receive(from, channel, patience);
  }
  bool HasMessage(int from, Channel channel) override { return group_->HasMessage(from, channel); }

 private:
  std::unique_ptr<Group> group_;
  Fault fault_;
  std::atomic<int> left_;
  std::minstd_rand random_;
};

// Rank 1 of three fails at its nth message. The query host ends with an error that names it, and
// every rank ends.
TEST_F(HostsTest, AHostThatFailsIsNamedAndNothingHangs) {
  const unsigned seed = std::random_device{}();
  std::printf("seed of the faults: %u\n", seed);
  const std::vector<Token> tokens = SomeTokens(300);
  for (const Way& way : Ways()) {
    for (const Fault fault :
         {Fault::kLeaves, Fault::kGarbles, Fault::kDrops, Fault::kFallsSilent, Fault::kDelays}) {
      for (const int at : {0, 3, 7, 30}) {
        SCOPED_TRACE(std::string(way.name) + ", fault " + std::to_string(static_cast<int>(fault)) +
                     " at message " + std::to_string(at) + ", seed " + std::to_string(seed));
        std::vector<std::unique_ptr<Group>> groups = MakeLocalGroup(3);
        groups[1] = std::make_unique<FaultyGroup>(std::move(groups[1]), fault, at, seed);
        std::vector<std::jthread> ranks;
        for (const std::size_t rank : {1, 2}) {
          ranks.emplace_back([&, rank] {
            Model model = MustLoadTiny(file_.path());
            static_cast<void>(internal::ServeHost(model, *groups[rank], Patience(1)));
            groups[rank].reset();
          });
        }
        auto hosts = std::make_shared<HostTeam>();
        hosts->group = groups[0].get();
        hosts->patience = Patience(1);
        hosts->options.anchor = way.anchor;
        if (hosts->options.anchor == AnchorFrom::kAuto) {
          hosts->options.anchor = AnchorFrom::kRecompute;
        }
        Model model = MustLoadTiny(file_.path());
        HostTeam::Join(model, hosts);
        std::string why;
        {
          Result<Context> context = Context::Encode(model, tokens, way.options);
          if (!context) why = context.error().message;
          // A dropped line of progress is no harm to anybody.
          for (int i = 0; context && why.empty() && i < 3; ++i) {
            const Result<Answer> answer = context->Ask(std::vector<Token>{20, 30}, Greedy(20));
            if (!answer) why = answer.error().message;
          }
        }
        const bool may_pass = fault == Fault::kDelays || fault == Fault::kDrops;
        if (!may_pass || !why.empty()) {
          EXPECT_NE(why.find("rank 1"), std::string::npos) << why;
        }
        static_cast<void>(hosts->End());
        groups[0].reset();
      }
    }
  }
}

}  // namespace
}  // namespace aster
