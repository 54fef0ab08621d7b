"""The examples of docs/serve.md run as they stand, and answer in the form that is shown.

A block behind the line `<!-- run -->` is an example. All run in order against one server: console
blocks line by line in a shell, Python blocks in one namespace. Shown output is compared by form: JSON by
its fields and their types, a text line with any number in a number's place. `...` stands for lines, or for
fields of an object, that are left out; a shown id stands for the real one in what comes later.
"""

import contextlib
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

from support import TIMEOUT, Case, main

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "serve.md"
BLOCK = re.compile(r"^<!-- run -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"(localhost|127\.0\.0\.1):8080")
NUMBER = r"-?\d[\d,]*(\.\d+)?(e[+-]\d+)?"
REPORT = "The ferry Skarholm left the harbour at noon. Anna Lind was its captain.\n" + "".join(
    f"On day {day} the keeper wrote that the sea was calm and the lamp was lit.\n" for day in range(1, 41))


def steps(block):
    """The commands of a console block, each with the output that is shown for it."""
    found = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append([line[2:], []])
        elif not is_whole(found[-1][0]):
            found[-1][0] += "\n" + line
        else:
            found[-1][1].append(line)
    return found


def is_whole(command):
    """Whether a command's quotes are closed and its last line is not continued."""
    try:
        shlex.split(command)
    except ValueError:
        return False
    return not command.endswith("\\")


def read_json(text):
    """Shown or real JSON; None where it is none."""
    try:
        return json.loads(re.sub(r"(?<=[{,])\s*\.\.\.(?=})", ' "...": null', text))
    except ValueError:
        return None


def difference(shown, got, where="$"):
    """Where the form of `got` is another than that of `shown`; None: nowhere."""
    if isinstance(shown, dict) and isinstance(got, dict):
        named = set(shown) - {"..."}
        if named - set(got) or ("..." not in shown and set(got) - named):
            return f"{where}: has {sorted(got)}, shown are {sorted(shown)}"
        return next(filter(None, (difference(shown[name], got[name], f"{where}.{name}") for name in named)), None)
    if isinstance(shown, list) and isinstance(got, list):
        if len(shown) > len(got):
            return f"{where}: {len(got)} items, shown are {len(shown)}"
        return next(filter(None, (difference(a, b, f"{where}[]") for a, b in zip(shown, got))), None)
    kinds = {int: "number", float: "number"}
    kind = [kinds.get(type(value), type(value).__name__) for value in (shown, got)]
    return None if kind[0] == kind[1] else f"{where}: {kind[1]}, shown is {kind[0]}"


def line_difference(shown, got):
    head, shown_json = re.match(r"((?:data: )?)(.*)", shown, re.DOTALL).groups()
    shown_json, got_json = read_json(shown_json), read_json(got.removeprefix(head))
    if isinstance(shown_json, (dict, list)) and got_json is not None:
        return difference(shown_json, got_json)
    pattern = NUMBER.join(re.escape(part) for part in re.split(r"(?<![\w.])\d[\d.,]*\d|(?<![\w.])\d", shown))
    return None if re.fullmatch(pattern, got) else f"{got!r}, shown is {shown!r}"


def output_difference(shown, got):
    """Both are lists of lines."""
    shown_json, got_json = read_json("\n".join(shown)), read_json("\n".join(got))
    if isinstance(shown_json, (dict, list)) and got_json is not None:
        return difference(shown_json, got_json)
    # A line that starts with a blank goes on with the one before.
    joined = "\n".join(shown).replace("\n ", " ").splitlines()
    got = [line for line in got if line]
    at, is_free = 0, False
    for line in joined:
        if line == "...":
            is_free = True
            continue
        wrong = "nothing"
        for i in range(at, len(got) if is_free else min(at + 1, len(got))):
            wrong = line_difference(line, got[i])
            if wrong is None:
                at = i + 1
                break
        if wrong is not None:
            return f"for the shown line {line!r}: {wrong}"
        is_free = False
    return None if is_free or at == len(got) else f"more than is shown: {got[at:]}"


class Examples(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.text = PAGE.read_text(encoding="utf-8")
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.enterClassContext(contextlib.chdir(folder))
        pathlib.Path("report.txt").write_text(REPORT, encoding="utf-8")

    def here(self, text, ids):
        text = ADDRESS.sub(lambda found: f"{found[1]}:{self.server.port}", text)
        for shown, real in ids.items():
            text = text.replace(shown, real)
        return text

    def run_console(self, block, ids):
        for command, shown in steps(block):
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", self.here(command, ids)], capture_output=True,
                                  text=True, timeout=TIMEOUT, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), f"{command}: {done.stdout}")
            if shown:
                wrong = output_difference(shown, done.stdout.splitlines())
                self.assertIsNone(wrong, f"{command}\nanswered\n{done.stdout}")
            for shown_id, real in zip(re.findall(r'"(ctx_[^"]+)"', "\n".join(shown)),
                                      re.findall(r'"(ctx_[^"]+)"', done.stdout)):
                ids.setdefault(shown_id, real)

    def run_python(self, block, names):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(self.here(block, {}), str(PAGE), "exec"), names)  # noqa: S102
        self.assertTrue(output.getvalue().strip(), f"an example that prints nothing: {block}")

    def test_every_example_runs_and_answers_as_is_shown(self):
        ids, names = {}, {}
        blocks = BLOCK.findall(self.text)
        self.assertEqual(len(blocks), self.text.count("<!-- run -->"))
        self.assertEqual({language for language, _ in blocks}, {"console", "python"})
        for i, (language, block) in enumerate(blocks):
            with self.subTest(block=i, starts=block.splitlines()[0]):
                if language == "console":
                    self.run_console(block, ids)
                else:
                    self.run_python(block, names)
        self.check_alive()

    def test_every_metric_is_named_and_every_name_is_one(self):
        exposed = re.findall(r"^# TYPE (\w+) (\w+)$", self.server.get("/metrics").body.decode(), re.MULTILINE)
        table = re.findall(r"^\| `(aster_\w+)` \| (\w+) \|", self.text, re.MULTILINE)
        self.assertEqual(sorted(table), sorted(exposed))
        samples = {name for name, _ in exposed}
        samples |= {name + end for name, kind in exposed if kind == "histogram" for end in ("_bucket", "_sum", "_count")}
        named = set(re.findall(r"\baster_\w+(?:_total|_seconds\w*|_bytes|_running|_waiting)\b", self.text))
        self.assertEqual(named - samples, set())

    def test_every_flag_is_one(self):
        told = subprocess.run([os.environ["ASTER"], "serve", "--help"], capture_output=True, text=True, check=True)
        own = re.sub(r"```.*?```", "", self.text, flags=re.DOTALL)
        flags = set(re.findall(r"`(--[a-z-]+)", own))
        self.assertTrue(flags)
        self.assertEqual({flag for flag in flags if flag not in told.stdout}, set())


