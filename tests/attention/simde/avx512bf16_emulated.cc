// The AVX-512 kernels that multiply bf16, built against SIMDe for a CPU with AVX2.
#include "attention/isa/avx512bf16-inl.h"
#include "attention/isa/kernels-inl.h"

namespace aster {
extern const Kernels kAvx512Bf16EmulatedKernels = {
    "avx512bf16_emulated", kAvx2, Avx512Bf16::kRowsPerBlock, true, &Attend<Avx512Bf16>};
}  // namespace aster
