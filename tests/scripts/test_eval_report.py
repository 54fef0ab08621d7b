"""scripts/eval-report on made-up evaluations. No network, no matplotlib."""

import gzip
import html.parser
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "eval"))
import report  # noqa: E402
import report_data  # noqa: E402
import report_layout as layout  # noqa: E402
import report_page as page  # noqa: E402
import report_places as places  # noqa: E402
import report_samples as samples  # noqa: E402
import report_sections as sections  # noqa: E402
import report_words as words  # noqa: E402

LENGTH, BLOCK = 1024, 256


def prediction(setting="dense", task="niah_single_1", index=0, **fields):
    """As `aster eval` writes it: found in full, unless fields say something else."""
    star = setting.startswith("star")
    one = {
        "model": "tiny.gguf", "prompt": "chat", "task": task, "index": index, "sample": f"s{index}",
        "length": LENGTH, "setting": setting, "attention": setting.split()[0],
        "block_size": BLOCK if star else 1000, "anchor_size": BLOCK if star else 0, "window": 0,
        "n_context": 1000, "n_query": 9, "reference_at": [300], "outputs": ["Blue"], "question": "",
        "pred": " It is blue.", "finish": "end_of_text", "encode_s": 1.0, "query_s": 0.1,
        "decode_s": 0.1, "score": 1.0
    }
    return {**one, **fields}


def row(predictions, length, setting, group, is_task):
    own = [one for one in predictions if one["length"] == length and one["setting"] == setting and
           (not is_task or one["task"] == group)]
    names = {one["setting"] for one in predictions}
    star = setting != "dense" and names & {"dense", "llama"} - {setting}
    return {
        "length": length, "setting": setting, "group": group, "is_task": is_task,
        "n_tasks": len({one["task"] for one in own}), "n_samples": len(own),
        "score": [61.5, 40.25, 80.75], "n_pairs": len(own) if star else 0,
        "difference": [-3.5, -20.0, 13.0] if star else None,
        "retention": [94.6, 69.2, 120.0] if star else None, "ttft_s": 1.1,
        "ttft_ratio": 0.75 if star else None
    }


def summary(predictions):
    """Figures of no meaning, so that a report which has them took them from here."""
    settings = dict.fromkeys((one["length"], one["setting"]) for one in predictions)
    tasks = dict.fromkeys((one["length"], one["setting"], one["task"]) for one in predictions)
    rows = [row(predictions, *task, True) for task in tasks]
    for setting in settings:
        rows += [row(predictions, *setting, group, False)
                 for group in (report_data.OVERALL, report_data.ABOVE)]
    return {"model": "tiny.gguf", "prompt": "chat", "rows": rows}


def pair_of(setting, other, **fields):
    return {"length": LENGTH, "setting": setting, "other": other,
            "group": report_data.ABOVE, "n_tasks": 1, "n_pairs": 1,
            "difference": [2.5, -1.0, 6.0], "ttft_ratio": None, **fields}


def lines(predictions):
    return "".join(json.dumps(one) + "\n" for one in predictions)


def both(**star_fields):
    return [prediction(), prediction("star L/4", **star_fields)]


class Folders(unittest.TestCase):

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.temporary = pathlib.Path(temporary.name)
        self.folder, self.out = self.temporary / "results", self.temporary / "report"
        self.folder.mkdir()

    def write(self, predictions, own_summary=None):
        (self.folder / "predictions.jsonl").write_text(lines(predictions))
        (self.folder / "summary.json").write_text(json.dumps(own_summary or summary(predictions)))
        return self.folder

    def run_of(self, predictions):
        run = report_data.load(self.write(predictions))
        run.name = "tiny-chat"
        return run


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
        def places_of(at, block_size, anchor_size):
            (one,) = samples.references_of(prediction(
                reference_at=[at], block_size=block_size, anchor_size=anchor_size))
            return one.places

        anchor, rest, later, seam = (samples.IN_ANCHOR, samples.REST_OF_BLOCK_1, samples.LATER,
                                     samples.AT_SEAM)
        for at, block, size, expected in (
            (10, 256, 256, [anchor]), (192, 256, 256, [anchor, seam]), (191, 256, 256, [anchor]),
            (256, 256, 256, [later, seam]), (320, 256, 256, [later, seam]),
            (321, 256, 256, [later]), (150, 256, 128, [rest]), (400, 256, 512, [anchor]),
            (10, 256, 0, [rest])):
            with self.subTest(at=at, block=block, anchor=size):
                self.assertEqual(places_of(at, block, size), expected)

    def test_full_attention_is_counted_on_the_same_references(self):
        run = self.run_of(both(pred="no", score=0.0) +
                          [prediction("star L/4", index=1, reference_at=[10])])
        found = samples.paired(run, LENGTH, samples.needles(run, LENGTH, "star L/4"))
        self.assertEqual(samples.by_place(found), {
            samples.IN_ANCHOR: (0, 0, 0), samples.LATER: (0, 1, 1), samples.AT_SEAM: (0, 1, 1)
        })

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


