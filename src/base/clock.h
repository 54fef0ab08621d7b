// The clock that work is timed by.
#pragma once

#include <chrono>

namespace aster {

using Clock = std::chrono::steady_clock;

inline double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace aster
