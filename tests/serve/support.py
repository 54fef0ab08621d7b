"""Starts `aster serve`, talks to it as plain HTTP does, and sees it end as it should."""

import ctypes
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse

ASTER = os.environ["ASTER"]  # the program under test
MODEL = os.environ.get("ASTER_TEST_MODEL", "")
# Writes a tiny model: set where SmolLM2 is too slow, under sanitizers.
WRITE_TINY_GGUF = os.environ.get("SERVE_WRITE_TINY_GGUF", "")
TIMEOUT = 120  # a hang, even under a sanitizer on a busy machine
SANITIZER = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|MemorySanitizer|runtime error:")
LISTENING = re.compile(r"^aster: listening on (https?)://(\S+):(\d+)\b.*\n", re.MULTILINE)
ERROR_TYPES = {401: "authentication_error", 503: "overloaded_error"}  # of others: invalid_request_error
PR_SET_PDEATHSIG = 1


def main():
    """Runs the tests of the file, or ends as Skipped where the model is not there."""
    if not os.path.exists(MODEL) and not WRITE_TINY_GGUF:
        print(f"SKIPPED: no model at ASTER_TEST_MODEL={MODEL!r}")
        sys.exit(77)
    unittest.main(verbosity=2)


def _before_exec():
    """Default signals, and an end with the test whatever ends that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:600]!r}"


class Server:
    """A server of its own on a free port of the loopback device; `with` starts and ends it."""

    def __init__(self, *arguments, key=None, model=MODEL, tls=None):
        """tls: the ssl.SSLContext that trusts the server, where it is given a certificate."""
        self.arguments, self.key, self.model, self.tls = arguments, key, model, tls
        self.process = None

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        model = self.model
        if WRITE_TINY_GGUF:
            model = os.path.join(self._folder.name, "tiny.gguf")
            subprocess.run([WRITE_TINY_GGUF, "llama", model], check=True)
        self.model_path = model
        key = ["--api-key", self.key] if self.key else []
        self._log = os.path.join(self._folder.name, "log")
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(
                [ASTER, "serve", "-m", model, "--port", "0", *key, *self.arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_before_exec)
        try:
            self._wait_until_ready()
        except BaseException:
            self._kill()
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, kind, error, trace):
        try:
            code = self._terminated()
        finally:
            self._kill()
        log = self.log()
        self._folder.cleanup()
        wrong = [f"exit code {code} after SIGTERM"] * (code != 0)
        wrong += ["a sanitizer's report"] * bool(SANITIZER.search(log))
        if not wrong:
            return
        said = f"the server: {', '.join(wrong)}; its log ends: {log[-6000:]}"
        if error is None:
            raise AssertionError(said)
        error.add_note(said)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        """What it wrote up to now to standard error and output."""
        with open(self._log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def rss_bytes(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s*(\d+) kB", file.read())[1]) * 1024

    def headers(self, key=None, **more):
        key = key or self.key
        return {**({"Authorization": f"Bearer {key}"} if key else {}), **more}

    def request(self, method, path, body=None, headers=None, key=None, timeout=TIMEOUT):
        """One request on a connection of its own. body: bytes as they are, anything else as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        sent = self.headers(key)
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        if self.tls:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.tls)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {n: v for n, v in sent.items() if v is not None})
            got = connection.getresponse()
            return Answer(got.status, got.headers, got.read())
        finally:
            connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body, **more):
        return self.request("POST", path, body, **more)

    def chat(self, message, /, context="", **more):
        """A greedy, short answer to a user's message, behind a context in the system message."""
        messages = [{"role": "system", "content": context}] if context else []
        body = {"messages": [*messages, {"role": "user", "content": message}], "temperature": 0,
                "max_tokens": 8}
        return self.post("/v1/chat/completions", {**body, **more})

    def raw(self, data=b"", timeout=TIMEOUT):
        """A connection on which the bytes were sent; the caller closes it."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        connection.sendall(data)
        return connection

    def stream(self, path, body, **more):
        """The events of a streamed answer, each parsed; the comments are left out."""
        with self.raw_stream(path, body, **more) as lines:
            for line in lines:
                if line.startswith("data: ") and line != "data: [DONE]":
                    yield json.loads(line[6:])

    def raw_stream(self, path, body, key=None, timeout=TIMEOUT):
        return Lines(self.port, path, json.dumps(body).encode(),
                     self.headers(key, **{"Content-Type": "application/json"}), timeout)

    def metric(self, name, labels=""):
        """The value of a sample of /metrics, such as aster_requests_total."""
        found = re.search(rf"^{re.escape(name + labels)} (\S+)$", self.get("/metrics").body.decode(),
                          re.MULTILINE)
        return float(found[1]) if found else None

    def _wait_until_ready(self):
        end = time.monotonic() + TIMEOUT
        while not (line := LISTENING.search(self.log())):
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"no server: exit code {self.process.poll()}: {self.log()[-4000:]}")
            time.sleep(0.02)
        self.port = int(line[3])
        self.url = f"{line[1]}://{line[2]}:{line[3]}"
        while self.get("/health").status != 200:
            if time.monotonic() > end:
                raise AssertionError(f"/health: {self.get('/health')}")
            time.sleep(0.02)

    def _terminated(self):
        """Its exit code after SIGTERM; it may finish what it has begun."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            return f"none {TIMEOUT} s"

    def _kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Lines:
    """The lines of a streamed answer as they come; leaving the block closes the connection."""

    def __init__(self, port, path, body, headers, timeout):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._connection.request("POST", path, body, headers)
        self.answer = self._connection.getresponse()

    def __enter__(self):
        if self.answer.status != 200:
            body = self.answer.read()
            self._connection.close()
            raise AssertionError(f"{self.answer.status}: {body!r}")
        return self

    def __exit__(self, *_):
        self.answer.close()
        self._connection.close()

    def __iter__(self):
        return self

    def __next__(self):
        line = self.answer.readline()
        if not line:
            raise StopIteration
        return line.decode().rstrip("\r\n")


