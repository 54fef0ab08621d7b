"""scripts/eval-report on made-up evaluations. No network, no matplotlib."""

import html.parser
import os
import subprocess
import sys
import unittest

from eval_folders import LENGTH, ROOT, Folders, both, pair_of, prediction, summary
import report
import report_data
import report_layout as layout
import report_page as page
import report_places as places
import report_sections as sections
import report_words as words


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
        line = lambda predictions: sections.machine_line(  # noqa: E731
            sections.machines(self.run_of(predictions), LENGTH))
        self.assertEqual(line(both()), [])
        own = {"cpu": "Z80", "isa": "scalar", "linear": "ggml", "threads": 1}
        (text,) = line([prediction(**own)])
        self.assertEqual(text.text, "The times are of Z80, 1 thread (attention scalar, linear layers ggml): 1 prediction.")
        (text,) = line([prediction(), prediction(index=1, **own),
                        prediction(index=2, **own), prediction(index=3, **{**own, "cpu": ""})])
        self.assertEqual(
            text.text, "The times are of Z80, 1 thread (attention scalar, linear layers ggml): "
            "2 predictions; a machine that was not recorded: 1 prediction; a CPU without a name, "
            "1 thread (attention scalar, linear layers ggml): 1 prediction. Seconds of several machines do not "
            "compare, so there are none; shares are of one run each.")

    def test_seconds_are_shown_where_all_are_of_one_machine(self):
        own = {"cpu": "Z80", "isa": "scalar", "linear": "ggml", "threads": 1}
        other = {**own, "threads": 2}
        for dense, star, shown in ((own, own, True), (own, other, False), ({}, {}, False), (own, {}, False)):
            with self.subTest(dense=dense, star=star):
                run = self.run_of([prediction(**dense), prediction("star L/4", **star)])
                (table,) = [part for part in sections.headline(run, LENGTH) if isinstance(part, page.Table)]
                self.assertEqual(table.head[-1] == "TTFT, s", shown)
                self.assertEqual({len(row) for row in table.rows}, {len(table.head)})

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
