// The store against the layout's own formulas, element by element, and against the system's books.
#include "kvstore/kv_store.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "aster/key_range.h"
#include "base/system.h"

namespace aster {
namespace {

constexpr auto kPage = static_cast<std::int64_t>(kPageTokens);

std::string Name(const LayerShape& s) {
  return std::to_string(s.n_kv_heads) + " heads of " + std::to_string(s.head_dim) + " and " +
         std::to_string(s.head_dim_v);
}

// Never zero, so that a place that was not written shows.
std::uint16_t KeyAt(int layer, std::int64_t token, int head, int dim) {
  return static_cast<std::uint16_t>(1 + (token * 7919 + layer * 104729 + head * 257 + dim) % 65535);
}
std::uint16_t ValueAt(int layer, std::int64_t token, int head, int dim) {
  return KeyAt(layer + 50, token, head, dim);
}

// One ubatch's rows, as llama.cpp lays them out: token by token, all heads of a token together.
struct Ubatch {
  std::vector<std::uint16_t> k;
  std::vector<std::uint16_t> v;
};

Ubatch MakeUbatch(const LayerShape& shape, int layer, std::int64_t first, std::int64_t n) {
  Ubatch ubatch;
  for (std::int64_t token = first; token < first + n; ++token) {
    for (int head = 0; head < shape.n_kv_heads; ++head) {
      for (int d = 0; d < shape.head_dim; ++d) ubatch.k.push_back(KeyAt(layer, token, head, d));
      for (int d = 0; d < shape.head_dim_v; ++d) ubatch.v.push_back(ValueAt(layer, token, head, d));
    }
  }
  return ubatch;
}

// The layers of another store have other numbers, so that its tokens show among one's own.
constexpr int kOther = 100;

void Append(KvStore& store, std::int64_t first, std::int64_t n, int first_layer = 0) {
  ASSERT_TRUE(store.Reserve(first + n).ok());
  for (int layer = 0; layer < static_cast<int>(store.layers().size()); ++layer) {
    const LayerShape& shape = store.layers()[layer];
    const auto heads = static_cast<std::size_t>(shape.n_kv_heads);
    const auto dim = static_cast<std::size_t>(shape.head_dim);
    const auto dim_v = static_cast<std::size_t>(shape.head_dim_v);
    const Ubatch ubatch = MakeUbatch(shape, first_layer + layer, first, n);
    store.Append(layer, first, n, {ubatch.k.data(), heads * dim, dim},
                 {ubatch.v.data(), heads * dim_v, dim_v});
  }
}

bool In(KeyRange range, std::int64_t token) { return range.begin <= token && token < range.end; }

// Every element of every page: the value of its token where that is the store's own or was copied
// from the other store, else (and in padding) zero.
void ExpectHolds(const KvStore& store, KeyRange own, KeyRange copied, const std::string& name) {
  const std::int64_t n_places = store.bytes() / KvStore::PredictBytes(store.layers(), 1) * kPage;
  for (int layer = 0; layer < static_cast<int>(store.layers().size()); ++layer) {
    const LayerShape& shape = store.layers()[layer];
    for (int head = 0; head < shape.n_kv_heads; ++head) {
      const KvView view = store.View(layer, head);
      for (std::int64_t token = 0; token < n_places; ++token) {
        const std::uint16_t* page = view.pages[token / kPage];
        const bool is_copied = In(copied, token);
        const bool is_set = is_copied || In(own, token);
        const int from = layer + (is_copied ? kOther : 0);
        for (int d = 0; d < static_cast<int>(PaddedDimK(shape.head_dim)); ++d) {
          const bool set = is_set && d < shape.head_dim;
          ASSERT_EQ(page[view.k_offset + OffsetK(shape.head_dim, token % kPage, d)],
                    set ? KeyAt(from, token, head, d) : 0)
              << name << ": K of layer " << layer << ", head " << head << ", token " << token
              << ", dim " << d;
        }
        for (int d = 0; d < static_cast<int>(PaddedDimV(shape.head_dim_v)); ++d) {
          const bool set = is_set && d < shape.head_dim_v;
          ASSERT_EQ(page[view.v_offset + OffsetV(shape.head_dim_v, token % kPage, d)],
                    set ? ValueAt(from, token, head, d) : 0)
              << name << ": V of layer " << layer << ", head " << head << ", token " << token
              << ", dim " << d;
        }
      }
    }
  }
}

void ExpectHolds(const KvStore& store, std::int64_t n_tokens, const std::string& name) {
  ExpectHolds(store, {0, n_tokens}, {}, name);
}

const LayerShape kShapes[] = {
    {1, 32, 32},   {2, 40, 40},   {1, 64, 64},   {3, 72, 72},  {2, 80, 80}, {1, 96, 96},
    {2, 128, 128}, {1, 192, 128}, {1, 256, 256}, {2, 64, 128}, {1, 33, 47}, {1, 1, 1},
};

TEST(KvLayout, EveryTokenAndDimHasItsOwnPlaceInItsTile) {
  for (const LayerShape& shape : kShapes) {
    const std::size_t padded = PaddedDimV(shape.head_dim_v);
    std::vector<int> k(kPageTokens * PaddedDimK(shape.head_dim));
    std::vector<int> v(kPageTokens * padded);
    for (std::size_t token = 0; token < kPageTokens; ++token) {
      for (int d = 0; d < shape.head_dim; ++d) ++k.at(OffsetK(shape.head_dim, token, d));
      for (int d = 0; d < shape.head_dim_v; ++d) ++v.at(OffsetV(shape.head_dim_v, token, d));
    }
    EXPECT_EQ(std::count(k.begin(), k.end(), 1), kPage * shape.head_dim) << Name(shape);
    EXPECT_EQ(std::count(v.begin(), v.end(), 1), kPage * shape.head_dim_v) << Name(shape);
  }
}

TEST(KvStore, PacksEveryShapeWhereTheLayoutSaysHoweverTheTokensCome) {
  const std::vector<std::int64_t> chunkings[] = {
      {300},                         // one piece, across a page's end
      {1, 1, 1, 13, 1, 15, 16, 17},  // odd starts within tiles and pairs
      {256, 1, 255, 3},              // pages' ends
      {31, 33, 64, 127, 45},
  };
  for (const LayerShape& shape : kShapes) {
    for (const auto& chunks : chunkings) {
      KvStore store({shape});
      std::int64_t n_tokens = 0;
      for (const std::int64_t n : chunks) {
        Append(store, n_tokens, n);
        n_tokens += n;
      }
      ExpectHolds(store, n_tokens, Name(shape));
      if (HasFailure()) return;
    }
  }
}

TEST(KvStore, EveryStartAndLengthWithinTwoTilesIsPackedAlike) {
  const LayerShape shape{1, 40, 24};
  for (std::int64_t first = 0; first <= 33; ++first) {
    for (std::int64_t n = 0; n <= 34; ++n) {
      KvStore store({shape});
      Append(store, 0, first);
      Append(store, first, n);
      ExpectHolds(store, first + n, std::to_string(first) + " + " + std::to_string(n));
      if (HasFailure()) return;
    }
  }
}

TEST(KvStore, ReadsRowsByTheirStridesInEitherOrder) {
  // Head by head: a head's tokens lie together, as in llama.cpp's transposed views.
  const LayerShape shape{3, 8, 8};
  constexpr std::int64_t kTokens = 40;
  std::vector<std::uint16_t> k;
  std::vector<std::uint16_t> v;
  for (int head = 0; head < shape.n_kv_heads; ++head) {
    for (std::int64_t token = 0; token < kTokens; ++token) {
      for (int d = 0; d < shape.head_dim; ++d) k.push_back(KeyAt(0, token, head, d));
      for (int d = 0; d < shape.head_dim_v; ++d) v.push_back(ValueAt(0, token, head, d));
    }
  }
  KvStore store({shape});
  ASSERT_TRUE(store.Reserve(kTokens).ok());
  store.Append(0, 0, kTokens, {k.data(), 8, 8 * kTokens}, {v.data(), 8, 8 * kTokens});
  ExpectHolds(store, kTokens, "head by head");
}

TEST(KvStore, LayersOfDifferentShapesShareAPageWithoutTouching) {
  KvStore store({{2, 64, 64}, {1, 256, 256}, {4, 80, 128}, {1, 33, 7}});
  Append(store, 0, 100);
  Append(store, 100, 290);
  ExpectHolds(store, 390, "four shapes");
}

TEST(KvStore, AHeadsKAndVLieOnCacheLines) {
  for (const LayerShape& shape : kShapes) {
    KvStore store({shape, shape});
    ASSERT_TRUE(store.Reserve(kPage + 1).ok());
    for (int head = 0; head < shape.n_kv_heads; ++head) {
      const KvView view = store.View(1, head);
      for (int page = 0; page < 2; ++page) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.pages[page] + view.k_offset) % 64, 0u);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.pages[page] + view.v_offset) % 64, 0u);
      }
    }
  }
}

