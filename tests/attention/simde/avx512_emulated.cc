// The AVX-512 kernels, built against SIMDe for a CPU with AVX2, so that every machine tests them.
#define kAvx512Kernels kAvx512KernelsAsWritten
#include "attention/isa/avx512.cc"
#undef kAvx512Kernels

namespace aster {
extern const Kernels kAvx512EmulatedKernels = {"avx512_emulated", kAvx2, Avx512::kRowsPerBlock,
                                               true, &Attend<Avx512>};
}  // namespace aster
