"""aster bench over an engine that pretends (fake_engine.cc): cases, rows, forms, refusals."""

import csv
import io
import json
import re
import signal
import unittest

from support import Case, aster, finish, start


class Bench(Case):
    COLUMNS = ["test", "n_prompt", "n_depth", "n_gen", "model", "model_type", "model_size_bytes",
               "n_params", "cpu", "isa", "linear", "threads", "ubatch_size", "attention",
               "block_size", "anchor_size", "window", "overlap", "n_blocks", "ttft_ms", "tokens_per_s",
               "tokens_per_s_mean", "tokens_per_s_stddev", "kv_bytes", "peak_rss_bytes",
               "predicted_rss_bytes", "check_logprob_diff", "profile_ms"]
    ENV = {"ASTER_FAKE_ANSWER": "x" * 500}

    def bench(self, *arguments, **more):
        env = {**self.ENV, **more.pop("env", {})}
        return aster("bench", "-m", "m.gguf", *arguments, env=env, **more)

    def rows(self, *arguments):
        ended = self.bench(*arguments, "-o", "jsonl")
        self.assertEqual(ended.code, 0, ended)
        return [json.loads(line) for line in ended.out.splitlines()]

    def test_every_column_is_named_in_the_help(self):
        named = re.findall(r"\w+", aster("bench", "--help").out)
        for column in self.COLUMNS:
            self.assertIn(column, named)

    def test_every_length_depth_and_attention_is_a_row(self):
        rows = self.rows("-p", "512,1K", "-n", "8", "-d", "0,600", "-r", "3", "--attention",
                         "dense,star,llama", "--block-size", "64,128", "--profile")
        self.assertEqual([(r["test"], r["attention"], r["block_size"]) for r in rows], [
            ("pp512", "dense", 511), ("pp512", "star", 64), ("pp512", "star", 128),
            ("pp512", "llama", 511), ("pp1024", "dense", 1023), ("pp1024", "star", 64),
            ("pp1024", "star", 128), ("pp1024", "llama", 1023), ("tg8@d0", "dense", 1),
            ("tg8@d0", "llama", 1), ("tg8@d600", "dense", 600), ("tg8@d600", "star", 64),
            ("tg8@d600", "star", 128), ("tg8@d600", "llama", 600)])
        for row in rows:
            is_prefill = row["n_prompt"] > 0
            here = [c for c in self.COLUMNS if is_prefill or c not in ("ttft_ms", "profile_ms")]
            self.assertEqual(list(row), here)
            rates = row["tokens_per_s"]
            self.assertEqual(len(rates), 3)
            self.assertAlmostEqual(row["tokens_per_s_mean"], sum(rates) / 3)
            if is_prefill:
                for rate, ttft in zip(rates, row["ttft_ms"]):
                    self.assertAlmostEqual(rate, 1000 * row["n_prompt"] / ttft)
                parts = row["profile_ms"]
                self.assertEqual(list(parts), ["linear", "attention", "packing", "rest"])
                self.assertAlmostEqual(sum(parts.values()), sum(row["ttft_ms"]) / 3)

    def test_what_one_block_holds_is_dense_and_said_to_be(self):
        rows = self.rows("-p", "512,1K", "-n", "8", "-d", "0,4K", "--attention", "dense,star", "-r", "1")
        self.assertEqual([(r["test"], r["attention"]) for r in rows], [
            ("pp512", "dense"), ("pp1024", "dense"), ("pp1024", "star"), ("tg8@d0", "dense"),
            ("tg8@d4096", "dense"), ("tg8@d4096", "star")])
        (row,) = self.rows("-p", "0", "-d", "4096", "-n", "8", "--attention", "star", "--block-size", "4K",
                           "-r", "1")
        self.assertEqual(row["attention"], "dense")
        rows = self.rows("-p", "8K", "-n", "8", "--attention", "star", "--anchor-size", "512", "-r", "1")
        self.assertEqual([(r["test"], r["attention"]) for r in rows], [("pp8192", "star"), ("tg8@d0", "dense")])

    def test_json_is_whole_where_a_later_case_fails(self):
        ended = self.bench("-p", "512,64K", "-n", "0", "-r", "1", "--attention", "dense", "-o", "json",
                           env={"ASTER_FAKE_MEMORY": "3000000"})
        self.assertEqual((ended.code, [r["test"] for r in json.loads(ended.out)]), (1, ["pp512"]))
        self.assertIn("memory: too little", ended.err)

    def test_zero_leaves_a_case_out(self):
        self.assertEqual([r["test"] for r in self.rows("-p", "0", "-n", "4", "-r", "1")], ["tg4@d0"])
        self.assertEqual([r["test"] for r in self.rows("-n", "0", "-r", "1")], ["pp512"])

    def test_each_form_holds_the_same(self):
        arguments = ("-p", "256,300", "-n", "0", "-r", "2")
        tests = ["pp256", "pp300"]
        self.assertEqual([r["test"] for r in json.loads(self.bench(*arguments, "-o", "json").out)],
                         tests)
        sheet = list(csv.DictReader(io.StringIO(self.bench(*arguments, "-o", "csv").out)))
        self.assertEqual([r["test"] for r in sheet], tests)
        self.assertEqual(len(json.loads(sheet[0]["ttft_ms"])), 2)
        table = self.bench(*arguments, "--profile").out.splitlines()
        self.assertEqual(len(table), 4)
        self.assertEqual({line.count("|") for line in table}, {11})

    def test_wrong_values_are_one_line_and_exit_2(self):
        for arguments, said in [
                (["-p", "1"], "--n-prompt 1: expected"), (["-p", "512,"], "--n-prompt 512,: expected"),
                (["-p", ""], "--n-prompt '': expected"), (["-d", "-1"], "--n-depth -1: expected"),
                (["-n", "-1"], "--n-gen -1: expected"), (["-r", "0"], "--repetitions 0: expected"),
                (["-o", "xml"], "--output xml: expected md, csv, json or jsonl"),
                (["--attention", "dense,sun"], "--attention dense,sun: expected"),
                (["--block-size", "64,8"], "--block-size 64,8: expected"),
                (["--attention", "star", "--block-size", "64", "--anchor-size", "1M"], "1048576"),
                (["-q", "x"], "-q: no such option; see aster bench --help")]:
            with self.subTest(arguments=arguments):
                self.check_refused(self.bench(*arguments), 2, said)

    def test_a_case_beyond_the_trained_length_is_refused_before_any_is_timed(self):
        env = {"ASTER_FAKE_CTX": "1000"}
        self.check_refused(self.bench("-p", "512,2K", env=env), 2, "2048 tokens")
        self.check_refused(self.bench("-d", "900", "-n", "128", env=env), 2, "1029 tokens")
        self.assertEqual(self.bench("-p", "2K", "-n", "0", "--allow-long", env=env).code, 0)

    def test_an_attention_that_answers_otherwise_is_not_timed(self):
        ended = self.bench("-p", "512", env={"ASTER_FAKE_WRONG": "1"})
        self.check_refused(ended, 1, "not timed: auto shares 10 of the 10 likeliest tokens")
        self.assertEqual(self.bench("--attention", "llama", env={"ASTER_FAKE_WRONG": "1"}).code, 0)

    def test_a_signal_ends_it_with_the_rows_that_are_done(self):
        process = start("bench", "-m", "m.gguf", "-p", "256,1M", "-n", "0", "-r", "1", "-o", "jsonl",
                        env={"ASTER_FAKE_STEP_MS": "20"})
        self.assertEqual(json.loads(process.stdout.readline())["test"], "pp256")
        process.send_signal(signal.SIGINT)
        ended = finish(process)
        self.assertEqual((ended.code, ended.out), (130, ""), ended)


