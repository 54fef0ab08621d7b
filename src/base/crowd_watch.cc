#include "base/crowd_watch.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <sstream>
#include <stop_token>
#include <thread>

#include "base/clock.h"

namespace aster {
namespace {

// The system counts in hundredths of a second: shorter, and a window holds too few of them.
constexpr std::chrono::milliseconds kWindow{200};
// CPUs that others may take beyond what we leave them, before we are crowded and after.
constexpr double kEnter = 0.3;
constexpr double kLeave = 0.15;

double OwnSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

double BusySeconds(const std::string& stat, double ticks_per_second,
                   const std::function<bool(int cpu)>& counts) {
  std::istringstream lines(stat);
  double ticks = 0;
  for (std::string line; std::getline(lines, line);) {
    // The first line is the sum of all CPUs, and its first number no CPU's.
    if (line.size() < 4 || line[3] < '0' || line[3] > '9') continue;
    int cpu = -1;
    long long user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, soft = 0, steal = 0;
    const int n = std::sscanf(line.c_str(), "cpu%d %lld %lld %lld %lld %lld %lld %lld %lld", &cpu,
                              &user, &nice, &system, &idle, &wait, &irq, &soft, &steal);
    if (n < 4 || !counts(cpu)) continue;
    ticks += static_cast<double>(user + nice + system + irq + soft + steal);
  }
  return ticks / ticks_per_second;
}

CpuTimes ReadCpuTimes() {
  std::ifstream file("/proc/stat");
  std::stringstream text;
  text << file.rdbuf();
  cpu_set_t set;
  const bool has_set = sched_getaffinity(0, sizeof set, &set) == 0;
  const auto counts = [&](int cpu) {
    return !has_set || (cpu < CPU_SETSIZE && CPU_ISSET(static_cast<unsigned>(cpu), &set));
  };
  static const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  return {BusySeconds(text.str(), ticks, counts), OwnSeconds(), Clock::now()};
}

// A thread of its own that opened an OpenMP team once; libgomp keeps the team until it ends.
class CrowdWatch::IdleTeam {
 public:
  explicit IdleTeam(int n_threads)
      : thread_([n_threads](const std::stop_token& stop) {
          int n_seen = 0;
#pragma omp parallel num_threads(n_threads) reduction(+ : n_seen)
          n_seen += 1;
          std::mutex mutex;
          std::unique_lock lock(mutex);
          std::condition_variable_any().wait(lock, stop, [n_seen] { return n_seen == 0; });
        }) {
  }

 private:
  std::jthread thread_;
};

CrowdWatch::CrowdWatch(int n_threads, int n_cpus, std::function<CpuTimes()> read)
    : n_threads_(n_threads),
      n_cpus_(n_cpus),
      read_(read ? std::move(read) : ReadCpuTimes),
      last_(read_()),
      n_threads_left_(n_threads) {}

CrowdWatch::~CrowdWatch() = default;

void CrowdWatch::Look() {
  if (Clock::now() - last_.at < kWindow) return;
  const CpuTimes now = read_();
  const double seconds = SecondsBetween(last_.at, now.at);
  if (seconds <= 0) return;
  const double others = (now.all - last_.all - (now.ours - last_.ours)) / seconds;
  last_ = now;
  const double free_for_others = std::max(0, n_cpus_ - n_threads_);
  if (others > free_for_others + kEnter && !crowded()) {
    // With our own team, one thread more than there are CPUs.
    idle_team_ = std::make_unique<IdleTeam>(std::max(2, n_cpus_ - n_threads_ + 2));
  } else if (others < free_for_others + kLeave && crowded()) {
    idle_team_ = nullptr;
  }
  const auto taken = static_cast<int>(std::lround(others - free_for_others));
  n_threads_left_ = crowded() ? std::clamp(n_threads_ - taken, 1, n_threads_) : n_threads_;
}

}  // namespace aster