class SectionsTest(Folders):

    def test_a_length_without_full_attention_beside_one_that_has_it(self):
        names = ("star L/4", "star L/8")
        predictions = [prediction(), *(prediction(name) for name in names),
                       *(prediction(name, length=2 * LENGTH) for name in names)]
        own = {**summary(predictions), "pairs": [
            pair_of(names[1], names[0]),
            pair_of(names[1], names[0], length=2 * LENGTH, group=report_data.OVERALL)]}
        run = report_data.load(self.write(predictions, own))
        run.name = "tiny-chat"
        self.assertEqual((run.reference_at(LENGTH), run.reference_at(2 * LENGTH)), ("dense", None))
        _, table = sections.against_each_other(run, 2 * LENGTH)
        self.assertIn("mean over all tasks", table.caption)
        _, *charts, table = places.places(run, 2 * LENGTH)
        self.assertEqual([chart.data["kinds"] for chart in charts],
                         [{"found": "found", "lost": "not found"}] * 2)
        self.assertEqual(table.head, ["setting", "place", "references", "found"])
        parts = report.one_length(run, 2 * LENGTH)
        self.assertIn("There is no dense at this length",
                      " ".join(part.text for part in parts if isinstance(part, page.Text)))

    def test_a_score_of_other_samples_says_so_in_the_chart(self):
        run = self.run_of([*both(), prediction(index=1), prediction("star L/4", index=1),
                           prediction("llama")])
        own = [one for one in run.rows if one["setting"] == "llama" and one["group"] == "overall"]
        own[0]["ttft_ratio"] = 1.1
        _, chart = sections.trade(run, LENGTH)
        self.assertEqual(chart.data["labels"], {"dense": "dense", "star L/4": "star L/4",
                                                "llama": "llama (1 sample)"})
        self.assertIn("llama (1 sample) at 1.10", chart.alt)
        self.assertIn("has not the 2 of the others", chart.caption)

    def test_settings_that_have_not_the_same_samples_are_named(self):
        run = self.run_of([prediction(), prediction(index=1), prediction("star L/4")])
        (warning,) = sections.unequal(run, LENGTH)
        self.assertIn("Not every setting has all 2 samples**: star L/4 1.", warning.text)
        self.assertEqual(sections.unequal(self.run_of(both()), LENGTH), [])

    def test_settings_of_star_are_compared_with_each_other(self):
        names = ("star L/4", "star L/8", "star L/16")
        predictions = [prediction(), *(prediction(name) for name in names)]
        self.assertEqual(sections.against_each_other(self.run_of(predictions), LENGTH), [])
        own = {**summary(predictions), "pairs": [
            pair_of(names[1], names[0]), pair_of(names[2], names[0], n_pairs=4),
            pair_of(names[2], names[1], difference=[-3.0, -5.0, -1.0]),
            pair_of(names[2], names[1], group=report_data.OVERALL, difference=[9.0, 9.0, 9.0])]}
        run = report_data.load(self.write(predictions, own))
        run.name = "tiny-chat"
        heading, table = sections.against_each_other(run, LENGTH)
        self.assertEqual(heading.anchor, "tiny-chat-1024-pairs")
        self.assertEqual(table.head, ["", "less star L/4", "less star L/8"])
        self.assertEqual(table.rows, [["star L/8", "+2.5 (-1.0 to +6.0)", "–"],
                                      ["star L/16", "+2.5 (-1.0 to +6.0)", "-3.0 (-5.0 to -1.0)"]])
        self.assertIn("tasks that dense scores above 20 %", table.caption)
        self.assertIn("on the 1 to 4 samples", table.caption)

    def test_machines_are_named_with_their_predictions(self):
        self.assertEqual(sections.machines(self.run_of(both()), LENGTH), [])
        own = {"cpu": "Z80", "isa": "scalar", "linear": "ggml", "threads": 1}
        predictions = [prediction(), prediction(index=1, **own),
                       prediction(index=2, **own), prediction(index=3, **{**own, "cpu": ""})]
        (text,) = sections.machines(self.run_of(predictions), LENGTH)
        self.assertEqual(
            text.text, "The times are of Z80, 1 thread (attention scalar, linear layers ggml): "
            "2 predictions; a machine that was not recorded: 1 prediction; a CPU without a name, "
            "1 thread (attention scalar, linear layers ggml): 1 prediction.")

    def test_the_headline_has_the_summary_s_figures_with_samples_and_intervals(self):
        text = sections.lead_sentence(self.run_of(both()), LENGTH, "star L/4")
        for part in ("94.6 % (69.2 to 120.0)", "on 1 sample of 1 task", "75.0 %", "holds 0, so",
                     "-3.5 (-20.0 to +13.0)"):
            self.assertIn(part, text)

    def test_numbers_are_those_of_aster_eval(self):
        self.assertEqual([words.number(x) for x in (-0.04, 0, 12.34, 100)],
                         ["0.0", "0.0", "12.3", "100.0"])
        self.assertEqual([words.signed(x) for x in (-0.04, 2, -2)], ["0.0", "+2.0", "-2.0"])
        self.assertEqual([words.share(1, 3), words.share(0, 0)], ["33 % (1 of 3)", "– (0)"])