TEST(KvStore, HoldsTheBytesItPredicted) {
  for (const LayerShape& shape : kShapes) {
    const std::vector<LayerShape> layers(3, shape);
    for (const std::int64_t n : {0, 1, 255, 256, 257, 1000}) {
      KvStore store(layers);
      ASSERT_TRUE(store.Reserve(n).ok());
      EXPECT_EQ(store.bytes(), KvStore::PredictBytes(layers, n)) << Name(shape) << ", " << n;
    }
  }
}

TEST(KvStore, PredictsTheSizeOfAKnownModel) {
  // Qwen2.5-0.5B: 24 layers, 2 KV heads of 64: 12,288 bytes a token in bf16.
  const std::vector<LayerShape> layers(24, {2, 64, 64});
  EXPECT_EQ(KvStore::PredictBytes(layers, 1 << 20), 12288LL << 20);
}

TEST(KvStore, PredictionsBeyondAllNumbersStayAtTheLargest) {
  const std::vector<LayerShape> layers(24, {2, 64, 64});
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(KvStore::PredictBytes(layers, kMost), kMost);
}

TEST(KvStore, TruncateForgetsTheTailAndZeroesIt) {
  for (const LayerShape& shape : kShapes) {
    for (const std::int64_t n : {0, 1, 15, 16, 31, 100, 255, 256, 257, 299, 300, 512, 1000}) {
      KvStore store({shape, shape});
      Append(store, 0, 300);
      store.set_size(300);
      store.Truncate(n);
      EXPECT_EQ(store.size(), std::min<std::int64_t>(n, 300)) << Name(shape) << ", " << n;
      EXPECT_EQ(store.bytes(),
                KvStore::PredictBytes(store.layers(), std::min<std::int64_t>(n, 300)))
          << Name(shape) << ", " << n;
      ExpectHolds(store, std::min<std::int64_t>(n, 300), Name(shape) + ", " + std::to_string(n));
      if (HasFailure()) return;
    }
  }
}

