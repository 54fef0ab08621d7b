#include "prediction_log.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

namespace aster::cli {

using eval::Prediction;

Result<PredictionLog> PredictionLog::Open(const std::string& folder) {
  std::error_code ec;
  std::filesystem::create_directories(folder, ec);
  if (ec) return WorldError(folder + ": " + ec.message() + "; expected a folder");
  PredictionLog log;
  log.path_ = folder + "/predictions.jsonl";
  log.fd_ = open(log.path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0666);
  if (log.fd_ < 0) return log.SystemError();
  if (flock(log.fd_, LOCK_EX | LOCK_NB) != 0) {
    return WorldError(log.path_ + ": another aster eval writes to it; expected one at a time");
  }
  std::int64_t n_whole = 0;
  Result<std::vector<Prediction>> found = eval::ReadPredictions(log.path_, &n_whole);
  if (!found) return found.error();
  log.predictions_ = std::move(*found);
  for (const Prediction& one : log.predictions_) log.keys_.insert(one.Key());
  // A line that a crash cut off goes.
  if (ftruncate(log.fd_, n_whole) != 0) return log.SystemError();
  log.is_ours_ = true;
  return log;
}

PredictionLog::PredictionLog(PredictionLog&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      is_ours_(std::exchange(other.is_ours_, false)),
      predictions_(std::move(other.predictions_)),
      keys_(std::move(other.keys_)) {}

PredictionLog::~PredictionLog() {
  if (fd_ < 0) return;
  // A file without predictions tells nobody anything. One that could not be read, or that another
  // process writes to, is no such file.
  if (is_ours_ && predictions_.empty()) unlink(path_.c_str());
  close(fd_);
}

bool PredictionLog::Holds(const Prediction& prediction) const {
  return keys_.contains(prediction.Key());
}

Status PredictionLog::Append(Prediction prediction) {
  const std::string line = JsonLine(prediction);
  for (std::size_t at = 0; at < line.size();) {
    const ssize_t n = write(fd_, line.data() + at, line.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError();
    at += static_cast<std::size_t>(n);
  }
  keys_.insert(prediction.Key());
  predictions_.push_back(std::move(prediction));
  return Ok();
}

Error PredictionLog::SystemError() const { return WorldError(path_ + ": " + std::strerror(errno)); }

}  // namespace aster::cli