class BenchHosts(Case):
    """Over the engine that pretends: a host takes a millisecond a token."""

    def hosts(self, *arguments):
        return aster("bench", "hosts", "-m", "m.gguf", *arguments)

    def test_every_way_is_a_row_and_one_host_has_two(self):
        ended = self.hosts("-p", "1K,2K", "--hosts", "1,4", "--ways",
                           "recompute,broadcast,ring,contiguous", "--block-size", "128", "-o", "jsonl")
        self.assertEqual(ended.code, 0, ended)
        rows = [json.loads(line) for line in ended.out.splitlines()]
        self.assertEqual(
            [(r["n_context"], r["hosts"], r["way"]) for r in rows],
            [(n, h, way) for n in (1024, 2048) for h, ways in (
                (1, ("star, alone", "dense, alone")),
                (4, ("star, recompute", "star, broadcast", "ring", "ring, contiguous"))) for way in ways])
        for row in rows:
            share = row["n_context"] / row["hosts"] / 1000
            self.assertEqual(set(row["work_s"]), {share}, row)
            self.assertEqual(row["done_s"], [share] * 3, row)
            self.assertEqual(len(row["predicted_s"]), 3)

    def test_a_block_is_a_hosts_share_unless_said(self):
        row = json.loads(self.hosts("-p", "1000", "--hosts", "3", "--ways", "recompute", "-o", "jsonl").out)
        self.assertEqual((row["block_size"], row["anchor_size"]), (334, 334))

    def test_the_table_has_a_column_for_each_link(self):
        table = self.hosts("-p", "1K", "--hosts", "2", "--link", "2.5,40").out.splitlines()
        self.assertEqual(len(table), 5)
        self.assertEqual({line.count("|") for line in table}, {11})
        self.assertIn("2.50 Gbit/s", table[0])

    def test_every_host_is_run_when_asked(self):
        for more, n in ([], 2), (["--all-hosts"], 4):
            ended = self.hosts("-p", "1K", "--hosts", "4", "--ways", "recompute", "-o", "jsonl", *more)
            self.assertEqual(len(json.loads(ended.out)["work_s"]), n)

    def test_wrong_values_are_one_line_and_exit_2(self):
        for arguments, said in [
                (["--hosts", "0"], "--hosts 0: expected"), (["--hosts", "2000"], "--hosts 2000: expected"),
                (["--ways", "star"], "--ways star: expected recompute, broadcast, ring or contiguous"),
                (["--link", "0"], "--link 0: expected"), (["--round-trip", "-1"], "--round-trip -1"),
                (["-p", "8"], "--n-prompt 8: expected"), (["-o", "csv"], "--output csv: expected md"),
                (["-p", "1K", "--block-size", "2K"], "block size 2048"),
                (["-p", "8K", "--hosts", "4", "--anchor-size", "4K"],
                 "anchor size 4096 on several hosts: expected no window, no overlap and an anchor of at most a block"),
                (["-p", "1G"], "--n-prompt 1G"), (["-q", "x"], "-q: no such option")]:
            with self.subTest(arguments=arguments):
                self.check_refused(self.hosts(*arguments), 2, said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
