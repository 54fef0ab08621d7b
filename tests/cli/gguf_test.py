"""Model files that are no models, damaged or not served: one line, exit code 1, never a crash."""

import os
import random
import subprocess
import unittest

from support import Case, aster

WRITE_TINY_GGUF = os.environ["WRITE_TINY_GGUF"]
# Each starts the program.
N_FLIPS = int(os.environ.get("N_FLIPS", "60"))


class ModelFiles(Case):
    def tiny(self, architecture):
        path = os.path.join(self.folder, architecture + ".gguf")
        subprocess.run([WRITE_TINY_GGUF, architecture, path], check=True)
        return path

    def load(self, path):
        return aster("tokenize", "-m", path, "--count", "hello")

    def test_a_whole_model_answers(self):
        ended = aster("ask", "-m", self.tiny("llama"), "-f", self.doc, "-q", "Why?", "-n", "4",
                      "--allow-long")
        self.assertEqual(ended.code, 0, ended)

    def test_what_is_no_model_is_named(self):
        for name, path, said in [
                ("missing", os.path.join(self.folder, "no.gguf"), "No such file"),
                ("directory", self.folder + "/", "directory"),
                ("empty", self.file("empty.gguf", b""), "empty"),
                ("text", self.doc, "no GGUF"),
                ("magic alone", self.file("magic.gguf", b"GGUF"), ""),
                ("version 99", self.file("v99.gguf", b"GGUF" + b"\x63\0\0\0" + b"\0" * 16), ""),
                ("huge counts", self.file("huge.gguf", b"GGUF\3\0\0\0" + b"\xff" * 16), ""),
                ("no tensors", self.file("none.gguf", b"GGUF\3\0\0\0" + b"\0" * 16), "")]:
            with self.subTest(name=name):
                self.check_refused(self.load(path), 1, path, said)

    def test_a_model_that_cannot_be_served_names_its_architecture(self):
        for architecture in ("bloom", "mamba", "t5", "bert", "dream"):
            with self.subTest(architecture=architecture):
                self.check_refused(self.load(self.tiny(architecture)), 1, architecture)

    def test_a_truncated_model_is_refused(self):
        whole = open(self.tiny("llama"), "rb").read()
        for n in [5, 23, 24, 60, 1000, 4000, len(whole) // 2, len(whole) - 1]:
            with self.subTest(bytes=n):
                path = self.file("cut.gguf", whole[:n])
                self.check_refused(self.load(path), 1, path)

    def test_a_token_that_is_there_twice_is_refused(self):
        whole = open(self.tiny("llama"), "rb").read()
        self.assertIn(b"<0x41>", whole)
        path = self.file("twice.gguf", whole.replace(b"<0x41>", b"<0x42>", 1))
        self.check_refused(self.load(path), 1, path)

    def test_a_flipped_bit_never_crashes(self):
        whole = open(self.tiny("llama"), "rb").read()
        header = whole.index(b"token_embd.weight") + 2000  # the metadata, and tensors' shapes
        for seed in range(N_FLIPS):
            bit = random.Random(seed).randrange(8 * header)
            with self.subTest(seed=seed, byte=bit // 8, bit=bit % 8):
                damaged = bytearray(whole)
                damaged[bit // 8] ^= 1 << bit % 8
                ended = self.load(self.file("flip.gguf", bytes(damaged)))
                if ended.code != 0:  # a letter of a name may change without harm
                    self.check_refused(ended, 1, "flip.gguf")


if __name__ == "__main__":
    unittest.main(verbosity=2)
