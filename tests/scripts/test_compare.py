"""bench/compare against engines that are not there, slow or wrong. No network, no matplotlib."""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench" / "peers"))
import engines  # noqa: E402
import report  # noqa: E402
import rounds  # noqa: E402

# Stands for every engine: writes its arguments into $CALLS and prints the row of the engine that it
# is called as. Decides on $FAIL (an engine that fails), $HANG (one that never ends).
FAKE = """
import json, os, sys, time
engine, arguments = sys.argv[1], sys.argv[2:]
if arguments == ["--version"]:
    print("aster 9.9")
    sys.exit()
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([engine, arguments, os.environ.get("ASTER_ISA")]) + "\\n")
if os.environ.get("FAIL") == engine:
    sys.exit("some progress\\nthis model has a type that I cannot read")
if os.environ.get("HANG") == engine:
    time.sleep(60)
def number(flag):
    return int(arguments[arguments.index(flag) + 1]) if flag in arguments else 0
p, n, d = number("-p"), number("-n"), number("-d")
star = "star" in arguments
print("not a row")
if engine == "aster":
    row = {"n_prompt": p, "n_gen": n, "n_depth": d, "isa": "avx2", "linear": "ggml"}
    row.update({"tokens_per_s": [80.0]} if n else {"ttft_ms": [500.0 if star else 1000.0]})
elif engine == "llama":
    row = {"n_prompt": p, "n_gen": n, "n_depth": d, "avg_ns": 2_000_000_000, "avg_ts": 40.0}
else:
    row = {"n_prompt": p, "n_gen": n, "ttft_ms": 1500.0, "tokens_per_s": 20.0}
print(json.dumps(row))
"""


def runs_of(case, **values):
    """Runs of a case: engine -> figures, one a round; None: failed."""
    return [{
        "round":
            i + 1, "case":
                case.name, "engine":
                    engine.replace("_", "."), "row": {},
        **({"status": "failed",
            "reason": "no luck"} if value is None else {"status": "ok", "value": value})
    } for engine, own in values.items() for i, value in enumerate(own)]


