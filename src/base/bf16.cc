#include "base/bf16.h"

#include "base/amx.h"

namespace aster {

bool Bf16IsFaster() noexcept {
#if defined(__x86_64__)
  if (MayUseAmx()) return true;
  return __builtin_cpu_supports("avx512bf16") && !__builtin_cpu_is("intel");
#else
  return false;
#endif
}

}  // namespace aster
