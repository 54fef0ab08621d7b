// A context over several hosts, which are threads of this process: its answers are those of one.
#include "engine/hosts.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <thread>
#include <vector>

#include "aster/context.h"
#include "cluster/local_group.h"
#include "support/tiny_gguf.h"

namespace aster {
namespace {

using internal::HostTeam;

Model MustLoad(const std::string& path) {
  ModelOptions options;
  options.n_threads = 1;
  options.ubatch_size = 32;
  options.linear = ModelOptions::Linear::kGgml;
  return std::move(*Model::Load(path, options));
}

std::vector<Token> SomeTokens(int n) {
  std::vector<Token> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(10 + (i * i * 7 + i * 31 + i / 9) % 250);
  return tokens;
}

EncodeOptions Star(std::int64_t block_size, std::int64_t anchor_size = -1) {
  EncodeOptions options;
  options.plan.attention = Attention::kStar;
  options.plan.block_size = block_size;
  options.plan.anchor_size = anchor_size;
  return options;
}

AskOptions Greedy(int n) {
  AskOptions options;
  options.max_tokens = n;
  options.sampling.temperature = 0;
  options.ignore_end_of_text = true;
  return options;
}

// The context hosts of a group, each with a model of its own, for as long as this lives.
class ContextHosts {
 public:
  ContextHosts(const std::string& path, int size) : groups_(MakeLocalGroup(size)) {
    ended_.resize(groups_.size());
    for (std::size_t rank = 1; rank < groups_.size(); ++rank) {
      threads_.emplace_back([this, path, rank] {
        Model model = MustLoad(path);
        const Status status = internal::ServeHost(model, *groups_[rank]);
        ended_[rank] = status.ok() ? "" : status.error().message;
        groups_[rank].reset();
      });
    }
    hosts_ = std::make_shared<HostTeam>();
    hosts_->group = groups_[0].get();
  }
  ~ContextHosts() { End(); }

  const std::shared_ptr<HostTeam>& hosts() const { return hosts_; }
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

  static void ExpectAlike(const std::vector<Answer>& got, const std::vector<Answer>& want) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].tokens, want[i].tokens) << "answer " << i;
      double kl = 0;
      for (std::size_t k = 0; k < want[i].top_logprobs.size(); ++k) {
        const TokenLogprob& p = want[i].top_logprobs[k];
        const TokenLogprob& q = got[i].top_logprobs[k];
        kl += std::exp(p.logprob) * std::abs(p.logprob - q.logprob);
      }
      EXPECT_LT(kl, 1e-3) << "answer " << i;
    }
  }

  TinyGgufFile file_;
};

