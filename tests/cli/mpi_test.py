"""The program under mpirun: ranks on this machine give the answer of one, and end together."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

from support import ASTER, Case, Ended, aster, default_signals, environment

MPIRUN = shutil.which("mpirun")
WRITE_TINY_GGUF = os.environ["WRITE_TINY_GGUF"]
TIMEOUT = 120
FLAGS = ["--attention", "star", "--block-size", "64", "-t", "1", "--temp", "0", "-n", "16",
         "--allow-long"]


def mpi_environment():
    """More ranks than there are cores if need be; no network but this machine's own."""
    return environment(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                       OMPI_MCA_rmaps_base_oversubscribe="1",
                       PRTE_MCA_rmaps_default_mapping_policy=":oversubscribe",  # Open MPI 5
                       OMPI_MCA_plm_rsh_agent="/bin/false", OMPI_MCA_btl="self,vader,tcp",
                       OMPI_MCA_btl_tcp_if_include="lo",
                       OMPI_MCA_btl_vader_single_copy_mechanism="none")


def start(n, *arguments, stdin=subprocess.DEVNULL):
    return subprocess.Popen([MPIRUN, "-n", str(n), ASTER, *arguments], stdin=stdin,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=mpi_environment(),
                            preexec_fn=default_signals)


def mpirun_each(*ranks):
    """A command of its own for each rank."""
    command = [word for arguments in ranks for word in (":", "-n", "1", ASTER, *arguments)]
    return finish(subprocess.Popen([MPIRUN, *command[1:]], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=mpi_environment(), preexec_fn=default_signals))


def finish(process):
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"still running after {TIMEOUT} s: {process.communicate()}") from None
    return Ended(process.returncode, out.decode(), err.decode())


def mpirun(n, *arguments):
    return finish(start(n, *arguments))


