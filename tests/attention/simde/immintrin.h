// Found before the compiler's <immintrin.h> when the AVX-512 and AMX kernels are built for the
// tests: SIMDe's portable emulation under the same names, and the few names that SIMDe 0.7.4 lacks.
#pragma once

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/avx512/dpbf16.h>
#include <simde/x86/fma.h>
#include <stdint.h>

static inline float AsterReduce(__m512 x, float (*join)(float, float)) {
  float lane[16];
  _mm512_storeu_ps(lane, x);
  for (int n = 8; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) lane[i] = join(lane[i], lane[i + n]);
  }
  return lane[0];
}
static inline float AsterAdd(float a, float b) { return a + b; }
static inline float AsterMax(float a, float b) { return a > b ? a : b; }
#define _mm512_reduce_add_ps(x) AsterReduce(x, AsterAdd)
#define _mm512_reduce_max_ps(x) AsterReduce(x, AsterMax)

static inline __m256bh AsterToBf16(__m512 x) {
  uint32_t bits[16];
  uint16_t rounded[16];
  _mm512_storeu_ps(bits, x);
  for (int i = 0; i < 16; ++i) {
    rounded[i] = (uint16_t)((bits[i] + 0x7fff + (bits[i] >> 16 & 1)) >> 16);
  }
  __m256bh result;
  __builtin_memcpy(&result, rounded, sizeof result);
  return result;
}
#define _mm512_cvtneps_pbh(x) AsterToBf16(x)

// x - floor(x): the one rounding that is asked for. 0 at -inf.
static inline __m512 AsterFraction(__m512 x) {
  float lane[16];
  _mm512_storeu_ps(lane, x);
  for (int i = 0; i < 16; ++i) {
    lane[i] = __builtin_isinf(lane[i]) ? 0.0f : lane[i] - __builtin_floorf(lane[i]);
  }
  return _mm512_loadu_ps(lane);
}
#undef _mm512_reduce_ps
#define _mm512_reduce_ps(x, mode) AsterFraction(x)

// a 2^floor(b), exact, which SIMDe's is not for b below -126.
static inline __m512 AsterScale(__m512 a, __m512 b) {
  float x[16], by[16];
  _mm512_storeu_ps(x, a);
  _mm512_storeu_ps(by, b);
  for (int i = 0; i < 16; ++i) {
    const float n = by[i] < -1000.0f ? -1000.0f : by[i] > 1000.0f ? 1000.0f : by[i];
    x[i] = __builtin_ldexpf(x[i], (int)__builtin_floorf(n));
  }
  return _mm512_loadu_ps(x);
}
#undef _mm512_scalef_ps
#define _mm512_scalef_ps(a, b) AsterScale(a, b)

// 128-bit quarters: two of a, then two of b.
static inline __m512 AsterShuffleQuarters(__m512 a, __m512 b, int which) {
  float from[2][16], to[16];
  _mm512_storeu_ps(from[0], a);
  _mm512_storeu_ps(from[1], b);
  for (int quarter = 0; quarter < 4; ++quarter, which >>= 2) {
    for (int i = 0; i < 4; ++i) to[4 * quarter + i] = from[quarter / 2][4 * (which & 3) + i];
  }
  return _mm512_loadu_ps(to);
}
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_f32x4(a, b, which) AsterShuffleQuarters(a, b, which)