class LayoutTest(unittest.TestCase):

    def test_panels_hold_few_enough_groups_each_once(self):
        groups = [str(i) for i in range(13)]
        self.assertEqual([len(one) for one in layout.panels_of([groups, ["x"]], 5)], [7, 6, 1])
        self.assertEqual([len(one) for one in layout.panels_of([groups], 12)], [5, 4, 4])
        for n_settings in (1, 3, 10, 40):
            panels = list(layout.panels_of([groups], n_settings))
            self.assertEqual([one for panel in panels for one in panel], groups)

    def test_dots_of_one_place_do_not_cover_each_other(self):
        placed = layout.aside([(10, 0, "a"), (11, 0, "b"), (10, 1, "c"), (40, 0, "d")], 5)
        self.assertEqual([(at, height) for at, height, _ in placed],
                         [(10, 0), (10, 1), (11, 0.26), (40, 0)])

    def test_a_label_keeps_clear_of_what_is_there(self):
        inside, line = (0, 0, 400, 400), (500, 0, 501, 400)
        free = layout.offset_of((200, 200), (60, 12), inside, [], line, 1)
        self.assertEqual(free, (9, 0))
        beside = layout.offset_of((200, 200), (60, 12), inside, [(205, 150, 280, 250)], line, 1)
        self.assertEqual(beside, (-9, 0))
        edge = layout.offset_of((390, 200), (60, 12), inside, [], line, 1)
        self.assertLess(edge[0], 0)

    def test_ticks_of_ratios_hold_1(self):
        self.assertIn(1, layout.ratio_ticks(0.7, 1.1))
        self.assertEqual(layout.ratio_ticks(0.99, 1.01), [1])


class Page(html.parser.HTMLParser):
    """What a test asks of a page: tags that are open, and attributes that load something."""

    def __init__(self):
        super().__init__()
        self.stack, self.loads, self.tags, self.wrong = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "br", "img", "source"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if self.stack.pop() != tag:
            self.wrong.append(tag)


