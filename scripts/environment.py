"""Virtual environments for our scripts, each made once from a list of pinned packages.

They lie under ${XDG_CACHE_HOME:-~/.cache}/aster. PrepareError's message is one line for a person.
"""

import contextlib
import fcntl
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

from fetch import NETWORK_SIGNS, python_with_pip

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "aster"


class PrepareError(Exception):
    """Something that a script needs cannot be had; the message is one line."""


@contextlib.contextmanager
def locked(folder):
    """One process at a time makes what lies in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def logged(command, log, what):
    """Runs a command into a log file; its failure is a PrepareError that names the log."""
    with open(log, "ab") as file:
        file.write(f"$ {shlex.join(map(str, command))}\n".encode())
        file.flush()
        try:
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                  check=False).returncode
        except OSError as error:
            raise PrepareError(f"{what}: {command[0]}: {error.strerror}") from None
    if code != 0:
        lines = log.read_text(errors="replace").splitlines()
        errors = [line for line in lines
                  if line.lower().startswith("error") or "No module named pip" in line]
        why = f": {errors[-1][:200]}" if errors else ""
        if any(sign in line for sign in NETWORK_SIGNS for line in lines):
            why += "; is there a network?"
        raise PrepareError(f"{what} failed{why}; see {log}")


def stamp(path):
    return path.read_text() if path.exists() else None


def environment(requirements, parent, say):
    """The python of the virtual environment of some requirements files, made where there is none.

    It lies in `parent`, under the first file's name; say is called with a line before it is made.
    pip reads each file by itself: one with hashes must have them for all of its packages.
    """
    first = requirements[0]
    folder = parent / first.stem
    identity = "\n".join([sys.version, *(file.read_text() for file in requirements)])
    python = folder / "bin" / "python"
    with locked(parent):
        if stamp(folder / ".ready") == identity:
            return python
        say(f"installing the packages of {first.relative_to(ROOT)} in {folder}, once")
        shutil.rmtree(folder, ignore_errors=True)
        log = parent / f"{first.stem}.log"
        log.unlink(missing_ok=True)
        # No pip of its own: Debian's python3 lacks ensurepip, and any pip can install elsewhere.
        logged([sys.executable, "-m", "venv", "--without-pip", folder], log, f"making {folder}")
        for file in requirements:
            logged([
                python_with_pip(), "-m", "pip", "--python", python, "install", "--no-deps",
                "--only-binary", ":all:", "--disable-pip-version-check", "-r", file
            ], log, f"installing {file.name}")
        (folder / ".ready").write_text(identity)
        return python
