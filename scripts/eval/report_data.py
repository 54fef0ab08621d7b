"""What `aster eval` left in a folder: predictions.jsonl, or that with .gz, and summary.json.

Scores, intervals, differences and retention are summary.json's; nothing here computes them anew.
ReportError's message is one line for a person.
"""

import collections
import gzip
import json

# Full attention in three ways; what else there is, is compared with the first of REFERENCES.
FULL = ("dense", "llama", "ring")
REFERENCES = ("dense", "llama")
OVERALL, ABOVE = "overall", "overall above 20"

NUMBER = (int, float)
PREDICTION_FIELDS = {
    "model": str, "prompt": str, "task": str, "index": int, "sample": str, "length": int,
    "setting": str, "block_size": int, "anchor_size": int, "window": int, "n_context": int,
    "reference_at": list, "outputs": list, "pred": str, "score": NUMBER
}
# Of the machine: all there or, in older files, none.
MACHINE_FIELDS = {"cpu": str, "isa": str, "linear": str, "threads": int}
ROW_FIELDS = {
    "length": int, "setting": str, "group": str, "is_task": bool, "n_tasks": int,
    "n_samples": int, "score": list, "n_pairs": int, "ttft_s": NUMBER
}
PAIR_FIELDS = {
    "length": int, "setting": str, "other": str, "group": str, "n_pairs": int, "difference": list
}
NAMES = {str: "a string", int: "a whole number", bool: "true or false", list: "a list",
         NUMBER: "a number"}


class ReportError(Exception):
    """The folders given make no report; the message is one line."""


class Run:
    """One folder: one model and one kind of prompt."""

    def __init__(self, folder, summary, predictions):
        self.folder, self.model, self.prompt = folder, summary["model"], summary["prompt"]
        self.rows = rows = summary["rows"]
        self._pair = {(pair["length"], pair["setting"], pair["other"], pair["group"]): pair
                      for pair in summary["pairs"]}
        self._row = {(row["length"], row["setting"], row["group"]): row for row in rows}
        self._samples = {}
        for one in predictions:
            samples = self._samples.setdefault((one["length"], one["setting"]), {})
            samples[one["task"], one["index"], one["sample"]] = one
        self.lengths = sorted({row["length"] for row in rows})
        names = list(dict.fromkeys(row["setting"] for row in rows))
        self.settings = sorted(names, key=lambda name: (name != "dense", name == "llama"))
        self.reference = next((name for name in REFERENCES if name in names), None)

    def row(self, length, setting, group):
        """Of summary.json; None where it has no such row."""
        return self._row.get((length, setting, group))

    def pair(self, length, setting, other, group):
        """Two settings of star on samples that both have; None where summary.json has no such."""
        return self._pair.get((length, setting, other, group))

    def samples(self, length, setting):
        """{(task, index, sample): prediction}"""
        return self._samples.get((length, setting), {})

    def settings_at(self, length):
        return [name for name in self.settings if self.samples(length, name)]

    def reference_at(self, length):
        """The full attention that settings of a length are compared with; None: it has none."""
        return self.reference if self.reference in self.settings_at(length) else None

    def compared_at(self, length):
        """The settings that are not full attention."""
        return [name for name in self.settings_at(length) if name not in FULL]

    def groups_at(self, length):
        """Groups of tasks, each once: the tasks, then domains, then overall."""
        rows = [row for row in self.rows if row["length"] == length]
        tasks = [row["group"] for row in rows if row["is_task"]]
        means = [row["group"] for row in rows if not row["is_task"]]
        last = [name for name in (OVERALL, ABOVE) if name in means]
        domains = [name for name in means if name not in last]
        # Settings may lack tasks while a run is not complete: take the fullest one's order.
        first = max(self.settings_at(length), key=lambda name: sum(
            row["is_task"] and row["setting"] == name for row in rows))
        own = [row["group"] for row in rows if row["setting"] == first and row["is_task"]]
        return list(dict.fromkeys([*own, *tasks, *domains, *last]))

    def is_task(self, group):
        return any(row["is_task"] for row in self.rows if row["group"] == group)


