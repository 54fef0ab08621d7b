#include "line_reader.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace aster::cli {

Result<std::optional<std::string>> LineReader::Next() {
  constexpr std::size_t kLongest = std::size_t{64} << 20;
  std::size_t searched = 0;
  while (true) {
    if (const std::size_t end = held_.find('\n', searched); end != std::string::npos) {
      std::optional<std::string> line = held_.substr(0, end);
      held_.erase(0, end + 1);
      return line;
    }
    searched = held_.size();
    if (ended_) {
      if (held_.empty()) return std::optional<std::string>();
      return std::optional(std::exchange(held_, {}));
    }
    if (held_.size() > kLongest) {
      return WorldError("standard input: a line of more than 64 MiB; expected a question a line");
    }
    char chunk[1 << 16];
    const ssize_t got = read(STDIN_FILENO, chunk, sizeof chunk);
    if (got < 0 && errno != EINTR) {
      return WorldError(std::string("standard input: ") + std::strerror(errno));
    }
    if (got == 0) ended_ = true;
    if (got > 0) held_.append(chunk, static_cast<std::size_t>(got));
  }
}

}  // namespace aster::cli
