#include "document.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "numbers.h"
#include "text.h"

namespace aster::cli {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::string NameOf(const std::string& path) { return path == "-" ? "standard input" : path; }

Error SystemError(const std::string& name) {
  return WorldError(name + ": " + std::strerror(errno) + "; expected a text file");
}

class OpenFile {
 public:
  explicit OpenFile(const std::string& path)
      : owned_(path != "-"),
        fd_(owned_ ? open(path.c_str(), O_RDONLY | O_CLOEXEC) : STDIN_FILENO) {}
  ~OpenFile() {
    if (owned_ && fd_ >= 0) close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd() const { return fd_; }

 private:
  const bool owned_;
  const int fd_;
};

// Stops at the first NUL, too: it is in the text then, and CheckText finds it.
Result<std::string> ReadAll(int fd, const std::string& name) {
  constexpr std::size_t kChunk = std::size_t{1} << 18;
  std::string text;
  while (true) {
    const std::size_t had = text.size();
    text.resize(had + kChunk);
    const ssize_t got = read(fd, text.data() + had, kChunk);
    text.resize(had + static_cast<std::size_t>(got > 0 ? got : 0));
    if (got == 0) return text;
    if (got < 0 && errno != EINTR) return SystemError(name);
    if (text.find('\0', had) != std::string::npos) return text;
    if (text.size() > kMaxDocumentBytes) {
      return WorldError(name + ": more than " + FormatCount(kMaxDocumentBytes) +
                        " bytes; expected a smaller document");
    }
  }
}

}  // namespace

Status CheckText(std::string_view text, const std::string& name) {
  if (text.empty()) return WorldError(name + ": empty; expected text");
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return WorldError(name + ": not text: byte " + FormatCount(static_cast<std::int64_t>(nul)) +
                      " is NUL; expected a UTF-8 text file");
  }
  if (const auto bad = FindInvalidUtf8(text)) {
    return WorldError(name + ": not UTF-8: bad character at byte " +
                      FormatCount(static_cast<std::int64_t>(*bad)) +
                      "; expected UTF-8 (convert it, e.g. with iconv -f latin1 -t utf-8)");
  }
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (IsBlank(text)) return WorldError(name + ": only white space; expected text");
  return Ok();
}

Result<std::string> ReadDocument(const std::string& path) {
  const std::string name = NameOf(path);
  const OpenFile file(path);
  if (file.fd() < 0) return SystemError(name);
  Result<std::string> text = ReadAll(file.fd(), name);
  if (!text) return text;
  const Status is_text = CheckText(*text, name);
  if (!is_text) return is_text.error();
  if (text->starts_with(kByteOrderMark)) text->erase(0, kByteOrderMark.size());
  return text;
}

std::string JoinDocuments(const std::vector<std::string>& parts) {
  std::string joined;
  for (const std::string& part : parts) {
    if (!joined.empty()) {
      joined += joined.ends_with("\n\n") ? "" : joined.ends_with('\n') ? "\n" : "\n\n";
    }
    joined += part;
  }
  return joined;
}

Result<std::string> ReadDocuments(const std::vector<std::string>& paths) {
  std::vector<std::string> parts;
  for (const std::string& path : paths) {
    Result<std::string> part = ReadDocument(path);
    if (!part) return part;
    parts.push_back(std::move(*part));
  }
  return JoinDocuments(parts);
}

}  // namespace aster::cli
