// Must fail: ctest expects it to, and so learns that a failed test fails its program.
#include <gtest/gtest.h>

TEST(ATestProgram, ExitsWithAnErrorWhenATestFails) { EXPECT_TRUE(false) << "on purpose"; }
