// How far the encoding is, on standard error: on a terminal one line with a bar, redrawn in place
// and cleared at the end; elsewhere a plain line after every tenth of the work or five seconds.
#pragma once

#include <chrono>
#include <string>

#include "aster/context.h"

namespace aster::cli {

// "encoding  [=====>    ]  52 %  3,379 of 6,498 tokens  1,650 tokens/s  2 s left", at most `width`
// columns: what does not fit is left out, from the right.
std::string ProgressBar(const Progress& progress, int width);
// "encoded 3,379 of 6,498 tokens (52 %), 1,650 tokens/s, 2 s left".
std::string ProgressLine(const Progress& progress);

class ProgressView {
 public:
  explicit ProgressView(bool wanted);
  ~ProgressView() { Clear(); }
  ProgressView(const ProgressView&) = delete;
  ProgressView& operator=(const ProgressView&) = delete;

  // A word on what goes on, on a terminal only.
  void Say(const std::string& what);
  void Update(const Progress& progress);
  // Takes the line off the terminal.
  void Clear();

 private:
  enum class Manner { kNone, kLines, kBar };
  using Clock = std::chrono::steady_clock;

  void UpdateBar(const Progress& progress);
  void UpdateLines(const Progress& progress);

  const Manner manner_;
  bool drawn_ = false;
  Clock::time_point shown_at_;
  double shown_share_ = 0;
};

}  // namespace aster::cli
