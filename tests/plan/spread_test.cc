// The laws of spreading a plan over hosts: together they compute what one host computes, each its
// share; and what the cost model says of it, where that is known beforehand.
#include "aster/spread.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "aster/plan.h"
#include "small_stars.h"

namespace aster {
namespace {

using Shares = std::vector<HostShare>;
using Weights = std::vector<double>;

double Triangle(double n) { return n * (n + 1) / 2; }

Plan RingPlan(std::int64_t n_context, std::int64_t ubatch_size = 16) {
  return MakePlan(n_context, {.attention = Attention::kRing, .ubatch_size = ubatch_size}).value();
}

Shares Ring(std::int64_t n_context, int n_hosts) {
  return DealShares(RingPlan(n_context), Spread::kRing, n_hosts, {});
}

Shares Broadcast(const Plan& plan, const Weights& weights) {
  return DealShares(plan, Spread::kBroadcast, static_cast<int>(weights.size()), weights);
}

// Those that encode anything.
std::int64_t Active(const Shares& shares) {
  return std::count_if(shares.begin(), shares.end(),
                       [](const HostShare& share) { return !share.passes.empty(); });
}

std::string Name(std::int64_t n_context, std::int64_t n_hosts, const char* what) {
  return std::to_string(n_context) + " tokens, " + std::to_string(n_hosts) + " hosts: " + what;
}

std::string Name(const Sizes& s, const Weights& weights) {
  std::string name = Name(s) + ", hosts of weight";
  for (const double weight : weights) name += " " + std::to_string(weight);
  return name;
}

// Every context of 0 to 100 tokens on 1 to 9 hosts.
template <class Check>
void ForAllSmallRings(Check check) {
  for (std::int64_t n = 0; n <= 100; ++n) {
    for (int n_hosts = 1; n_hosts <= 9; ++n_hosts) {
      check(n, n_hosts);
      if (testing::Test::HasFailure()) return;
    }
  }
}

// Every small star on 1 to 4 hosts, alike and not; of the last ones some get no block.
template <class Check>
void ForAllSmallStarsOnHosts(Check check) {
  const std::vector<Weights> all = {{1},    {1, 1},    {1, 1, 1},     {1, 1, 1, 1},
                                    {1, 3}, {4, 1, 1}, {2, 0.5, 3, 1}};
  ForAllSmallStars([&](const Sizes& s) {
    const Plan plan = Star(s);
    for (const Weights& weights : all) {
      check(s, plan, weights);
      if (testing::Test::HasFailure()) return;
    }
  });
}

void ExpectTheStepsOf(const Plan& plan, const HostShare& share, const std::string& name) {
  ASSERT_EQ(share.passes.size(), plan.steps.size()) << name;
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    ASSERT_EQ(share.passes[i].tokens, (std::vector<KeyRange>{plan.steps[i].tokens})) << name;
    ASSERT_EQ(share.passes[i].visible, plan.steps[i].visible) << name;
    ASSERT_FALSE(share.passes[i].exchanges) << name;
  }
}

// Of each token, how many hosts hold it.
std::vector<int> Holders(const Shares& shares, std::int64_t n_context) {
  std::vector<int> holders(static_cast<std::size_t>(n_context));
  for (const HostShare& share : shares) {
    for (const KeyRange& range : share.held) {
      for (std::int64_t i = range.begin; i < range.end; ++i) ++holders.at(i);
    }
  }
  return holders;
}

std::vector<int> OnceEach(std::int64_t n) {
  return std::vector<int>(static_cast<std::size_t>(n), 1);
}

TEST(ZigzagRing, HostsHoldAscendingRangesThatTogetherAreTheContextOnce) {
  ForAllSmallRings([](std::int64_t n, int n_hosts) {
    const Shares shares = Ring(n, n_hosts);
    ASSERT_EQ(std::ssize(shares), n_hosts);
    for (const HostShare& share : shares) {
      std::int64_t end = -1;
      for (const KeyRange& range : share.held) {
        ASSERT_GT(range.begin, end) << Name(n, n_hosts, "touching ranges are one range");
        ASSERT_TRUE(range.size() > 0 || n == 0) << Name(n, n_hosts, "an empty range");
        end = range.end;
      }
    }
    ASSERT_EQ(Holders(shares, n), OnceEach(n)) << Name(n, n_hosts, "holders of each token");
  });
}

TEST(ZigzagRing, AHostEncodesWhatItHoldsInOnePassThatExchanges) {
  ForAllSmallRings([](std::int64_t n, int n_hosts) {
    const Shares shares = Ring(n, n_hosts);
    if (Active(shares) < 2) return;
    for (const HostShare& share : shares) {
      if (share.passes.empty()) {
        ASSERT_EQ(share.n_held(), 0) << Name(n, n_hosts, "holds what it does not encode");
        continue;
      }
      ASSERT_EQ(share.passes.size(), 1u) << Name(n, n_hosts, "passes");
      ASSERT_EQ(share.passes[0].tokens, share.held) << Name(n, n_hosts, "tokens");
      ASSERT_TRUE(share.passes[0].visible.empty()) << Name(n, n_hosts, "visible");
      ASSERT_TRUE(share.passes[0].exchanges) << Name(n, n_hosts, "exchanges");
      ASSERT_GE(share.most_tokens(), 1) << Name(n, n_hosts, "tokens of a pass");
    }
  });
}

TEST(ZigzagRing, FewerThanTwoTokensAHostLeaveTheLastOnesWithoutAny) {
  ForAllSmallRings([](std::int64_t n, int n_hosts) {
    const Shares shares = Ring(n, n_hosts);
    const std::int64_t n_active = std::clamp<std::int64_t>(n / 2, 1, n_hosts);
    for (std::int64_t host = 0; host < n_hosts; ++host) {
      const HostShare& share = shares[host];
      const bool has_any = host < n_active && n > 0;
      ASSERT_EQ(!share.passes.empty(), has_any) << Name(n, n_hosts, "passes of host ") << host;
      ASSERT_EQ(share.n_held() > 0, has_any) << Name(n, n_hosts, "tokens of host ") << host;
    }
  });
}

TEST(ZigzagRing, EveryHostComputesAsManyPairsWherePiecesAreEqualAndAlmostElsewhere) {
  ForAllSmallRings([](std::int64_t n, int n_hosts) {
    const Shares shares = Ring(n, n_hosts);
    double sum = 0, least = std::numeric_limits<double>::max(), most = 0;
    for (const HostShare& share : shares) {
      const double pairs = CausalPairs(share, true);
      sum += pairs;
      least = std::min(least, pairs);
      most = std::max(most, pairs);
    }
    ASSERT_EQ(sum, Triangle(static_cast<double>(n))) << Name(n, n_hosts, "pairs in all");
    if (n % (2 * n_hosts) == 0) {
      ASSERT_EQ(least, most) << Name(n, n_hosts, "pairs of a host");
    } else if (n >= 2 * n_hosts) {  // A piece may have a token more than another.
      ASSERT_LE(most - least, static_cast<double>(n)) << Name(n, n_hosts, "pairs of a host");
    }
  });
}

TEST(ZigzagRing, OneHostHasThePlansSteps) {
  for (std::int64_t n = 0; n <= 100; ++n) {
    for (const std::int64_t ubatch : {1, 16, 100}) {
      const Plan plan = RingPlan(n, ubatch);
      const Shares alone = DealShares(plan, Spread::kRing, 1, {});
      ASSERT_EQ(alone.size(), 1u);
      ExpectTheStepsOf(plan, alone[0], Name(n, 1, "alone"));
      const Shares of_many = DealShares(plan, Spread::kRing, 60, {});
      if (n < 4) ExpectTheStepsOf(plan, of_many[0], Name(n, 60, "the only one with any"));
      if (HasFailure()) return;
    }
  }
}

TEST(ZigzagRing, WeightsPlayNoPart) {
  const Shares want = Ring(100, 3);
  const Shares got = DealShares(RingPlan(100), Spread::kRing, 3, Weights{5, 1, 2});
  ASSERT_EQ(got.size(), want.size());
  for (int host = 0; host < 3; ++host) EXPECT_EQ(got[host].held, want[host].held) << host;
}

TEST(ContiguousRing, HostsHoldRangesInTheirOrderThatTogetherAreTheContextOnce) {
  ForAllSmallRings([](std::int64_t n, int n_hosts) {
    const Shares shares = DealContiguousRing(n, n_hosts);
    ASSERT_EQ(std::ssize(shares), n_hosts);
    std::int64_t next = 0;
    for (int host = 0; host < n_hosts; ++host) {
      const HostShare& share = shares[host];
      if (host >= std::max<std::int64_t>(n, 1)) {
        ASSERT_TRUE(share.held.empty() && share.passes.empty()) << Name(n, n_hosts, "nothing left");
        continue;
      }
      ASSERT_EQ(share.held.size(), 1u) << Name(n, n_hosts, "ranges");
      ASSERT_EQ(share.held[0].begin, next) << Name(n, n_hosts, "begin");
      next = share.held[0].end;
      ASSERT_EQ(share.passes.size(), 1u) << Name(n, n_hosts, "passes");
      ASSERT_EQ(share.passes[0].tokens, share.held) << Name(n, n_hosts, "tokens");
      ASSERT_TRUE(share.passes[0].exchanges) << Name(n, n_hosts, "exchanges");
    }
    ASSERT_EQ(next, n) << Name(n, n_hosts, "end");
  });
}

// With H hosts (2 H - 1) / H times as much: nearly twice. A token more or less is n pairs.
TEST(ContiguousRing, TheLastHostHasNearlyTwiceTheBalancedPairs) {
  ForAllSmallRings([](std::int64_t n, int n_hosts) {
    if (n < n_hosts) return;
    const Shares shares = DealContiguousRing(n, n_hosts);
    double sum = 0, most = 0;
    for (const HostShare& share : shares) {
      sum += CausalPairs(share, true);
      most = std::max(most, CausalPairs(share, true));
    }
    const double times = (2.0 * n_hosts - 1) / n_hosts;
    ASSERT_EQ(sum, Triangle(static_cast<double>(n))) << Name(n, n_hosts, "pairs in all");
    ASSERT_NEAR(CausalPairs(shares.back(), true), times * sum / n_hosts, static_cast<double>(n))
        << Name(n, n_hosts, "pairs of the last host");
    ASSERT_EQ(CausalPairs(shares.back(), true), most) << Name(n, n_hosts, "the last has most");
  });
}

// Each token sees the pass's visible keys and the pass's own tokens up to itself.
void AddToMask(const HostPass& pass, std::int64_t n, Mask& mask) {
  std::vector<KeyRange> before = pass.visible;
  for (const KeyRange& tokens : pass.tokens) {
    for (std::int64_t i = tokens.begin; i < tokens.end; ++i) {
      const auto row = mask.begin() + i * n;
      for (const KeyRange& keys : before) std::fill(row + keys.begin, row + keys.end, true);
      std::fill(row + tokens.begin, row + i + 1, true);
    }
    before.push_back(tokens);
  }
}

TEST(Broadcast, HostsTogetherComputeTheStaticMaskAndNobodyWhatAnotherComputes) {
  ForAllSmallStarsOnHosts([](const Sizes& s, const Plan& plan, const Weights& weights) {
    const Shares shares = Broadcast(plan, weights);
    Mask mask(s.n_context * s.n_context);
    std::vector<int> computed(s.n_context);
    double pairs = 0;
    for (const HostShare& share : shares) {
      pairs += CausalPairs(share, false);
      for (const HostPass& pass : share.passes) {
        AddToMask(pass, s.n_context, mask);
        for (const KeyRange& tokens : pass.tokens) {
          for (std::int64_t i = tokens.begin; i < tokens.end; ++i) ++computed.at(i);
        }
      }
    }
    ASSERT_EQ(mask, StaticMask(s)) << Name(s, weights);
    ASSERT_EQ(computed, OnceEach(s.n_context)) << Name(s, weights);
    ASSERT_EQ(Holders(shares, s.n_context), OnceEach(s.n_context)) << Name(s, weights);
    ASSERT_EQ(pairs, CausalPairs(plan.steps)) << Name(s, weights);
  });
}

// It has what it encoded, and the anchor from the pass on in which that is sent.
TEST(Broadcast, AHostHasWhatItsPassesSeeAndKeepsWhatItEncodes) {
  ForAllSmallStarsOnHosts([](const Sizes& s, const Plan& plan, const Weights& weights) {
    for (const HostShare& share : Broadcast(plan, weights)) {
      std::vector<bool> has(s.n_context), kept(s.n_context);
      for (const HostPass& pass : share.passes) {
        if (pass.exchanges) std::fill(has.begin(), has.begin() + s.anchor_size, true);
        for (const KeyRange& keys : pass.visible) {
          const auto end = has.begin() + keys.end;
          ASSERT_EQ(std::find(has.begin() + keys.begin, end, false), end) << Name(s, weights);
        }
        for (const KeyRange& tokens : pass.tokens) {
          std::fill(has.begin() + tokens.begin, has.begin() + tokens.end, true);
          std::fill(kept.begin() + tokens.begin, kept.begin() + tokens.end, true);
        }
      }
      for (const KeyRange& held : share.held) {
        ASSERT_LT(held.begin, held.end) << Name(s, weights);
        std::fill(kept.begin() + held.begin, kept.begin() + held.end, false);
      }
      ASSERT_EQ(std::find(kept.begin(), kept.end(), true), kept.end()) << Name(s, weights);
    }
  });
}

TEST(Broadcast, FirstPassesAreWholeFirstBlocksBehindTheAnchorAndTheOnlyOnesThatExchange) {
  ForAllSmallStarsOnHosts([](const Sizes& s, const Plan& plan, const Weights& weights) {
    const Shares shares = Broadcast(plan, weights);
    const bool sends = s.anchor_size > 0 && Active(shares) > 1;
    for (const HostShare& share : shares) {
      if (share.passes.empty()) continue;
      const HostPass& first = share.passes.front();
      for (const HostPass& pass : share.passes) {
        ASSERT_EQ(pass.exchanges, sends && &pass == &first) << Name(s, weights);
      }
      if (!sends) continue;
      const std::int64_t begin = share.held.front().begin;
      const KeyRange block{begin, std::min(begin + s.block_size, s.n_context)};
      ASSERT_EQ(first.tokens, (std::vector<KeyRange>{block})) << Name(s, weights);
      const std::vector<KeyRange> anchor = {{0, s.anchor_size}};
      ASSERT_EQ(first.visible, begin == 0 ? std::vector<KeyRange>{} : anchor) << Name(s, weights);
    }
  });
}

TEST(Broadcast, WithoutAnAnchorItIsRecomputingNothing) {
  ForAllSmallStarsOnHosts([](const Sizes& s, const Plan& plan, const Weights& weights) {
    if (s.anchor_size > 0) return;
    const int n_hosts = static_cast<int>(weights.size());
    const Shares got = Broadcast(plan, weights);
    const Shares want = DealShares(plan, Spread::kRecompute, n_hosts, weights);
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t host = 0; host < want.size(); ++host) {
      ASSERT_EQ(got[host].held, want[host].held) << Name(s, weights);
      ASSERT_EQ(got[host].passes.size(), want[host].passes.size()) << Name(s, weights);
      for (std::size_t i = 0; i < want[host].passes.size(); ++i) {
        const HostPass &a = got[host].passes[i], &b = want[host].passes[i];
        ASSERT_EQ(a.tokens, b.tokens) << Name(s, weights);
        ASSERT_EQ(a.visible, b.visible) << Name(s, weights);
        ASSERT_EQ(a.exchanges, b.exchanges) << Name(s, weights);
      }
    }
  });
}

