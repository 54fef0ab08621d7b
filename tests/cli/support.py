"""Runs the program as a person or a script would: with pipes, on a terminal, with signals."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest

ASTER = os.environ["ASTER"]  # the program under test
TIMEOUT = 120  # a hang, even under a sanitizer on a busy machine


def environment(**changes):
    """Ours with the changes; a value of None removes. No cache of models but an empty one."""
    merged = {**os.environ, "XDG_CACHE_HOME": "/nonexistent", **changes}
    return {name: value for name, value in merged.items() if value is not None}


def default_signals():
    """A test run in the background may have inherited an ignored SIGINT."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)


class Ended:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit code {self.code}\nstdout: {self.out!r}\nstderr: {self.err!r}"


def start(*arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=None):
    return subprocess.Popen([ASTER, *arguments], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE,
                            env=environment(**(env or {})), preexec_fn=default_signals)


def finish(process, data=None):
    try:
        out, err = process.communicate(data, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still running after {TIMEOUT} s: {err!r}") from None
    return Ended(process.returncode, (out or b"").decode("utf-8", "surrogateescape"),
                 err.decode("utf-8", "surrogateescape"))


def aster(*arguments, data=b"", **more):
    """Runs it to its end. data: standard input, as a pipe."""
    return finish(start(*arguments, stdin=subprocess.PIPE, **more), data)


def wait_for(stream, text, seconds=TIMEOUT):
    """Reads the stream until the text came; returns what was read."""
    got, end = b"", time.monotonic() + seconds
    while text not in got:
        ready, _, _ = select.select([stream], [], [], max(0, end - time.monotonic()))
        chunk = os.read(stream.fileno(), 65536) if ready else b""
        if not chunk:
            raise AssertionError(f"no {text!r} in {got!r}")
        got += chunk
    return got


class Terminal:
    """The program on a terminal of its own, 100 columns wide."""

    def __init__(self, *arguments, env=None, columns=100):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            default_signals()
            os.execve(ASTER, [ASTER, *arguments], environment(TERM="xterm", **(env or {})))
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.shown = ""

    def wait_for(self, pattern, seconds=TIMEOUT):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.shown):
            if not self._read(max(0, end - time.monotonic())):
                raise AssertionError(f"no {pattern!r} on the terminal: {self.shown!r}")

    def type(self, text):
        os.write(self.fd, text.encode())

    def ended(self):
        """Waits for the end; returns the exit code."""
        end = time.monotonic() + TIMEOUT
        while self._read(max(0, end - time.monotonic())):
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)

    def _read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        try:
            chunk = os.read(self.fd, 65536) if ready else b""
        except OSError:  # the other side has gone
            chunk = b""
        self.shown += chunk.decode("utf-8", "replace")
        return chunk


class Case(unittest.TestCase):
    """A folder of its own with a document and a model file, and the checks every test makes."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.doc = self.file("doc.txt", "The quick brown fox jumps over the lazy dog.\n" * 100)

    def file(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as out:
            out.write(content if isinstance(content, bytes) else content.encode())
        return path

    def check_refused(self, ended, code, *said):
        """Ended with the code, nothing on standard output, one line on standard error that says all of it."""
        self.assertEqual(ended.code, code, ended)
        self.assertEqual(ended.out, "", ended)
        self.assertRegex(ended.err, r"\Aaster: [^\n]*\n\Z", ended)
        for text in said:
            self.assertIn(text, ended.err)
