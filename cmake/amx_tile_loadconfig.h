// Force-included into ggml-cpu's sources when GCC builds them for x86-64.
//
// GCC 12's _tile_loadconfig tells the compiler that it reads 8 of the struct's 64 bytes, so the
// stores to the other 56 may be dropped, and the next tile instruction dies with SIGILL. This one
// names all 64 bytes as input. Without AMX the file is empty.
#ifndef ASTER_AMX_TILE_LOADCONFIG_H_
#define ASTER_AMX_TILE_LOADCONFIG_H_
#ifdef __AMX_TILE__
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(config) \
  __asm__ volatile("ldtilecfg\t%0" : : "m"(*(const char(*)[64])(config)))
#endif
#endif  // ASTER_AMX_TILE_LOADCONFIG_H_
