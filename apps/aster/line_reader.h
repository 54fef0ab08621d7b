// Lines from standard input, as they come.
#pragma once

#include <optional>
#include <string>

#include "aster/status.h"

namespace aster::cli {

class LineReader {
 public:
  // The next line without its end; nullopt at the end of the input. A last line without an end
  // counts. Errors, kWorld: the input cannot be read, or a line is longer than 64 MiB.
  Result<std::optional<std::string>> Next();

 private:
  std::string held_;  // read, not given out yet
  bool ended_ = false;
};

}  // namespace aster::cli
