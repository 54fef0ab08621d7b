"""Loads the repository's programs without .py as modules."""

import importlib.machinery
import importlib.util
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def load(path):
    name = path.replace("/", "_")
    loader = importlib.machinery.SourceFileLoader(name, str(ROOT / path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module  # dataclasses look themselves up there
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # no bench/hostsc
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module
