"""scripts/accuracy-table on summaries of `aster eval` made up here, and the documents' own tables."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "scripts" / "accuracy-table"
sys.path.insert(0, str(ROOT / "scripts" / "eval"))
import accuracy_docs  # noqa: E402


def row(setting, retention, n_pairs, group="overall above 20"):
    return {"length": 4096, "setting": setting, "group": group, "retention": retention, "n_pairs": n_pairs}


class AccuracyTable(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_on(self, **summaries):
        """{model: rows of its summary} -> the exit status and what is printed."""
        folders = []
        for model, rows in summaries.items():
            folders.append(self.folder / model)
            folders[-1].mkdir()
            (folders[-1] / "summary.json").write_text(json.dumps({"model": model + ".gguf", "rows": rows}))
        done = subprocess.run([sys.executable, SCRIPT, *folders], capture_output=True, text=True, check=False)
        self.assertEqual(done.stderr, "")
        return done.returncode, json.loads(done.stdout)

    def test_pools_runs_by_their_samples(self):
        status, table = self.run_on(a=[row("star L/4", [90.0, 80.0, 100.0], 90)],
                                    b=[row("star L/4", [70.0, 40.0, 100.0], 30)],
                                    c=[row("star L/4", [10.0, 0.0, 20.0], 29)])  # too few to count
        self.assertEqual(status, 0)
        # 3/4 of 90 and 1/4 of 70; the half-widths 3/4 of 10 and 1/4 of 30, at right angles: 10.6.
        self.assertEqual(table["rows"], [{"window": 0, "overlap": 0, "blocks": 4, "kept": [85.0, 74.4, 95.6], "pairs": 120,
                                          "of": ["a 4096", "b 4096"]}])

    def test_windows_and_overlaps_are_rows_of_their_own_in_the_order_of_both_and_blocks(self):
        kept = [95.0, 90.0, 100.0]
        _, table = self.run_on(a=[row(name, kept, 30) for name in
                                  ("star L/16 window 1", "star L/8 overlap 256", "star L/8 window 1 overlap 16",
                                   "star L/16", "star L/8 window 1", "star L/4", "star L/8 anchor L/4 overlap 256")])
        self.assertEqual([(r["window"], r["overlap"], r["blocks"]) for r in table["rows"]],
                         [(0, 0, 4), (0, 0, 16), (0, 256, 8), (1, 0, 8), (1, 0, 16), (1, 16, 8)])

    def test_an_end_cut_off_at_nothing_does_not_narrow_the_interval(self):
        _, table = self.run_on(a=[row("star L/8", [40.0, 0.0, 120.0], 30)])
        self.assertEqual(table["rows"][0]["kept"], [40.0, 0, 120.0])

    def test_what_the_plan_line_quotes_is_pooled_from_the_runs_that_are_here(self):
        folders = sorted((ROOT / "docs" / "benchmarks").glob("*-ruler-*k"))
        self.assertGreater(len(folders), 1)
        done = subprocess.run([sys.executable, SCRIPT, *folders], capture_output=True, text=True, check=False)
        self.assertEqual(done.stdout, (ROOT / "data" / "accuracy.json").read_text(encoding="utf-8"))

    def test_other_settings_groups_and_rows_without_dense_are_left_out(self):
        kept = [95.0, 90.0, 100.0]
        status, table = self.run_on(a=[row("dense", None, 0), row("star 1K", kept, 50),
                                       row("star L/4 anchor L/2", kept, 50), row("star L/4", None, 0),
                                       row("star L/4", kept, 50, group="overall")])
        self.assertEqual((status, table["rows"]), (1, []))


class Docs(unittest.TestCase):

    def test_the_tables_say_what_the_runs_found(self):
        for path, text in accuracy_docs.pages().items():
            with self.subTest(path.name):
                self.assertEqual(path.read_text(encoding="utf-8").split("\n"), text.split("\n"))

    def test_a_figure_that_is_none_of_a_runs_is_seen(self):
        page, runs = accuracy_docs.accuracy_page((ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8"))
        self.assertGreaterEqual(len(runs), 4)
        rows = [line for line in page.split("\n") if line.startswith("|") and " % (" in line]
        self.assertGreater(len(rows), 20)
        for row in rows:
            with self.subTest(row):
                wrong = page.replace(row, re.sub(r"\d+( %| \()", r"7\1", row))
                self.assertEqual(accuracy_docs.accuracy_page(wrong)[0].count(row), 1)


if __name__ == "__main__":
    unittest.main()
