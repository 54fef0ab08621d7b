// Text from outside: whether it is text, and how to show it without obeying it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace aster::cli {

// Offset of the first byte that begins no well-formed UTF-8 character (RFC 3629: no overlong forms,
// no surrogates, nothing past U+10FFFF); nullopt when the whole text is well-formed.
std::optional<std::size_t> FindInvalidUtf8(std::string_view text);

// True when there is nothing but ASCII white space.
bool IsBlank(std::string_view text);

// The text with its control characters made visible, so that a terminal shows them and does not act
// on them: ESC as ^[, DEL as ^?, C1 controls as <U+009B>, bytes that are no UTF-8 as <FF>. Line
// feed and tab stay as they are.
std::string Printable(std::string_view text);

// Printable, and on one line: line feed and tab become ^J and ^I too.
std::string OneLine(std::string_view text);

// A value for an error message: as it is, in quotes where it is empty or has spaces at an end, cut
// after 60 bytes.
std::string Shown(std::string_view value);

}  // namespace aster::cli
