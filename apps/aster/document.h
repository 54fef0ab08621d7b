// Documents as they come from files and standard input: whole, checked to be text, joined.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "aster/status.h"

namespace aster::cli {

// More than any model can take in; ends endless inputs such as /dev/zero or `yes |` with an error.
inline constexpr std::size_t kMaxDocumentBytes = std::size_t{1} << 30;

// Reads the file, or standard input for "-". A byte order mark at the start is dropped; nothing
// else is changed. Errors, kWorld, naming the file: cannot be opened or read, a directory, empty or
// only white space, a NUL byte, not UTF-8 (with the offset of the first bad byte), too large.
Result<std::string> ReadDocument(const std::string& path);

// The check alone; `name` is for the error message.
Status CheckText(std::string_view text, const std::string& name);

// The files in order, a blank line between each two.
Result<std::string> ReadDocuments(const std::vector<std::string>& paths);

// The parts in order; where one does not end in a blank line, one is put after it.
std::string JoinDocuments(const std::vector<std::string>& parts);

}  // namespace aster::cli