def is_a(value, kind):
    """Whether JSON's value is of that type; true is no number."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def check_fields(entry, fields, where):
    if not isinstance(entry, dict):
        raise ReportError(f"{where}: expected a JSON object")
    for name, kind in fields.items():
        if name not in entry:
            raise ReportError(f"{where}: \"{name}\" is missing")
        if not is_a(entry[name], kind):
            raise ReportError(f"{where}: \"{name}\" is {json.dumps(entry[name])[:40]}, "
                              f"expected {NAMES[kind]}")


def check_prediction(one, where):
    check_fields(one, PREDICTION_FIELDS, where)
    if any(name in one for name in MACHINE_FIELDS):
        check_fields(one, MACHINE_FIELDS, where)
    one.setdefault("overlap", 0)  # older files have none
    check_fields(one, {"overlap": int}, where)
    texts, places = one["outputs"], one["reference_at"]
    if not texts or not all(is_a(text, str) for text in texts):
        raise ReportError(f"{where}: \"outputs\" is not a list of strings, or empty")
    if len(places) != len(texts) or not all(is_a(at, int) for at in places):
        raise ReportError(f"{where}: \"reference_at\" has {len(places)} places for {len(texts)} "
                          "\"outputs\", or they are not whole numbers")
    for name in ("block_size", "n_context"):
        if one[name] < 1:
            raise ReportError(f"{where}: \"{name}\" is {one[name]}, expected 1 or more")


def check_estimate(entry, name, where):
    value = entry[name]
    if not is_a(value, list) or len(value) != 3 or not all(is_a(x, NUMBER) for x in value):
        raise ReportError(f"{where}: \"{name}\" is not [value, low, high]")


def check_row(row, where):
    check_fields(row, ROW_FIELDS, where)
    check_estimate(row, "score", where)
    for name in ("difference", "retention"):
        if row.setdefault(name, None) is not None:
            check_estimate(row, name, where)
    if row.setdefault("ttft_ratio", None) is not None and not is_a(row["ttft_ratio"], NUMBER):
        raise ReportError(f"{where}: \"ttft_ratio\" is not a number")


def parse(text, where):
    try:
        return json.loads(text)
    except ValueError as error:
        raise ReportError(f"{where}: not JSON: {error}") from None


def read_predictions(folder):
    """Of those with one key the first; a last line without its line feed was cut off, and goes."""
    path = folder / "predictions.jsonl"
    if not path.exists():
        path = folder / "predictions.jsonl.gz"
    if not path.exists():
        raise ReportError(f"{folder}: holds no predictions.jsonl and no predictions.jsonl.gz; "
                          "expected an output folder of aster eval")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = raw.decode().split("\n")[:-1]
    except (OSError, EOFError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read: {error}") from None
    found = {}
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        one = parse(line, where)
        check_prediction(one, where)
        key = tuple(one[name] for name in ("task", "index", "sample", "length", "setting"))
        found.setdefault(key, one)
    if not found:
        raise ReportError(f"{path}: holds no prediction")
    return path, list(found.values())


def read_summary(folder):
    path = folder / "summary.json"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ReportError(f"{path}: {reason}; `aster eval -o {folder}` makes it") from None
    summary = parse(text, path)
    check_fields(summary, {"model": str, "prompt": str, "rows": list}, path)
    for number, row in enumerate(summary["rows"], 1):
        check_row(row, f"{path}, row {number}")
    later = {"pairs": [], "superseded": []}  # none in older files
    check_fields(later | summary, {"pairs": list, "superseded": list}, path)
    for number, pair in enumerate(summary.setdefault("pairs", []), 1):
        check_fields(pair, PAIR_FIELDS, f"{path}, pair {number}")
        check_estimate(pair, "difference", f"{path}, pair {number}")
    return path, summary


def check_same(path, summary, predictions):
    """A summary is of these predictions, not of fewer or of another model's."""
    counts = collections.Counter(
        (one["length"], one["setting"], one["task"]) for one in predictions)
    said = {(row["length"], row["setting"], row["group"]): row["n_samples"]
            for row in summary["rows"] if row["is_task"]}
    for key in {**counts, **said}:
        if counts[key] != said.get(key, 0):
            length, setting, task = key
            raise ReportError(f"{path}: counts {said.get(key, 0)} samples of {task} at {length} "
                              f"with {setting}, the predictions are {counts[key]}; "
                              f"`aster eval -o {path.parent}` makes it anew")
    own = {(one["model"], one["prompt"]) for one in predictions}
    if own != {(summary["model"], summary["prompt"])}:
        raise ReportError(f"{path}: of {summary['model']}, {summary['prompt']} prompts; the "
                          f"predictions are of {', '.join(sorted(' '.join(one) for one in own))}")


def load(folder):
    """The folder's Run."""
    if not folder.is_dir():
        raise ReportError(f"{folder}: not a folder; expected an output folder of aster eval")
    _, predictions = read_predictions(folder)
    path, summary = read_summary(folder)
    changed = set(summary.get("superseded", []))  # samples that were: what was answered to them counts nowhere
    predictions = [one for one in predictions if one["sample"] not in changed]
    check_same(path, summary, predictions)
    return Run(folder, summary, predictions)