TEST(KvStore, GoesOnAfterATruncateAsIfTheRestHadNeverBeen) {
  KvStore store({{2, 72, 72}});
  Append(store, 0, 600);
  store.Truncate(259);
  Append(store, 259, 200);
  ExpectHolds(store, 459, "600, 259, 459");
}

TEST(KvStore, TruncateTouchesNoMemoryThatHeldNothing) {
  const std::vector<LayerShape> layers(64, {2, 64, 64});  // 8 MB a page
  KvStore store(layers);
  Append(store, 0, 20);
  const std::int64_t before = ResidentBytes();
  store.Truncate(10);
  EXPECT_LT(ResidentBytes() - before, store.bytes() / 8);
  ExpectHolds(store, 10, "20, 10");
}

// K and V of these tokens, in all layers.
void ExpectTokens(const KvStore& store, KeyRange tokens) {
  for (int layer = 0; layer < static_cast<int>(store.layers().size()); ++layer) {
    const LayerShape& shape = store.layers()[layer];
    const KvView view = store.View(layer, 0);
    for (std::int64_t token = tokens.begin; token < tokens.end; ++token) {
      const std::uint16_t* page = view.pages[token / kPage];
      ASSERT_NE(page, nullptr) << "token " << token;
      ASSERT_EQ(page[view.k_offset + OffsetK(shape.head_dim, token % kPage, 3)],
                KeyAt(layer, token, 0, 3))
          << "token " << token;
      ASSERT_EQ(page[view.v_offset + OffsetV(shape.head_dim_v, token % kPage, 3)],
                ValueAt(layer, token, 0, 3))
          << "token " << token;
    }
  }
}

// Tokens [0, 300) and [2000, 2100); those between are skipped.
void FillWithAGap(KvStore& store) {
  const std::int64_t page_bytes = KvStore::PredictBytes(store.layers(), 1);
  Append(store, 0, 300);
  store.set_size(300);
  store.Skip(2000);
  EXPECT_EQ(store.size(), 2000);
  EXPECT_EQ(store.bytes(), 2 * page_bytes);
  Append(store, 2000, 100);  // pages 7 and 8
  store.set_size(2100);
  EXPECT_EQ(store.bytes(), 4 * page_bytes);
}

