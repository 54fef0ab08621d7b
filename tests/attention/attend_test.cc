#include "attention/attend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "attend_case.h"
#include "isa_test.h"

namespace aster {
namespace {

constexpr std::uint32_t kSeed = 20241126;

class Attend : public IsaTest {
 protected:
  void ExpectAllLawful(const std::vector<AttendCase>& cases) {
    std::uint32_t seed = kSeed;
    for (const AttendCase& c : cases) ExpectLawful(c, kernels(), seed++);
  }
};
ASTER_FOR_EACH_ISA(Attend);

TEST_P(Attend, IsLawfulForEveryGroupingOfHeads) {
  ExpectAllLawful({
      {.name = "MHA", .n_heads = 4, .n_kv_heads = 4},
      {.name = "GQA of 3", .n_heads = 9, .n_kv_heads = 3},
      {.name = "GQA of 7", .n_heads = 14, .n_kv_heads = 2},
      {.name = "MQA", .n_heads = 8, .n_kv_heads = 1},
      {.name = "one head", .n_heads = 1, .n_kv_heads = 1},
  });
}

TEST_P(Attend, IsLawfulForEveryHeadSize) {
  for (const int dim : {1, 2, 7, 16, 32, 33, 40, 64, 72, 80, 96, 112, 128, 256}) {
    ExpectAllLawful({{.name = "K and V alike", .head_dim = dim, .head_dim_v = dim}});
  }
  ExpectAllLawful({
      {.name = "deepseek", .head_dim = 192, .head_dim_v = 128},
      {.name = "K larger", .head_dim = 96, .head_dim_v = 64},
      {.name = "V larger", .head_dim = 40, .head_dim_v = 136},
      {.name = "odd ones", .head_dim = 31, .head_dim_v = 17},
  });
}

TEST_P(Attend, IsLawfulForEveryNumberOfTokens) {
  for (std::int64_t n = 1; n <= 20; ++n) ExpectAllLawful({{.name = "few", .n_tokens = n}});
  for (const std::int64_t n : {63, 64, 65, 127, 128, 200}) {
    for (const std::int64_t first : {0, 1, 57, 300}) {
      ExpectAllLawful({{.name = "many",
                        .head_dim = 32,
                        .head_dim_v = 32,
                        .n_tokens = n,
                        .first_position = first}});
    }
  }
}

TEST_P(Attend, IsLawfulForEveryContextLengthAroundStepsAndPages) {
  for (const std::int64_t length :
       {0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 511, 512, 513, 700}) {
    ExpectAllLawful({{.name = "one token", .n_tokens = 1, .first_position = length},
                     {.name = "three tokens", .n_tokens = 3, .first_position = length}});
  }
}

TEST_P(Attend, SharesLongContextsOutAmongThreads) {
  for (const int n_threads : {1, 2, 3, 5}) {
    ExpectAllLawful({
        {.name = "decode",
         .n_heads = 6,
         .n_tokens = 1,
         .first_position = 5000,
         .n_threads = n_threads},
        {.name = "MQA",
         .n_heads = 5,
         .n_kv_heads = 1,
         .head_dim = 40,
         .head_dim_v = 24,
         .n_tokens = 2,
         .first_position = 2100,
         .sinks = true,
         .n_threads = n_threads},
        {.name = "gaps",
         .n_tokens = 3,
         .first_position = 4000,
         .ranges = {{3, 700}, {1500, 1510}, {2000, 3333}, {3990, 4003}},
         .n_threads = n_threads},
        {.name = "window",
         .n_tokens = 1,
         .first_position = 4000,
         .window = {1500, false},
         .n_threads = n_threads},
        {.name = "prefill",
         .n_heads = 3,
         .n_kv_heads = 1,
         .head_dim = 32,
         .head_dim_v = 32,
         .n_tokens = 333,
         .first_position = 600,
         .n_threads = n_threads},
    });
  }
}

TEST_P(Attend, SeesTheRangesItIsGivenAndNoOther) {
  ExpectAllLawful({
      {.name = "unaligned", .ranges = {{3, 77}}},
      {.name = "several", .ranges = {{1, 2}, {5, 17}, {40, 41}, {63, 66}, {90, 107}}},
      {.name = "in one step", .first_position = 200, .ranges = {{65, 70}, {80, 90}, {127, 128}}},
      {.name = "empty ones", .ranges = {{0, 0}, {10, 10}, {20, 30}, {100, 100}}},
      {.name = "star", .n_tokens = 40, .first_position = 900, .ranges = {{0, 256}, {768, 940}}},
      {.name = "star, unaligned",
       .n_tokens = 33,
       .first_position = 901,
       .ranges = {{0, 250}, {751, 934}}},
      {.name = "later than the rows", .first_position = 50, .ranges = {{0, 10}, {200, 300}}},
      {.name = "nothing", .see_nothing = true},
      {.name = "nothing, sinks", .see_nothing = true, .sinks = true},
      {.name = "nothing before the rows", .first_position = 50, .ranges = {{57, 200}}},
      {.name = "nothing for the first rows",
       .n_tokens = 9,
       .first_position = 50,
       .ranges = {{54, 59}}},
      {.name = "an empty step first", .n_tokens = 150, .first_position = 10, .ranges = {{30, 160}}},
  });
}

TEST_P(Attend, AppliesWindows) {
  for (const bool chunked : {false, true}) {
    for (const std::int64_t size : {1, 2, 5, 16, 63, 64, 65, 100, 128, 1000}) {
      ExpectAllLawful({
          {.name = "short", .n_tokens = 20, .first_position = 300, .window = {size, chunked}},
          {.name = "from 0", .n_tokens = 140, .first_position = 0, .window = {size, chunked}},
          {.name = "gap",
           .n_tokens = 9,
           .first_position = 300,
           .ranges = {{0, 100}, {250, 290}, {300, 309}},
           .window = {size, chunked}},
          {.name = "gap, sinks",
           .n_tokens = 9,
           .first_position = 300,
           .ranges = {{0, 200}, {308, 309}},
           .window = {size, chunked},
           .sinks = true},
      });
    }
  }
}

TEST_P(Attend, AppliesSoftcapAndSinks) {
  for (const float score_size : {0.01f, 1.0f, 40.0f, 1e4f}) {
    ExpectAllLawful({
        {.name = "softcap 50", .softcap = 50, .score_size = score_size},
        {.name = "softcap 1", .softcap = 1, .score_size = score_size},
        {.name = "sinks", .sinks = true, .score_size = score_size},
        {.name = "both", .n_tokens = 70, .softcap = 30, .sinks = true, .score_size = score_size},
    });
  }
}

TEST_P(Attend, StandsLargeScoresAndConstantRows) {
  for (const float score_size : {0.0f, 1e-20f, 100.0f, 1e4f}) {
    ExpectAllLawful({
        {.name = "random", .n_tokens = 70, .score_size = score_size},
        {.name = "constant", .n_tokens = 70, .score_size = score_size, .constant_rows = true},
        {.name = "constant, long",
         .n_tokens = 2,
         .first_position = 3000,
         .score_size = score_size,
         .constant_rows = true},
    });
  }
}

// Every place of a range and of the rows around one 16-key tile and one 32-key group.
TEST_P(Attend, AgreesWithTheLawOnAllSmallInputs) {
  for (std::int64_t n_tokens = 1; n_tokens <= 3; ++n_tokens) {
    for (std::int64_t position = 0; position <= 34; position += n_tokens) {
      for (std::int64_t begin = 0; begin <= position; begin += 1 + begin / 4) {
        ExpectAllLawful({{.name = "small",
                          .n_heads = 2,
                          .n_kv_heads = 1,
                          .head_dim = 3,
                          .head_dim_v = 2,
                          .n_tokens = n_tokens,
                          .first_position = position,
                          .ranges = {{begin, position + 1}}}});
      }
    }
  }
}

TEST_P(Attend, AnswersTheSameBitsHoweverItsRowsAreCut) {
  const AttendCase many = {.name = "many", .n_tokens = 150};
  const AttendResult all = AttendData(many, kSeed).Run(kernels());
  AttendCase threaded = many;
  threaded.n_threads = 4;
  EXPECT_EQ(AttendData(threaded, kSeed).Run(kernels()).out, all.out) << "seed " << kSeed;
}

TEST_P(Attend, AnswersTheSameBitsOnFewerThreadsThanItHas) {
  AttendCase decode = {
      .name = "decode", .n_heads = 6, .n_tokens = 1, .first_position = 9000, .n_threads = 4};
  const AttendResult all = AttendData(decode, kSeed).Run(kernels());
  for (const int n : {1, 3, 9}) {
    decode.n_threads_now = n;
    EXPECT_EQ(AttendData(decode, kSeed).Run(kernels()).out, all.out) << n << ", seed " << kSeed;
  }
}

// Sessions of any depth, some split over threads, and one that has nothing to ask.
TEST_P(Attend, AnswersTheSameBitsTogetherAsAlone) {
  std::vector<AttendCase> cases = {
      {.name = "deep", .n_tokens = 1, .first_position = 5000},
      {.name = "short", .n_tokens = 1, .first_position = 3},
      {.name = "several tokens", .n_heads = 6, .n_tokens = 40, .first_position = 700},
      {.name = "none", .n_tokens = 0, .first_position = 10},
      {.name = "star", .n_tokens = 1, .first_position = 4000, .ranges = {{0, 512}, {3584, 4001}}},
      {.name = "sinks", .head_dim = 32, .head_dim_v = 48, .first_position = 2500, .sinks = true},
  };
  for (const int n_threads : {1, 2, 3}) {
    std::vector<AttendData> data;
    for (AttendCase& c : cases) {
      c.n_threads = n_threads;
      data.emplace_back(c, kSeed);
    }
    const std::vector<AttendResult> together = AttendData::RunTogether(kernels(), n_threads, data);
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const AttendResult alone = data[i].Run(kernels());
      EXPECT_EQ(together[i].out, alone.out) << cases[i] << ", " << n_threads << " threads";
      EXPECT_EQ(together[i].lse, alone.lse) << cases[i] << ", " << n_threads << " threads";
    }
  }
}

}  // namespace
}  // namespace aster