// 0.25 s a token, 0.125 s a pair; of a layer a message takes 0.5 s and 2 s a token more.
constexpr HostSpeed kSlowLink = {.seconds_per_token = 0.25,
                                 .seconds_per_pair = 0.125,
                                 .link_bytes_per_second = 1,
                                 .link_seconds = 0.5,
                                 .n_layers = 2,
                                 .kv_bytes_per_token = 4};

HostSpeed WithLink(double bytes_per_second, double seconds) {
  HostSpeed speed = kSlowLink;
  speed.link_bytes_per_second = bytes_per_second;
  speed.link_seconds = seconds;
  return speed;
}

const HostSpeed kInfiniteLink = WithLink(std::numeric_limits<double>::infinity(), 0);

double StarSeconds(const Plan& plan, Spread spread, const Weights& weights,
                   const HostSpeed& speed) {
  const Shares shares = DealShares(plan, spread, static_cast<int>(weights.size()), weights);
  return EncodeSeconds(shares, spread, plan.anchor_size, speed);
}

double RingSeconds(std::int64_t n_context, int n_hosts, const HostSpeed& speed) {
  return EncodeSeconds(Ring(n_context, n_hosts), Spread::kRing, 0, speed);
}

TEST(EncodeSeconds, OneHostTakesItsTokensAndItsPairsWhateverTheLink) {
  ForAllSmallStars([](const Sizes& s) {
    const Plan plan = Star(s);
    const double star = static_cast<double>(s.n_context) * 0.25 + CausalPairs(plan.steps) * 0.125;
    for (const Spread spread : {Spread::kRecompute, Spread::kBroadcast}) {
      ASSERT_DOUBLE_EQ(StarSeconds(plan, spread, {1}, kSlowLink), star) << Name(s);
    }
  });
  for (std::int64_t n = 0; n <= 100; ++n) {
    const auto tokens = static_cast<double>(n);
    ASSERT_DOUBLE_EQ(RingSeconds(n, 1, kSlowLink), tokens * 0.25 + Triangle(tokens) * 0.125) << n;
  }
}

