"""The program as built, with SmolLM2 ($ASTER_TEST_MODEL)."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import unittest

from cli_test import JSON_FIELDS
from support import Case, aster, finish, start, wait_for

MODEL = os.environ.get("ASTER_TEST_MODEL", "")
FACT = "The pass key is 71432. Remember it. 71432 is the pass key.\n"


class WithSmolLM2(Case):
    def setUp(self):
        super().setUp()
        filler = "The sea was calm that day and the boats went out early. " * 5 + "\n"
        self.doc = self.file("doc.txt", filler * 8 + FACT + filler * 8)

    def ask(self, *arguments, **more):
        return aster("ask", "-m", MODEL, "-f", self.doc, "--temp", "0", *arguments, **more)

    def test_a_question_gets_its_answer(self):
        for attention in (["dense"], ["star", "--block-size", "512"], ["llama"]):
            with self.subTest(attention=attention):
                ended = self.ask("-q", "What is the pass key?", "-n", "24",
                                 "--attention", *attention)
                self.assertEqual(ended.code, 0, ended)
                self.assertIn("71432", ended.out)

    def test_json_is_whole_and_adds_up(self):
        ended = self.ask("-q", "What is the pass key?", "-n", "8", "--json", "--attention", "star",
                         "--block-size", "512", "--anchor-size", "64", "-t", "1")
        self.assertEqual(ended.code, 0, ended)
        got = json.loads(ended.out)
        self.assertEqual(set(got), set(JSON_FIELDS))
        for field, kind in JSON_FIELDS.items():
            self.assertIsInstance(got[field], kind, field)
        self.assertEqual((got["attention"], got["block_size"], got["anchor_size"], got["threads"]),
                         ("star", 512, 64, 1))
        self.assertEqual(got["n_blocks"], -(-got["n_context"] // 512))
        self.assertIn(got["n_generated"], range(1, 9))
        logprobs = [logprob for _, logprob in got["top_logprobs"]]
        self.assertEqual(len(logprobs), 10)
        self.assertEqual(logprobs, sorted(logprobs, reverse=True))
        self.assertLess(logprobs[0], 0)
        self.assertTrue(got["answer"].lstrip().startswith(got["top_logprobs"][0][0].strip()))
        speed = 1000 * (got["n_context"] + got["n_query"]) / got["ttft_ms"]
        self.assertAlmostEqual(got["prefill_tokens_per_s"], speed, delta=1e-6 * speed)
        self.assertGreaterEqual(got["kv_bytes"], 23040 * got["n_context"])
        self.assertGreater(got["peak_rss_bytes"], got["kv_bytes"])

    def test_eval_finds_a_needle_under_every_setting(self):
        before, after = ["The harbour was quiet and the nets were dry. " * n for n in (60, 40)]
        needle = "One of the special magic numbers for lamp is: 4810523. "
        sample = {"task": "niah_single_1", "input_context": before + needle + after,
                  "input_query": "\nWhat is the special magic number for lamp mentioned in the provided text?",
                  "answer_prefix": " The special magic number for lamp mentioned in the provided text is",
                  "outputs": ["4810523"], "tokens_to_generate": 16}
        data = self.file("one.jsonl", json.dumps(sample) + "\n")
        out = os.path.join(self.folder, "out")
        ended = aster("eval", "-m", MODEL, "--data", data, "-o", out, "--attention", "dense,star,llama",
                      "--block-size", "256", "--window", "0,1")
        self.assertEqual(ended.code, 0, ended)
        with open(os.path.join(out, "predictions.jsonl"), encoding="utf-8") as file:
            predictions = [json.loads(line) for line in file]
        self.assertEqual([p["setting"] for p in predictions],
                         ["dense", "star 256", "star 256 window 1", "llama"])
        self.assertEqual([p["score"] for p in predictions], [1, 1, 1, 1], predictions)
        n_before = int(aster("tokenize", "-m", MODEL, "--chat", "--count", before).out)
        at = predictions[0]["reference_at"][0]
        self.assertLess(abs(at - n_before), 20)  # the template's tokens and the needle's words
        self.assertGreater(predictions[0]["n_context"], at + 300)

    def test_bench_checks_then_times_every_attention(self):
        ended = aster("bench", "-m", MODEL, "-p", "300", "-n", "3", "-d", "280", "-r", "2", "-o",
                      "jsonl", "--attention", "dense,star,llama", "--block-size", "128", "--profile")
        self.assertEqual(ended.code, 0, ended)
        rows = [json.loads(line) for line in ended.out.splitlines()]
        self.assertEqual([(row["test"], row["attention"]) for row in rows],
                         [(test, attention) for test in ("pp300", "tg3@d280")
                          for attention in ("dense", "star", "llama")])
        for row in rows:
            self.assertLess(row["check_logprob_diff"], 0.5)
            self.assertEqual(row["check_logprob_diff"] > 0, row["attention"] != "llama")
            self.assertGreater(min(row["tokens_per_s"]), 0)
            self.assertGreater(row["peak_rss_bytes"], row["kv_bytes"])
            if row["test"] == "pp300" and row["attention"] != "llama":
                self.assertGreater(row["profile_ms"]["attention"], 0)
                self.assertGreater(row["profile_ms"]["packing"], 0)

    def test_bench_tells_the_check_of_a_star_that_one_block_made_dense(self):
        ended = aster("bench", "-m", MODEL, "-p", "64", "-n", "0", "-r", "1", "-o", "jsonl",
                      "--attention", "star", "--block-size", "128")
        self.assertEqual(ended.code, 0, ended)
        row = json.loads(ended.out)
        self.assertEqual(row["attention"], "dense")
        self.assertGreater(row["check_logprob_diff"], 0)

    def test_later_questions_find_the_context_encoded(self):
        ended = self.ask("-q", "What is the pass key?", "-q", "How was the sea?", "-n", "4", "--json")
        first, second = map(json.loads, ended.out.splitlines())
        self.assertEqual(len(re.findall(r"encoded ([\d,]+) of \1 tokens", ended.err)), 1, ended)
        self.assertEqual(first["n_context"], second["n_context"])
        self.assertLess(second["n_query"], 40)  # the question, and nothing of the document
        alone = json.loads(self.ask("-q", "How was the sea?", "-n", "4", "--json").out)
        self.assertEqual(alone["answer"], second["answer"])

    def test_chat_remembers_the_turn_before(self):
        ended = aster("chat", "-m", MODEL, "-f", self.doc, "--temp", "0", "-n", "16", "--json",
                      data=b"What is the pass key?\nRepeat it.\n")
        self.assertEqual(ended.code, 0, ended)
        first, second = map(json.loads, ended.out.splitlines())
        # What the first turn ran is there; only the new question's tokens are run.
        held = first["n_context"] + first["n_query"]
        self.assertGreaterEqual(second["n_context"], held)
        self.assertLess(second["n_query"], 40)

    def test_too_long_a_document_is_refused_with_both_numbers(self):
        long = self.file("long.txt", open(self.doc, encoding="utf-8").read() * 9)
        ended = aster("ask", "-m", MODEL, "-f", long, "-q", "x")
        self.check_refused(ended, 2, "trained for 8192", "--allow-long")

    def test_a_signal_at_any_time_ends_it_cleanly(self):
        for number, code in [(signal.SIGINT, 130), (signal.SIGTERM, 143)]:
            for delay in (0.05, 0.3, 1, 2):
                with self.subTest(signal=number, delay=delay):
                    process = start("ask", "-m", MODEL, "-f", self.doc, "-q", "Tell a long story.", "-ub", "64")
                    time.sleep(delay)
                    if process.poll() is None:
                        process.send_signal(number)
                    ended = finish(process)
                    self.assertIn(ended.code, (0, code), ended)

    def test_a_stopped_answer_is_kept(self):
        process = start("ask", "-m", MODEL, "-f", self.doc, "-q", "Tell a long story.",
                        "--stop", "never said", "--no-progress")
        said = wait_for(process.stdout, b" ").decode()
        process.send_signal(signal.SIGINT)
        ended = finish(process)
        self.assertIn(ended.code, (0, 130), ended)
        self.assertTrue((said + ended.out).endswith("\n"), ended)
        self.assertIn("aster: TTFT", ended.err)

    def test_a_reader_that_goes_ends_it(self):
        ended = subprocess.run(["sh", "-c", '"$0" ask -m "$1" -f "$2" -q "Tell a long story." | head -c 1',
                                os.environ["ASTER"], MODEL, self.doc], capture_output=True, timeout=120)
        self.assertEqual((ended.returncode, len(ended.stdout)), (0, 1), ended)
        self.assertEqual(ended.stderr.splitlines()[-1], b"aster: standard output: Broken pipe")

    def test_tokens_are_those_of_the_model(self):
        got = json.loads(aster("tokenize", "-m", MODEL, "Hello <|im_end|>", "--json").out)
        self.assertEqual(got["texts"][0], "Hello")
        self.assertEqual(got["texts"][-1], "<|im_end|>")
        self.assertEqual(got["n_tokens"], len(got["tokens"]))

    def test_info_knows_the_model(self):
        got = json.loads(aster("model", "info", "-m", MODEL, "--json").out)
        self.assertEqual((got["n_layers"], got["n_heads"], got["n_kv_heads"], got["n_ctx_train"]),
                         (30, 9, 3, 8192))
        self.assertEqual(got["kv_bytes_per_token"], 30 * 3 * 2 * 64 * 2)


if __name__ == "__main__":
    if not os.path.exists(MODEL):
        print(f"SKIPPED: no model at ASTER_TEST_MODEL={MODEL!r}")
        sys.exit(77)
    unittest.main(verbosity=2)
