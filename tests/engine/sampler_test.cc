#include "llama/sampler.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace aster {
namespace {

constexpr int kVocab = 1000;

std::vector<float> RandomLogits(std::uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> few(-20, 20);  // many are equal
  std::vector<float> logits(kVocab);
  for (float& logit : logits) logit = 0.25f * static_cast<float>(few(random));
  return logits;
}

SamplingOptions Greedy() {
  SamplingOptions options;
  options.temperature = 0;
  return options;
}

TEST(Sampler, TheShortWayToTheLikeliestIsTheChainsAlsoAmongEquals) {
  SamplingOptions long_way = Greedy();
  long_way.repeat_penalty = 1.5f;  // off, by looking back on nothing
  long_way.repeat_last_n = 0;
  Sampler chain(long_way, kVocab, {});
  Sampler greedy(Greedy(), kVocab, {});
  for (std::uint32_t seed = 1; seed <= 100; ++seed) {
    const std::vector<float> logits = RandomLogits(seed);
    EXPECT_EQ(greedy.Draw(logits), chain.Draw(logits)) << "seed " << seed;
  }
}

TEST(Sampler, ASeedRepeatsItsDraws) {
  SamplingOptions options;
  options.seed = 7;
  Sampler one(options, kVocab, {});
  Sampler other(options, kVocab, {});
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    const std::vector<float> logits = RandomLogits(seed);
    EXPECT_EQ(one.Draw(logits), other.Draw(logits)) << "seed " << seed;
  }
}

TEST(Sampler, APenaltyTurnsFromWhatWasSaid) {
  std::vector<float> logits(kVocab, 0.0f);
  logits[3] = 2.0f;
  logits[5] = 1.9f;
  SamplingOptions options = Greedy();
  EXPECT_EQ(Sampler(options, kVocab, std::vector<Token>{3}).Draw(logits), 3);
  options.repeat_penalty = 1.5f;
  EXPECT_EQ(Sampler(options, kVocab, std::vector<Token>{3}).Draw(logits), 5);
}

}  // namespace
}  // namespace aster
