"""bench/hosts: its tables from rows. What a rehearsal does is tests/cli/bench_test.py's."""

import pathlib
import shutil
import tempfile
import unittest

from scripts import ROOT, load

hosts = load("bench/hosts")


def row(way, layers, seconds, n_bytes):
    return {"way": way, "n_context": 4096, "layers": layers, "work_s": [seconds, seconds / 2],
            "bytes_sent": n_bytes, "done_s": [2 * seconds, seconds], "predicted_s": [3 * seconds, seconds],
            "link_gbit": [1.0, 10.0]}


class WholeModel(unittest.TestCase):
    def test_is_what_two_more_layers_take_as_often_as_there_are_more(self):
        rows = [row("ring", 4, 14.0, 400), row("ring", 2, 10.0, 200), row("star", 2, 5.0, 0), row("star", 4, 6.0, 0)]
        ring, star = hosts.whole_model(rows, 24)
        self.assertEqual((ring["way"], star["way"]), ("ring", "star"))
        self.assertEqual(ring["bytes_sent"], 24 * 100)
        self.assertEqual(ring["work_s"], [6 + 24 * 2, 3 + 24 * 1])  # 6 s are of no layer
        self.assertEqual(ring["done_s"], [12 + 24 * 4, 6 + 24 * 2])
        self.assertEqual(star["predicted_s"], [12 + 24 * 1.5, 4 + 24 * 0.5])

    def test_is_the_model_itself_where_that_has_as_many_layers(self):
        found, = hosts.whole_model([row("ring", 2, 10.0, 200), row("ring", 4, 14.0, 400)], 4)
        self.assertEqual(found, row("ring", 4, 14.0, 400))


class Tables(unittest.TestCase):
    def test_against_the_ring_above_one_is_faster(self):
        lines = hosts.table([row("ring", None, 10.0, 2e6), row("star", None, 4.0, 0)]).splitlines()
        self.assertEqual(lines[2], "| ring | 10 | 2 | 20 / 10 | 30 / 10 | 1.00 / 1.00 |")
        self.assertEqual(lines[3], "| star | 4 | 0 | 8 / 4 | 12 / 4 | 2.50 / 2.50 |")

    def test_figures_have_three_digits_or_all_before_the_point(self):
        self.assertEqual([hosts.digits(x) for x in (0.01234, 9.876, 99.94, 100.4, 12345.6)],
                         ["0.0123", "9.88", "99.9", "100", "12,346"])

    def test_the_committed_tables_are_of_the_committed_rows(self):
        folders = list((ROOT / "docs" / "benchmarks").glob("*-hosts-*"))
        self.assertTrue(folders)
        for folder in folders:
            with self.subTest(folder.name), tempfile.TemporaryDirectory() as work:
                shutil.copy(folder / "runs.jsonl", work)
                hosts.report(pathlib.Path(work), 24)
                self.assertEqual((pathlib.Path(work) / "results.md").read_text(), (folder / "results.md").read_text())


if __name__ == "__main__":
    unittest.main()
