// Rows of a packed weight as f32, for the weight types whose ggml conversion is not vectorised.
#pragma once

#include <cstdint>

#include "ggml.h"

namespace aster {

// k values of one row into out. REQUIRES: k is a multiple of the type's block size.
using DequantizeRow = void (*)(const void* row, float* out, std::int64_t k);

// The conversion of a weight type to f32, or null where ggml has none (F32 among them). Every one
// gives the very floats that ggml's own gives.
DequantizeRow RowDequantizer(ggml_type type);

}  // namespace aster
