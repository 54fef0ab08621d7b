// The AVX-512 kernels, built against SIMDe for a CPU with AVX2, so that every machine tests them.
#include "attention/isa/avx512-inl.h"
#include "attention/isa/kernels-inl.h"

namespace aster {
extern const Kernels kAvx512EmulatedKernels = {"avx512_emulated", kAvx2, Avx512::kRowsPerBlock,
                                               false, &Attend<Avx512>};
}  // namespace aster
