// What this machine gives this process: CPUs, memory. Linux; elsewhere the portable part.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aster {

// CPUs this process may use: its affinity mask, cut by the cgroup's CPU quota. At least 1.
int UsableCpus();

// CPUs of its affinity mask alone, which it may use by turns where a quota is smaller. At least 1.
int AffinityCpus();

// The folders whose limits of a controller ("cpu", "memory") bind a process: its own control group
// and those around it, the innermost first. text: /proc/self/cgroup's.
std::vector<std::string> CgroupFolders(std::string_view text, std::string_view controller);

// Memory this process may still take, in bytes: MemAvailable, or what is left of the limits
// of its cgroups, whichever is least. 0 when the system does not say.
std::int64_t AvailableMemory();

// Memory of this process that is in RAM now, in bytes; 0 when the system does not say.
std::int64_t ResidentBytes();

// What stands behind "key:" in a file of such lines, /proc/cpuinfo say; empty when nothing does.
std::string SystemLine(const char* path, std::string_view key);

// The CPU as Linux names its model; empty when the system does not say.
std::string CpuName();

// "184.3 MB": decimal units, one digit after the point.
std::string FormatBytes(std::int64_t bytes);

}  // namespace aster
