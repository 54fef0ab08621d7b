#!/usr/bin/env python3
"""Writes the figures of `aster eval`'s runs into the tables of docs/accuracy.md and README.md.

A table's lines and columns are as they stand; the cells come from docs/benchmarks/*/summary.json, each
rounded once. Runs are those that the table "What was measured" links to, in its order.
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ALL, ABOVE = "overall", "overall above 20"
MEASURED = ["star L/4", "star L/8 window 1", "star L/8", "star L/16"]  # columns of the first table
LINK = re.compile(r"^\| \[[^]]*\]\(benchmarks/([^/]+)/report\.md\) \|")
SAME = "| the same, of the tasks that dense scores above 20 |"
RULE = re.compile(r"^\| \**(?:star )?(L/\d+)(?:, (?:no window|window (\d+)))?(?:, overlap (\d+))?(?:, anchor (L/\d+))?[^|]*\|")
README_ROWS = {"| dense: overall score |": "dense",
               "| kept of it: L/8 and a window of one block (`auto`) |": "star L/8 window 1",
               "| block L/4, the paper's |": "star L/4", "| block L/8 |": "star L/8", "| block L/16 |": "star L/16"}


class Run:
    """One folder's summary, of one length."""

    def __init__(self, folder):
        summary = json.loads((ROOT / "docs" / "benchmarks" / folder / "summary.json").read_text(encoding="utf-8"))
        self.rows = {(row["setting"], row["group"]): row for row in summary["rows"]}

    def samples(self, group):
        return self.rows["dense", group]["n_samples"]

    def tasks(self):
        return self.rows["dense", ALL]["n_tasks"]

    def size(self):
        """Of the table: "260, 20 a task"; the last round of a run that goes on is not whole."""
        n, n_tasks = self.samples(ALL), self.tasks()
        least = n // n_tasks
        return f"{n}, {least} a task" if n == least * n_tasks else f"{n}, {least} to {least + 1} a task"

    def score(self, digits=1):
        return estimate(self.rows["dense", ALL]["score"], 1, digits)

    def score_above(self):
        return estimate(self.rows["dense", ABOVE]["score"], 1, 1)

    def kept(self, setting, group, digits=0):
        row = self.rows.get((setting, group))
        if row is None or not row["retention"]:
            return "–"
        pairs = row["n_pairs"]
        return estimate(row["retention"], digits, 0, " %") + (
            f", {pairs} samples" if pairs != self.samples(group) else "")


def estimate(values, digits, digits_of_ends, unit=""):
    value, low, high = values
    return f"{value:.{digits}f}{unit} ({low:.{digits_of_ends}f} to {high:.{digits_of_ends}f})"


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def joined(values):
    return "| " + " | ".join(values) + " |"


def setting_of(line):
    """The setting that a table's line is about; None where it is about none."""
    found = RULE.match(line)
    if found is None:
        return None
    size, window, overlap, anchor = found.groups()
    return (f"star {size}" + (f" anchor {anchor}" if anchor else "") +
            (f" window {window}" if window not in (None, "0") else "") +
            (f" overlap {overlap}" if overlap else ""))


def bold_as(old, new):
    return f"**{new}**" if old.startswith("**") else new


def with_kept(line, setting, first, kept):
    """The line with its cells from `first` on written anew."""
    values = cells(line)
    for at, new in enumerate(kept, first):
        values[at] = bold_as(values[at], new)
    return joined(values)


def accuracy_page(text):
    lines, runs, section, table = text.split("\n"), {}, "", 0
    for at, line in enumerate(lines):
        if line.startswith("#"):
            section, table = line.lstrip("# "), 0
        if line.startswith("|--"):
            table += 1
        link = LINK.match(line)
        if link:
            run = runs[link[1]] = Run(link[1])
            lines[at] = joined([cells(line)[0], run.size(), run.score(),
                                *(run.kept(setting, ALL, 1) for setting in MEASURED)])
        elif line.startswith(SAME):
            lines[at] = joined([cells(line)[0], str(run.samples(ABOVE)), run.score_above(),
                                *(run.kept(setting, ABOVE, 1) for setting in MEASURED)])
        setting = setting_of(line)
        if setting and section == "Blocks, windows and anchors":
            first = next(iter(runs))
            run = runs[first] if table == 1 else Run(first + "-sweep")
            lines[at] = with_kept(line, setting, 2, [run.kept(setting, ALL), run.kept(setting, ABOVE)])
        if section.startswith("How `auto`") and line.startswith("| rule |"):
            names = [re.sub(r", \d+( samples)?$", "", cell) for cell in cells(line)[3:]]
            counted = [f"{name}, {run.samples(ABOVE)}" for name, run in zip(names, runs.values())]
            counted[0] += " samples"
            lines[at] = joined(cells(line)[:3] + counted)
        elif setting and section.startswith("How `auto`"):
            lines[at] = with_kept(line, setting, 3, [run.kept(setting, ABOVE) for run in runs.values()])
    return "\n".join(lines), list(runs.values())


def readme(text, runs):
    lines = text.split("\n")
    for at, line in enumerate(lines):
        if line.startswith("| samples |"):
            lines[at] = joined(["samples", *(str(run.samples(ALL)) for run in runs)])
        for head, setting in README_ROWS.items():
            if line.startswith(head):
                lines[at] = joined([cells(line)[0], *(run.score(0) if setting == "dense" else run.kept(setting, ALL)
                                                      for run in runs)])
    return "\n".join(lines)


def pages():
    """{path: what it should say}"""
    accuracy, front = ROOT / "docs" / "accuracy.md", ROOT / "README.md"
    page, runs = accuracy_page(accuracy.read_text(encoding="utf-8"))
    return {accuracy: page, front: readme(front.read_text(encoding="utf-8"), runs)}


def main():
    for path, text in pages().items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: written anew")
    return 0


if __name__ == "__main__":
    sys.exit(main())
