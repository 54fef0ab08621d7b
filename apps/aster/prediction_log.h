// predictions.jsonl of an evaluation's folder: what it holds, and lines put behind it.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "aster/status.h"
#include "eval/predictions.h"

namespace aster::cli {

// Open for one process at a time. Every line is written as it comes, so that a run that is stopped
// loses none. A file that holds none at the end is not kept.
class PredictionLog {
 public:
  // Makes the folder where there is none. Errors: kWorld when the file cannot be read or written,
  // holds something else, or is in use.
  static Result<PredictionLog> Open(const std::string& folder);
  PredictionLog(PredictionLog&& other) noexcept;
  ~PredictionLog();

  const std::vector<eval::Prediction>& predictions() const { return predictions_; }
  bool Holds(const eval::Prediction& prediction) const;
  Status Append(eval::Prediction prediction);

 private:
  PredictionLog() = default;
  Error SystemError() const;

  std::string path_;
  int fd_ = -1;
  bool is_ours_ = false;  // locked and read whole
  std::vector<eval::Prediction> predictions_;
  std::set<std::string> keys_;
};

}  // namespace aster::cli
