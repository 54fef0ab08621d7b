// SIGINT (Ctrl-C) and SIGTERM. One thread waits for them, so nothing runs in a signal handler: the
// first ends the work under way through its stop token, a second ends the program at once, and so
// does the first where no work is under way (a prompt, a model being loaded).
#pragma once

#include <mutex>
#include <stop_token>

namespace aster::cli {

// Blocks the two signals in this thread and in all that it starts later, ignores SIGPIPE, and
// starts the thread that waits. Called once, first in main. A signal that the parent ignored
// (nohup) stays ignored.
void StartSignals();

// Undoes that for a program that this process becomes by exec.
void RestoreSignals();

// Work that a signal ends cleanly, for as long as this object lives. At most one lives at a time.
class Interruptible {
 public:
  Interruptible();
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

  std::stop_token token() const { return source_.get_token(); }
  // Ends the work for a reason of our own: the output is closed.
  void Stop() { source_.request_stop(); }
  // The signal that ended the work; 0 = none.
  int signal() const;

  // The signal thread's side. False when a signal came before.
  bool Raise(int number);

 private:
  std::stop_source source_;
  mutable std::mutex mutex_;
  int signal_ = 0;
};

// The last signal that ended some work; 0 = none.
int LastSignal();

// 130 for SIGINT, 143 for SIGTERM.
inline int ExitCodeOf(int signal) { return 128 + signal; }

}  // namespace aster::cli