TEST(EncodeSeconds, RecomputingIsNeverFasterThanSendingOverAnInfinitelyFastLink) {
  ForAllSmallStarsOnHosts([](const Sizes& s, const Plan& plan, const Weights& weights) {
    if (s.ubatch_size != 16) return;  // It changes no sum.
    const double recompute = StarSeconds(plan, Spread::kRecompute, weights, kInfiniteLink);
    const double broadcast = StarSeconds(plan, Spread::kBroadcast, weights, kInfiniteLink);
    ASSERT_GE(recompute, broadcast) << Name(s, weights);
    const auto n_hosts = static_cast<std::int64_t>(weights.size());
    const bool equal = *std::max_element(weights.begin(), weights.end()) == 1 &&
                       s.n_context % (n_hosts * s.block_size) == 0;
    if (equal && n_hosts > 1 && s.anchor_size > 0) {
      ASSERT_GT(recompute, broadcast) << Name(s, weights);
    }
  });
}

TEST(EncodeSeconds, SendingIsSlowerThanRecomputingOverASlowEnoughLink) {
  const HostSpeed speed = WithLink(0.01, 0);
  ForAllSmallStarsOnHosts([&](const Sizes& s, const Plan& plan, const Weights& weights) {
    if (s.ubatch_size != 16 || s.anchor_size == 0) return;
    if (Active(Broadcast(plan, weights)) < 2) return;
    ASSERT_LT(StarSeconds(plan, Spread::kRecompute, weights, speed),
              StarSeconds(plan, Spread::kBroadcast, weights, speed))
        << Name(s, weights);
  });
}