TEST_F(HostsTest, AnswerAsOneHostDoes) {
  const Model model = MustLoad(file_.path());
  const std::vector<Token> tokens = SomeTokens(430);
  struct Shape {
    std::int64_t block_size, anchor_size;
  };
  for (const auto& [block_size, anchor_size] :
       {Shape{50, -1}, Shape{64, 64}, Shape{100, 30}, Shape{200, 0}, Shape{430, -1}}) {
    Context alone = std::move(*Context::Encode(model, tokens, Star(block_size, anchor_size)));
    const std::vector<Answer> want = AskTwice(alone);
    for (const int size : {1, 2, 3, 4, 8}) {
      SCOPED_TRACE("block " + std::to_string(block_size) + ", " + std::to_string(size) + " hosts");
      ContextHosts others(file_.path(), size);
      Model query_host = MustLoad(file_.path());
      HostTeam::Join(query_host, others.hosts());
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

TEST_F(HostsTest, EachHoldsItsBlocksAndTheAnchorOnly) {
  ContextHosts others(file_.path(), 4);
  Model model = MustLoad(file_.path());
  HostTeam::Join(model, others.hosts());
  const std::vector<Token> tokens = SomeTokens(2048);
  Result<Context> context = Context::Encode(model, tokens, Star(256));
  ASSERT_TRUE(context.ok()) << context.error().message;
  EXPECT_EQ(context->kv_bytes(), PredictKvBytes(model, 512));  // two of eight blocks, a page each
}

TEST_F(HostsTest, AHeldContextCanBeCutAnywhereAndGoesOn) {
  const std::vector<Token> tokens = SomeTokens(300);
  const Model one = MustLoad(file_.path());
  Context alone = std::move(*Context::Encode(one, tokens, Star(50)));
  ContextHosts others(file_.path(), 3);
  Model model = MustLoad(file_.path());
  HostTeam::Join(model, others.hosts());
  Context spread = std::move(*Context::Encode(model, tokens, Star(50)));
  for (const std::int64_t n : {290, 230, 120, 60}) {
    ASSERT_TRUE(alone.Rewind(n).ok());
    ASSERT_TRUE(spread.Rewind(n).ok());
    ExpectAlike(AskTwice(spread), AskTwice(alone));
  }
}

TEST_F(HostsTest, ContextsLiveSideBySide) {
  ContextHosts others(file_.path(), 2);
  Model model = MustLoad(file_.path());
  HostTeam::Join(model, others.hosts());
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
    Model model = MustLoad(file_.path());
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
  ContextHosts others(file_.path(), 3);
  Model model = MustLoad(file_.path());
  HostTeam::Join(model, others.hosts());
  EncodeOptions options = Star(50);
  std::int64_t last = 0;
  options.on_progress = [&](const Progress& progress) {
    EXPECT_GE(progress.n_done, last);
    EXPECT_EQ(progress.n_total, 430);
    last = progress.n_done;
  };
  ASSERT_TRUE(Context::Encode(model, SomeTokens(430), options).ok());
  EXPECT_EQ(last, 430);
}

TEST_F(HostsTest, ACancelStopsAllAndTheyStayOfUse) {
  ContextHosts others(file_.path(), 3);
  Model model = MustLoad(file_.path());
  HostTeam::Join(model, others.hosts());
  const std::vector<Token> tokens = SomeTokens(430);
  for (const int steps : {1, 3, 6}) {
    std::stop_source source;
    EncodeOptions options = Star(50);
    options.stop = source.get_token();
    int n = 0;
    options.on_progress = [&](const Progress&) {
      if (++n == steps) source.request_stop();
    };
    const Result<Context> context = Context::Encode(model, tokens, options);
    ASSERT_FALSE(context.ok()) << steps;
    EXPECT_EQ(context.error().kind, ErrorKind::kCancelled) << context.error().message;
  }
  Result<Context> context = Context::Encode(model, tokens, Star(50));
  ASSERT_TRUE(context.ok()) << context.error().message;
  EXPECT_EQ(context->Ask(std::vector<Token>{20, 30}, Greedy(8))->tokens.size(), 8u);
}

TEST_F(HostsTest, AHostWithAnotherModelIsNamed) {
  // One of another shape, and one that differs in its weights alone.
  for (const TinyModel& kind : {TinyModel{.n_layers = 3}, TinyModel{.seed = 2}}) {
    const TinyGgufFile other(kind);
    ContextHosts others(other.path(), 2);
    Model model = MustLoad(file_.path());
    HostTeam::Join(model, others.hosts());
    const Result<Context> context = Context::Encode(model, SomeTokens(300), Star(50));
    ASSERT_FALSE(context.ok());
    EXPECT_EQ(context.error().message,
              "rank 1: the query host has another model than " + other.path());
  }
}

// A context host that does as it is told up to its nth message, and then something else.
enum class Fault { kLeaves, kGarbles, kFallsSilent };

class FaultyGroup : public Group {
 public:
  FaultyGroup(std::unique_ptr<Group> group, Fault fault, int at)
      : group_(std::move(group)), fault_(fault), left_(at) {}

  int rank() const override { return group_->rank(); }
  int size() const override { return group_->size(); }
  Status Send(int to, std::span<const std::byte> message) override {
    if (left_-- > 0) return group_->Send(to, message);
    if (fault_ == Fault::kLeaves) return WorldError("left");
    if (fault_ == Fault::kFallsSilent) return Ok();
    return group_->Send(to, message.first(message.size() / 2));
  }
  Result<Bytes> Receive(int from, Patience patience) override {
    return group_->Receive(from, patience);
  }
  bool HasMessage(int from) override { return group_->HasMessage(from); }

 private:
  std::unique_ptr<Group> group_;
  Fault fault_;
  int left_;
};

TEST_F(HostsTest, AHostThatFailsIsNamedAndNothingHangs) {
  const std::vector<Token> tokens = SomeTokens(300);
  for (const Fault fault : {Fault::kLeaves, Fault::kGarbles, Fault::kFallsSilent}) {
    for (const int at : {0, 1, 5, 8, 30}) {  // encoding sends eight messages
      SCOPED_TRACE("fault " + std::to_string(static_cast<int>(fault)) + " at message " +
                   std::to_string(at));
      std::vector<std::unique_ptr<Group>> groups = MakeLocalGroup(2);
      groups[1] = std::make_unique<FaultyGroup>(std::move(groups[1]), fault, at);
      std::jthread host([&] {
        Model model = MustLoad(file_.path());
        static_cast<void>(internal::ServeHost(model, *groups[1]));
        groups[1].reset();
      });
      auto hosts = std::make_shared<HostTeam>();
      hosts->group = groups[0].get();
      hosts->patience = Patience(0.5);
      Model model = MustLoad(file_.path());
      HostTeam::Join(model, hosts);
      std::string why;
      {
        Result<Context> context = Context::Encode(model, tokens, Star(50));
        if (context) {
          const Result<Answer> answer = context->Ask(std::vector<Token>{20, 30}, Greedy(20));
          ASSERT_FALSE(answer.ok());
          why = answer.error().message;
        } else {
          why = context.error().message;
        }
      }
      EXPECT_NE(why.find("rank 1"), std::string::npos) << why;
      static_cast<void>(hosts->End());
    }
  }
}

}  // namespace
}  // namespace aster
