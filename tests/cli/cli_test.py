"""The program over an engine that pretends (fake_engine.cc): bad input, documents, streams, help."""

import json
import locale
import os
import re
import subprocess
import time
import unittest

from support import ASTER, Case, aster, finish, start, wait_for

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
JSON_FIELDS = {
    "answer": str, "attention": str, "n_context": int, "n_query": int, "n_generated": int,
    "block_size": int, "anchor_size": int, "window": int, "overlap": int, "n_blocks": int, "isa": str, "threads": int,
    "ttft_ms": (int, float), "prefill_tokens_per_s": (int, float),
    "decode_tokens_per_s": (int, float), "kv_bytes": int, "peak_rss_bytes": int,
    "top_logprobs": list, "finish": str, "model": str, "linear": str,
}


class BadArguments(Case):
    """Each row: arguments after `ask -m m.gguf`, what the line must name."""

    ROWS = [
        (["-q", "x", "--top-p", "7"], "--top-p 7: expected a number in (0, 1]"),
        (["-q", "x", "--top-p", "0"], "--top-p 0: expected a number in (0, 1]"),
        (["-q", "x", "--top-p", "nan"], "--top-p nan: expected"),
        (["-q", "x", "--top-p", "0,5"], "--top-p 0,5: expected"),
        (["-q", "x", "--temp", "-1"], "--temp -1: expected a number of at least 0"),
        (["-q", "x", "--temp", ""], "--temp '': expected"),
        (["-q", "x", "--temp="], "--temp '': expected"),
        (["-q", "x", "--temp", "inf"], "--temp inf: expected"),
        (["-q", "x", "--min-p", "1.5"], "--min-p 1.5: expected a number in [0, 1]"),
        (["-q", "x", "--top-k", "-1"], "--top-k -1: expected a whole number of at least 0"),
        (["-q", "x", "--top-k", "1.5"], "--top-k 1.5: expected a whole number"),
        (["-q", "x", "--repeat-penalty", "0"], "--repeat-penalty 0: expected a number above 0"),
        (["-q", "x", "--repeat-last-n", "99999999999"], "--repeat-last-n 99999999999: expected"),
        (["-q", "x", "-s", "4294967296"], "--seed 4294967296: expected -1 or"),
        (["-q", "x", "-n", "0"], "--n-predict 0: expected -1 or"),
        (["-q", "x", "-n", "-2"], "--n-predict -2: expected -1 or"),
        (["-q", "x", "-t", "0"], "--threads 0: expected"),
        (["-q", "x", "-ub", "0"], "--ubatch-size 0: expected"),
        (["-q", "x", "-ub", "1M"], "--ubatch-size 1M: expected"),
        (["-q", "x", "--linear", "mkl"], "--linear mkl: expected auto, ggml, onednn, onednn-f32 or onednn-bf16"),
        (["-q", "x", "--attention", "sun"], "--attention sun: expected auto, dense, star, ring or llama"),
        (["-q", "x", "--block-size", "0"], "--block-size 0: expected"),
        (["-q", "x", "--block-size", "-1"], "--block-size -1: expected"),
        (["-q", "x", "--block-size", "4x"], "--block-size 4x: expected"),
        (["-q", "x", "--block-size", "15"], "--block-size 15: expected"),
        (["-q", "x", "--block-size", ""], "--block-size '': expected"),
        (["-q", "x", "--block-size", "99999999999999999999"], "--block-size 99999999999999999999: expected"),
        (["-q", "x", "--anchor-size", "-1"], "--anchor-size -1: expected"),
        (["-q", "x", "--block-size", "1M"], "1048576"),
        (["-q", "x", "--attention", "star", "--anchor-size", "1M"], "1048576"),
        (["-q", "x", "--window", "-1"], "--window -1: expected"),
        (["-q", "x", "--attention", "dense", "--window", "1"], "window 1 with attention dense"),
        (["-q", "x", "--overlap", "-1"], "--overlap -1: expected"),
        (["-q", "x", "--attention", "dense", "--overlap", "1"], "overlap 1 with attention dense"),
        (["-q", "x", "--attention", "dense", "--block-size", "64"], "64"),
        (["-q", "x", "--attention", "dense", "--anchor-size", "64"], "64"),
        (["-q", ""], "-q '': empty; expected text"),
        (["-q", " \t\n"], "-q ' ^I^J': empty; expected text"),
        (["-q", b"caf\xe9"], "-q: not UTF-8"),
        (["-q"], "--query: expected a value"),
        ([], "no question: expected -q TEXT"),
        (["-q", "x", "--stop", ""], "--stop '': expected text"),
        (["-q", "x", "--bogus"], "--bogus: no such option; see aster ask --help"),
        (["-q", "x", "stray"], "stray: unexpected argument"),
        (["-q", "x", "-ngl", "99"], "-ngl: not an option of Aster"),
        (["-q", "x", "-c", "4096"], "-c: not an option of Aster"),
        (["-q", "x", "-f", ""], "-f '': expected a file"),
        (["-q", "x", "-m", ""], "--model '': expected"),
    ]

    def test_a_value_that_cannot_be_is_one_line_and_exit_2(self):
        for arguments, said in self.ROWS:
            with self.subTest(arguments=arguments):
                self.check_refused(aster("ask", "-m", "m.gguf", "-f", self.doc, *arguments), 2, said)

    def test_a_command_that_is_not_there_is_named(self):
        for arguments, said in [([], "no command"), (["frob"], "frob: no such command"),
                                (["--frob"], "--frob"), ([""], "'': no such command"),
                                (["model"], "no command"), (["model", "frob"], "frob"),
                                (["model", "fetch"], "no model"), (["chat"], "no document"),
                                (["tokenize"], "no text"), (["tokenize", "a", "b"], "b: unexpected"),
                                (["tokenize", "a", "-0"], "--null: unexpected"),
                                (["model", "fetch", "frob"], "frob: no such model")]:
            with self.subTest(arguments=arguments):
                self.check_refused(aster(*arguments), 2, said)

    def test_a_long_or_wild_value_stays_one_line(self):
        self.check_refused(aster("ask", "-q", "x", "--temp", "9\n\x1b[31m" + "y" * 500), 2, "9^J^[[31m")


