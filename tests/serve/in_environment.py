"""Runs a test with the packages of requirements*.txt, installed once in the cache.

  in_environment.py TEST.py [ARGUMENT...]
"""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "scripts"))
from environment import CACHE, PrepareError, environment  # noqa: E402


def main():
    lists = [HERE / "requirements.txt", HERE / "requirements-hashed.txt"]
    try:
        python = environment(lists, CACHE / "serve", lambda line: print(line, flush=True))
    except PrepareError as error:
        sys.exit(f"aster: {error}")
    os.execv(python, [python, *sys.argv[1:]])


if __name__ == "__main__":
    main()
