// Whether other processes leave us fewer CPUs than we have threads, and what to do then.
//
// libgomp's threads look for milliseconds before they sleep at a barrier. Alone that is the fastest
// way to wait. Beside another busy process the thread that looks holds the core that the thread it
// waits for needs, once for each of the thousand barriers of a pass: ten times slower was seen. But
// libgomp looks only shortly while it has more threads than CPUs. So, while others crowd us, this
// keeps an idle OpenMP team that makes it so, and lets it go when they are gone. A user's own
// OMP_WAIT_POLICY or GOMP_SPINCOUNT keeps its meaning: libgomp takes the shorter of the two.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

namespace aster {

// CPU time up to a moment.
struct CpuTimes {
  double all = 0;   // seconds, of all processes on the CPUs that we may use
  double ours = 0;  // seconds, of this process
  std::chrono::steady_clock::time_point at;
};

// Busy seconds of the CPUs for which `counts` is true, from the text of /proc/stat, whose unit is
// 1 / ticks_per_second. Time stolen by a hypervisor counts as busy: it is not ours.
double BusySeconds(const std::string& stat, double ticks_per_second,
                   const std::function<bool(int cpu)>& counts);

// The system's times now, of the CPUs in this process's affinity mask.
CpuTimes ReadCpuTimes();

class CrowdWatch {
 public:
  // A team of n_threads on n_cpus, which are those that `read` tells of: the affinity mask's by
  // default, as the times are. A quota below them is no crowd.
  CrowdWatch(int n_threads, int n_cpus, std::function<CpuTimes()> read = nullptr);
  ~CrowdWatch();
  CrowdWatch(const CrowdWatch&) = delete;
  CrowdWatch& operator=(const CrowdWatch&) = delete;

  // Cheap; call it often from the thread that computes. Five times a second it reads the times.
  void Look();
  bool crowded() const { return idle_team_ != nullptr; }
  // Threads that others leave us CPUs for, at least 1: for work that waits at a barrier every few
  // microseconds, where one thread that shares its CPU halves the speed of all.
  int n_threads_left() const { return n_threads_left_; }

 private:
  class IdleTeam;

  const int n_threads_;
  const int n_cpus_;
  const std::function<CpuTimes()> read_;
  CpuTimes last_;
  int n_threads_left_;
  std::unique_ptr<IdleTeam> idle_team_;
};

}  // namespace aster
