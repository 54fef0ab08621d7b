// The settings that an evaluation compares: full attention, and star in the forms asked for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "aster/plan.h"
#include "command_line.h"

namespace aster::cli {

struct EvalSetting {
  // "dense", "star L/4", "star 1K anchor L/4 window 1 overlap 256"; "star auto window 0", since
  // there the window decides on the block.
  std::string name;
  Attention attention = Attention::kDense;
  SizeOption block, anchor;
  std::int64_t window = 0;
  std::int64_t overlap = 0;

  // For a context of a sample made for `length` tokens; a length of 0 stands for the context's own,
  // rounded up to 1,024. A context that one block or the anchor holds is dense: it sees the same.
  PlanOptions PlanFor(std::int64_t n_context, std::int64_t length) const;
};

// Every kind of attention once, and star with every combination of its sizes; of these the ones
// that
// --only names. Errors: kInvalidArgument for a name that is none of theirs.
Result<std::vector<EvalSetting>> MakeSettings(const EvalOptions& options, int n_hosts);

}  // namespace aster::cli