TEST(KvStore, WhatIsSkippedTakesNoMemoryAndTheRestLiesWhereItLies) {
  KvStore store({{2, 64, 64}, {1, 40, 24}});
  FillWithAGap(store);
  ExpectTokens(store, {0, 300});
  ExpectTokens(store, {2000, 2100});
  store.Skip(2101);  // within the last page
  Append(store, 2101, 20);
  ExpectTokens(store, {2000, 2100});
  ExpectTokens(store, {2101, 2121});
}

TEST(KvStore, CutWithinWhatWasSkippedItGoesOnThere) {
  KvStore store({{2, 64, 64}});
  const std::int64_t page_bytes = KvStore::PredictBytes(store.layers(), 1);
  FillWithAGap(store);
  store.Truncate(1000);
  EXPECT_EQ(store.size(), 1000);
  EXPECT_EQ(store.bytes(), 2 * page_bytes);
  Append(store, 1000, 50);  // pages 3 and 4
  store.set_size(1050);
  EXPECT_EQ(store.bytes(), 4 * page_bytes);
  ExpectTokens(store, {0, 300});
  ExpectTokens(store, {1000, 1050});
  store.Truncate(0);
  EXPECT_EQ(store.bytes(), 0);
}

// Heads of several sizes and numbers, and a layer without a cache of its own.
const std::vector<LayerShape> kSeveralLayers = {
    {2, 64, 64}, {3, 80, 80}, {0, 0, 0}, {1, 33, 47}, {1, 40, 24}};

// Layer by layer, as from host to host. The bytes lie at an odd address, as in a longer message.
void Copy(const KvStore& from, KvStore& to, KeyRange range) {
  for (int layer = 0; layer < static_cast<int>(from.layers().size()); ++layer) {
    const std::size_t n = from.CopyBytes(layer, range);
    ASSERT_EQ(to.CopyBytes(layer, range), n) << "layer " << layer;
    std::vector<std::byte> message(1 + n);
    from.CopyOut(layer, range, std::span(message).subspan(1));
    to.CopyIn(layer, range, std::span(message).subspan(1));
  }
}

// Every range between these bounds: within pages, at their ends, and across.
template <class Check>
void ForRangesOf700Tokens(Check check) {
  const std::int64_t bounds[] = {0, 1, 18, 255, 256, 257, 511, 512, 513, 700};
  for (const std::int64_t begin : bounds) {
    for (const std::int64_t end : bounds) {
      if (begin <= end) check(KeyRange{begin, end});
      if (testing::Test::HasFailure()) return;
    }
  }
}

std::string Name(KeyRange range) {
  return "tokens " + std::to_string(range.begin) + " to " + std::to_string(range.end);
}

TEST(KvStoreCopies, CarryTheirRangeAndLeaveTheOtherTokensOfItsPages) {
  KvStore other(kSeveralLayers);
  Append(other, 0, 700, kOther);
  ForRangesOf700Tokens([&](KeyRange range) {
    KvStore store(kSeveralLayers);
    Append(store, 0, 700);
    Copy(other, store, range);
    ExpectHolds(store, {0, 700}, range, Name(range));
  });
  ExpectHolds(other, {}, {0, 700}, "the store copied from");
}

TEST(KvStoreCopies, IntoNewPagesLeaveTheRestOfThemZero) {
  KvStore other(kSeveralLayers);
  Append(other, 0, 700, kOther);
  ForRangesOf700Tokens([&](KeyRange range) {
    KvStore store(kSeveralLayers);
    ASSERT_TRUE(store.Reserve(range.end).ok());
    Copy(other, store, range);
    ExpectHolds(store, {}, range, Name(range));
  });
}

TEST(KvStoreCopies, AreWholePagesOfALayersPaddedHeads) {
  const KvStore store(kSeveralLayers);
  ForRangesOf700Tokens([&](KeyRange range) {
    const std::int64_t n_pages =
        range.size() > 0 ? (range.end - 1) / kPage - range.begin / kPage + 1 : 0;
    for (int layer = 0; layer < static_cast<int>(kSeveralLayers.size()); ++layer) {
      const LayerShape& shape = kSeveralLayers[layer];
      const std::size_t row = PaddedDimK(shape.head_dim) + PaddedDimV(shape.head_dim_v);
      EXPECT_EQ(store.CopyBytes(layer, range),
                n_pages * kPageTokens * shape.n_kv_heads * row * sizeof(std::uint16_t))
          << Name(range) << ", layer " << layer << ": " << Name(shape);
    }
  });
}

