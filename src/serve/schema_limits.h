// What a JSON schema may ask of llama.cpp's grammar: its time for a token grows with the ways in
// which a pattern can match nothing, and repetitions within repetitions multiply them.
#pragma once

#include <string_view>

#include "serve/json_body.h"

namespace aster::serve {

inline constexpr double kMaxRepetitions = 1000;  // of nested ones, multiplied

// The most repetitions within repetitions of a regular expression, multiplied; ?, * and + count 2.
double NestedRepetitions(std::string_view pattern);

// Whether all patterns of a schema keep to kMaxRepetitions.
bool PatternsAreTame(const Json& schema);

}  // namespace aster::serve
