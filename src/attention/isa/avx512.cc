// The AVX-512 kernels' table.
#include "attention/isa/avx512-inl.h"
#include "attention/isa/kernels-inl.h"

namespace aster {
extern const Kernels kAvx512Kernels = {"avx512", kAvx512, Avx512::kRowsPerBlock, false,
                                       &Attend<Avx512>};
}  // namespace aster
