// The table of the AVX-512 kernels that multiply bf16.
#include "attention/isa/avx512bf16-inl.h"
#include "attention/isa/kernels-inl.h"

namespace aster {
extern const Kernels kAvx512Bf16Kernels = {"avx512bf16", kAvx512 | kAvx512Bf16,
                                           Avx512Bf16::kRowsPerBlock, true, &Attend<Avx512Bf16>};
}  // namespace aster
