// What a JSON schema may ask of llama.cpp's grammar. Its builder recurses, copies and unfolds as a
// schema says, and its time for a token grows with the ways in which a pattern can match nothing.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "serve/json_body.h"

namespace aster::serve {

inline constexpr double kMaxRepetitions = 1000;  // of nested ones, multiplied
inline constexpr std::int64_t kMaxCount = 2000;  // of minItems, maxLength and their like
inline constexpr std::size_t kMaxPatternBytes = 1024;
inline constexpr std::size_t kMaxNameBytes = 256;     // of a property or reference
inline constexpr std::size_t kMaxSchemaParts = 2000;  // as unfolded
inline constexpr std::size_t kMaxToolsParts = 4000;   // of all tools of a request
inline constexpr std::size_t kMaxAlternatives = 100000;
inline constexpr int kMaxSchemaDepth = 100;       // with references followed
inline constexpr std::size_t kMaxOptional = 100;  // properties of one object
inline constexpr std::size_t kMaxSchemaBytes = 256 << 10;
inline constexpr std::size_t kBytesAPart = 1024;  // of what is copied for each of its types

// The most repetitions within repetitions of a regular expression, multiplied, those side by side
// in what is repeated added first; ?, * and + count 2.
double NestedRepetitions(std::string_view pattern);

// Whether the grammar can hold to a pattern: whole between ^ and $, without look-around, classes
// such as \d or anchors within. Of others llama.cpp would say so on standard error and take any
// string.
bool IsPatternKept(std::string_view pattern);

// Takes the patterns out that the grammar can't hold to. The first of them; empty: there is none.
std::string LeaveOutPatterns(Json& schema);

// Gives what has one bound, of 16 digits, the other bound too. llama.cpp's converter makes no
// integers beyond it anyway, and without it would repeat digits {15,14} times.
void CloseLongBounds(Json& schema);

// What is expected of a schema that asks too much, "at most ..."; empty: it does not.
std::string TooMuchOf(const Json& schema);

// As above, of one of a request's schemas: n_all is the parts of those before it, and is added to.
std::string TooMuchOf(const Json& schema, std::size_t& n_all);

}  // namespace aster::serve
