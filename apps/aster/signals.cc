#include "signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/check.h"
#include "output.h"

namespace aster::cli {
namespace {

std::mutex current_mutex;
Interruptible* current = nullptr;
std::atomic<int> last_signal = 0;

sigset_t Waited() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM}) {
    struct sigaction action {};
    sigaction(number, nullptr, &action);
    if (action.sa_handler != SIG_IGN) sigaddset(&set, number);
  }
  return set;
}

void Take(int number) {
  const std::lock_guard lock(current_mutex);
  if (current != nullptr && current->Raise(number)) return;
  if (StderrIsTerminal()) WriteStderr("\r\x1b[K");  // a progress bar, or the ^C of the terminal
  _exit(ExitCodeOf(number));
}

}  // namespace

void StartSignals() {
  signal(SIGPIPE, SIG_IGN);
  const sigset_t set = Waited();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::thread([set] {
    int number = 0;
    while (sigwait(&set, &number) == 0) Take(number);
  }).detach();
}

void RestoreSignals() {
  signal(SIGPIPE, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

int LastSignal() { return last_signal; }

Interruptible::Interruptible() {
  const std::lock_guard lock(current_mutex);
  ASTER_CHECK(current == nullptr, "two pieces of work that a signal would end");
  current = this;
}

Interruptible::~Interruptible() {
  const std::lock_guard lock(current_mutex);
  current = nullptr;
}

int Interruptible::signal() const {
  const std::lock_guard lock(mutex_);
  return signal_;
}

bool Interruptible::Raise(int number) {
  {
    const std::lock_guard lock(mutex_);
    if (signal_ != 0) return false;
    signal_ = number;
  }
  last_signal = number;
  source_.request_stop();
  return true;
}

}  // namespace aster::cli