class ReportTest(unittest.TestCase):

    def test_a_ratio_is_taken_in_each_round_and_then_the_median(self):
        case = engines.Case(8192)
        runs = runs_of(case, openvino=[10.0, 20.0, 90.0], llama_cpp=[40.0, 20.0, 180.0])
        self.assertEqual(report.ratios(runs, case, "openvino", "llama.cpp"),
                         {1: 4.0, 2: 1.0, 3: 2.0})
        self.assertEqual(report.summary([4.0, 1.0, 2.0]),
                         {"median": 2.0, "min": 1.0, "max": 4.0, "n": 3})

    def test_above_one_is_faster_in_a_decode_too(self):
        case = engines.Case(0, 32)
        runs = runs_of(case, openvino=[80.0], llama_cpp=[40.0])
        self.assertEqual(report.ratios(runs, case, "openvino", "llama.cpp"), {1: 2.0})

    def test_a_round_that_lacks_one_engine_has_no_ratio(self):
        case = engines.Case(64)
        runs = runs_of(case, openvino=[10.0, 10.0], llama_cpp=[None, 30.0])
        self.assertEqual(report.ratios(runs, case, "openvino", "llama.cpp"), {2: 3.0})

    def test_nothing_has_no_summary(self):
        self.assertIsNone(report.summary([]))

    def test_figures_have_three_digits(self):
        for value, text in ((0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"),
                            (12345, "12,345")):
            self.assertEqual(report.figure(value), text)

    def test_one_sample_has_no_spread(self):
        self.assertEqual(report.spread(report.summary([2000.0]), 1e-3), "2.00")
        self.assertEqual(report.spread(report.summary([2.0, 1.0, 4.0])), "2.00 (1.00 to 4.00)")

    def test_a_case_is_known_by_llama_bench_s_name(self):
        for case, name in ((engines.Case(8192), "pp8192"), (engines.Case(0, 32), "tg32@d0")):
            self.assertEqual(case.name, name)

    def test_the_order_rotates_and_every_cell_comes_once(self):
        cases, names = [engines.Case(1), engines.Case(2)], ["a", "b", "c"]
        orders = [rounds.order(cases, names, number) for number in (1, 2, 3)]
        for one in orders:
            self.assertEqual(len(set(one)), 6)
        self.assertEqual([one[0] for one in orders], [(cases[0], "a"), (cases[1], "b"),
                                                      (cases[0], "c")])

    def test_time_left_says_when_it_is_a_lower_bound(self):
        cell = {"case": "pp1", "engine": "a", "status": "ok", "wall_s": 30}
        self.assertEqual(rounds.time_left([(engines.Case(1), "a")] * 2, [cell]), "about 60 s left")
        self.assertEqual(rounds.time_left([(engines.Case(1), "a"), (engines.Case(2), "a")], [cell]),
                         "at least 30 s left")
        self.assertEqual(rounds.time_left([(engines.Case(1), "a")], []), "time left unknown")


class CompareTest(unittest.TestCase):

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.temporary = pathlib.Path(temporary.name)
        self.folder, self.calls_file = self.temporary / "out", self.temporary / "calls"
        fake = self.temporary / "fake.py"
        fake.write_text(FAKE)
        self.model = self.temporary / "tiny.gguf"
        self.model.write_bytes(b"GGUF, or nearly")
        self.program = f"{shlex.quote(sys.executable)} -IS {shlex.quote(str(fake))}"

    def start(self, *arguments, **environment):
        names = {"ASTER": "aster", "LLAMA_BENCH": "llama", "OPENVINO": "openvino"}
        injected = {
            f"ASTER_BENCH_{name}": f"{self.program} {engine}" for name, engine in names.items()
        }
        return subprocess.Popen(
            [sys.executable, ROOT / "bench" / "compare", "--no-chart", *arguments],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                **os.environ, "XDG_CACHE_HOME": str(self.temporary / "cache"),
                "CALLS": str(self.calls_file), **injected, **environment
            })

    def compare(self, *arguments, **environment):
        child = self.start(*arguments, **environment)
        out, err = child.communicate(timeout=60)
        self.assertNotIn("Traceback", err)
        return child.returncode, out, err

    def begin(self, *arguments, **environment):
        return self.compare("-m", str(self.model), "-o", str(self.folder), "-p", "64", "-d", "0",
                            "-n", "4", "--block-size", "32", "-t", "2", "-r", "2", *arguments,
                            **environment)

    def calls(self):
        return [json.loads(line) for line in self.calls_file.read_text().splitlines()]

    def results(self):
        return json.loads((self.folder / "results.json").read_text())

    def test_every_engine_runs_every_case_in_every_round_and_redraw_makes_the_same_table(self):
        code, out, err = self.begin()
        self.assertEqual(code, 0, err)
        # 4 engines on the prefill, 3 on the decode (star has one block there), two rounds.
        self.assertEqual(len(self.calls()), 14)
        self.assertIn("| TTFT of 64 tokens, s       | 1.00 (1.00 to 1.00) | 0.500 (0.500 to 0.500)",
                      out)
        self.assertIn("one block: as dense", out)
        self.assertEqual((self.folder / "results.md").read_text(), out.removesuffix("\n"))
        found = {(one["case"], one["engine"], one["peer"]): one["summary"]["median"]
                 for one in self.results()["ratios"]
                 if one["summary"]}
        self.assertEqual(
            found,
            {("pp64", "aster-dense", "llama.cpp"): 2.0, ("pp64", "aster-star", "llama.cpp"): 4.0,
             ("pp64", "aster-dense", "openvino"): 1.5, ("pp64", "aster-star", "openvino"): 3.0,
             ("tg4@d0", "aster-dense", "llama.cpp"): 2.0,
             ("tg4@d0", "aster-dense", "openvino"): 4.0})
        for engine, arguments, _ in self.calls():  # the same model and threads for all
            flags = [arguments[arguments.index(flag) + 1] for flag in ("-m", "-t")]
            self.assertEqual(flags, [str(self.model.resolve()), "2"], engine)
        (self.folder / "results.md").unlink()
        code, again, _ = self.compare("--redraw", str(self.folder))
        self.assertEqual((code, again, len(self.calls())), (0, out, 14))

    def test_forced_kernels_reach_aster_alone_and_are_said(self):
        _, out, _ = self.begin("--isa", "avx2", "-r", "1", "-n", "0")
        self.assertEqual({(engine, isa) for engine, _, isa in self.calls()}, {("aster", "avx2"),
                                                                              ("llama", None),
                                                                              ("openvino", None)})
        self.assertIn("avx2 kernels (forced; the peers chose for themselves)", out)

    def test_a_peer_that_fails_is_named_with_its_reason_and_the_rest_goes_on(self):
        code, out, err = self.begin("--engines", "llama.cpp,openvino", FAIL="openvino")
        self.assertEqual(code, 1, err)
        self.assertIn("- OpenVINO failed in pp64, tg4@d0: this model has a type that I cannot read",
                      out)
        failed = [one for one in self.results()["figures"] if one["failed"]]
        self.assertEqual([one["engine"] for one in failed], ["openvino", "openvino"])
        engines_called = [engine for engine, _, _ in self.calls()]
        self.assertEqual(engines_called.count("openvino"), 2)  # not again in the second round
        self.assertEqual(engines_called.count("llama"), 4)

    def test_a_peer_that_cannot_be_built_is_named_with_its_reason(self):
        nothing = self.temporary / "no source"
        code, out, _ = self.begin("--engines",
                                  "aster-dense,llama.cpp",
                                  ASTER_BENCH_LLAMA_BENCH="",
                                  ASTER_LLAMA_DIR=str(nothing),
                                  CXX="false")
        self.assertEqual(code, 1)
        self.assertIn("- llama.cpp failed in pp64, tg4@d0: llama.cpp needs a C++ compiler", out)

    def test_a_run_that_takes_too_long_is_ended(self):
        code, out, _ = self.begin("--engines",
                                  "aster-dense,llama.cpp",
                                  "-n",
                                  "0",
                                  "--timeout",
                                  "1",
                                  HANG="llama")
        self.assertEqual(code, 1)
        self.assertIn("- llama.cpp failed in pp64: took longer than 1 s", out)

    def test_a_run_of_another_length_is_no_figure(self):
        wrong = engines.Case(65)
        with self.assertRaisesRegex(engines.EngineError, "ran 64 and 0 tokens, not 65 and 0"):
            engines.read("openvino", wrong, '{"n_prompt": 64, "n_gen": 0, "ttft_ms": 1}')
        with self.assertRaisesRegex(engines.EngineError, "printed no JSON row"):
            engines.read("openvino", wrong, "{ Oops")

    def test_resume_repeats_nothing_extends_and_drops_a_line_that_was_cut_off(self):
        resume = ("--resume", "-o", str(self.folder))
        self.begin("-r", "1")
        self.assertEqual(self.compare(*resume)[0], 0)
        self.assertEqual(len(self.calls()), 7)
        code, _, err = self.compare(*resume, "-r", "2")
        self.assertEqual(code, 0, err)
        self.assertEqual(len(self.calls()), 14)
        self.assertEqual(self.results()["figures"][0]["summary"]["n"], 2)
        log = self.folder / "runs.jsonl"
        log.write_bytes(log.read_bytes()[:-20])
        self.assertEqual(self.compare(*resume)[0], 0)
        self.assertEqual(len(self.calls()), 15)
        self.assertEqual(len(report.load(log)[2]), 14)

    def test_resume_takes_the_command_that_it_was_begun_with(self):
        given = os.path.relpath(self.model)
        common = ("-m", given, "-o", str(self.folder), "-p", "64", "-n", "0", "-r", "1", "--engines",
                  "aster-dense")
        self.assertEqual(self.compare(*common)[0], 0)
        code, _, err = self.compare(*common, "--resume")
        self.assertEqual(code, 0, err)
        self.assert_refused("was begun with another model: ", *common, "--resume", "-m", "another.gguf")

    def test_resume_tries_again_what_failed(self):
        self.begin("--engines", "llama.cpp", "-r", "1", FAIL="llama")
        code, out, err = self.compare("--resume", "-o", str(self.folder))
        self.assertEqual(code, 0, err)
        self.assertNotIn("failed", out)

    def test_ctrl_c_leaves_what_is_done_and_resume_goes_on(self):
        child = self.start("-m",
                           str(self.model),
                           "-o",
                           str(self.folder),
                           "-p",
                           "64",
                           "-n",
                           "0",
                           "-r",
                           "1",
                           "--engines",
                           "aster-dense,llama.cpp",
                           HANG="llama")
        deadline = time.monotonic() + 30
        while not (self.calls_file.exists() and
                   len(self.calls()) == 2) and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
        self.assertEqual(child.returncode, 130, err)
        self.assertIn("1.00", out)
        self.assertEqual(self.compare("--resume", "-o", str(self.folder))[0], 0)
        self.assertEqual(len(self.calls()), 3)

    def test_a_folder_is_taken_up_as_it_was_begun_or_not_at_all(self):
        self.begin("-r", "1", "-n", "0", "--engines", "aster-dense")
        resume = ("--resume", "-o", str(self.folder))
        log = self.folder / "runs.jsonl"
        self.assert_refused("holds a comparison already; --resume takes it up", "-o", self.folder)
        self.assert_refused("this comparison was begun with another threads: 2, not 1", *resume,
                            "-t", "1")
        self.model.write_bytes(b"another model")
        self.assert_refused("was begun, another model: begin a new comparison", *resume)
        log.write_text("nonsense\n" + log.read_text())
        self.assert_refused("runs.jsonl, line 1: expected a JSON object", *resume)
        self.assertEqual(len(self.calls()), 1)

    def assert_refused(self, reason, *arguments):
        code, _, err = self.compare(*arguments)
        self.assertEqual((code, len(err.splitlines())), (1, 1), err)
        self.assertIn(reason, err)

    def test_help_fits_100_columns(self):
        code, out, _ = self.compare("--help", COLUMNS="200")
        self.assertEqual(code, 0)
        self.assertLessEqual(max(map(len, out.splitlines())), 100)

    def test_wrong_usage_is_exit_code_2(self):
        for arguments in (("-p", "many"), ("--engines", "vllm"), ("-r", "0"), ("-p", "0", "-n",
                                                                               "0")):
            self.assertEqual(self.compare(*arguments)[0], 2, arguments)


if __name__ == "__main__":
    unittest.main()
