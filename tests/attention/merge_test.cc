#include "attention/merge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace aster {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kDim = 5;
constexpr float kTolerance = 2e-6f;  // a few roundings of numbers up to 3

// The attention of one row over some keys, from their scores and values.
struct State {
  std::vector<float> out = std::vector<float>(kDim);
  float lse = -kInfinity;
};

State Merged(State a, const State& b) {
  Merge({a.out, {&a.lse, 1}}, {b.out, {&b.lse, 1}}, kDim);
  return a;
}

struct Keys {
  std::vector<double> scores;
  std::vector<std::vector<double>> values;

  Keys(std::size_t n, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    for (std::size_t i = 0; i < n; ++i) {
      scores.push_back(5 * normal(random));
      values.emplace_back();
      for (std::size_t d = 0; d < kDim; ++d) values.back().push_back(normal(random));
    }
  }

  State Attend(std::size_t begin, std::size_t end) const {  // in float64
    State state;
    double sum = 0;
    std::vector<double> out(kDim);
    for (std::size_t i = begin; i < end; ++i) {
      sum += std::exp(scores[i]);
      for (std::size_t d = 0; d < kDim; ++d) out[d] += std::exp(scores[i]) * values[i][d];
    }
    if (begin == end) return state;
    for (std::size_t d = 0; d < kDim; ++d) state.out[d] = static_cast<float>(out[d] / sum);
    state.lse = static_cast<float>(std::log(sum));
    return state;
  }
};

void ExpectNear(const State& got, const State& want, const std::string& what) {
  const auto same = [](float a, float b) {
    return a == b || std::abs(a - b) <= kTolerance * (1 + std::abs(b));
  };
  EXPECT_TRUE(same(got.lse, want.lse)) << what << ": lse got " << got.lse << ", want " << want.lse;
  for (std::size_t d = 0; d < kDim; ++d) {
    EXPECT_TRUE(same(got.out[d], want.out[d]))
        << what << ": out[" << d << "] got " << got.out[d] << ", want " << want.out[d];
  }
}

TEST(Merge, OfAnyThreePartsIsTheAttentionOverAll) {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    const std::size_t n = 12;
    const Keys keys(n, seed);
    const State all = keys.Attend(0, n);
    for (std::size_t a = 0; a <= n; ++a) {
      for (std::size_t b = a; b <= n; ++b) {
        const State parts[] = {keys.Attend(0, a), keys.Attend(a, b), keys.Attend(b, n)};
        const std::string what = "seed " + std::to_string(seed) + ", cut at " + std::to_string(a) +
                                 " and " + std::to_string(b);
        ExpectNear(Merged(Merged(parts[0], parts[1]), parts[2]), all, what);
        ExpectNear(Merged(parts[0], Merged(parts[1], parts[2])), all, what + ", the last first");
        ExpectNear(Merged(Merged(parts[2], parts[0]), parts[1]), all, what + ", another order");
      }
    }
  }
}

TEST(Merge, IsCommutative) {
  for (std::uint32_t seed = 0; seed < 100; ++seed) {
    const Keys keys(9, seed);
    const State a = keys.Attend(0, seed % 10), b = keys.Attend(seed % 10, 9);
    ExpectNear(Merged(a, b), Merged(b, a), "seed " + std::to_string(seed));
  }
}

TEST(Merge, WithNothingChangesNothing) {
  const State some = Keys(4, 1).Attend(0, 4), nothing;
  for (const State& got : {Merged(some, nothing), Merged(nothing, some)}) {
    EXPECT_EQ(got.out, some.out);
    EXPECT_EQ(got.lse, some.lse);
  }
  EXPECT_EQ(Merged(nothing, nothing).lse, -kInfinity);
  EXPECT_EQ(Merged(nothing, nothing).out, nothing.out);
}

TEST(Merge, NeverMakesANanHoweverFarTheLsesAreApart) {
  for (const float base : {-1e30f, -1e4f, -90.0f, 0.0f, 90.0f, 1e4f, 1e30f}) {
    for (const float gap : {0.0f, 1.0f, 87.0f, 88.0f, 89.0f, 120.0f, kInfinity}) {
      State high, low;
      high.out.assign(kDim, 1.0f);
      low.out.assign(kDim, gap == kInfinity ? 0.0f : -1.0f);
      high.lse = base;
      low.lse = base - gap;
      const double low_share = 1 / (1 + std::exp(static_cast<double>(base) - low.lse));
      State want;
      want.out.assign(kDim, static_cast<float>(1 - 2 * low_share));
      want.lse = static_cast<float>(base - std::log1p(-low_share));
      const std::string what = "base " + std::to_string(base) + ", gap " + std::to_string(gap);
      ExpectNear(Merged(high, low), want, what);
      ExpectNear(Merged(low, high), want, what + ", the other way");
    }
  }
}

TEST(Merge, TreatsEachRowByItself) {
  std::vector<float> out = {1, 2, 3, 4}, lse = {0, -kInfinity};
  const std::vector<float> more = {5, 6, 7, 8}, more_lse = {-kInfinity, 2};
  Merge({out, lse}, {more, more_lse}, 2);
  EXPECT_EQ(out, (std::vector<float>{1, 2, 7, 8}));
  EXPECT_EQ(lse, (std::vector<float>{0, 2}));
}

}  // namespace
}  // namespace aster
