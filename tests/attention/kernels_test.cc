#include "attention/kernels.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
#include <string>

#include "attention/attend.h"
#include "base/bf16.h"

namespace aster {
namespace {

TEST(Kernels, AreNamedOnceAndEndWithTheOneThatAlwaysRuns) {
  std::set<std::string> names;
  const Kernels* last = nullptr;
  for (const Kernels* const* k = AllKernels(); *k != nullptr; ++k) {
    EXPECT_TRUE(names.insert((*k)->name).second) << (*k)->name;
    last = *k;
  }
  ASSERT_NE(last, nullptr);
  EXPECT_STREQ(last->name, "scalar");
  EXPECT_TRUE(CanRun(*last));
}

TEST(Kernels, AreTheFastestOnesThatTheCpuRunsWhereNoneIsForced) {
  for (const Kernels* const* k = AllKernels(); *k != nullptr; ++k) {
    if (!CanRun(**k) || ((*k)->rounds_to_bf16 && !Bf16IsFaster())) continue;
    EXPECT_EQ(ChooseKernels(nullptr), *k);
    return;
  }
}

TEST(Kernels, ForcedByNameAreTheOnesThatRun) {
  for (const Kernels* const* k = AllKernels(); *k != nullptr; ++k) {
    const Kernels* const forced = ChooseKernels((*k)->name);
    if (!CanRun(**k)) {
      EXPECT_EQ(forced, nullptr) << (*k)->name << " can't run here";
      continue;
    }
    ASSERT_EQ(forced, *k);
    EXPECT_STREQ(Attender(*forced, 1).kernels().name, (*k)->name);
  }
}

TEST(Kernels, OfAnUnknownNameAreNone) {
  EXPECT_EQ(ChooseKernels("nope"), nullptr);
  EXPECT_EQ(ChooseKernels(""), nullptr);
  EXPECT_EQ(ChooseKernels("AVX2"), nullptr);
}

// ctest runs this one with ASTER_ISA set to each name, and to one that does not exist.
TEST(Kernels, ActiveAreThoseThatTheEnvironmentNames) {
  const char* const forced = std::getenv("ASTER_ISA");
  EXPECT_EQ(ActiveKernels(), ChooseKernels(forced));
  if (forced != nullptr && ActiveKernels() != nullptr) {
    EXPECT_STREQ(ActiveKernels()->name, forced);
  }
}

}  // namespace
}  // namespace aster
