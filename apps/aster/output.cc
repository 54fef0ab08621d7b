#include "output.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "text.h"

namespace aster::cli {
namespace {

std::string note_prefix = "aster: ";

// 0, or the errno of the write that failed.
int WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EAGAIN) {  // a terminal or pipe that someone made non-blocking
      pollfd ready{fd, POLLOUT, 0};
      poll(&ready, 1, -1);
    } else if (n < 0 && errno != EINTR) {
      return errno;
    } else if (n > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  return 0;
}

}  // namespace

Output::Output() : is_terminal_(isatty(STDOUT_FILENO) == 1) {}

bool Output::Write(std::string_view bytes) {
  if (failure_ == 0) failure_ = WriteAll(STDOUT_FILENO, bytes);
  return failure_ == 0;
}

bool Output::WriteText(std::string_view text) {
  return Write(is_terminal_ ? Printable(text) : std::string(text));
}

bool Output::Closed() {
  pollfd state{STDOUT_FILENO, 0, 0};
  if (failure_ == 0 && poll(&state, 1, 0) == 1 && (state.revents & POLLERR) != 0) failure_ = EPIPE;
  return failure_ != 0;
}

Status Output::status() const {
  if (failure_ == 0) return Ok();
  return WorldError(std::string("standard output: ") + std::strerror(failure_));
}

void OpenStandardDescriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    // Opened the wrong way round, so that using it is an error as it was before. The lowest free
    // descriptor is this one.
    if (open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) return;
  }
}

bool StderrIsTerminal() {
  static const bool is_terminal = isatty(STDERR_FILENO) == 1;
  return is_terminal;
}

void WriteStderr(std::string_view bytes) { WriteAll(STDERR_FILENO, bytes); }

void NoteRank(int rank) { note_prefix = "aster: rank " + std::to_string(rank) + ": "; }

void Note(std::string_view text) { WriteStderr(note_prefix + OneLine(text) + "\n"); }

}  // namespace aster::cli