class Ranks(Case):
    def setUp(self):
        super().setUp()
        self.model = os.path.join(self.folder, "tiny.gguf")
        subprocess.run([WRITE_TINY_GGUF, "llama", self.model], check=True)
        self.long = self.file("long.txt", "".join(f"In year {i} the ferry was late. " for i in range(60)))
        os.environ.setdefault("ASTER_ISA", self.kernels_in_f32())

    def kernels_in_f32(self):
        """The best of this CPU that do not round to bf16: see tests/support/f32_kernels.h."""
        refused = aster(*self.ask(), env=environment(ASTER_ISA="none"))
        usable = refused.err.strip().rpartition("expected ")[2].split(", ")
        return next(name for name in usable if name not in ("amx", "avx512bf16"))

    def ask(self, *more):
        return ["ask", "-m", self.model, "-f", self.long, "-q", "Why?", *FLAGS, *more]

    def test_every_number_of_ranks_answers_as_one(self):
        alone = aster(*self.ask("--json"))
        self.assertEqual(alone.code, 0, alone)
        want = json.loads(alone.out)
        self.assertGreater(want["n_blocks"], 8)
        for n, more in ((1, []), (2, []), (3, []), (3, ["--host-weights", "1,3,0.5"]),
                        (3, ["--anchor", "recompute"]), (3, ["--anchor", "broadcast"])):
            with self.subTest(n=n, more=more):
                ended = mpirun(n, *self.ask("--json", *more))
                self.assertEqual(ended.code, 0, ended)
                got = json.loads(ended.out)
                self.assertEqual(got["answer"], want["answer"])
                for (_, ours), (_, theirs) in zip(got["top_logprobs"], want["top_logprobs"]):
                    self.assertAlmostEqual(ours, theirs, delta=2e-3)
                if n > 1:
                    self.assertLess(got["kv_bytes"], want["kv_bytes"])

    def test_a_ring_answers_as_dense_does(self):
        exact = ["--attention", "dense", "--block-size", "auto", "--json"]
        alone = aster(*self.ask(*exact))
        self.assertEqual(alone.code, 0, alone)
        for n in (1, 2, 3):
            with self.subTest(n=n):
                ended = mpirun(n, *self.ask(*exact, "--attention", "ring"))
                self.assertEqual(ended.code, 0, ended)
                self.assertEqual(json.loads(ended.out)["answer"], json.loads(alone.out)["answer"])

    def test_an_evaluation_scores_as_one_host_does(self):
        rows = [{"input_context": f"{i}: " + "The ferry was late. " * 60, "input_query": "Why?",
                 "outputs": ["x"]} for i in range(2)]
        data = self.file("vt.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

        def evaluate(folder, run, *more):
            out = os.path.join(self.folder, folder)
            ended = run("eval", "-m", self.model, "--data", data, "-o", out, "-t", "1",
                        "--allow-long", *more)
            self.assertEqual(ended.code, 0, ended)
            with open(os.path.join(out, "predictions.jsonl"), encoding="utf-8") as file:
                return {(p["setting"], p["index"]): p["pred"] for p in map(json.loads, file)}

        one = evaluate("one", aster, "--block-size", "64,auto", "--window", "0")
        two = evaluate("two", lambda *arguments: mpirun(2, *arguments), "--attention", "dense,star,ring",
                       "--block-size", "64,auto")
        self.assertEqual(set(two), {(name, i) for i in (0, 1) for name in (
            "dense", "star 64", "star auto window 0", "ring")})
        for (name, i), text in two.items():
            self.assertEqual(text, one["dense" if name == "ring" else name, i], name)

    def test_an_evaluation_that_hosts_cannot_share_is_refused_before_work(self):
        data = self.file("vt.jsonl", json.dumps({"input_context": "The ferry was late. " * 60,
                                                 "input_query": "Why?", "outputs": ["x"]}) + "\n")
        out = os.path.join(self.folder, "out")
        ended = mpirun(2, "eval", "-m", self.model, "--data", data, "-o", out, "-t", "1",
                       "--allow-long", "--block-size", "64", "--window", "1")
        self.assertEqual(ended.code, 2, ended)
        self.assertIn("window 1 on several hosts: expected no window", ended.err)
        self.assertEqual(os.listdir(out), [])

    def test_partial_results_in_bf16(self):
        ended = mpirun(2, *self.ask("--json", "--partials", "bf16"))
        self.assertEqual(ended.code, 0, ended)
        self.assertEqual(json.loads(ended.out)["n_generated"], 16)

    def test_only_rank_0_speaks(self):
        ended = mpirun(2, "--version")
        self.assertEqual((ended.code, ended.out.count("aster ")), (0, 1), ended)
        ended = mpirun(2, "ask", "-q")
        self.assertNotEqual(ended.code, 0)
        self.assertEqual(ended.err.count("expected a value"), 1, ended)
        ended = mpirun(2, *self.ask())
        self.assertEqual(ended.code, 0, ended)
        self.assertEqual(ended.err.count("2 hosts: "), 1, ended)
        self.assertIn("by broadcast", ended.err)  # chosen or not, it is weighed
        self.assertEqual(ended.err.count("TTFT"), 1, ended)

    def test_several_questions_and_dense(self):
        ended = mpirun(2, *self.ask("-q", "And then?"))
        self.assertEqual((ended.code, ended.err.count("TTFT")), (0, 2), ended)
        ended = mpirun(2, "ask", "-m", self.model, "-f", self.long, "-q", "Why?", "--attention",
                       "dense", "-n", "4", "-t", "1", "--allow-long")
        self.assertEqual(ended.code, 0, ended)
        self.assertIn("rank 0 does all of it", ended.err)

    def test_what_fails_on_any_rank_ends_all_with_a_reason(self):
        for arguments, said in (
                (["ask", "-m", "/no/model.gguf", "-f", self.long, "-q", "x"], "/no/model.gguf"),
                (["ask", "-m", self.model, "-f", "/no/file", "-q", "x"], "/no/file"),
                (self.ask("--host-weights", "1,1,1"), "weights for 3 hosts; expected at most 2")):
            with self.subTest(said=said):
                ended = mpirun(2, *arguments)
                self.assertNotEqual(ended.code, 0, ended)
                self.assertIn(said, ended.err)

    def context_host(self, mpirun_process):
        return self.rank(mpirun_process, 1)

    def rank(self, mpirun_process, rank):
        """The pid of a rank, once it is there."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            if mpirun_process.poll() is not None:
                raise AssertionError(f"no rank {rank}: {finish(mpirun_process)}")
            found = subprocess.run(["pgrep", "-P", str(mpirun_process.pid), "-x",
                                    os.path.basename(ASTER)], capture_output=True, text=True)
            for pid in map(int, found.stdout.split()):
                try:
                    with open(f"/proc/{pid}/environ", "rb") as file:
                        if b"OMPI_COMM_WORLD_RANK=%d\0" % rank in file.read():
                            return pid
                except OSError:
                    pass
            time.sleep(0.01)
        raise AssertionError(f"no rank {rank}")

    def is_gone(self, pid):
        end = time.monotonic() + 10
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
            time.sleep(0.05)
        return not os.path.exists(f"/proc/{pid}")

    def test_a_host_that_cannot_take_part_ends_all_in_time(self):
        missing = [word if word != self.model else "/no/model.gguf" for word in self.ask()]
        for more, n in ((["--attention", "ring"], 2), (["--anchor", "recompute"], 2),
                        (["--anchor", "broadcast"], 3), ([], 3)):
            with self.subTest(more=more, n=n):
                begun = time.monotonic()
                ended = mpirun_each(*[self.ask(*more)] * (n - 1), [*missing, *more])
                self.assertNotEqual(ended.code, 0, ended)
                self.assertIn("/no/model.gguf", ended.err)
                self.assertLess(time.monotonic() - begun, 60)

    def test_a_ring_of_too_much_is_refused_before_work(self):
        long = self.file("very_long.txt", "x" * 140_000)
        ended = mpirun(2, "ask", "-m", self.model, "-f", long, "-q", "Why?", "--attention", "ring",
                       "-t", "1", "--allow-long", "-n", "1")
        self.assertEqual(ended.code, 2, ended)
        self.assertIn("on 2 hosts: expected at most 65536 a host", ended.err)

    def test_a_rank_that_is_killed_or_stopped_ends_the_others_in_time(self):
        decode = ["-p", "0", "-d", "1K", "-n", "1M"]
        # Long enough to be met in the middle on any machine, and never finished.
        encode = ["-p", "1M", "-n", "0"]
        star = ["--attention", "star", "--block-size", "64"]
        for name, cases in (
                ("decode", [*decode, *star]),
                ("recompute", [*encode, *star, "--anchor", "recompute"]),
                ("broadcast", [*encode, "--attention", "star", "--block-size", "16K", "--anchor",
                               "broadcast"]),
                ("ring", ["-p", "100K", "-n", "0", "--attention", "ring"])):
            for number in (signal.SIGKILL, signal.SIGSTOP):
                with self.subTest(name=name, signal=number):
                    process = start(2, "bench", "-m", self.model, *cases, "-r", "1", "-t", "1",
                                    "--allow-long", "--host-timeout", "2")
                    pid = self.context_host(process)
                    time.sleep(2)  # the work has begun, also on a busy machine
                    self.assertIsNone(process.poll(), "nothing was left to interrupt")
                    begun = time.monotonic()
                    os.kill(pid, number)
                    ended = finish(process)
                    self.assertNotEqual(ended.code, 0, ended)
                    self.assertLess(time.monotonic() - begun, 30)
                    self.assertIn("rank 1", ended.err)
                    if number == signal.SIGSTOP:  # killed ones are mpirun's to name
                        self.assertIn("answering" if name == "decode" else "encoding", ended.err)
                    self.assertTrue(self.is_gone(pid), "rank 1 was left behind")

    def test_the_query_host_that_is_killed_or_stopped_ends_the_others_in_time(self):
        for number in (signal.SIGKILL, signal.SIGSTOP):
            with self.subTest(signal=number):
                process = start(3, "bench", "-m", self.model, "-p", "0", "-d", "1K", "-n", "1M",
                                "-r", "1", "-t", "1", "--attention", "star", "--block-size", "64",
                                "--allow-long", "--host-timeout", "2")
                pid = self.rank(process, 0)
                time.sleep(2)
                os.kill(pid, number)
                ended = finish(process)
                self.assertNotEqual(ended.code, 0, ended)
                self.assertIn("rank 0", ended.err)
                self.assertTrue(self.is_gone(pid), "rank 0 was left behind")

    def test_the_end_does_not_wait_for_a_rank_that_was_stopped(self):
        process = start(2, "chat", "-m", self.model, "-f", self.long, *FLAGS, "--host-timeout", "2",
                        stdin=subprocess.PIPE)
        pid = self.context_host(process)
        process.stdin.write(b"Why?\n")
        process.stdin.flush()
        self.assertTrue(process.stdout.read(1), "no answer began")
        time.sleep(1)  # nor is it under way any more: it has 16 tokens
        os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        ended = finish(process)  # closes its input
        self.assertNotEqual(ended.code, 0, ended)
        self.assertLess(time.monotonic() - begun, 30)
        self.assertIn("rank 1 gave no sign of life for 2 s", ended.err)
        self.assertTrue(self.is_gone(pid), "rank 1 was left behind")

    def test_ranks_with_different_models_are_told_apart(self):
        other = os.path.join(self.folder, "other")
        os.mkdir(other)
        subprocess.run([WRITE_TINY_GGUF, "gemma3", os.path.join(other, "tiny.gguf")], check=True)
        # Each rank in a folder of its own, with a model of the same name.
        process = subprocess.Popen(
            [MPIRUN, "-n", "1", "--wdir", self.folder, ASTER, *self.ask("-m", "tiny.gguf"), ":",
             "-n", "1", "--wdir", other, ASTER, *self.ask("-m", "tiny.gguf")],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=mpi_environment(), preexec_fn=default_signals)
        ended = finish(process)
        self.assertNotEqual(ended.code, 0, ended)
        self.assertIn("rank 1: the query host has another model than tiny.gguf", ended.err)


if __name__ == "__main__":
    if MPIRUN is None:
        print("mpirun is not installed")
        sys.exit(77)
    unittest.main()
