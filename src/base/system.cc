#include "base/system.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

namespace aster {
namespace {

// The number a one-line file starts with; -1 when there is none ("max", no such file).
std::int64_t ReadNumber(const std::string& path) {
  std::ifstream file(path);
  std::int64_t value = -1;
  return file >> value ? value : -1;
}

// This process's control groups of a controller, the innermost first.
std::vector<std::string> OwnCgroups(std::string_view controller) {
  std::ifstream file("/proc/self/cgroup");
  std::string text(std::istreambuf_iterator<char>(file), {});
  return CgroupFolders(text, controller);
}

int CgroupCpus() {
  int least = std::numeric_limits<int>::max();
  for (const std::string& folder : OwnCgroups("cpu")) {
    std::ifstream v2(folder + "/cpu.max");
    double quota = 0;
    double period = 0;
    if (!(v2 >> quota >> period)) {
      quota = static_cast<double>(ReadNumber(folder + "/cpu.cfs_quota_us"));
      period = static_cast<double>(ReadNumber(folder + "/cpu.cfs_period_us"));
    }
    if (quota <= 0 || period <= 0) continue;
    least = std::min(least, std::max(1, static_cast<int>(quota / period + 0.5)));
  }
  return least;
}

std::int64_t MemAvailable() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::int64_t kilobytes = 0;
  std::string unit;
  while (file >> key >> kilobytes) {
    if (key == "MemAvailable:") return kilobytes * 1024;
    std::getline(file, unit);
  }
  return std::numeric_limits<std::int64_t>::max();
}

// The value behind `key` in a file of "key value" lines; 0 when there is none.
std::int64_t ReadKey(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  std::string name;
  std::int64_t value = 0;
  while (file >> name >> value) {
    if (name == key) return value;
  }
  return 0;
}

// Page cache counts as used but is given up under pressure: a mapped model's, for one.
std::int64_t CgroupMemoryLeft() {
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (const std::string& folder : OwnCgroups("memory")) {
    std::int64_t limit = ReadNumber(folder + "/memory.max");
    std::int64_t used = ReadNumber(folder + "/memory.current");
    std::int64_t cache = ReadKey(folder + "/memory.stat", "inactive_file");
    if (limit < 0) {
      limit = ReadNumber(folder + "/memory.limit_in_bytes");
      used = ReadNumber(folder + "/memory.usage_in_bytes");
      cache = ReadKey(folder + "/memory.stat", "total_inactive_file");
    }
    if (limit < 0 || used < 0) continue;
    least = std::min(least, std::max<std::int64_t>(1, limit - used + cache));
  }
  return least;
}

}  // namespace

std::vector<std::string> CgroupFolders(std::string_view text, std::string_view controller) {
  std::vector<std::string> folders;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string root = "/sys/fs/cgroup";
    if (controllers != ",,") {  // version 1: a tree for each controller
      if (controllers.find("," + std::string(controller) + ",") == std::string::npos) continue;
      root += "/" + std::string(controller);
    }
    for (std::string path = line.substr(second + 1); path.size() > 1;
         path.resize(path.find_last_of('/'))) {
      if (!path.starts_with('/')) break;
      folders.push_back(root + path);
    }
    folders.push_back(root);
  }
  if (folders.empty()) folders.push_back("/sys/fs/cgroup");
  return folders;
}

int AffinityCpus() {
  int n = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
  return std::max(1, n);
}

int UsableCpus() { return std::max(1, std::min(AffinityCpus(), CgroupCpus())); }

std::int64_t AvailableMemory() {
  const std::int64_t bytes = std::min(MemAvailable(), CgroupMemoryLeft());
  return bytes == std::numeric_limits<std::int64_t>::max() ? 0 : bytes;
}

std::int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t total = 0;
  std::int64_t resident = 0;
  file >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

std::string SystemLine(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t at = line.find_first_not_of(" \t", line.find(':') + 1);
    return at == std::string::npos ? "" : line.substr(at);
  }
  return {};
}

std::string CpuName() { return SystemLine("/proc/cpuinfo", "model name"); }

std::string FormatBytes(std::int64_t bytes) {
  const char* const units[] = {"bytes", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1000.0 && unit < 4) {
    value /= 1000.0;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text;
}

}  // namespace aster
