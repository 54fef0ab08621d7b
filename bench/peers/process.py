"""Runs one command to its end, and sees what it cost.

Engines time themselves; here is what they cannot say: peak memory on equal terms, and how busy the
rest of the machine was meanwhile, without which a timing means little.
"""

import dataclasses
import os
import signal
import subprocess
import tempfile
import time


@dataclasses.dataclass(frozen=True)
class Run:
    """What a command printed and cost. code: exit status, -N: signal N, None: time ran out."""
    code: int | None
    out: str
    err: str
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    other_cores: float  # mean number of cores that other programs kept busy

    def failure(self, timeout_s):
        """Why it failed, in one line; None where it did not."""
        if self.code == 0:
            return None
        if self.code is None:
            return f"took longer than {timeout_s:g} s"
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        if self.code < 0:
            name = signal.Signals(-self.code).name
            return f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        return lines[-1][:300] if lines else f"exit code {self.code}, without a message"


def busy_seconds():
    """CPU time of all programs on the machine since it started, hypervisor's share included."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def wait(child, timeout_s):
    """Waits for the child: (exit status or None, resource usage)."""
    start = time.monotonic()
    while True:
        waited = time.monotonic() - start
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode, usage
        if waited >= timeout_s:
            return None, stop(child)
        time.sleep(min(0.05, waited / 8 + 0.001))


def stop(child):
    """Ends the child and what it started; returns its resource usage."""
    os.killpg(child.pid, signal.SIGKILL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage


def run(command, timeout_s, env=None):
    """Runs a command with env added to the environment. An exception, say Ctrl-C, ends it."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start, busy = time.monotonic(), busy_seconds()
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                     env={**os.environ, **(env or {})}, start_new_session=True)
        except OSError as error:
            return Run(127, "", f"{command[0]}: {error.strerror}", 0, 0, 0, 0)
        try:
            code, usage = wait(child, timeout_s)
        except BaseException:
            if child.returncode is None:
                stop(child)
            raise
        wall_s, cpu_s = time.monotonic() - start, usage.ru_utime + usage.ru_stime
        other = max(0.0, busy_seconds() - busy - cpu_s) / max(wall_s, 1e-3)
        for file in (out, err):
            file.seek(0)
        return Run(code,
                   out.read().decode(errors="replace"),
                   err.read().decode(errors="replace"), wall_s, cpu_s, usage.ru_maxrss * 1024,
                   other)
