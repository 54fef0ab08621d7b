// CHECK: an invariant of ours. A failure is a bug, prints where and what, and aborts; it is never
// reachable from input. What the world got wrong is a Result, not a CHECK.
#pragma once

#include <cstdio>
#include <cstdlib>

#define ASTER_CHECK(condition, ...)                                                      \
  do {                                                                                   \
    if (!(condition)) [[unlikely]] {                                                     \
      std::fprintf(stderr, "%s:%d: CHECK(%s) failed: ", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, __VA_ARGS__);                                                 \
      std::fputc('\n', stderr);                                                          \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