// Three blocks of 16. Encoded: 16 tokens and 136 pairs, behind the anchor 256 more; anew another
// 16 and 136. Sent: two layers of 16 tokens, 32.5 s each, and one of them again to the last host.
TEST(EncodeSeconds, AreThoseCountedByHandForThreeBlocks) {
  const Plan plan = Star({48, 16, 16, 16});
  const double block = 16 * 0.25 + (136 + 256) * 0.125;
  const double anchor = 16 * 0.25 + 136 * 0.125;
  const Weights alike = {1, 1, 1};
  EXPECT_EQ(StarSeconds(plan, Spread::kRecompute, alike, kSlowLink), anchor + block);
  EXPECT_EQ(StarSeconds(plan, Spread::kBroadcast, alike, kSlowLink), 2 * 32.5 + 2 * 32.5);
  // A layer under way for 1 s is waited for by each host behind the first.
  EXPECT_EQ(StarSeconds(plan, Spread::kBroadcast, alike, WithLink(1e300, 1)), block + 2 * 1);
}

// Three hosts with 4 of 12 tokens each, so 26 pairs each, of which 10 need no other's keys; the
// other 16 come in two hops. A hop of a layer takes 0.5 s to compute, and 8.5 s to send.
TEST(EncodeSeconds, ARingTakesTheLongerOfSendingAndComputingAHop) {
  EXPECT_EQ(RingSeconds(12, 3, kSlowLink), 4 * 0.25 + 10 * 0.125 + 2 * 2 * 8.5);
  EXPECT_EQ(RingSeconds(12, 3, WithLink(1e300, 0.75)), 4 * 0.25 + 10 * 0.125 + 2 * 2 * 0.75);
  EXPECT_EQ(RingSeconds(12, 3, WithLink(1e300, 0.25)), 4 * 0.25 + 26 * 0.125);
}

// Of a context that all of them cut into equal pieces; else a host may get a token more than
// before.
TEST(EncodeSeconds, MoreHostsNeverMakeARingSlowerOverAnInfinitelyFastLink) {
  for (int n_hosts = 1; n_hosts < 10; ++n_hosts) {
    EXPECT_LT(RingSeconds(5040, n_hosts + 1, kInfiniteLink),
              RingSeconds(5040, n_hosts, kInfiniteLink))
        << Name(5040, n_hosts, "and one more");
  }
  ForAllSmallRings([](std::int64_t n, int n_hosts) {
    const double one_token = 0.25 + static_cast<double>(n) * 0.125;
    ASSERT_LE(RingSeconds(n, n_hosts + 1, kInfiniteLink),
              RingSeconds(n, n_hosts, kInfiniteLink) + one_token)
        << Name(n, n_hosts, "and one more");
  });
}

}  // namespace
}  // namespace aster
