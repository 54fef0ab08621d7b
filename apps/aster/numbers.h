// Numbers in and out of text. None of it looks at the locale: 0.5 is read and written with a point
// whatever LC_NUMERIC says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace aster::cli {

// The whole text as a decimal number; nullopt for anything else, also "", " 1", "+1", "nan", "inf"
// and what does not fit.
std::optional<std::int64_t> ParseInteger(std::string_view text);
std::optional<double> ParseReal(std::string_view text);

// "8G", "512M", "64K", "1000": bytes, in steps of 1,024; nullopt as above.
std::optional<std::int64_t> ParseBytes(std::string_view text);

// "6,498".
std::string FormatCount(std::int64_t n);
// Three significant digits, more where the whole part needs them: "0.0421", "1.76", "52.3",
// "1,757".
std::string FormatRate(double value);
// "42 ms", "0.42 s", "12.3 s", "1:05 min", "1:02:03 h".
std::string FormatSeconds(double seconds);
// A share in [0, 1] as "37 %".
std::string FormatPercent(double share);

}  // namespace aster::cli