class PageTest(unittest.TestCase):

    def test_cells_show_their_text_as_it_is_in_both_forms(self):
        text = "<b>|x|*y*</b> & `z` _em_ $a$ niah_single_1"
        table = page.Table("of `it`", ["a", "b"], [["one", text]])
        self.assertIn("&lt;b&gt;|x|*y*&lt;/b&gt; &amp; `z` _em_ $a$ niah_single_1",
                      page.html_table(table))
        self.assertIn(
            r"| one | &lt;b&gt;\|x\|\*y\*&lt;/b&gt; &amp; \`z\` \_em\_ \$a\$ niah_single_1 |",
            page.markdown_table(table))

    def test_a_chart_is_inlined_for_light_and_dark_with_its_words(self):
        size = (1000).to_bytes(4, "big") + (50).to_bytes(4, "big")
        image = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + size
        chart = page.Chart("one", "strip", {}, 'a "b" < c', "Title. More")
        text = page.html_chart(chart, {"one": (image, image)})
        self.assertIn('alt="a &quot;b&quot; &lt; c"', text)
        self.assertIn('width="500" height="25" style="min-width: 500px"', text)
        self.assertEqual(text.count("data:image/png;base64,"), 2)
        self.assertIn("](one.png)", page.markdown_part(chart))


class ScriptTest(Folders):

    def report(self, *arguments, **environment):
        child = subprocess.run([sys.executable, ROOT / "scripts" / "eval-report", *arguments],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               timeout=60, check=False, env={**os.environ, **environment})
        self.assertNotIn("Traceback", child.stderr)
        return child.returncode, child.stdout, child.stderr

    def test_one_page_needs_nothing_else(self):
        self.write(both(pred="<script>alert(1)</script>", score=0.0) +
                   [prediction("llama", pred=" It is blue!")])
        code, _, err = self.report("--no-charts", self.folder, "-o", self.out)
        self.assertEqual(code, 0, err)
        text = (self.out / "report.html").read_text()
        found = Page()
        found.feed(text)
        self.assertEqual((found.stack, found.wrong), ([], []))
        self.assertTrue(all(one.startswith(("#", "data:")) for one in found.loads), found.loads)
        self.assertNotIn("<script", text)
        names = {attributes["id"] for _, attributes in found.tags if "id" in attributes}
        self.assertTrue(all(one[1:] in names for one in found.loads if one.startswith("#")))
        self.assertTrue(all("scope" in attributes for tag, attributes in found.tags if tag == "th"))
        markdown = (self.out / "report.md").read_text()
        for part in ("94.6 % (69.2 to 120.0)", "paper: Llama-3.1-8B-Instruct", "0 % (0 of 1)"):
            self.assertIn(part, text)
            self.assertIn(part, markdown)
        self.assertIn("The answers' texts are the same in 0 % (0 of 1)", text)
        self.assertIn("&lt;script&gt;alert(1)&lt;/script&gt;", markdown)

    def test_two_folders_of_one_model_have_links_of_their_own(self):
        self.write(both())
        code, _, err = self.report("--no-charts", self.folder, self.folder, "-o", self.out)
        self.assertEqual(code, 0, err)
        found = Page()
        found.feed((self.out / "report.html").read_text())
        names = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
        self.assertEqual(len(names), len(set(names)))

    def test_an_evaluation_without_full_attention_or_without_needles_has_a_report(self):
        for predictions in ([prediction("star L/4")], [prediction(task="qa1", length=0)]):
            self.write(predictions)
            code, _, err = self.report("--no-charts", self.folder, "-o", self.out)
            self.assertEqual(code, 0, err)
            self.assertNotIn("None", (self.out / "report.md").read_text())

    def test_bad_input_is_one_line_and_exit_code_1(self):
        cache = str(self.temporary / "cache")  # and nothing is fetched for it
        for prepare in (lambda: None, lambda: self.write([prediction()], summary(both()))):
            prepare()
            code, _, err = self.report(self.folder, "-o", self.out, XDG_CACHE_HOME=cache)
            self.assertEqual((code, len(err.splitlines())), (1, 1), err)
            self.assertTrue(err.startswith("eval-report: "), err)
        self.write(both())
        self.out.write_text("a file")
        code, _, err = self.report("--no-charts", self.folder, "-o", self.out)
        self.assertEqual((code, len(err.splitlines())), (1, 1), err)

    def test_wrong_usage_is_exit_code_2(self):
        for arguments in ((), (self.folder,), ("-o", self.out),
                          (self.folder, "-o", self.out, "--x")):
            self.assertEqual(self.report(*arguments)[0], 2, arguments)

    def test_help_fits_100_columns(self):
        code, out, _ = self.report("--help", COLUMNS="200")
        self.assertEqual(code, 0)
        self.assertIn("example:", out)
        self.assertLessEqual(max(map(len, out.splitlines())), 100)


if __name__ == "__main__":
    unittest.main()