class BadDocuments(Case):
    def refused(self, code, said, *files, **more):
        arguments = [word for file in files for word in ("-f", file)]
        self.check_refused(aster("ask", "-m", "m.gguf", "-q", "x", *arguments, **more), code, said)

    def test_what_is_no_text_is_named_and_exit_1(self):
        for name, content, said in [
                ("empty", b"", "empty: empty; expected text"),
                ("blank", b" \n\t\n", "blank: only white space"),
                ("bom", b"\xef\xbb\xbf", "bom: only white space"),
                ("binary", b"ab\0cd", "binary: not text: byte 2 is NUL"),
                ("latin1", b"caf\xe9 au lait", "latin1: not UTF-8: bad character at byte 3"),
                ("cut", "caf\u00e9".encode()[:-1], "cut: not UTF-8: bad character at byte 3"),
                ("overlong", b"\xc0\xaf", "byte 0"), ("surrogate", b"a\xed\xa0\x80", "byte 1")]:
            with self.subTest(name=name):
                self.refused(1, said, self.file(name, content))

    def test_a_missing_file_and_a_directory_are_named(self):
        self.refused(1, "nowhere.txt: No such file", os.path.join(self.folder, "nowhere.txt"))
        self.refused(1, "Is a directory", self.folder)
        self.refused(1, "nowhere.txt", self.doc, os.path.join(self.folder, "nowhere.txt"))

    def test_an_unreadable_file_is_named(self):
        if os.geteuid() == 0:
            self.skipTest("root reads everything")
        secret = self.file("secret", b"x")
        os.chmod(secret, 0)
        self.refused(1, "secret: Permission denied", secret)

    def test_an_endless_file_ends(self):
        self.refused(1, "/dev/zero: not text: byte 0 is NUL", "/dev/zero")
        self.refused(1, "/dev/urandom: not", "/dev/urandom")

    def test_standard_input_can_be_read_once(self):
        self.refused(2, "-f -: given twice", "-", "-")
        self.refused(1, "standard input: empty", "-")
        self.refused(1, "standard input: empty")
        self.check_refused(aster("chat", "-m", "m.gguf", "-f", "-"), 2, "-f -: chat reads its questions")

    def test_a_model_that_is_not_there_says_how_to_get_it(self):
        ended = aster("ask", "-f", self.doc, "-q", "x")
        self.check_refused(ended, 1, "not fetched yet", "aster model fetch smollm2")
        ended = aster("ask", "-m", "llama", "-f", self.doc, "-q", "x")
        self.check_refused(ended, 1, "-m llama: no such file, and no model", "smollm2")

    def test_too_long_and_too_large_are_told_before_the_encoding(self):
        ended = aster("ask", "-m", "m.gguf", "-f", self.doc, "-q", "x", env={"ASTER_FAKE_CTX": "4500"})
        self.check_refused(ended, 2, "document and question are 45", "trained for 4500",
                           "--allow-long")
        ended = aster("ask", "-m", "m.gguf", "-f", self.doc, "-q", "x", env={"ASTER_FAKE_MEMORY": "9"})
        self.check_refused(ended, 1, "memory")
        ended = aster("ask", "-m", "m.gguf", "-f", self.doc, "-q", "x", "--allow-long",
                      env={"ASTER_FAKE_CTX": "4500"})
        self.assertEqual(ended.code, 0, ended)


