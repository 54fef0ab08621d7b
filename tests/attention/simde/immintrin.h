// Found before the compiler's <immintrin.h> when isa/avx512.cc is built for the tests: SIMDe's
// portable emulation under the same names, and the few names that SIMDe 0.7.4 lacks.
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
