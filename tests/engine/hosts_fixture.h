// A query host and context hosts, which are threads of this process, over a tiny model.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "aster/context.h"
#include "cluster/local_group.h"
#include "engine/hosts.h"
#include "support/tiny_engine.h"
#include "support/tiny_gguf.h"

namespace aster {

using internal::HostTeam;

inline constexpr Patience kPatience(20);

inline EncodeOptions Star(std::int64_t block_size, std::int64_t anchor_size = -1) {
  EncodeOptions options;
  options.plan.attention = Attention::kStar;
  options.plan.block_size = block_size;
  options.plan.anchor_size = anchor_size;
  return options;
}

inline EncodeOptions Exact(Attention attention) {
  EncodeOptions options;
  options.plan.attention = attention;
  return options;
}

inline AskOptions Greedy(int n) {
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

// The ways to spread a context, by name.
struct Way {
  const char* name;
  AnchorFrom anchor;
  EncodeOptions options;
};

inline std::vector<Way> Ways() {
  return {{"recompute", AnchorFrom::kRecompute, Star(50)},
          {"broadcast", AnchorFrom::kBroadcast, Star(50)},
          {"ring", AnchorFrom::kAuto, Exact(Attention::kRing)}};
}

}  // namespace aster
