// The law: attention in float64, as slow and plain as it is written. Every kernel answers to it.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/attend.h"

namespace aster {

// Unpacked K and V of one layer: element (key, head, dim) of K at
// k + (key * n_kv_heads + head) * head_dim + dim; V likewise with head_dim_v.
struct PlainKv {
  const float* k = nullptr;
  const float* v = nullptr;
};

struct ReferenceResult {
  std::vector<double> out;  // [n_tokens, n_heads, head_dim_v]
  std::vector<double> lse;  // [n_tokens, n_heads]
};

// What Attend(call) should answer. Of call.kv only the size is used; out and lse are not touched.
ReferenceResult AttendReference(const AttendCall& call, const PlainKv& kv);

}  // namespace aster
