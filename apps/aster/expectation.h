// How accurate star may be expected to be, from what was measured.
#pragma once

#include <string>

#include "aster/plan.h"

namespace aster::cli {

// "expect 98 % (92 to 104) of dense's RULER score, as seen on 2 small models at 4K to 8K": the
// share that star kept, with its 95 % interval, in the runs pooled in data/accuracy.json under the
// plan's window and overlap, for the least measured number of blocks that is not less than the
// plan's. It says so where nothing was measured: more blocks, smaller ones, another window, an
// anchor that is not a block. Empty for a plan that sees all that dense sees.
std::string Expectation(const Plan& plan);

}  // namespace aster::cli