def read_answer(connection):
    """The answer on a raw connection; None where it was closed without one."""
    got = http.client.HTTPResponse(connection)
    try:
        got.begin()
        return Answer(got.status, got.headers, got.read())
    except (http.client.BadStatusLine, ConnectionError):
        return None


class Case(unittest.TestCase):
    """Tests that share one server, started with the arguments that the class names."""

    ARGUMENTS = ()
    KEY = None

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(cls.start())

    @classmethod
    def start(cls):
        return Server(*cls.ARGUMENTS, key=cls.KEY)

    def eventually(self, read, good, seconds=10):
        """The first good value: an answer may come a moment before the server has tidied up after it."""
        end = time.monotonic() + seconds
        while not good(value := read()):
            self.assertLess(time.monotonic(), end, f"still {value}")
            time.sleep(0.02)
        return value

    def check_alive(self):
        self.assertIsNone(self.server.process.poll(), self.server.log()[-4000:])
        self.assertEqual(self.server.get("/health").json(), {"status": "ok"})

    def check_refused(self, answer, status, *said):
        """The status (or one of several), OpenAI's shape of an error, and all that it must say."""
        self.assertIsNotNone(answer, "closed without an answer")
        self.assertIn(answer.status, status if isinstance(status, tuple) else (status,), answer)
        self.assertEqual(answer.headers.get_content_type(), "application/json", answer)
        self.assertEqual(set(answer.json()), {"error"}, answer)
        error = answer.json()["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"}, answer)
        self.assertEqual(error["type"], ERROR_TYPES.get(answer.status, "invalid_request_error"), answer)
        for field in ("param", "code"):
            self.assertIsInstance(error[field], (str, type(None)), answer)
        self.assertRegex(error["message"], r"\A[^\x00-\x1f]{4,1000}\Z", answer)
        for text in said:
            self.assertRegex(error["message"] + " " + str(error["param"]), text)

    def check_ok(self, answer):
        self.assertEqual(answer.status, 200, answer)
        return answer.json()


def quoted(path):
    return urllib.parse.quote(path, safe="")