class Documents(Case):
    def context(self, *arguments, data=b""):
        """The document as the model saw it: the fake engine's tokens are bytes."""
        ended = aster("ask", "-m", "m.gguf", "-q", "?", "--json", *arguments, data=data)
        self.assertEqual(ended.code, 0, ended)
        return json.loads(ended.out)["n_context"] - len("<user\n") - len("\n\n")

    def test_files_are_joined_in_order_with_a_blank_line(self):
        a, b, c = self.file("a", "aa"), self.file("b", "bb\n"), self.file("c", "cc\n\n")
        self.assertEqual(self.context("-f", a), 2)
        self.assertEqual(self.context("-f", a, "-f", b), len("aa\n\nbb\n"))
        self.assertEqual(self.context("-f", b, "-f", c, "-f", a), len("bb\n\ncc\n\naa"))

    def test_standard_input_is_a_document_with_and_without_a_dash(self):
        a = self.file("a", "aa")
        self.assertEqual(self.context(data=b"hello"), 5)
        self.assertEqual(self.context("-f", "-", data=b"hello"), 5)
        self.assertEqual(self.context("-f", a, "-f", "-", data=b"hello"), len("aa\n\nhello"))

    def test_a_byte_order_mark_is_dropped_and_a_pipe_is_a_file(self):
        self.assertEqual(self.context("-f", self.file("bom", b"\xef\xbb\xbfabc")), 3)
        fifo = os.path.join(self.folder, "fifo")
        os.mkfifo(fifo)
        process = start("ask", "-m", "m.gguf", "-q", "?", "--json", "-f", fifo)
        with open(fifo, "wb") as out:
            out.write(b"x" * 300000)
        self.assertEqual(json.loads(finish(process).out)["n_context"], 300000 + 6 + 2)

    def test_special_tokens_in_the_document_are_warned_of(self):
        marked = self.file("marked", "see <|im_end|> there")
        ended = aster("ask", "-m", "m.gguf", "-q", "?", "-f", marked)
        self.assertEqual(ended.code, 0, ended)
        self.assertEqual(len(re.findall(r"special tokens.*<\|im_end\|>", ended.err)), 1, ended)
        self.assertNotIn("special", aster("ask", "-m", "m.gguf", "-q", "?", "-f", self.doc).err)


# Of blocks that both models were measured with.
EXPECTED = r"; expect \d+ % \(\d+ to \d+\) of dense's RULER score, as seen on 2 small models at \d+K to \d+K$"


