// How right an answer is, as the benchmarks' own scorers have it.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "eval/tasks.h"

namespace aster::eval {

// In lower case as Unicode has it, so that other languages' scorers see the same. Bytes that are no
// UTF-8 stay.
std::string LowerCase(std::string_view text);

// A score in [0, 1]. RULER's scorers look for each reference anywhere in the prediction, blind to
// case; several equal references count each. BABILong's, kLabel, looks at the first sentence alone;
// a label that the question itself names is not looked for, and a reference may be several labels
// with commas between.
// REQUIRES: references is not empty.
double Score(const Task& task, std::string_view prediction, std::span<const std::string> references,
             std::string_view question);

}  // namespace aster::eval
