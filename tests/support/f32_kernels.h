// Include it where a law holds to the last bits of f32: the program then attends by the best
// kernels of this CPU that keep f32, unless ASTER_ISA names others.
//
// The bf16 kernels round Q and the softmax's weights, so that the last bit of a sum, which differs
// with the number of rows and of partial results, may come out as a whole step of bf16: KL
// divergences of 1e-4 and other greedy tokens of a tiny random model (seen on a Zen 4). Their own
// arithmetic is held against float64 in tests/attention, and whole models by them in tests/models.
#pragma once

#include <cstdlib>

#include "attention/kernels.h"

namespace aster {

inline const bool kAttendsInF32 = [] {
  for (const Kernels* const* k = AllKernels(); *k != nullptr; ++k) {
    if (!(*k)->rounds_to_bf16 && CanRun(**k)) return setenv("ASTER_ISA", (*k)->name, 0) == 0;
  }
  return false;
}();

}  // namespace aster