class Form(Case):
    """What the comparison lets through: without this a test that compares nothing would pass."""

    @classmethod
    def setUpClass(cls):
        pass

    def test_forms_are_told_apart(self):
        for shown, got, same in (
                ('{"a": 1, "b": "x"}', '{"a":2.5,"b":""}', True),
                ('{"a": 1}', '{"a":1,"b":2}', False),
                ('{"a": 1, ...}', '{"a":1,"b":2}', True),
                ('{"a": 1, "b": 2}', '{"a":1}', False),
                ('{"a": "1"}', '{"a":1}', False),
                ('{"a": null}', '{"a":"x"}', False),
                ('[{"a": 1}]', '[]', False),
                ('{"a": [{"b": 1}]}', '{"a":[{"c":1}]}', False),
                ("aster_x 1", "aster_x 2.5e+10", True),
                ("aster_x 1", "aster_y 1", False),
                ("one\n...\nthree", "one\ntwo\nthree", True),
                ("one\nthree", "one\ntwo\nthree", False),
                ("one", "one\ntwo", False),
                ('data: {"a": 1,\n  "b": 2}\n...\ndata: [DONE]', 'data: {"a":1,"b":3}\n\ndata: {"x":1}\n\ndata: [DONE]', True),
                ('data: {"a": 1}\ndata: [DONE]', 'data: {"b":1}\n\ndata: [DONE]', False)):
            with self.subTest(shown=shown, got=got):
                self.assertEqual(output_difference(shown.splitlines(), got.splitlines()) is None, same)


if __name__ == "__main__":
    if not shutil.which("curl"):
        print("SKIPPED: no curl")
        sys.exit(77)
    main()
