"""Writes official_scores.json: what RULER's own scorer says of some predictions.

  ~/.cache/aster/eval/ruler/bin/python record_official_scores.py

It runs in the environment of scripts/ruler, and NVIDIA's scorer as it is; the test of our scorer
reads what it wrote. Of the scorer's module with the rest of its program, which asks for more
packages, only the function that cleans predictions is taken.
"""

import ast
import importlib.util
import json
import pathlib
import re

FOLDER = pathlib.Path(importlib.util.find_spec("long_context_eval").submodule_search_locations[0])

# (task, prediction, references)
PREDICTIONS = [
    ("niah_single_1", " 8090293.", ["8090293"]),
    ("niah_single_1", "The special magic number is 809 0293", ["8090293"]),
    ("niah_single_3", "1FF49B78-8946-4E85-b59c-de66bacfb3d0", ["1ff49b78-8946-4e85-b59c-de66bacfb3d0"]),
    ("niah_multivalue", "5107245, 3741438 and 8755439", ["5107245", "3741438", "8755439", "7366205"]),
    ("niah_multivalue", "", ["5107245", "3741438"]),
    ("niah_multiquery", "8082668\n2065818\n\n2839607\t3684052", ["8082668", "2065818", "2839607", "3684052"]),
    ("niah_multiquery", "1234567", ["1234567", "1234567", "7654321"]),
    ("vt", "HKXVN TUXMH mkrus", ["HKXVN", "TUXMH", "MKRUS", "VZXNX", "AAAAA"]),
    ("cwe", "1. path 2. hypothesis 3. Disposal", ["path", "hypothesis", "disposal", "somber"]),
    ("cwe", "pathway", ["path", "way", "thw", "x"]),
    ("fwe", "fkmgoo quqtyf", ["fkmgoo", "quqtyf", "rsrvqx"]),
    ("qa_1", "in France, of course", ["Germany", "france", "Paris"]),
    ("qa_1", "BEYONC\u00c9 Knowles", ["Beyonc\u00e9"]),
    ("qa_1", "\u0141\u00f3D\u017a", ["\u0142\u00f3d\u017a"]),
    ("qa_1", "\u0391\u0398\u0397\u039d\u0391", ["\u03b1\u03b8\u03b7\u03bd\u03b1"]),
    ("qa_1", "\u041c\u043e\u0441\u043a\u0432\u0430", ["\u043c\u041e\u0421\u041a\u0412\u0410"]),
    ("qa_2", "New\tYork", ["New York"]),
    ("qa_2", "New\nYork", ["New\nYork"]),
    ("qa_2", "New\x00\x1fYork", ["New\n\nYork"]),
    ("qa_2", " yes ", [" yes"]),
    ("qa_2", "\x1fyes", ["\nyes"]),
    ("qa_2", "no", [""]),
    ("qa_2", "", ["no"]),
    ("qa_2", "\u0130stanbul", ["istanbul"]),
    ("qa_2", "i\u0307stanbul", ["\u0130STANBUL"]),
    ("qa_2", "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3", ["\u03bf\u03b4\u03c5\u03c3\u03c3\u03b5\u03c5\u03c2"]),
    ("qa_2", "\u03a3 \u03a3\u0391\u03a3.", ["\u03c3 \u03c3\u03b1\u03c2"]),
    ("qa_2", "stra\u00dfe", ["STRASSE", "Stra\u00dfe"]),
    ("qa_2", "\ufffd 42 \U0001f600", ["42 \U0001f600"]),
]


def official_clean():
    """evaluate.py's postprocess_pred."""
    tree = ast.parse((FOLDER / "eval" / "evaluate.py").read_text())
    wanted = [node for node in tree.body
              if isinstance(node, ast.FunctionDef) and node.name == "postprocess_pred"]
    space = {"re": re}
    exec(compile(ast.Module(wanted, []), "evaluate.py", "exec"), space)  # pylint: disable=exec-used
    return space["postprocess_pred"]


def official_metrics():
    spec = importlib.util.spec_from_file_location("metrics", FOLDER / "eval" / "synthetic" / "constants.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TASKS


def kind(task):
    return {"vt": "variable_tracking", "cwe": "common_words_extraction",
            "fwe": "freq_words_extraction"}.get(task) or task.split("_")[0]


def main():
    clean, metrics = official_clean(), official_metrics()
    rows = []
    for task, prediction, references in PREDICTIONS:
        score = metrics[kind(task)]["metric_fn_per_sample"]([clean(prediction, {})], [references])[0]
        rows.append({"task": task, "pred": prediction, "outputs": references, "score": score})
    path = pathlib.Path(__file__).parent / "official_scores.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
