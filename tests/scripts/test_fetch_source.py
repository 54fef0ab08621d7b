"""scripts/fetch_source.py with the real pip and a small archive made here. No network is used."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "fetch_source.py")
PYPROJECT = '[build-system]\nrequires = ["scikit-build-core"]\nbuild-backend = "scikit_build_core.build"\n'


class FetchSourceTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.shelf = os.path.join(temporary.name, "shelf")
        self.cache = os.path.join(temporary.name, "cache")
        self.target = os.path.join(self.cache, "engine-1.0")
        os.mkdir(self.shelf)
        self.archive = os.path.join(self.shelf, "aster_engine-1.0.tar.gz")
        with tarfile.open(self.archive, "w:gz") as tar:
            for name, text in (("pyproject.toml", PYPROJECT), ("vendor/engine/include/engine.h", "// engine\n"),
                               ("vendor/engine/big", os.urandom(100_000)), ("vendor/engine2/x", "not this"),
                               ("vendor/engine/.git", "gitdir: ../../elsewhere")):
                data = text if isinstance(text, bytes) else text.encode()
                entry = tarfile.TarInfo(f"aster_engine-1.0/{name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        self.sha256 = self.sha256_of_archive()

    def sha256_of_archive(self):
        with open(self.archive, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    def fetch(self, member="vendor/engine", **environment):
        return subprocess.run(
            [sys.executable, SCRIPT, "--package", "aster-engine", "--version", "1.0", "--sha256", self.sha256,
             "--member", member, "--to", self.target, "--space", "1000000"],
            capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.shelf, **environment})

    def assert_fails(self, result, *expected):
        self.assertEqual(result.returncode, 1, result)
        complaint = result.stderr.splitlines()[1:]  # the first line says what is fetched
        self.assertEqual(len(complaint), 1, result.stderr)
        for text in expected:
            self.assertIn(text, complaint[0])
        self.assertEqual(os.listdir(self.cache), [".engine-1.0.lock"])

    def test_the_folder_appears_whole_and_is_not_fetched_again(self):
        result = self.fetch()
        self.assertEqual((result.returncode, result.stdout.strip()), (0, self.target), result.stderr)
        self.assertEqual(sorted(os.listdir(self.target)), ["big", "include"])
        self.assertEqual(self.fetch(ASTER_PIP="/nonexistent/pip").returncode, 0)

    def test_a_wrong_hash_is_told_with_both_hashes(self):
        expected, self.sha256 = self.sha256, "0" * 64
        self.assert_fails(self.fetch(), "wrong SHA-256", expected, "0" * 64)

    def test_a_truncated_archive_is_refused(self):
        os.truncate(self.archive, os.path.getsize(self.archive) // 2)
        self.assert_fails(self.fetch(), "aster")
        self.sha256 = self.sha256_of_archive()

    def test_a_folder_that_is_not_in_the_archive_is_named(self):
        self.assert_fails(self.fetch(member="vendor/other"), "no folder vendor/other")


if __name__ == "__main__":
    unittest.main()
