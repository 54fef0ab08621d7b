// All small stars, and Star Attention's mask word for word: what the laws of plans and of hosts'
// shares are checked against.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "aster/plan.h"

namespace aster {

struct Sizes {
  std::int64_t n_context;
  std::int64_t block_size;
  std::int64_t anchor_size;
  std::int64_t ubatch_size;
  std::int64_t window = 0;
  std::int64_t overlap = 0;
};

inline std::string Name(const Sizes& s) {
  return "context " + std::to_string(s.n_context) + ", block " + std::to_string(s.block_size) +
         ", anchor " + std::to_string(s.anchor_size) + ", ubatch " + std::to_string(s.ubatch_size) +
         ", window " + std::to_string(s.window) + ", overlap " + std::to_string(s.overlap);
}

inline Plan Star(const Sizes& s) {
  Result<Plan> plan = MakePlan(s.n_context, {.attention = Attention::kStar,
                                             .block_size = s.block_size,
                                             .anchor_size = s.anchor_size,
                                             .window = s.window,
                                             .overlap = s.overlap,
                                             .ubatch_size = s.ubatch_size});
  EXPECT_TRUE(plan.ok()) << Name(s) << ": " << (plan.ok() ? "" : plan.error().message);
  return plan.ok() ? *plan : Plan{};
}

// Element i * n + j: key j is visible to query i.
using Mask = std::vector<bool>;

// Law 3, word for word, with a window and an overlap.
inline Mask StaticMask(const Sizes& s) {
  const std::int64_t n = s.n_context;
  Mask mask(n * n);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      mask[i * n + j] =
          j < s.anchor_size || j >= (i / s.block_size - s.window) * s.block_size - s.overlap;
    }
  }
  return mask;
}

// Every block and anchor size of every context of 16 to 40 tokens, in ubatches of several sizes.
template <class Check>
void ForAllSmallStars(Check check) {
  for (std::int64_t n = kMinBlockSize; n <= 40; ++n) {
    for (std::int64_t block = kMinBlockSize; block <= n; ++block) {
      for (std::int64_t anchor = 0; anchor <= block; ++anchor) {
        for (const std::int64_t ubatch : {1, 5, 16, 100}) {
          check(Sizes{n, block, anchor, ubatch});
          if (testing::Test::HasFailure()) return;
        }
      }
    }
  }
}

// And with windows, overlaps, and anchors that reach beyond the first block.
template <class Check>
void ForAllStars(Check check) {
  ForAllSmallStars(check);
  for (std::int64_t n = kMinBlockSize; n <= 70; n += 3) {
    for (const std::int64_t block : {16, 17, 23}) {
      for (const std::int64_t anchor : {0, 5, 16, 20, 34, 47}) {
        for (const std::int64_t window : {0, 1, 2, 100}) {
          for (const std::int64_t overlap : {0, 1, 16, 20, 100}) {
            for (const std::int64_t ubatch : {1, 5, 16, 100}) {
              if (testing::Test::HasFailure()) return;
              if (block <= n && anchor <= n)
                check(Sizes{n, block, anchor, ubatch, window, overlap});
            }
          }
        }
      }
    }
  }
}

}  // namespace aster
