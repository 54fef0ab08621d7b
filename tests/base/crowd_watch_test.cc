#include "base/crowd_watch.h"

#include <gtest/gtest.h>

#include <ctime>
#include <thread>

namespace aster {
namespace {

constexpr const char* kStat =
    "cpu  1000 300 20 5000 0 0 0 0 0 0\n"
    "cpu0 100 20 30 4000 500 6 7 80 9 0\n"
    "cpu1 1000 0 0 9000 0 0 0 0 0 0\n"
    "cpu11 5 0 0 0 0 0 0 0 0 0\n"
    "intr 12345 6 7\n"
    "ctxt 99\n";

TEST(BusySeconds, SumsAllButIdleOfTheCpusThatCount) {
  EXPECT_DOUBLE_EQ(BusySeconds(kStat, 100, [](int cpu) { return cpu == 0; }), 2.43);
  EXPECT_DOUBLE_EQ(BusySeconds(kStat, 100, [](int cpu) { return cpu < 2; }), 12.43);
  EXPECT_DOUBLE_EQ(BusySeconds(kStat, 1000, [](int) { return true; }), 1.248);
}

TEST(BusySeconds, IsZeroForWhatIsNoStat) {
  for (const char* text : {"", "cpu", "cpu0", "cpu0 x y", "cpux 1 2 3 4\n", "\n\n"}) {
    EXPECT_EQ(BusySeconds(text, 100, [](int) { return true; }), 0) << text;
  }
}

// A watch whose times the test sets: every Look sees one second more.
class Crowd : public testing::Test {
 protected:
  CrowdWatch Watch(int n_threads, int n_cpus) {
    return {n_threads, n_cpus, [this] { return times_; }};
  }

  // A second in which others took so many CPUs and we took so many.
  void Second(CrowdWatch& watch, double others, double ours) {
    times_.all += others + ours;
    times_.ours += ours;
    times_.at += std::chrono::seconds(1);
    watch.Look();
  }

  CpuTimes times_{100, 50, std::chrono::steady_clock::now() - std::chrono::hours(1)};
};

TEST_F(Crowd, IsThereWhenOthersTakeWhatOurThreadsNeed) {
  CrowdWatch watch = Watch(2, 2);
  EXPECT_FALSE(watch.crowded());
  EXPECT_EQ(watch.n_threads_left(), 2);
  Second(watch, 0.1, 1.9);
  EXPECT_FALSE(watch.crowded());
  Second(watch, 0.9, 1.1);
  EXPECT_TRUE(watch.crowded());
  EXPECT_EQ(watch.n_threads_left(), 1);
}

TEST_F(Crowd, EndsWhenTheyAreGoneAndNotJustBefore) {
  CrowdWatch watch = Watch(4, 4);
  Second(watch, 1, 3);
  Second(watch, 0.2, 3);
  EXPECT_TRUE(watch.crowded());
  EXPECT_EQ(watch.n_threads_left(), 4);
  Second(watch, 0.1, 3);
  EXPECT_FALSE(watch.crowded());
  Second(watch, 0.2, 3);
  EXPECT_FALSE(watch.crowded());
}

TEST_F(Crowd, MayHaveTheCpusThatWeLeave) {
  CrowdWatch watch = Watch(2, 8);
  Second(watch, 6, 2);
  EXPECT_FALSE(watch.crowded());
  Second(watch, 7, 1);
  EXPECT_TRUE(watch.crowded());
  EXPECT_EQ(watch.n_threads_left(), 1);
}

TEST_F(Crowd, LeavesUsAtLeastOneThread) {
  CrowdWatch watch = Watch(2, 2);
  Second(watch, 8, 0.1);
  EXPECT_EQ(watch.n_threads_left(), 1);
}

TEST(ReadCpuTimes, CountsWhatThisProcessUsedAsItsOwnAndAsAll) {
  const CpuTimes before = ReadCpuTimes();
  const std::clock_t start = std::clock();
  while (std::clock() - start < CLOCKS_PER_SEC / 2) {
  }
  const CpuTimes after = ReadCpuTimes();
  EXPECT_GT(after.at, before.at);
  EXPECT_GE(after.ours - before.ours, 0.45);
  EXPECT_GE(after.all - before.all, 0.35);  // counted in hundredths, on each CPU
}

TEST_F(Crowd, OfTheSystemsOwnTimesCanBeWatched) {
  CrowdWatch watch(1, 1 << 20);
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  watch.Look();
  EXPECT_FALSE(watch.crowded());  // nobody has a million CPUs to take
  EXPECT_EQ(watch.n_threads_left(), 1);
}

}  // namespace
}  // namespace aster
