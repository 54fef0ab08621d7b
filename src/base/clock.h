// The clock that work is timed by, and the calendar's.
#pragma once

#include <chrono>
#include <cstdint>

namespace aster {

using Clock = std::chrono::steady_clock;

inline double SecondsBetween(Clock::time_point start, Clock::time_point end) {
  return std::chrono::duration<double>(end - start).count();
}
inline double SecondsSince(Clock::time_point start) { return SecondsBetween(start, Clock::now()); }

// Seconds since 1970, as files and protocols write a date.
inline std::int64_t UnixTime() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

}  // namespace aster
