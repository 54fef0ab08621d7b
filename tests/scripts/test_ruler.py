"""scripts/ruler: how prompts are cut, what is refused, and three tasks by NVIDIA's generator itself.

ASTER is the program, ASTER_TEST_MODEL a model for its tokenizer. The generator is fetched once, into
the user's cache.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import scripts
from scripts import ROOT

SCRIPT = ROOT / "scripts" / "ruler"
MODEL = os.environ.get("ASTER_TEST_MODEL", "")
NEW_TOKENS = {"niah_single_1": 128, "vt": 30, "fwe": 50}


def load():
    return scripts.load("scripts/ruler")


def ruler(*arguments, **environ):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False,
                          env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environ})


class Cut(unittest.TestCase):
    TEMPLATE = "Some {kind} are hidden.\n{context}\nWhat are all the {kind} for {query}?"
    PREFIX = " The {kind} for {query} are"

    def test_the_question_and_the_prefix_are_found_by_the_templates_own_words(self):
        cut = load().cut("Some codes are hidden.\nhay\nWhat are all the codes for x? The codes for x are",
                         self.TEMPLATE, self.PREFIX)
        self.assertEqual(cut, ("Some codes are hidden.\nhay", "\nWhat are all the codes for x?",
                               " The codes for x are"))

    def test_one_needle_is_spoken_of_in_the_singular(self):
        cut = load().cut("A code is hidden.\nhay\nWhat is the code for x? The code for x is",
                         self.TEMPLATE, self.PREFIX)
        self.assertEqual(cut[1], "\nWhat is the code for x?")

    def test_the_last_question_counts_where_an_example_has_one_too(self):
        text = "List.\nQuestion: which? Answer: a\nList.\nQuestion: which? Answer:"
        self.assertEqual(load().cut(text, "List.{context}\nQuestion: which?", " Answer:"),
                         ("List.\nQuestion: which? Answer: a\nList.", "\nQuestion: which?", " Answer:"))

    def test_a_prompt_without_its_question_is_an_error(self):
        module = load()
        for text in ("nothing", "\nWhat are all the codes? The codes", " The \nWhat are all the x"):
            with self.assertRaises(module.RulerError, msg=text):
                module.cut(text, self.TEMPLATE, self.PREFIX)


class Arguments(unittest.TestCase):

    def test_wrong_ones_are_named_and_exit_2(self):
        for arguments, said in [(["--lengths", "4Q", "-o", "x"], "4Q"), (["--lengths", "12", "-o", "x"], "12"),
                                (["--tasks", "vt,none", "-o", "x"], "none"), ([], "-o"),
                                (["--samples", "0", "-o", "x"], "0")]:
            ended = ruler(*arguments)
            self.assertEqual(ended.returncode, 2, ended.stderr)
            self.assertIn(said, ended.stderr)


class RunAll(unittest.TestCase):

    def check_ends(self, fail, error):
        """One fails while others' processes run; more wait for their turn."""
        script, processes = load(), []
        running = script.Running()

        def one(number):
            if number == 0:
                while not processes:
                    time.sleep(0.01)
                fail()
            process = running.start(["sleep", "600"])
            processes.append(process)
            self.assertLess(process.wait(), 0)  # killed

        begun = time.monotonic()
        with self.assertRaises(error):
            script.run_all(running, one, [(number,) for number in (1, 0, 2, 3, 4, 5)])
        self.assertLess(time.monotonic() - begun, 60)
        self.assertLess(len(processes), 5)
        self.assertEqual([process.poll() for process in processes], [-signal.SIGKILL] * len(processes))
        with self.assertRaises(script.RulerError):
            running.start(["sleep", "600"])

    def test_what_fails_ends_the_others_at_once(self):
        def fail():
            raise ValueError("no sample")
        self.check_ends(fail, ValueError)

    def test_ctrl_c_ends_all(self):
        def fail():
            os.kill(os.getpid(), signal.SIGINT)
        self.check_ends(fail, KeyboardInterrupt)

    def test_a_termination_ends_all(self):
        code = (f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})\n"
                "import test_ruler\n"
                "script = test_ruler.load()\n"
                "running = script.Running()\n"
                "def one(number):\n"
                "    process = running.start(['sleep', '600'])\n"
                "    print(process.pid, flush=True)\n"
                "    process.wait()\n"
                "script.arguments = lambda: None\n"
                "script.make = lambda _: script.run_all(running, one, [(1,)])\n"
                "sys.exit(script.main())\n")
        for number in (signal.SIGTERM, signal.SIGHUP):
            with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
                generator = int(process.stdout.readline())
                process.send_signal(number)
                self.assertEqual(process.wait(60), 128 + number)
            with self.assertRaises(ProcessLookupError):
                os.kill(generator, 0)


class Generate(unittest.TestCase):

    def tokens(self, text):
        counted = subprocess.run([os.environ["ASTER"], "tokenize", "-m", MODEL, "--chat", "--count", "-0"],
                                 input=text.encode() + b"\0", stdout=subprocess.PIPE, check=True)
        return int(counted.stdout)

    def test_tasks_fit_the_length_hold_their_references_and_are_kept(self):
        with tempfile.TemporaryDirectory() as folder:
            common = ["-m", MODEL, "--samples", "2", "-o", folder]
            environ = {"ASTER_RULER_ASTER": os.environ["ASTER"]}
            made = ruler(*common, "--lengths", "2K", "--tasks", ",".join(NEW_TOKENS), **environ)
            self.assertEqual(made.returncode, 0, made.stderr)
            files = {task: pathlib.Path(folder) / "2048" / f"{task}.jsonl" for task in NEW_TOKENS}
            for task, path in files.items():
                rows = [json.loads(line) for line in path.read_text().splitlines()]
                self.assertEqual([row["index"] for row in rows], [0, 1])
                for row in rows:
                    self.assertEqual(row["tokens_to_generate"], NEW_TOKENS[task])
                    n = self.tokens(row["input_context"] + row["input_query"] + row["answer_prefix"])
                    self.assertLessEqual(n + NEW_TOKENS[task], 2048)
                    self.assertGreater(n, 1000)
                    for reference in row["outputs"]:
                        self.assertIn(reference, row["input_context"])
                        if task == "niah_single_1":
                            self.assertNotIn(reference, row["input_query"])
            before = {task: path.stat().st_mtime_ns for task, path in files.items()}
            again = ruler(*common, "--lengths", "2K", "--tasks", "vt", **environ)
            self.assertEqual(again.returncode, 0, again.stderr)
            self.assertEqual(files["vt"].stat().st_mtime_ns, before["vt"])
            other = ruler(*common, "--lengths", "2K", "--tasks", "vt", "--prompt", "bare", **environ)
            self.assertEqual(other.returncode, 1)
            self.assertIn("another -o", other.stderr)

    def test_without_the_program_it_says_so(self):
        ended = ruler("-o", "/tmp/none", ASTER_RULER_ASTER="/nonexistent/aster")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("/nonexistent/aster", ended.stderr)


if __name__ == "__main__":
    if not os.path.exists(MODEL):
        print(f"SKIPPED: no model at ASTER_TEST_MODEL={MODEL!r}")
        sys.exit(77)  # ctest says Skipped
    unittest.main()
