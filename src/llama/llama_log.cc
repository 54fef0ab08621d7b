#include "llama/llama_log.h"

#include <atomic>
#include <cstdio>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>

#include "llama.h"
#include "log.h"

namespace aster {
namespace {

std::atomic<bool> verbose_log{false};
thread_local std::string first_error;

// "llama_model_load: error loading model: x\n" -> "error loading model: x"
std::string_view WithoutFunctionName(std::string_view line) {
  const std::size_t colon = line.find(": ");
  if (colon != std::string_view::npos &&
      line.substr(0, colon).find(' ') == std::string_view::npos) {
    line.remove_prefix(colon + 2);
  }
  while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.remove_suffix(1);
  return line;
}

void OnLog(ggml_log_level level, const char* text, void*) {
  // The first error names the cause; those after it, what failed because of it.
  if (level == GGML_LOG_LEVEL_ERROR && first_error.empty()) {
    first_error = WithoutFunctionName(text);
  }
  if (verbose_log) std::fputs(text, stderr);
}

}  // namespace

void SetLlamaLog(bool verbose) {
  // llama.cpp's settings are plain variables: models that load at once leave them alone.
  static std::mutex mutex;
  static std::optional<bool> set;
  const std::lock_guard lock(mutex);
  if (set == verbose) return;
  set = verbose_log = verbose;
  llama_log_set(OnLog, nullptr);
  common_log_set_verbosity_thold(verbose ? 3 : -1);
}

std::string TakeLlamaError() { return std::exchange(first_error, {}); }

}  // namespace aster
