#include "progress_view.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "numbers.h"
#include "output.h"
#include "text.h"

namespace aster::cli {
namespace {

constexpr std::string_view kClearLine = "\r\x1b[K";

double Share(const Progress& p) {
  if (p.n_total <= 0) return 1;
  return static_cast<double>(p.n_done) / static_cast<double>(p.n_total);
}

std::string Speed(const Progress& p) {
  return FormatRate(p.seconds > 0 ? static_cast<double>(p.n_done) / p.seconds : 0) + " tokens/s";
}

std::string Counts(const Progress& p) {
  return FormatCount(p.n_done) + " of " + FormatCount(p.n_total) + " tokens";
}

// Whole seconds: it is an estimate.
std::string TimeLeft(const Progress& p) {
  const double seconds = std::ceil(std::max(p.seconds_left, 0.0));
  if (seconds >= 60) return FormatSeconds(seconds) + " left";
  return std::to_string(static_cast<int>(seconds)) + " s left";
}

int TerminalWidth() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string Bar(double share) {
  constexpr std::size_t kWidth = 20;
  const auto full = static_cast<std::size_t>(std::clamp(share, 0.0, 1.0) * kWidth);
  std::string bar(full, '=');
  if (full < kWidth) bar += '>';
  bar.resize(kWidth, ' ');
  return "[" + bar + "]";
}

std::string PaddedLeft(std::string text, std::size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

}  // namespace

std::string ProgressBar(const Progress& p, int width) {
  std::vector<std::string> parts{Bar(Share(p)) + PaddedLeft(FormatPercent(Share(p)), 6), Counts(p)};
  if (p.n_done > 0) parts.push_back(Speed(p));
  if (p.n_done > 0) parts.push_back(TimeLeft(p));
  std::string line = "encoding";
  for (const std::string& part : parts) {
    if (line.size() + 2 + part.size() > static_cast<std::size_t>(std::max(width - 1, 0))) break;
    line += "  " + part;
  }
  return line;
}

std::string ProgressLine(const Progress& p) {
  const bool done = p.n_done >= p.n_total;
  return "encoded " + Counts(p) + " (" + FormatPercent(Share(p)) + "), " + Speed(p) + ", " +
         (done ? "in " + FormatSeconds(p.seconds) : TimeLeft(p));
}

ProgressView::ProgressView(bool wanted)
    : manner_(!wanted              ? Manner::kNone
              : StderrIsTerminal() ? Manner::kBar
                                   : Manner::kLines) {}

void ProgressView::Say(const std::string& what) {
  if (manner_ != Manner::kBar) return;
  WriteStderr(std::string(kClearLine) + OneLine(what));
  drawn_ = true;
}

void ProgressView::Update(const Progress& progress) {
  if (manner_ == Manner::kBar) UpdateBar(progress);
  if (manner_ == Manner::kLines) UpdateLines(progress);
}

void ProgressView::Clear() {
  if (drawn_) WriteStderr(kClearLine);
  drawn_ = false;
}

void ProgressView::UpdateBar(const Progress& progress) {
  const Clock::time_point now = Clock::now();
  if (drawn_ && progress.n_done > 0 && now - shown_at_ < std::chrono::milliseconds(50)) return;
  shown_at_ = now;
  WriteStderr(std::string(kClearLine) + ProgressBar(progress, TerminalWidth()));
  drawn_ = true;
}

void ProgressView::UpdateLines(const Progress& progress) {
  const Clock::time_point now = Clock::now();
  if (progress.n_done == 0) {
    shown_at_ = now;
    shown_share_ = 0;
    return;
  }
  const bool is_step = Share(progress) - shown_share_ >= 0.1 || progress.n_done >= progress.n_total;
  if (!is_step && now - shown_at_ < std::chrono::seconds(5)) return;
  shown_at_ = now;
  shown_share_ = Share(progress);
  Note(ProgressLine(progress));
}

}  // namespace aster::cli