TEST(KvStoreCopies, OfALayerWithoutHeadsAreNothing) {
  KvStore store(kSeveralLayers);
  Append(store, 0, 300);
  EXPECT_EQ(store.CopyBytes(2, {0, 300}), 0u);
  store.CopyOut(2, {0, 300}, {});
  store.CopyIn(2, {0, 300}, {});
  ExpectHolds(store, 300, "after a copy of nothing");
}

TEST(KvStoreCopies, AreForgottenByATruncateLikeAppendedTokens) {
  KvStore other(kSeveralLayers);
  Append(other, 0, 300, kOther);
  KvStore store(kSeveralLayers);
  ASSERT_TRUE(store.Reserve(300).ok());
  Copy(other, store, {100, 300});
  store.set_size(300);
  store.Truncate(150);
  ExpectHolds(store, {}, {100, 150}, "cut at 150");
}

TEST(KvStore, RefusesMoreThanTheMachineHasWithBothNumbersAndKeepsWhatItHeld) {
  KvStore store({{8, 128, 128}});
  Append(store, 0, 100);
  const std::int64_t held = store.bytes();
  for (const std::int64_t n : {std::int64_t{1} << 40, std::numeric_limits<std::int64_t>::max()}) {
    const Status status = store.Reserve(n);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().kind, ErrorKind::kWorld);
    EXPECT_EQ(status.error().message.find("KV memory for " + std::to_string(n) + " tokens: needs "),
              0u)
        << status.error().message;
    EXPECT_NE(status.error().message.find("the machine has "), std::string::npos)
        << status.error().message;
    EXPECT_EQ(store.bytes(), held);
  }
  ExpectHolds(store, 100, "after the refusal");
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // Both map terabytes.
TEST(KvStore, AMappingThatTheSystemRefusesIsAnErrorAndKeepsWhatWasHeld) {
  KvStore store({{8, 128, 128}});
  Append(store, 0, 100);
  const std::int64_t held = store.bytes();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = 1;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &tight), 0);
  const Status status = store.Reserve(10000);
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().kind, ErrorKind::kWorld);
  EXPECT_EQ(store.bytes(), held);
  ExpectHolds(store, 100, "after the refusal");
}
#endif

TEST(KvStore, KnowsWhatGoesWithSeveralThatShare) {
  const std::vector<LayerShape> layers(2, {2, 16, 16});
  const std::int64_t page = KvStore::PredictBytes(layers, 1);
  KvStore first(layers);
  Append(first, 0, 4 * kPage);
  first.set_size(4 * kPage);
  const auto fork = first.Fork(3 * kPage + 1);  // a page of its own
  ASSERT_TRUE(fork.ok());
  const KvStore* const both[] = {&first, fork->get()};
  EXPECT_EQ(KvStore::BytesOnlyIn(both), 5 * page);
  EXPECT_EQ(KvStore::BytesOnlyIn(std::span(both).first(1)), page);
  EXPECT_EQ(KvStore::BytesOnlyIn(std::span(both).last(1)), page);
  const auto third = first.Fork(2 * kPage);
  ASSERT_TRUE(third.ok());
  EXPECT_EQ(KvStore::BytesOnlyIn(both), 3 * page);
  EXPECT_EQ(KvStore::BytesOnlyIn({}), 0);
}

TEST(KvStore, GivesItsMemoryBackToTheSystem) {
  const std::vector<LayerShape> layers(4, {8, 128, 128});
  constexpr std::int64_t kTokens = 4 * kPage;  // 16 MiB
  const std::int64_t bytes = KvStore::PredictBytes(layers, kTokens);
  const std::int64_t slack = bytes / 8;
  const std::vector<std::uint16_t> row(128, 1);
  const Bf16Rows same_row_everywhere{row.data(), 0, 0};
  const std::int64_t before = ResidentBytes();
  {
    KvStore store(layers);
    ASSERT_TRUE(store.Reserve(kTokens).ok());
    for (int layer = 0; layer < 4; ++layer) {
      store.Append(layer, 0, kTokens, same_row_everywhere, same_row_everywhere);
    }
    const std::int64_t full = ResidentBytes();
    EXPECT_GE(full, before + bytes - slack);
    store.Truncate(kPage);
    EXPECT_LE(ResidentBytes(), full - bytes * 3 / 4 + slack);
  }
  EXPECT_LE(ResidentBytes(), before + slack);
}

}  // namespace
}  // namespace aster
