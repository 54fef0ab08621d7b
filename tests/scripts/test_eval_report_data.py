"""What scripts/eval-report reads and finds in evaluations. No network, no matplotlib."""

import gzip
import json
import unittest

from eval_folders import LENGTH, Folders, both, lines, pair_of, prediction, summary
import report_data
import report_places as places
import report_samples as samples


class DataTest(Folders):

    def assert_refused(self, reason, folder=None):
        with self.assertRaises(report_data.ReportError) as caught:
            report_data.load(folder or self.folder)
        message = str(caught.exception)
        self.assertEqual(len(message.splitlines()), 1, message)
        self.assertIn(reason, message)

    def test_lengths_settings_and_groups_come_in_order(self):
        run = self.run_of([prediction("llama"), prediction("star L/4"), prediction(),
                           prediction("dense", "vt"), prediction("dense", length=512)])
        self.assertEqual(run.lengths, [512, 1024])
        self.assertEqual(run.settings, ["dense", "star L/4", "llama"])
        self.assertEqual(run.reference, "dense")
        self.assertEqual(run.compared_at(1024), ["star L/4"])
        self.assertEqual(run.compared_at(512), [])
        self.assertEqual(run.groups_at(1024)[:2], ["niah_single_1", "vt"])

    def test_llama_is_the_reference_where_dense_is_not_and_nothing_where_neither_is(self):
        self.assertEqual(self.run_of([prediction("llama"), prediction("star L/4")]).reference,
                         "llama")
        self.assertIsNone(self.run_of([prediction("star L/4")]).reference)

    def test_of_two_predictions_of_one_key_the_first_counts(self):
        self.write([prediction(), prediction(pred="no")], summary([prediction()]))
        (one,) = report_data.load(self.folder).samples(LENGTH, "dense").values()
        self.assertEqual(one["pred"], " It is blue.")

    def test_a_last_line_that_was_cut_off_is_left_out(self):
        self.write([prediction()])
        with open(self.folder / "predictions.jsonl", "a") as file:
            file.write('{"model": "ti')
        self.assertEqual(len(report_data.load(self.folder).samples(LENGTH, "dense")), 1)

    def test_packed_predictions_are_read(self):
        self.write(both())
        path = self.folder / "predictions.jsonl"
        (self.folder / "predictions.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        self.assertEqual(report_data.load(self.folder).settings, ["dense", "star L/4"])
        packed = self.folder / "predictions.jsonl.gz"
        packed.write_bytes(packed.read_bytes()[:-20])
        self.assert_refused("predictions.jsonl.gz: cannot be read")

    def test_a_folder_without_its_files_is_refused(self):
        self.assert_refused("not a folder", self.temporary / "nothing")
        self.assert_refused("holds no predictions.jsonl and no predictions.jsonl.gz")
        (self.folder / "predictions.jsonl").write_text(lines([prediction()]))
        self.assert_refused("summary.json: No such file or directory; `aster eval -o")
        (self.folder / "predictions.jsonl").write_text("")
        self.assert_refused("holds no prediction")

    def test_broken_predictions_are_refused_with_their_line(self):
        for change, reason in (
            ({"task": None}, '"task" is null, expected a string'),
            ({"index": True}, '"index" is true, expected a whole number'),
            ({"score": "1"}, '"score" is "1", expected a number'),
            ({"outputs": []}, '"outputs" is not a list of strings, or empty'),
            ({"reference_at": [1, 2]}, '"reference_at" has 2 places for 1 "outputs"'),
            ({"overlap": "1"}, '"overlap" is "1", expected a whole number'),
            ({"block_size": 0}, '"block_size" is 0, expected 1 or more')):
            with self.subTest(reason):
                self.write([prediction(), prediction(**change)], summary([prediction()]))
                self.assert_refused(f"predictions.jsonl, line 2: {reason}")
        for line, reason in (("nonsense", "not JSON"), ("[]", "expected a JSON object")):
            (self.folder / "predictions.jsonl").write_text(line + "\n")
            self.assert_refused(f"predictions.jsonl, line 1: {reason}")
        (self.folder / "predictions.jsonl").write_text(lines([prediction(cpu="Z80")]))
        self.assert_refused('line 1: "isa" is missing')
        for name in ("n_context", "pred", "setting"):
            broken = prediction()
            del broken[name]
            (self.folder / "predictions.jsonl").write_text(lines([broken]))
            self.assert_refused(f'line 1: "{name}" is missing')

    def test_predictions_from_before_there_were_overlaps_have_none(self):
        old = prediction()
        del old["overlap"]
        self.write([old], summary([prediction()]))
        self.assertEqual([one["overlap"] for one in report_data.load(self.folder).samples(LENGTH, "dense").values()], [0])

    def test_a_broken_summary_is_refused(self):
        path = self.write([prediction()]) / "summary.json"
        for text, reason in (("{", "not JSON"), ("{}", '"model" is missing'),
                             ('{"model": "", "prompt": "", "rows": [{}]}',
                              'row 1: "length" is missing')):
            path.write_text(text)
            self.assert_refused(reason)
        broken = summary([prediction()])
        broken["rows"][0]["score"] = [1, 2]
        path.write_text(json.dumps(broken))
        self.assert_refused('row 1: "score" is not [value, low, high]')
        for pairs, reason in (({}, '"pairs" is {}, expected a list'),
                              ([{}], 'pair 1: "length" is missing'),
                              ([pair_of("a", "b", difference=[1])],
                               'pair 1: "difference" is not [value, low, high]')):
            path.write_text(json.dumps({**summary([prediction()]), "pairs": pairs}))
            self.assert_refused(reason)

    def test_a_summary_of_other_predictions_is_refused(self):
        self.write([prediction(), prediction(index=1)], summary([prediction()]))
        self.assert_refused("counts 1 samples of niah_single_1 at 1024 with dense, the predictions "
                            "are 2; `aster eval -o")
        self.write([prediction()], summary(both()))
        self.assert_refused("counts 1 samples of niah_single_1 at 1024 with star L/4, the "
                            "predictions are 0")
        self.write([prediction(model="other.gguf")], summary([prediction()]))
        self.assert_refused("of tiny.gguf, chat prompts; the predictions are of other.gguf chat")


class PlacesTest(Folders):

    def test_seams_are_the_first_tokens_of_later_blocks(self):
        self.assertEqual(list(samples.seams(256, 1000)), [256, 512, 768])
        self.assertEqual(list(samples.seams(256, 512)), [256])
        self.assertEqual(list(samples.seams(1000, 1000)), [])

    def test_blocks_and_the_nearest_seam(self):
        for at, block, distance in ((0, 1, -256), (255, 1, -1), (256, 2, 0), (257, 2, 1),
                                    (383, 2, 127), (999, 4, 231)):
            with self.subTest(at):
                self.assertEqual(samples.block_number(at, 256), block)
                self.assertEqual(samples.to_seam(at, 256, 1000), distance)
        self.assertIsNone(samples.to_seam(5, 1000, 1000))
        self.assertEqual([places.seam_words(one) for one in (-3, 0, 1200, None)],
                         ["3 before", "at it", "1,200 after", "no seam"])

    def test_depths_fall_into_ten_bins(self):
        self.assertEqual([samples.depth_bin(at, 1000) for at in (0, 99, 100, 550, 999)],
                         [0, 0, 1, 5, 9])
        self.assertEqual(samples.depth_bin(2, 3), 6)

    def test_a_reference_is_found_in_whatever_case_and_one_without_a_place_is_skipped(self):
        one = prediction(outputs=["BLUE", "red", "green"], reference_at=[100, 950, -1])
        self.assertEqual([(ref.text, ref.found) for ref in samples.references_of(one)],
                         [("BLUE", True), ("red", False)])

    def test_cells_count_every_reference_of_the_needles_alone(self):
        run = self.run_of([prediction(outputs=["blue", "red"], reference_at=[300, 310]),
                           prediction(task="vt"), prediction(index=1, reference_at=[-1])])
        self.assertEqual(samples.cells(run, "dense"), {(LENGTH, 3): (1, 2)})

    def test_places_by_anchor_block_and_seam(self):
        anchor, whole, first, after, later = samples.PLACES
        for at, size, window, expected, *overlap in (
            (10, 256, 0, anchor), (255, 256, 0, anchor), (256, 256, 0, whole), (511, 256, 0, whole),
            (512, 256, 0, first), (575, 256, 0, first), (576, 256, 0, after), (703, 256, 0, after),
            (704, 256, 0, later), (767, 256, 0, later), (768, 256, 0, first),
            (600, 256, 1, whole), (900, 256, 1, after), (900, 256, 2, whole), (150, 128, 0, whole),
            (400, 128, 0, after), (256, 128, 0, first), (400, 128, 1, whole), (400, 512, 0, anchor),
            (600, 512, 0, whole), (900, 512, 0, after), (10, 0, 0, whole), (400, 0, 0, after),
            (600, 256, 0, whole, 256), (600, 256, 0, after, 255), (900, 256, 1, whole, 256),
            (400, 200, 0, whole, 56), (400, 200, 0, after, 55)):
            with self.subTest(at=at, anchor=size, window=window, overlap=overlap):
                (one,) = samples.references_of(prediction(
                    reference_at=[at], block_size=256, anchor_size=size, window=window,
                    **dict(zip(["overlap"], overlap))))
                self.assertEqual(one.place, expected)

    def test_full_attention_is_counted_on_the_same_references(self):
        run = self.run_of(both(pred="no", score=0.0) +
                          [prediction(index=2, pred="no"), prediction("star L/4", index=2)] +
                          [prediction("star L/4", index=1, reference_at=[10])])
        found = samples.paired(run, LENGTH, samples.needles(run, LENGTH, "star L/4"))
        counts = samples.by_place(found)
        self.assertEqual(list(counts), list(samples.PLACES))
        self.assertEqual(counts.pop(samples.SEES_ALL), samples.Count(n=2, found=1, full=1, lost=1, won=1))
        self.assertEqual(set(counts.values()), {samples.Count(0, 0, 0, 0, 0)})

    def test_dots_say_whether_dense_found_it(self):
        for star, dense, kind in (("blue", "", "found"), ("", "blue", "lost"), ("", "", "neither"),
                                  ("blue", "blue", "found")):
            with self.subTest(kind):
                (one,) = samples.references_of(prediction(pred=star), prediction(pred=dense))
                self.assertEqual(places.kind_of(one), kind)
        (alone,) = samples.references_of(prediction(pred=""))
        self.assertEqual(places.kind_of(alone), "lost")

    def test_a_strip_draws_the_most_frequent_plan_and_says_what_it_left_out(self):
        run = self.run_of([one for i in range(3) for one in (
            prediction(index=i), prediction("star L/4", index=i, block_size=512 if i else 300))])
        (chart,) = places.strip(run, LENGTH, "star L/4")
        self.assertEqual((chart.data["block_size"], len(chart.data["dots"])), (512, 2))
        self.assertIn("1 references under plans with other sizes are left out", chart.caption)


class LostTest(Folders):

    def test_lost_won_lower_and_higher(self):
        scores = [(1, 0.5), (1, 1), (0.5, 1), (0.5, 0), (0, 0)]
        predictions = []
        for i, (dense, star) in enumerate(scores):
            predictions += [prediction(index=i, score=dense),
                            prediction("star L/4", index=i, score=star, pred=" It is blue.")]
        run = self.run_of(predictions + [prediction("star L/4", index=9, score=0)])
        found = samples.compare(run, LENGTH, "star L/4")
        self.assertEqual(found[:1] + found[2:], (5, 1, 2, 1, 5))
        self.assertEqual([one["index"] for one in found.lost], [0])

    def test_a_line_of_the_table_names_what_was_missed_and_where(self):
        texts = ["blue", "red", "green", "pink", "grey"]
        one = prediction("star L/4", task="niah_multivalue", index=7, outputs=texts, score=0.2,
                         reference_at=[5, 300, 520, 700, 900], pred="blue\n" + "x" * 200)
        line = places.lost_row(None, one)
        self.assertEqual(line[:6], ["niah_multivalue 7", "20", "30 %\n52 %\n70 %", "2\n3\n3",
                                    "44 after\n8 after\n68 before", "red\ngreen\npink\nand 1 more"])
        self.assertEqual(line[6], "blue " + "x" * 115 + "…")

    def test_more_than_twenty_are_counted_and_not_shown(self):
        predictions = []
        for i in range(25):
            predictions += [prediction(index=i),
                            prediction("star L/4", index=i, score=0, pred="no")]
        run = self.run_of(predictions)
        parts = places.lost(run, LENGTH, {"star L/4": samples.compare(run, LENGTH, "star L/4")})
        table = parts[-1]
        self.assertEqual(len(table.rows), 20)
        self.assertIn("25 samples that dense has right; the first 20, 5 more are not shown",
                      table.caption)


if __name__ == "__main__":
    unittest.main()
