// What this machine takes for a token and for a (query, key) pair: the cost model's numbers.
#pragma once

#include <cstdint>

#include "aster/spread.h"

namespace aster::internal {

class ModelState;

// Runs a few passes of tokens that mean nothing, for about a second; the link's numbers stay zero.
HostSpeed MeasureSpeed(ModelState& model);

// Memory of a pass that takes n_tokens at once, without the KV store, in bytes. An estimate from
// above: the mask, and the widest tensors of a layer.
std::int64_t LargePassBytes(const ModelState& model, std::int64_t n_tokens);

}  // namespace aster::internal
