"""aster eval over an engine that pretends (fake_engine.cc): samples, settings, going on, refusals.

Unless told otherwise, that engine answers with the question itself: a reference that stands in the
question is found.
"""

import json
import math
import os
import signal
import time
import unittest

from support import Case, aster, finish, start, wait_for

FACT = "The lamp of {i} is blue. "


def row(i, question, reference, context=None, **more):
    return {"index": i, "input_context": context or FACT.format(i=i) * 60, "input_query": "\n" + question,
            "outputs": [reference], "max_seq_length": 2048, **more}


class Eval(Case):

    def samples(self, name, rows):
        return self.file(name, "".join(json.dumps(one) + "\n" for one in rows))

    def setUp(self):
        super().setUp()
        self.data = os.path.join(self.folder, "data")
        self.out = os.path.join(self.folder, "out")
        os.mkdir(self.data)
        self.samples("data/vt.jsonl", [row(i, "Say lamp", "LAMP") for i in range(3)])
        self.samples("data/qa_1.jsonl", [row(i, "Say what?", "nothing") for i in range(2)])

    def eval(self, *arguments, data=None, **more):
        return aster("eval", "-m", "m.gguf", "--data", data or self.data, "-o", self.out, *arguments, **more)

    def predictions(self):
        with open(os.path.join(self.out, "predictions.jsonl"), encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def test_every_setting_is_run_on_every_sample_one_of_each_task_in_turn(self):
        ended = self.eval("--attention", "dense,star,llama", "--block-size", "L/4,64", "--window", "0,1")
        self.assertEqual(ended.code, 0, ended)
        settings = ["dense", "star L/4", "star L/4 window 1", "star 64", "star 64 window 1", "llama"]
        order = [("qa_1", 0), ("vt", 0), ("qa_1", 1), ("vt", 1), ("vt", 2)]
        self.assertEqual([(p["task"], p["index"], p["setting"]) for p in self.predictions()],
                         [(task, i, setting) for task, i in order for setting in settings])
        first = {p["setting"]: p for p in self.predictions() if p["task"] == "vt" and p["index"] == 0}
        self.assertEqual((first["star L/4"]["block_size"], first["star L/4"]["anchor_size"]), (512, 512))
        self.assertEqual(first["star 64 window 1"]["window"], 1)
        self.assertEqual(first["dense"]["score"], 1)
        self.assertIn("| vt | 3 | 100.0 (", ended.out)
        self.assertIn("| qa_1 | 2 | 0.0 (", ended.out)
        self.assertIn("| overall | 5 | 50.0 (", ended.out)
        with open(os.path.join(self.out, "summary.json"), encoding="utf-8") as file:
            summary = json.load(file)
        self.assertEqual({one["setting"] for one in summary["rows"]}, set(settings))

    def test_the_answer_prefix_follows_the_template_and_the_query_starts_at_the_question(self):
        path = self.samples("one.jsonl", [row(0, "Say lamp", "x", answer_prefix=" It is:")])
        self.assertEqual(self.eval("--attention", "dense", data=path).code, 0)
        self.assertTrue(self.predictions()[0]["pred"].endswith("<|im_start|>assistant\n It is:"))
        self.assertTrue(self.predictions()[0]["pred"].lstrip().startswith("Say lamp<|im_end|>"))

    def test_bare_prompts_have_no_template(self):
        path = self.samples("one.jsonl", [row(0, "Say lamp", "x", answer_prefix=" It is:")])
        self.assertEqual(self.eval("--attention", "dense", "--prompt", "bare", data=path).code, 0)
        self.assertEqual(self.predictions()[0]["pred"], "\nSay lamp It is:")

    def test_where_a_reference_stands_is_told_in_tokens(self):
        context = "a" * 500 + "needle" + "b" * 500
        path = self.samples("one.jsonl", [row(0, "Say needle", "needle", context=context)])
        self.assertEqual(self.eval("--attention", "dense", "--prompt", "bare", data=path).code, 0)
        self.assertEqual(self.predictions()[0]["reference_at"], [500])  # a byte is a token here
        self.assertEqual(self.predictions()[0]["n_context"], len(context))

    def test_questions_of_one_context_share_its_encoding(self):
        path = self.samples("one.jsonl", [row(i, f"Say {i}", str(i), context="c" * 900) for i in range(3)])
        ended = self.eval("--attention", "dense,star", data=path)
        self.assertIn("3 samples, 2 settings, chat prompts; 2 contexts to encode", ended.err)
        self.assertEqual(len(self.predictions()), 6)
        self.assertEqual(len({p["encode_s"] for p in self.predictions() if p["setting"] == "dense"}), 1)

    def test_later_settings_take_over_what_the_first_encoded_alike_and_count_its_time(self):
        ended = self.eval("--tasks", "vt", "--samples", "2", "--attention", "dense,star,llama", "--block-size",
                          "256,512", "--window", "0,1")
        self.assertEqual(ended.code, 0, ended)
        n = self.predictions()[0]["n_context"]
        self.assertGreater(n, 1024)
        taken = {"dense": 0, "star 256": 512, "star 256 window 1": 768, "star 512": 1024, "star 512 window 1": n,
                 "llama": 0}
        for i in range(2):
            by_setting = {p["setting"]: p for p in self.predictions() if p["index"] == i}
            self.assertEqual({name: p["n_taken_over"] for name, p in by_setting.items()}, taken)
            del by_setting["llama"]  # has no steps
            for name, p in by_setting.items():  # a step of this engine takes 1 ms, of at most 512 tokens
                there = taken[name]
                of_first = there / 512 if there < n else math.ceil(n / 512)
                own = math.ceil((n - there) / min(p["block_size"], 512))
                self.assertAlmostEqual(p["encode_s"], (of_first + own) / 1000, places=9, msg=name)
        total = 2 * sum(n - there for there in taken.values())
        self.assertIn(f"12 contexts to encode, {total:,} tokens in all", ended.err)

    def test_a_context_that_one_block_holds_is_dense(self):
        path = self.samples("one.jsonl", [row(0, "Say lamp", "lamp", context="short " * 20)])
        self.assertEqual(self.eval("--attention", "star", data=path).code, 0)
        self.assertEqual(self.predictions()[0]["attention"], "dense")
        self.assertEqual(self.predictions()[0]["setting"], "star L/4")

    def test_what_auto_does_is_in_its_name(self):
        ended = self.eval("--tasks", "vt", "--samples", "1", "--attention", "star", "--block-size", "auto",
                          "--window", "0,auto,1")
        self.assertEqual(ended.code, 0, ended)
        plans = {p["setting"]: (p["block_size"], p["window"]) for p in self.predictions()}
        self.assertEqual({name: window for name, (_, window) in plans.items()},
                         {"star auto window 0": 0, "star auto window 1": 1})
        self.assertGreater(plans["star auto window 0"][0], plans["star auto window 1"][0])

    def test_an_overlap_is_a_setting_of_its_own(self):
        ended = self.eval("--tasks", "vt", "--samples", "1", "--attention", "dense,star", "--block-size", "64",
                          "--window", "0,1", "--overlap", "0,20")
        self.assertEqual(ended.code, 0, ended)
        self.assertEqual({p["setting"]: (p["window"], p["overlap"]) for p in self.predictions()},
                         {"dense": (0, 0), "star 64": (0, 0), "star 64 overlap 20": (0, 20),
                          "star 64 window 1": (1, 0), "star 64 window 1 overlap 20": (1, 20)})

    def test_only_the_settings_that_are_named_are_run(self):
        sizes = ("--attention", "dense,star", "--block-size", "L/4,L/8", "--window", "0,1")
        ended = self.eval("--tasks", "vt", *sizes, "--only", "star L/8 window 1, dense")
        self.assertEqual(ended.code, 0, ended)
        self.assertEqual([p["setting"] for p in self.predictions()], ["dense", "star L/8 window 1"] * 3)
        self.check_refused(self.eval(*sizes, "--only", "dense,star L/16"), 2, "--only star L/16",
                           "expected of dense, star L/4, star L/4 window 1, star L/8, star L/8 window 1")

    def test_tables_of_what_is_there_write_no_predictions(self):
        self.check_refused(aster("eval", "-o", self.out), 1, "no predictions", "--data")
        self.assertFalse(os.path.exists(self.out))
        self.samples("predictions.jsonl.gz", [])
        self.check_refused(aster("eval", "-o", self.folder), 1, "gunzip -k")

    def test_tables_can_be_had_while_it_runs(self):
        process = start("eval", "-m", "m.gguf", "--data", self.data, "-o", self.out,
                        env={"ASTER_FAKE_TOKEN_MS": "2"})
        wait_for(process.stderr, b"star L/4: ")
        tables = aster("eval", "-o", self.out)
        self.assertEqual((tables.code, tables.err), (0, ""), tables)
        self.assertIn("| qa_1 | 1 |", tables.out)
        process.send_signal(signal.SIGINT)
        self.assertEqual(finish(process).code, 130)

    def test_a_run_that_was_stopped_goes_on_and_does_nothing_twice(self):
        process = start("eval", "-m", "m.gguf", "--data", self.data, "-o", self.out,
                        env={"ASTER_FAKE_TOKEN_MS": "2"})
        seen = wait_for(process.stderr, b"star L/4: ")
        process.send_signal(signal.SIGINT)
        stopped = finish(process)
        self.assertEqual(stopped.code, 130, (seen, stopped))
        self.assertIn("the same command goes on", stopped.err)
        before = self.predictions()
        self.assertGreaterEqual(len(before), 2)
        self.assertLess(len(before), 10)
        ended = self.eval()
        self.assertEqual(ended.code, 0, ended)
        after = self.predictions()
        self.assertEqual(after[:len(before)], before)
        self.assertEqual(len(after), 10)
        self.assertEqual(len({(p["task"], p["index"], p["setting"]) for p in after}), 10)

    def test_more_settings_and_samples_join_what_is_there(self):
        self.assertEqual(self.eval("--samples", "1", "--attention", "dense").code, 0)
        self.assertEqual(len(self.predictions()), 2)
        ended = self.eval("--attention", "dense,star", "--tasks", "vt")
        self.assertIn("2 predictions are there already", ended.err)
        self.assertEqual(len(self.predictions()), 7)

    def test_a_line_that_a_crash_cut_off_is_made_again(self):
        self.assertEqual(self.eval().code, 0)
        path = os.path.join(self.out, "predictions.jsonl")
        whole = self.predictions()
        os.truncate(path, os.path.getsize(path) - 20)
        ended = self.eval()
        self.assertEqual(ended.code, 0, ended)
        self.assertEqual(len(self.predictions()), len(whole))

    def test_every_prediction_names_the_machine_of_its_times(self):
        self.assertEqual(self.eval("--attention", "dense").code, 0)
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        for one in self.predictions():
            self.assertEqual([one[name] for name in ("cpu", "isa", "linear", "threads")],
                             [(names or [""])[0], "fake", "fake", 1])

    def test_an_older_file_without_the_machine_goes_on(self):
        self.assertEqual(self.eval("--samples", "1", "--attention", "dense").code, 0)
        fields = ("cpu", "isa", "linear", "threads")
        older = [{name: value for name, value in one.items() if name not in fields}
                 for one in self.predictions()]
        self.samples("out/predictions.jsonl", older)
        self.assertEqual(self.eval("--attention", "dense").code, 0)
        self.assertEqual(self.predictions()[:len(older)], older)
        self.assertEqual(len(self.predictions()), 5)
        self.samples("out/predictions.jsonl", [{**one, "threads": "two"} for one in older])
        ended = self.eval("--attention", "dense")
        self.assertEqual(ended.code, 1)
        self.assertIn('line 1: "threads" is missing or of another type', ended.err)
        self.assertEqual(len(self.predictions()), len(older), "what could not be read is gone")

    def test_a_changed_sample_is_another_one(self):
        self.assertEqual(self.eval("--attention", "dense").code, 0)
        self.samples("data/qa_1.jsonl", [row(i, "Say nothing else?", "nothing") for i in range(2)])
        ended = self.eval("--attention", "dense")
        self.assertEqual(ended.code, 0)
        self.assertEqual(len(self.predictions()), 7)
        self.assertIn("| qa_1 | 2 | 100.0 (", ended.out)  # the older answers count no more
        self.assertIn("left out: what was answered to 2 samples that changed since", ended.err)
        again = aster("eval", "-o", self.out)
        self.assertEqual(again.out, ended.out)
        with open(os.path.join(self.out, "summary.json"), encoding="utf-8") as file:
            self.assertEqual(len(json.load(file)["superseded"]), 2)
        self.samples("data/qa_1.jsonl", [row(i, "Say what?", "nothing") for i in range(2)])  # as they were
        ended = self.eval("--attention", "dense")
        self.assertEqual(len(self.predictions()), 7)
        self.assertIn("| qa_1 | 2 | 0.0 (", ended.out)
        again = aster("eval", "-o", self.out)  # not what was answered last
        self.assertEqual(again.out, ended.out)
        part = self.eval("--attention", "dense", "--tasks", "vt")
        self.assertEqual(part.out, ended.out)
        self.file("out/summary.json", "[]")
        self.check_refused(aster("eval", "-o", self.out), 1, "summary.json: expected what aster eval")

    def test_a_longer_answer_is_another_one(self):
        path = self.samples("one.jsonl", [row(0, "Say lamp", "lamp", tokens_to_generate=5)])
        self.assertEqual(self.eval("--attention", "dense", data=path).code, 0)
        path = self.samples("one.jsonl", [row(0, "Say lamp", "lamp", tokens_to_generate=50)])
        self.assertEqual(self.eval("--attention", "dense", data=path).code, 0)
        self.assertEqual(len(self.predictions()), 2)

    def test_settings_with_different_numbers_of_samples_say_so(self):
        self.assertEqual(self.eval("--attention", "dense").code, 0)
        ended = self.eval("--attention", "star", "--tasks", "vt", "--samples", "1")
        self.assertIn("| vt | 1 to 3 | ", ended.out)
        self.assertIn("| qa_1 | 2 | ", ended.out)
        self.assertIn("different numbers of samples", ended.out)

    def test_what_it_wrote_below_the_samples_is_none(self):
        self.out = os.path.join(self.data, "results")
        for _ in range(2):
            self.assertEqual(self.eval("--attention", "dense").code, 0)
        self.assertEqual(len(self.predictions()), 5)

    def test_packed_predictions_are_not_begun_anew(self):
        os.mkdir(self.out)
        self.samples("out/predictions.jsonl.gz", [])
        self.check_refused(self.eval("--attention", "dense"), 1, "gunzip -k")
        self.assertEqual(os.listdir(self.out), ["predictions.jsonl.gz"])

    def test_a_run_that_made_nothing_leaves_no_file(self):
        self.check_refused(aster("eval", "--data", self.data, "-o", self.out), 1, "not fetched")  # no model
        self.assertEqual(os.listdir(self.out), [])

    def test_lengths_that_nothing_tells_apart_are_refused(self):
        for folder in ("short", "long"):
            os.mkdir(os.path.join(self.folder, "data", folder))
            rows = [row(0, "Say lamp", folder)]
            del rows[0]["max_seq_length"]
            self.samples(f"data/{folder}/fwe.jsonl", rows)
        self.check_refused(self.eval("--attention", "dense"), 1, "sample 0 of fwe", "4096")

    def test_without_data_it_shows_what_is_there_and_loads_no_model(self):
        ended = self.eval("--attention", "dense,star")
        again = aster("eval", "-m", "/nonexistent.gguf", "-o", self.out)
        self.assertEqual(again.code, 0, again)
        self.assertEqual(again.out, ended.out)

    def test_scores_are_made_anew_from_the_texts(self):
        self.assertEqual(self.eval("--attention", "dense", "--tasks", "vt").code, 0)
        path = os.path.join(self.out, "predictions.jsonl")
        lines = [{**p, "score": 0} for p in self.predictions()]
        self.samples("out/predictions.jsonl", lines)
        self.assertIn("| vt | 3 | 100.0 (", aster("eval", "-o", self.out).out)
        self.assertTrue(os.path.exists(path))

    def test_babilong(self):
        rows = [{"input": "Mary went to the kitchen. " * 30, "question": "Where is Mary?",
                 "target": "kitchen"},
                {"input": "Fred took the milk. " * 30, "question": "Where is Fred?", "target": "garden"}]
        path = self.file("qa1.json", json.dumps(rows))
        ended = self.eval("--attention", "dense,star", data=path, env={"ASTER_FAKE_ANSWER": " The kitchen."})
        self.assertEqual(ended.code, 0, ended)
        self.assertEqual([p["score"] for p in self.predictions()], [1, 1, 0, 0])
        self.assertIn("| qa1 | 2 | 50.0 (", ended.out)

    def test_one_folder_is_for_one_model_and_kind_of_prompt(self):
        self.assertEqual(self.eval().code, 0)
        self.check_refused(aster("eval", "-m", "other.gguf", "--data", self.data, "-o", self.out), 1,
                           "m.gguf", "other.gguf", "another -o")
        self.check_refused(self.eval("--prompt", "bare"), 1, "chat", "bare")

    def test_another_file_of_the_same_name_or_another_template_is_refused(self):
        for name, text in (("a", "one model"), ("b", "another 1")):
            os.mkdir(os.path.join(self.folder, name))
            self.file(f"{name}/m.gguf", text)
        run = ["eval", "--data", self.data, "-o", self.out, "--attention", "dense"]
        model = os.path.join(self.folder, "{}/m.gguf")
        self.assertEqual(aster(*run, "-m", model.format("a")).code, 0)
        self.check_refused(aster(*run, "-m", model.format("b")), 1, "another file that was called m.gguf")
        template = self.file("template.jinja", "{{ messages[0].content }}")
        self.check_refused(aster(*run, "-m", model.format("a"), "--chat-template-file", template), 1,
                           "another chat template")
        self.assertEqual(aster(*run, "-m", model.format("a")).code, 0)
        self.assertEqual(len(self.predictions()), 5)

    def test_two_at_once_are_refused(self):
        process = start("eval", "-m", "m.gguf", "--data", self.data, "-o", self.out,
                        env={"ASTER_FAKE_TOKEN_MS": "20"})
        wait_for(process.stderr, b"settings")
        path, end = os.path.join(self.out, "predictions.jsonl"), time.monotonic() + 60
        while not (os.path.exists(path) and os.path.getsize(path)) and time.monotonic() < end:
            time.sleep(0.02)
        self.check_refused(self.eval(), 1, "another aster eval")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(finish(process).code, 143)
        self.assertTrue(self.predictions(), "the refused one took the file away")

    def test_an_index_that_is_there_twice_is_refused(self):
        path = self.samples("twice.jsonl", [row(0, "Say lamp", "lamp"), row(0, "Say chair", "chair")])
        self.check_refused(self.eval("--attention", "dense", data=path), 1,
                           "sample 0 of twice at 2048 is there twice, with different texts")
        path = self.samples("same.jsonl", [row(0, "Say lamp", "lamp")] * 2)
        self.assertEqual(self.eval("--attention", "dense", data=path).code, 0)
        self.assertEqual(len(self.predictions()), 1)

    def test_bad_input_is_one_line(self):
        empty = os.path.join(self.folder, "empty")
        os.mkdir(empty)
        bad = self.file("bad.jsonl", '{"input_context": 7}\n')
        for arguments, code, said in [
            (["eval"], 2, ["-o DIR"]),
            (["eval", "--data", self.data], 2, ["-o DIR"]),
            (["eval", "-o", self.out], 1, ["no predictions", "--data"]),
            (["eval", "--data", "/nonexistent", "-o", self.out], 1, ["/nonexistent"]),
            (["eval", "--data", bad, "-o", self.out], 1, ["line 1", "input_context"]),
            (["eval", "--data", empty, "-o", self.out], 1, ["no .jsonl"]),
            (["eval", "--data", self.data, "-o", self.doc], 1, [self.doc]),
            (["eval", "--data", self.data, "-o", self.out, "--tasks", "none"], 1, ["no sample"]),
            (["eval", "--data", self.data, "-o", self.out, "--tasks", "vt,nope"], 1,
             ["--tasks nope: no sample", "expected of qa_1, vt"]),
            (["eval", "--data", self.data, "-o", self.out, "--block-size", "L/0"], 2, ["L/0", "L/4"]),
            (["eval", "--data", self.data, "-o", self.out, "--window", "-1"], 2, ["-1"]),
            (["eval", "--data", self.data, "-o", self.out, "--prompt", "what"], 2, ["what", "bare"]),
        ]:
            os.makedirs(self.out, exist_ok=True)
            with self.subTest(arguments):
                self.check_refused(aster(*arguments), code, *said)


if __name__ == "__main__":
    unittest.main()