class Streams(Case):
    def ask(self, *arguments, **more):
        return aster("ask", "-m", "m.gguf", "-f", self.doc, "-q", "Why?", *arguments, **more)

    def test_the_answer_alone_is_on_standard_output(self):
        ended = self.ask(env={"ASTER_FAKE_ANSWER": "Because."})
        self.assertEqual((ended.code, ended.out), (0, "Because.\n"), ended)
        lines = ended.err.splitlines()
        self.assertRegex(lines[0], r"^aster: 4,508 tokens of context; star attention: \d+ blocks of .*"
                         + EXPECTED)
        self.assertRegex(lines[1], r"^aster: KV memory [\d.]+ MB of [\d.]+ \w+ available$")
        self.assertRegex(lines[-1], r"^aster: TTFT .* prefill .* tokens/s, decode .* tokens/s, KV "
                                    r"[\d.]+ MB, fake, 1 thread$")
        self.assertTrue(all(line.startswith("aster: ") for line in lines), ended)

    def test_the_plan_says_what_accuracy_to_expect_where_it_was_measured(self):
        for arguments, said in [
            (["--block-size", "1200"], EXPECTED),
            (["--block-size", "16"], "; what that keeps of dense's accuracy was not measured$"),
            (["--block-size", "512", "--window", "1"], "as seen on 1 small model at 4K$"),
            (["--block-size", "1K", "--window", "1"], EXPECTED),
            (["--block-size", "500", "--window", "1"], "as seen on 1 small model at 4K$"),
            ([], r"blocks of 768, anchor 768, window 1, 67 % .*" + EXPECTED),
            (["--overlap", "256"], r"blocks of 768, anchor 768, overlap 256, \d+ % .*" + EXPECTED),
            (["--window", "0"], r"blocks of 1,280, anchor 1,280, \d+ % .*; expect "),
            (["--block-size", "768", "--window", "2"], "not measured$"),
            (["--block-size", "1K", "--overlap", "100"], r"anchor 1,024, overlap 100, .* not measured$"),
            (["--block-size", "1200", "--anchor-size", "2400"], "not measured$"),
            (["--block-size", "1200", "--anchor-size", "0"], "not measured$"),
            (["--block-size", "4K"], "100 % of dense's work$"),  # two blocks see all
        ]:
            with self.subTest(arguments):
                ended = self.ask("--attention", "star", *arguments)
                self.assertRegex(ended.err.splitlines()[0], said)
        with open(self.doc, encoding="utf-8") as file:
            text = file.read()
        short = self.file("short.txt", text[:len(text) // 4])  # 5 blocks, which are smaller than any measured
        ended = aster("ask", "-m", "m.gguf", "-f", short, "-q", "Why?", "--attention", "star",
                      "--block-size", "256", "--window", "1")
        self.assertRegex(ended.err.splitlines()[0], r"star attention: 5 blocks of 256, .*; what that keeps .* was not measured$")

    def test_the_documents_quote_what_the_plan_says(self):
        said = re.search(r"expect .*$", self.ask("--attention", "star").err.splitlines()[0])[0]
        for name in ("README.md", "docs/accuracy.md"):
            with self.subTest(name), open(os.path.join(REPOSITORY, name), encoding="utf-8") as file:
                self.assertEqual(set(re.findall(r"expect \d+ % .*$", file.read(), re.MULTILINE)), {said})

    def test_json_is_one_object_with_all_fields(self):
        ended = self.ask("--json", "--attention", "star", "--block-size", "1k", "--anchor-size", "512")
        self.assertEqual(ended.code, 0, ended)
        got = json.loads(ended.out)
        self.assertEqual(ended.out.count("\n"), 1)
        self.assertEqual(set(got), set(JSON_FIELDS))
        for field, kind in JSON_FIELDS.items():
            self.assertIsInstance(got[field], kind, field)
        self.assertEqual((got["attention"], got["block_size"], got["anchor_size"], got["n_blocks"]),
                         ("star", 1024, 512, 5))
        self.assertEqual(got["n_context"], 4508)
        self.assertEqual(len(got["top_logprobs"]), 10)
        token, logprob = got["top_logprobs"][0]
        self.assertEqual((token, logprob), ("\ufffd", -1.5))  # a token that is no whole character
        self.assertGreater(got["peak_rss_bytes"], 1 << 20)

    def test_block_sizes_in_k_and_plain_are_the_same(self):
        sizes = {json.loads(self.ask("--json", "--attention", "star", "--block-size", form).out)
                 ["block_size"] for form in ("4096", "4K", "4k")}
        self.assertEqual(sizes, {4096})

    def test_several_questions_are_encoded_once_and_told_apart(self):
        ended = self.ask("-q", "How?", env={"ASTER_FAKE_ANSWER": "A."})
        self.assertEqual(ended.out, "A.\n\nA.\n")
        self.assertEqual(ended.err.count("tokens of context"), 1)
        self.assertIn("question 2: How?", ended.err)
        first, second = map(json.loads, self.ask("-q", "How?", "--json").out.splitlines())
        self.assertEqual(first["n_context"], second["n_context"])
        self.assertGreater(first["ttft_ms"], second["ttft_ms"])
        self.assertIn("How?", second["answer"])
        self.assertNotIn("Why?", second["answer"])

    def test_progress_in_a_pipe_is_plain_lines(self):
        err = self.ask("-ub", "64").err
        lines = re.findall(r"aster: encoded ([\d,]+) of 4,508 tokens \(\d+ %\), .* tokens/s, .*", err)
        self.assertTrue(9 <= len(lines) <= 11, err)
        self.assertNotIn("\x1b", err)
        self.assertNotIn("\r", err)
        self.assertNotIn("encoded", self.ask("--no-progress").err)

    def test_the_system_message_comes_first(self):
        plain, system = (json.loads(self.ask("--json", *more).out)["n_context"]
                         for more in ([], ["--system", "Be brief."]))
        self.assertEqual(system - plain, len("<system\nBe brief.<\n"))

    def test_cuts_are_told(self):
        ended = self.ask("-n", "3", env={"ASTER_FAKE_ANSWER": "Because."})
        self.assertEqual(ended.out, "Bec\n")
        self.assertIn("answer cut by -n", ended.err)
        self.assertEqual(json.loads(self.ask("-n", "3", "--json").out)["finish"], "max_tokens")

    def test_a_closed_output_ends_the_work_with_one_line(self):
        env = {"ASTER_FAKE_ANSWER": "x" * 5000, "ASTER_FAKE_TOKEN_MS": "5"}
        process = start("ask", "-m", "m.gguf", "-f", self.doc, "-q", "x", "--no-progress", env=env)
        wait_for(process.stdout, b"x")
        process.stdout.close()
        self.assertEqual(process.wait(20), 1)
        self.assertEqual(process.stderr.read().splitlines()[2:], [b"aster: standard output: Broken pipe"])
        process.stderr.close()

    def test_a_closed_output_ends_the_encoding(self):
        read, write = os.pipe()
        os.close(read)
        process = start("ask", "-m", "m.gguf", "-f", self.doc, "-q", "x", "-ub", "1", stdout=write,
                        env={"ASTER_FAKE_STEP_MS": "10"})
        os.close(write)
        begun = time.monotonic()
        ended = finish(process)
        self.assertEqual(ended.code, 1, ended)
        self.assertLess(time.monotonic() - begun, 20)
        self.assertIn("aster: standard output: Broken pipe\n", ended.err)

    def test_a_full_disk_is_an_error(self):
        with open("/dev/full", "wb") as full:
            ended = finish(start("ask", "-m", "m.gguf", "-f", self.doc, "-q", "x", stdout=full))
            self.assertEqual(ended.code, 1, ended)
            self.assertIn("aster: standard output: No space left on device\n", ended.err)
            self.assertEqual(finish(start("--help", stdout=full)).code, 1)

    def test_a_closed_standard_output_is_an_error(self):
        ended = subprocess.run(["sh", "-c", '"$0" --version >&-', ASTER], capture_output=True)
        self.assertEqual((ended.returncode, ended.stderr.count(b"\n")), (1, 1), ended)


class Help(Case):
    COMMANDS = [["ask"], ["chat"], ["serve"], ["bench"], ["bench", "hosts"], ["eval"], ["tokenize"], ["model"], ["model", "list"], ["model", "fetch"],
                ["model", "info"], []]

    def test_every_command_has_help_within_96_columns(self):
        for command in self.COMMANDS:
            with self.subTest(command=command):
                ended = aster(*command, "--help")
                self.assertEqual((ended.code, ended.err), (0, ""), ended)
                self.assertTrue(ended.out.startswith("Usage: aster " + " ".join(command)), ended)
                self.assertLessEqual(max(map(len, ended.out.splitlines())), 96)

    def test_the_names_of_llama_cpp_are_there(self):
        shown = aster("ask", "--help").out
        for name in ("-m, --model", "-f, --file", "-n, --n-predict", "-t, --threads",
                     "-ub, --ubatch-size", "-s, --seed", "--temp", "--top-k", "--top-p", "--min-p",
                     "--repeat-penalty", "-v, --verbose", "-q, --query", "--attention",
                     "--block-size", "--anchor-size", "--json", "--no-progress", "--system"):
            self.assertIn(name, shown)

    def test_every_field_of_json_is_named(self):
        named = re.findall(r"\w+", aster("ask", "--help").out)
        for field in JSON_FIELDS:
            self.assertIn(field, named)

    def test_serve_offers_what_it_takes(self):
        shown = aster("serve", "--help").out
        self.assertNotRegex(shown, r"(?m)^ +(ring|llama):")
        for sizes in (["--block-size", "4K"], ["--anchor-size", "0"], ["--window", "1"], ["--overlap", "256"]):
            with self.subTest(sizes[0]):
                ended = aster("serve", "-m", "absent.gguf", "--attention", "dense", *sizes)
                self.check_refused(ended, 2, "attention dense")

    def test_both_names_that_llama_cpp_has_for_n_are_taken(self):
        for command in (["ask", "-m", "m.gguf", "-f", self.doc, "-q", "Why?"], ["serve", "-m", "m.gguf"]):
            for name in ("--n-predict", "--predict"):
                ended = aster(*command, name, "x")
                self.check_refused(ended, 2, "--n-predict x: expected", "whole number of at least 1")

    def test_the_version_is_one_line(self):
        self.assertRegex(aster("--version").out, r"\Aaster \d+\.\d+\.\d+\n\Z")


class Models(Case):
    def test_list_says_what_is_fetched(self):
        os.makedirs(os.path.join(self.folder, "aster/models"))
        env = {"XDG_CACHE_HOME": self.folder}
        self.file("aster/models/SmolLM2-135M-Instruct.Q4_1.gguf", "x")
        rows = {row["name"]: row for row in json.loads(aster("model", "list", "--json", env=env).out)}
        self.assertTrue(rows["smollm2-135m"]["fetched"])
        self.assertFalse(rows["qwen2.5-coder-0.5b"]["fetched"])
        self.assertIn("not fetched", aster("model", "list", env=env).out)
        self.assertEqual(aster("ask", "-f", self.doc, "-q", "x", env=env).code, 0)

    def test_info_shows_a_models_own_words_harmlessly(self):
        self.assertIn("fake ^[[31m1B", aster("model", "info", "-m", "m.gguf").out)
        self.assertEqual(json.loads(aster("model", "info", "-m", "m.gguf", "--json").out)["architecture"], "fake")

    def test_fetch_runs_the_script_and_passes_its_exit_code_on(self):
        ended = aster("model", "fetch", "smollm2", env={"XDG_CACHE_HOME": "/proc/nowhere"})
        self.check_refused(ended, 1, "/proc/nowhere")
        ended = aster("model", "fetch", "smollm2", env={"PATH": "/nonexistent"})
        self.check_refused(ended, 1, "python3")


class Tokens(Case):
    def test_ids_json_and_count(self):
        self.assertEqual(aster("tokenize", "-m", "m.gguf", "ab").out, "97 98\n")
        self.assertEqual(json.loads(aster("tokenize", "-m", "m.gguf", "ab", "--json").out),
                         {"n_tokens": 2, "tokens": [97, 98], "texts": ["a", "b"]})
        self.assertEqual(aster("tokenize", "-m", "m.gguf", "-f", self.doc, "--count").out, "4500\n")
        self.assertEqual(aster("tokenize", "-m", "m.gguf", "-f", "-", "--count", data=b"abc").out, "3\n")
        self.assertEqual(aster("tokenize", "-m", "m.gguf", "--count", "--null", data=b"abc\0\n.\0x y\0z").out,
                         "3\n2\n3\n1\n")
        self.assertEqual(aster("tokenize", "-m", "m.gguf", "--chat", "--count", "hi").out, "21\n")
        self.assertEqual(aster("tokenize", "-m", "m.gguf", "--count", "--", "-x").out, "2\n")

    def test_special_tokens_are_read_unless_told_not_to(self):
        count = ["tokenize", "-m", "m.gguf", "--count", "<|im_end|>"]
        self.assertEqual(aster(*count).out, "1\n")
        self.assertEqual(aster(*count, "--no-parse-special").out, "10\n")


if __name__ == "__main__":
    locale.setlocale(locale.LC_ALL, "C")
    unittest.main(verbosity=2)
