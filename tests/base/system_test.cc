// What binds a process on this system.
#include "base/system.h"

#include <gtest/gtest.h>

namespace aster {
namespace {

using Folders = std::vector<std::string>;

TEST(CgroupFolders, OfAServiceAreItsOwnAndThoseAround) {
  EXPECT_EQ(CgroupFolders("0::/system.slice/aster.service\n", "memory"),
            (Folders{"/sys/fs/cgroup/system.slice/aster.service", "/sys/fs/cgroup/system.slice",
                     "/sys/fs/cgroup"}));
}

TEST(CgroupFolders, OfAContainerAreTheRoot) {
  EXPECT_EQ(CgroupFolders("0::/\n", "cpu"), Folders{"/sys/fs/cgroup"});
  EXPECT_EQ(CgroupFolders("", "cpu"), Folders{"/sys/fs/cgroup"});
  EXPECT_EQ(CgroupFolders("nonsense\n", "cpu"), Folders{"/sys/fs/cgroup"});
}

TEST(CgroupFolders, OfVersion1AreInTheControllersTree) {
  const char* const text = "5:cpu,cpuacct:/a\n4:memory:/a/b\n3:cpuset:/c\n0::/\n";
  EXPECT_EQ(CgroupFolders(text, "memory"),
            (Folders{"/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a",
                     "/sys/fs/cgroup/memory", "/sys/fs/cgroup"}));
  EXPECT_EQ(CgroupFolders(text, "cpu"),
            (Folders{"/sys/fs/cgroup/cpu/a", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup"}));
}

TEST(AvailableMemory, IsMoreThanNothing) { EXPECT_GT(AvailableMemory(), 0); }

}  // namespace
}  // namespace aster
