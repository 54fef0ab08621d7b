"""What a person at the keyboard has of the program, over an engine that pretends: Ctrl-C, chat, a terminal."""

import fcntl
import json
import locale
import os
import re
import signal
import struct
import subprocess
import termios
import time
import unittest

from support import ASTER, TIMEOUT, Case, Terminal, aster, finish, start, wait_for


def wait_until_full(pipe):
    """Until nobody can write into the pipe, which nobody reads: what is in it grows no more."""
    held, since, end = 0, time.monotonic(), time.monotonic() + TIMEOUT
    # The last page need not be full, and more than half in it tells a full one from a writer that was held up.
    while held <= fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) // 2 or time.monotonic() - since < 0.5:
        if time.monotonic() > end:
            raise AssertionError(f"never full: {held} bytes")
        time.sleep(0.02)
        now = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]
        if now != held:
            held, since = now, time.monotonic()


class Signals(Case):
    def begin(self, *arguments, **env):
        return start("ask", "-m", "m.gguf", "-f", self.doc, "-q", "x", *arguments, env=env)

    def answering(self, *arguments):
        process = self.begin(*arguments, ASTER_FAKE_ANSWER="word " * 2000, ASTER_FAKE_TOKEN_MS="5")
        return process

    def test_the_first_ends_an_answer_and_keeps_it(self):
        for number, code in [(signal.SIGINT, 130), (signal.SIGTERM, 143)]:
            with self.subTest(signal=number):
                process = self.answering()
                said = wait_for(process.stdout, b"word word").decode()
                process.send_signal(number)
                ended = finish(process)
                self.assertEqual(ended.code, code, ended)
                self.assertRegex(said + ended.out, r"\A(word )+\w*\n\Z")
                self.assertRegex(ended.err.splitlines()[-1], r"aster: TTFT .*; answer stopped$")

    def test_json_of_a_stopped_answer_is_whole(self):
        process = self.answering("--json")
        wait_for(process.stderr, b"encoded 4,508 of 4,508")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        ended = finish(process)
        self.assertEqual((ended.code, json.loads(ended.out)["finish"]), (130, "cancelled"), ended)

    def test_the_first_ends_the_encoding_and_says_how_far_it_came(self):
        for number, code in [(signal.SIGINT, 130), (signal.SIGTERM, 143)]:
            with self.subTest(signal=number):
                process = self.begin("-ub", "16", ASTER_FAKE_STEP_MS="20")
                wait_for(process.stderr, b"encoded")
                process.send_signal(number)
                ended = finish(process)
                self.assertEqual((ended.code, ended.out), (code, ""), ended)
                self.assertRegex(ended.err, r"aster: stopped while encoding: [\d,]+ of 4,508 tokens were done\n\Z")

    def test_the_second_ends_the_program_at_once(self):
        process = self.begin(ASTER_FAKE_STEP_MS="5", ASTER_FAKE_ANSWER="x" * 100000)
        # A full pipe holds the program in a write, where no stop token reaches it.
        wait_until_full(process.stdout)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(10), 130)
        finish(process)

    def test_at_any_time_the_end_is_clean(self):
        for delay in [0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4]:
            with self.subTest(delay=delay):
                process = self.begin("-ub", "64", ASTER_FAKE_STEP_MS="2", ASTER_FAKE_TOKEN_MS="5",
                                     ASTER_FAKE_ANSWER="word " * 400)
                time.sleep(delay)
                process.send_signal(signal.SIGTERM)
                ended = finish(process)
                self.assertIn(ended.code, (143, -signal.SIGTERM), ended)  # the latter before main

    def test_an_ignored_signal_stays_ignored(self):
        process = subprocess.Popen(
            ["sh", "-c", 'trap "" INT; exec "$0" "$@"', ASTER, "ask", "-m", "m.gguf", "-f", self.doc,
             "-q", "x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "ASTER_FAKE_STEP_MS": "100", "ASTER_FAKE_ANSWER": "done"})
        time.sleep(0.4)
        process.send_signal(signal.SIGINT)
        ended = finish(process)
        self.assertEqual((ended.code, ended.out), (0, "done\n"), ended)


class Chat(Case):
    def chat(self, data, *arguments, **more):
        return aster("chat", "-m", "m.gguf", "-f", self.doc, *arguments, data=data, **more)

    def test_each_turn_sees_the_turns_before_and_runs_only_what_is_new(self):
        ended = self.chat(b"one\n\n  \ntwo\nthree\n", "--json", env={"ASTER_FAKE_ANSWER": "yes"})
        self.assertEqual(ended.code, 0, ended)
        turns = [json.loads(line) for line in ended.out.splitlines()]
        self.assertEqual(len(turns), 3)
        for before, turn in zip(turns, turns[1:]):
            self.assertEqual(turn["n_context"], before["n_context"] + before["n_query"] + len("yes"))
        # The template's tokens around the question; a marker is one token, as < and > here.
        self.assertEqual(turns[1]["n_query"], len(">\n<user\ntwo>\n<assistant\n"))
        self.assertEqual(ended.err.count("tokens of context"), 1)

    def test_exit_and_the_end_of_the_input_end_it(self):
        env = {"ASTER_FAKE_ANSWER": "yes"}
        self.assertEqual(self.chat(b"one\n/exit\ntwo\n", env=env).out, "yes\n")
        self.assertEqual(self.chat(b"one\ntwo", env=env).out, "yes\nyes\n")
        self.assertEqual(self.chat(b"", env=env).code, 0)

    def test_a_line_that_is_not_utf8_is_told_and_skipped(self):
        ended = self.chat(b"caf\xe9\nok\n", env={"ASTER_FAKE_ANSWER": "yes"})
        self.assertEqual((ended.code, ended.out), (0, "yes\n"), ended)
        self.assertIn("not UTF-8", ended.err)

    def test_sigint_ends_the_answer_only_and_sigterm_the_program(self):
        env = {"ASTER_FAKE_ANSWER": "word " * 2000, "ASTER_FAKE_TOKEN_MS": "5"}
        process = start("chat", "-m", "m.gguf", "-f", self.doc, stdin=subprocess.PIPE, env=env)
        process.stdin.write(b"one\n")
        process.stdin.flush()
        wait_for(process.stdout, b"word word")
        process.send_signal(signal.SIGINT)
        wait_for(process.stderr, b"answer stopped")
        process.stdin.write(b"two\n")
        process.stdin.flush()
        wait_for(process.stdout, b"word word word word")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(finish(process).code, 143)

    def test_sigint_at_the_prompt_ends_the_program(self):
        process = start("chat", "-m", "m.gguf", "-f", self.doc, stdin=subprocess.PIPE)
        wait_for(process.stderr, b"encoded 4,5")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(10), 130)
        finish(process)


class OnATerminal(Case):
    ASK = ["ask", "-m", "m.gguf", "-q", "x"]

    def test_a_bar_is_drawn_in_place_and_cleared(self):
        terminal = Terminal(*self.ASK, "-f", self.doc, "-ub", "64",
                            env={"ASTER_FAKE_STEP_MS": "30", "ASTER_FAKE_ANSWER": "Because."})
        terminal.wait_for(r"encoding  \[=+> +\] +\d+ %  [\d,]+ of 4,508 tokens  [\d.,]+ tokens/s  1 s left")
        self.assertEqual(terminal.ended(), 0)
        last = terminal.shown.rindex("encoding")
        self.assertRegex(terminal.shown[last:], r"\r\x1b\[KBecause\.\r\naster: TTFT")
        self.assertNotIn("encoding", terminal.shown[last + 1:])
        drawn = re.findall(r"\r\x1b\[K(encoding[^\r]*)", terminal.shown)
        self.assertTrue(all(len(line) < 100 for line in drawn), drawn)

    def test_a_narrow_terminal_gets_a_short_bar(self):
        terminal = Terminal(*self.ASK, "-f", self.doc, "-ub", "64", env={"ASTER_FAKE_STEP_MS": "10"},
                            columns=44)
        self.assertEqual(terminal.ended(), 0)
        drawn = re.findall(r"\r\x1b\[K(encoding[^\r\n]*)", terminal.shown)
        self.assertTrue(drawn and all(len(line) < 44 for line in drawn[1:]), drawn)

    def test_control_characters_of_the_model_are_shown_not_obeyed(self):
        evil = "a\x1b]0;title\x07b\x9bc\rd"
        terminal = Terminal(*self.ASK, "-f", self.doc, env={"ASTER_FAKE_ANSWER": evil.encode("latin1")})
        self.assertEqual(terminal.ended(), 0)
        self.assertIn("a^[]0;title^Gb<9B>c^Md\r\n", terminal.shown)
        ended = aster(*self.ASK, "-f", self.doc, env={"ASTER_FAKE_ANSWER": "a\x1b[31mb"})
        self.assertEqual(ended.out, "a\x1b[31mb\n")

    def test_no_document_is_an_error_not_a_wait(self):
        terminal = Terminal(*self.ASK)
        self.assertEqual(terminal.ended(), 2)
        self.assertEqual(terminal.shown, "aster: no document: expected -f FILE, or text on standard input\r\n")

    def test_chat_prompts_stops_and_ends(self):
        terminal = Terminal("chat", "-m", "m.gguf", "-f", self.doc,
                            env={"ASTER_FAKE_ANSWER": "word " * 2000, "ASTER_FAKE_TOKEN_MS": "5"})
        terminal.wait_for(r"> \Z")
        terminal.type("one\n")
        terminal.wait_for("word word")
        terminal.type("\x03")
        terminal.wait_for(r"answer stopped\r\n> \Z")
        terminal.type("\x04")
        self.assertEqual(terminal.ended(), 0)

    def test_ctrl_c_at_the_prompt_ends_chat(self):
        terminal = Terminal("chat", "-m", "m.gguf", "-f", self.doc)
        terminal.wait_for(r"> \Z")
        terminal.type("\x03")
        self.assertEqual(terminal.ended(), 130)


if __name__ == "__main__":
    locale.setlocale(locale.LC_ALL, "C")
    unittest.main(verbosity=2)
