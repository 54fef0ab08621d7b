"""Each folder of src/ includes only those before it, and only src/llama/ sees llama.cpp.

  test_layers.py FILE...    paths relative to the source tree
"""

import re
import sys

LAYERS = ["base", "attention", "plan", "kvstore", "cluster", "llama", "engine", "eval", "serve"]
SHARED = {"kvstore/layout.h"}  # the packing, as formulas: what the store writes and the kernels read
LLAMA = re.compile(r"^(llama|ggml|gguf|common|chat|sampling)[\w-]*\.h$")
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)


def problems(path, text):
    parts = path.split("/")
    for bracket, header in INCLUDE.findall(text):
        first = header.split("/")[0]
        if parts[0] == "include" and not header.startswith("aster/") and (bracket == '"' or "." in header):
            yield f"{path}: a public header includes {header}: expected the standard library or aster/"
        if parts[0] == "src" and first in LAYERS and "/" in header:
            if LAYERS.index(first) > LAYERS.index(parts[1]) and header not in SHARED:
                yield f"{path}: {parts[1]} includes {header}, which comes after it"
        if parts[0] in ("src", "apps") and parts[:2] != ["src", "llama"] and LLAMA.match(header):
            if header != "chat.h" or parts[0] == "src":
                yield f"{path}: includes {header}: only src/llama/ includes llama.cpp's headers"
        if parts[:2] == ["src", "attention"] and first == "aster" and header not in (
                "aster/key_range.h", "aster/status.h"):
            yield f"{path}: attention includes {header}: it knows no file, model or peer"


def main():
    found = []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            found += problems(path, file.read())
    print("\n".join(found) or f"{len(sys.argv) - 1} files keep the layers")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
