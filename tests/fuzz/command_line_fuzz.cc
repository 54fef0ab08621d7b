// Fuzz target: arguments, sizes, documents. The bytes are taken as a command line (an argument ends
// with a line feed or a NUL), as a size, as a document and as text for a terminal; what must hold
// of any result is checked.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aster/plan.h"
#include "base/check.h"
#include "command_line.h"
#include "document.h"
#include "text.h"

namespace aster::cli {
namespace {

std::vector<std::string> SplitArguments(std::string_view bytes) {
  std::vector<std::string> arguments;
  while (!bytes.empty()) {
    const std::size_t end = bytes.find_first_of(std::string_view("\n\0", 2));
    arguments.emplace_back(bytes.substr(0, end));
    if (end == std::string_view::npos) break;
    bytes.remove_prefix(end + 1);
  }
  return arguments;
}

void CheckRanges(const Options& o) {
  const SamplingOptions& s = o.sampling;
  ASTER_CHECK(s.temperature >= 0 && s.top_p > 0 && s.top_p <= 1 && s.min_p >= 0 && s.min_p <= 1,
              "%g %g %g", s.temperature, s.top_p, s.min_p);
  ASTER_CHECK(s.top_k >= 0 && s.repeat_penalty > 0 && s.repeat_last_n >= 0, "%d", s.top_k);
  ASTER_CHECK(o.plan.block_size == 0 || o.plan.block_size >= kMinBlockSize, "block size");
  ASTER_CHECK(o.plan.window >= kAutoWindow && o.plan.window <= kMostWindow, "window");
  ASTER_CHECK(o.plan.overlap >= 0, "overlap");
  ASTER_CHECK(o.plan.anchor_size >= -1 && o.model_options.ubatch_size >= 1, "sizes");
  // --help and --version answer whatever else is there.
  if (o.command == Command::kHelp || o.command == Command::kVersion) return;
  ASTER_CHECK(o.max_tokens == -1 || o.max_tokens > 0, "-n");
  ASTER_CHECK(o.command != Command::kAsk || !o.queries.empty(), "ask without a question");
  ASTER_CHECK(o.command != Command::kChat || !o.files.empty(), "chat without a document");
  for (const std::string& query : o.queries) {
    ASTER_CHECK(!IsBlank(query) && !FindInvalidUtf8(query), "a query that is no text");
  }
}

void FuzzArguments(std::string_view bytes) {
  const Result<Options> options = ParseCommandLine(SplitArguments(bytes));
  if (options) return CheckRanges(*options);
  ASTER_CHECK(options.error().kind == ErrorKind::kInvalidArgument, "not a usage error");
  ASTER_CHECK(!options.error().message.empty(), "no message");
}

void FuzzSizes(std::string_view bytes) {
  const Result<std::int64_t> count = ParseTokenCount(bytes);
  ASTER_CHECK(!count || *count >= 0, "a count of %lld", static_cast<long long>(*count));
  ASTER_CHECK(!ParseAttention(bytes) || AttentionName(*ParseAttention(bytes)) == bytes,
              "attention");
}

void FuzzText(std::string_view bytes) {
  for (const std::string& shown : {Printable(bytes), OneLine(bytes)}) {
    ASTER_CHECK(!FindInvalidUtf8(shown), "shown text is not UTF-8");
    ASTER_CHECK(Printable(shown) == shown, "showing twice is not showing once");
    ASTER_CHECK(shown.find('\x1b') == std::string::npos, "an escape goes through");
  }
  ASTER_CHECK(OneLine(bytes).find('\n') == std::string::npos, "more than one line");
}

void FuzzDocument(std::string_view bytes) {
  const int fd = memfd_create("document", MFD_CLOEXEC);
  ASTER_CHECK(fd >= 0 && write(fd, bytes.data(), bytes.size()) == std::ssize(bytes), "memfd");
  const Result<std::string> text = ReadDocument("/proc/self/fd/" + std::to_string(fd));
  close(fd);
  const bool is_text = CheckText(bytes, "document").ok();
  ASTER_CHECK(text.ok() == is_text, "the file and its bytes are judged differently");
  if (!text) return;
  ASTER_CHECK(bytes.ends_with(*text) && bytes.size() - text->size() <= 3, "text was lost");
  const std::string joined = JoinDocuments({*text, *text});
  ASTER_CHECK(joined.starts_with(*text) && joined.ends_with(*text), "joining lost text");
  ASTER_CHECK(joined.size() <= 2 * text->size() + 2, "joining added text");
}

}  // namespace
}  // namespace aster::cli

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  aster::cli::FuzzArguments(bytes);
  aster::cli::FuzzSizes(bytes);
  aster::cli::FuzzText(bytes);
  aster::cli::FuzzDocument(bytes);
  return 0;
}
