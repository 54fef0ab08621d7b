"""What no client should send, each as one row of a table: refused with OpenAI's error, and the server lives on."""

import contextlib
import json
import socket
import threading
import time

from support import WRITE_TINY_GGUF, Case, main, read_answer

CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "Hi"}
ABSENT = object()  # the field is left out
INTEGERS = [1.5, "5", True, [], {}, 1e300, 10**30, 2**63, -2**63 - 1]  # never a count
COUNTS = [*INTEGERS, 0, -1, -2**63, 2**31]


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def tool(**changes):
    function = {"name": "f", "parameters": {"type": "object"}, **changes}
    return {"type": "function", "function": {n: v for n, v in function.items() if v is not ABSENT}}


def nested_types(n):
    schema = {"type": "array"}
    for _ in range(n):
        schema = {"type": ["array", "array"], "items": schema}
    return schema


# Schemas that would end llama.cpp's converter or grammar, or keep them busy for hours.
BOMBS = [
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 5, "maxLength": 3}}},
    {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}, "minItems": 5, "maxItems": 3}}},
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}}},
    {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(" + "a?" * 500 + "){500}$"}}},
    {"$ref": "#/examples/0", "examples": [{"type": "string", "pattern": "^((a?){ 1500 }){ 1500 }$"}]},
    {"$defs": {"a": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/$defs/a"}]},
    {"$defs": {"a": {"type": "object", "properties": {"p": {"allOf": [{"$ref": "#/$defs/a"}]}}}}, "$ref": "#/$defs/a"},
    nested_types(30),
    {"type": "object", "properties": {"_" * 200000: {"type": "string"}}},
    {"type": "object", "properties": {f"p{i}" + "x" * 200: {"type": "string"} for i in range(900)}},
]


# Field, values; each value alone is refused with a message that names the field.
SAMPLING = [
    ("temperature", [-0.1, 2.1, -1e300, "hot", True, [], {}]),
    ("top_p", [-0.1, 1.1, "x", True, []]),
    ("min_p", [-0.1, 1.1, "x", True]),
    ("top_k", [-1, *INTEGERS]),
    ("repeat_penalty", [0, -1, "x", True]),
    ("presence_penalty", [-2.1, 2.1, "x"]),
    ("frequency_penalty", [-2.1, 2.1, "x"]),
    ("max_tokens", COUNTS),
    ("n", [9, *COUNTS]),
    ("seed", [1.5, "5", True, [], 2**63, -2**63 - 1, 10**30]),
    ("stop", [5, "", [""], [5], [["a"]], {}, True, ["x"] * 17, "x" * 1025, ["\u00e9" * 513]]),
    ("stream", ["true", 1, []]),
    ("stream_options", [{"include_usage": True}, 5, "x"]),  # there is no stream
    ("logit_bias", [{"5": 1}, "x", [1], 5]),
    ("return_progress", ["x", 1]),
    ("attention", ["ring", "llama", "", 5, []]),
    ("block_size", [0, 15, -2, 2**40, 1.5, "x", True]),
    ("anchor_size", [-2, 2**40, 1.5, "x", True]),
    ("window", [-2, 1025, 1.5, "x", True]),
    ("overlap", [-1, 2**31, 1.5, "x", True]),
    ("allow_long", ["x", 1]),
]
CHAT_ROWS = [
    *SAMPLING,
    ("max_completion_tokens", COUNTS),
    ("messages", [
        ABSENT, None, 5, "Hi", {}, [], [1], [None], [[]], ["x"], [{}], [{"content": "x"}], [{"role": "user"}],
        [{"role": "king", "content": "x"}], [{"role": 1, "content": "x"}], [{"role": "user", "content": 5}],
        [{"role": "user", "content": None}], [{"role": "user", "content": {}}], [{"role": "user", "content": [1]}],
        [{"role": "user", "content": [{"type": "text"}]}], [{"role": "user", "content": [{"type": "text", "text": 5}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x"}}]}],
        [{"role": "assistant"}, USER],
        [USER, {"role": "assistant", "tool_calls": "x"}, USER], [USER, {"role": "assistant", "tool_calls": [5]}, USER],
        [USER, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {
            "name": "f", "arguments": "[" * 100000 + "]" * 100000}}]}, USER],
        [USER] * 4097, [{"role": "user", "content": "a\0b"}],
    ]),
    ("logprobs", ["yes", 1, []]),
    ("top_logprobs", [5]),  # without logprobs
    ("response_format", [
        5, "json", [], {}, {"type": "xml"}, {"type": 5}, {"type": "json_schema"},
        {"type": "json_schema", "json_schema": 5}, {"type": "json_schema", "json_schema": {}},
        {"type": "json_schema", "json_schema": {"schema": 5}}, schema_format({"type": "frob"}),
        schema_format({"type": 5}), schema_format({"$ref": "#/nowhere"}), schema_format({"properties": 5}),
        schema_format({"$ref": "http://127.0.0.1:1/x"}), schema_format({"type": "string", "pattern": "^((($"}),
        schema_format({"type": "array", "items": {"type": "string"}, "minItems": 10**9}),
        schema_format({"type": "string", "maxLength": 10**12}), schema_format({"enum": []}),
        schema_format({"type": "string", "pattern": "[A-Z]"}), schema_format({"type": "string", "pattern": "^\\d$"}),
        schema_format({"type": "string", "pattern": "^" + "a" * 1000000 + "$"}),
        schema_format({"type": "string", "pattern": "^a{5,3}$"}),
        schema_format({"type": "integer", "minimum": 16000000000000000}),  # llama.cpp's own {16,15}
        schema_format({"properties": {"default": {"type": "string", "pattern": "^\\d$"}}}),
        *map(schema_format, BOMBS),
    ]),
    ("tools", [
        "x", 5, {}, [1], [None], [{}], [{"type": "retrieval"}], [{"type": "function"}], [tool(name=ABSENT)],
        [tool(name="")], [tool(name=5)], [tool(name="a b")], [tool(name="x" * 65)], [tool(parameters=5)],
        [tool(parameters={"type": "frob"})], [tool(description=5)], [tool()] * 129,
        *([tool(parameters=bomb)] for bomb in BOMBS),
        [tool(name=f"f{i}", parameters={"type": "object", "properties": {f"p{j}": {"type": "string"} for j in range(99)}})
         for i in range(41)],
    ]),
    ("tool_choice", ["required", "maybe", 5, [], {}, {"type": "function"}, {"type": "function", "function": {}},
                     {"type": "function", "function": {"name": "absent"}}]),
    ("parallel_tool_calls", ["x", 5]),
    ("context_id", [5, [], {}]),
    ("question", [5, [], "not the end of the message"]),
]
COMPLETION_ROWS = [
    *SAMPLING,
    ("prompt", [ABSENT, None, 5, {}, True, "a\0b"]),
    ("logprobs", [6, -1, True, "x", 1.5]),
    ("context", [5, [], {}]),
]
FILE = {"name": "a.txt", "text": "x"}
CONTEXT_ROWS = [
    ("text", [ABSENT, None, 5, "", [], {}, "a\0b"]),
    ("files", [[FILE], 5]),  # beside text
    ("messages", [[USER], 5]),
    ("name", [5, [], {}]),
    ("stream", ["x", 1]),
    *[row for row in SAMPLING if row[0] in ("attention", "block_size", "anchor_size", "window", "overlap", "allow_long")],
]
FILES_ROWS = [("files", ["x", 5, [], {}, [5], [{}], [{"name": "a"}], [{"text": "x"}], [{"name": 5, "text": "x"}],
                         [{"name": "a", "text": 5}]])]
CONTEXT_MESSAGES_ROWS = [("messages", ["x", 5, [], [5], [{}], [{"role": "user", "content": 5}]])]
TOKENIZE_ROWS = [("content", [ABSENT, None, 5, [], {}]), ("add_special", ["x", 1]), ("parse_special", ["x", 1])]
DETOKENIZE_ROWS = [("tokens", [ABSENT, None, 5, "x", {}, ["x"], [1.5], [-1], [10**9], [2**63], [10**30], [True],
                               [None], [[1]]])]
TABLES = [
    (CHAT, {"messages": [USER], "max_tokens": 1}, CHAT_ROWS),
    (CHAT, {"messages": [USER], "max_tokens": 1, "logprobs": True}, [("top_logprobs", [-1, 21, 1.5, "x", True])]),
    (CHAT, {"messages": [USER], "max_tokens": 1, "stream": True},
     [("stream_options", [5, "x", [], {"include_usage": "x"}, {"include_usage": 1}])]),
    ("/v1/completions", {"prompt": "Hi", "max_tokens": 1}, COMPLETION_ROWS),
    ("/v1/contexts", {"text": "Hi"}, CONTEXT_ROWS),
    ("/v1/contexts", {}, FILES_ROWS),
    ("/v1/contexts", {}, CONTEXT_MESSAGES_ROWS),
    ("/tokenize", {"content": "Hi"}, TOKENIZE_ROWS),
    ("/detokenize", {"tokens": [1]}, DETOKENIZE_ROWS),
]
# What lies just within the limits, and what other clients send without a second thought.
ACCEPTED = [
    {"temperature": 2}, {"temperature": 0}, {"top_p": 1}, {"top_p": 0}, {"min_p": 1}, {"top_k": 0}, {"n": 8}, {"seed": 2**63 - 1},
    {"seed": -2**63}, {"seed": -1}, {"stop": ["x"] * 16}, {"stop": "x" * 1024}, {"stop": []}, {"presence_penalty": -2},
    {"frequency_penalty": 2}, {"logprobs": True, "top_logprobs": 20}, {"logprobs": True, "top_logprobs": 0},
    {"logit_bias": {}}, {"user": "me", "metadata": {"a": "b"}, "store": False, "frob": [1]}, {"model": "gpt-4o"},
    {"tools": []}, {"response_format": {"type": "text"}},
    {"block_size": -1, "anchor_size": -1, "window": -1}, {"window": 0}, {"overlap": 0}, {"attention": "auto"}, {"max_tokens": None, "max_completion_tokens": 1},
    {name: None for name in ("temperature", "top_p", "n", "seed", "stop", "stream", "stream_options", "logprobs",
                             "top_logprobs", "response_format", "tools", "tool_choice", "logit_bias", "user")},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "!"}]}]},
    {"messages": [{"role": "developer", "content": "Be brief."}, USER]},
]


def chat_with(content):
    """The body of a chat around bytes that are the content's JSON."""
    return b'{"messages": [{"role": "user", "content": %s}], "max_tokens": 1}' % content


def extra(value):
    """The body of a good chat but for an unknown field with these bytes."""
    return b'{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "x": %s}' % value


BODIES = [
    ("nothing", b""), ("white space", b" \n"), ("cut", b'{"messages": [{"role": "us'), ("an array", b"[]"),
    ("null", b"null"), ("a number", b"5"), ("a string", b'"x"'), ("two values", extra(b"1") * 2),
    ("a comma too many", b'{"messages": [],}'), ("single quotes", b"{'messages': []}"), ("a comment", extra(b"/**/1")),
    ("NaN", extra(b"NaN")), ("Infinity", extra(b"-Infinity")), ("a float beyond", extra(b"1e400")),
    ("hexadecimal", extra(b"0x10")), ("a leading zero", extra(b"01")),
    ("a lone surrogate", chat_with(rb'"\ud800"')), ("surrogates in the wrong order", chat_with(rb'"\udc00\ud800"')),
    ("not UTF-8", chat_with(b'"\xff"')), ("overlong", chat_with(b'"\xc0\xaf"')),
    ("a surrogate's bytes", chat_with(b'"\xed\xa0\x80"')), ("beyond Unicode", chat_with(b'"\xf4\x90\x80\x80"')),
    ("a character cut off", chat_with(b'"\xc3"')), ("not UTF-8 in a key", b'{"\xff": 1}'),
    ("not UTF-8 in an ignored field", extra(b'"\xff"')), ("UTF-16", extra(b"1").decode().encode("utf-16")),
    ("a NUL byte", chat_with(b'"a\0b"')), ("a NUL byte at the end", extra(b"1") + b"\0"),
    ("a control character", chat_with(b'"a\x01b"')), ("an escape that is none", chat_with(rb'"\q"')),
    ("65 deep", extra(b"[" * 64 + b"]" * 64)), ("65 deep in objects", extra(b'{"a":' * 64 + b"1" + b"}" * 64)),
    ("100,000 deep", extra(b"[" * 100000 + b"]" * 100000)), ("a million deep, cut", b"[" * 1000000),
    ("a million objects deep, cut", b'{"a":' * 1000000),
    ("a key twice", b'{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "max_tokens": 2}'),
    ("a key twice, below", chat_with(b'"Hi", "role": "system"')),
    ("a number of 100,000 digits", extra(b"1")[:-2] + b'1, "seed": ' + b"9" * 100000 + b"}"),
]
TYPES = ["text/plain", "text/html", "application/xml", "multipart/form-data; boundary=x", "multipart/form-data",
         "application/octet-stream", "x", "application/jsonx", "image/png"]
METHODS = [
    ("/v1/chat/completions", ["GET", "PUT", "PATCH", "DELETE"]), ("/v1/completions", ["GET", "PUT"]),
    ("/tokenize", ["GET", "DELETE"]), ("/detokenize", ["GET"]), ("/health", ["POST", "PUT", "DELETE"]),
    ("/v1/models", ["POST", "DELETE"]), ("/props", ["POST"]), ("/metrics", ["POST"]), ("/", ["POST", "DELETE"]),
    ("/openapi.json", ["POST"]), ("/v1/contexts", ["PUT", "PATCH", "DELETE"]),
    ("/v1/contexts/ctx_1", ["POST", "PUT", "PATCH"]),
]
PATHS = ["/nope", "/v1", "/v1/", "/v1/chat", "/v1/chat/completions/x", "/v1/models/../../etc/passwd", "/../etc/passwd",
         "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%00", "/health%00", "/%ff", "/%zz", "/%", "//",
         "/index.php?x=<script>", "/.git/config", "/" + "a" * 7000]
IDS = ["ctx_0", "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "ctx_%00", "ctx_1%0d%0aX-Evil:%20y", "*", "%25",
       "ctx_1/../ctx_2", "ctx_1%2f..%2fctx_2", "'%20OR%201=1", "%ff", "%zz", "-1", "a" * 7000]


def line(text):
    return b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + text + b"\r\n\r\n"


def post(headers, body=b"", path=CHAT):
    always = b"Host: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close"
    return b"POST %s HTTP/1.1\r\n%s\r\n%s\r\n\r\n%s" % (path.encode(), always, headers, body)


def chunked(body):
    return post(b"Transfer-Encoding: chunked", body)


# Bytes on a connection, what the status is; None: it may also be closed without an answer.
HALF = b'{"messages"'
BYTES = [
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200 + b"\r\n\r\n", (400, None)),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 405, 505, None)),
    ("no request line", b"\r\n\r\n", (400, None)), ("a method only", b"GET\r\n\r\n", (400,)),
    ("no version", b"GET /health\r\n\r\n", (400,)), ("version 9.9", b"GET /health HTTP/9.9\r\n\r\n", (400, 505)),
    ("a method that is none", b"FROB /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", (400, 405, 501)),
    ("a NUL in the path", b"GET /hea\0lth HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", (400, 404)),
    ("a NUL in a header", line(b"X: a\0b"), (400,)), ("a header without a colon", line(b"frob"), (400,)),
    ("a header without a name", line(b": x"), (400,)), ("a space before the colon", line(b"X : y"), (400,)),
    ("a line that goes on", line(b"X: a\r\n b"), (400,)),
    ("100 KB of a header", line(b"X: " + b"a" * 100000), (400, 431, None)),
    ("100,000 headers", line(b"\r\n".join(b"X%d: y" % i for i in range(100000))), (400, 431, None)),
    ("a path of 1 MB", b"GET /" + b"a" * 1000000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", (400, 414, None)),
    ("a negative length", post(b"Content-Length: -1", HALF), (400,)),
    ("a length beyond 64 bits", post(b"Content-Length: 99999999999999999999", HALF), (400, 413)),
    ("the largest length", post(b"Content-Length: 18446744073709551615", HALF), (400, 413)),
    ("a length of letters", post(b"Content-Length: x", HALF), (400,)),
    ("a length and more", post(b"Content-Length: 11x", HALF), (400,)),
    ("no length's number", post(b"Content-Length: ", HALF), (400, 411)),
    ("two lengths", post(b"Content-Length: 11\r\nContent-Length: 5", HALF), (400,)),
    ("length and chunks", post(b"Content-Length: 11\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"), (400,)),
    ("another encoding", post(b"Transfer-Encoding: frob", HALF), (400, 411, 501)),
    ("a body that is packed", post(b"Content-Encoding: gzip\r\nContent-Length: 11", HALF), (400, 415)),
    ("no length at all", post(b"X: y"), (400, 411)),
    ("a chunk of -1", chunked(b"-1\r\n{}\r\n0\r\n\r\n"), (400,)),
    ("a chunk of -2", chunked(b"-2\r\n{}\r\n0\r\n\r\n"), (400,)),
    ("a chunk of +2", chunked(b"+2\r\n{}\r\n0\r\n\r\n"), (400,)),
    ("a chunk of 0x2", chunked(b"0x2\r\n{}\r\n0\r\n\r\n"), (400,)),
    ("a chunk of letters", chunked(b"zz\r\n{}\r\n0\r\n\r\n"), (400,)),
    ("a chunk without a size", chunked(b"\r\n{}\r\n0\r\n\r\n"), (400,)),
    ("the largest chunk", chunked(b"FFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n"), (400, 413)),
    ("a chunk beyond 64 bits", chunked(b"1" + b"0" * 40 + b"\r\n{}\r\n0\r\n\r\n"), (400, 413)),
    ("a chunk longer than it says", chunked(b"2\r\n{}{}\r\n0\r\n\r\n"), (400,)),
    ("a chunk's name of 1 MB", chunked(b"2;" + b"x" * 1000000 + b"\r\n{}\r\n0\r\n\r\n"), (400, 413, 431, None)),
    ("a million chunks of one byte", chunked(b"1\r\n[\r\n" * 1000000 + b"0\r\n\r\n"), (400,)),
    ("Expect that is none", post(b"Expect: frob\r\nContent-Length: 2", b"[]"), (400, 417)),
]


class BadInput(Case):
    def setUp(self):
        self.n_ctx_train = self.server.get("/props").json()["n_ctx_train"]

    def check_table(self, path, good, rows):
        for field, values in rows:
            for value in values:
                body = {**good, field: value}
                if value is ABSENT:
                    del body[field]
                shown = "absent" if value is ABSENT else json.dumps(value)[:80]
                with self.subTest(path=path, field=field, value=shown):
                    self.check_refused(self.server.post(path, body), 400, field.split("_")[0])
                    self.check_alive()

    def test_a_field_that_cannot_be_is_named(self):
        for path, good, rows in TABLES:
            self.check_table(path, good, rows)

    def test_what_is_within_the_limits_is_accepted(self):
        for changes in ACCEPTED:
            with self.subTest(changes=json.dumps(changes)[:100]):
                self.check_ok(self.server.post(CHAT, {"messages": [USER], "max_tokens": 1, **changes}))
        with self.subTest("64 deep"):
            self.check_ok(self.server.post(CHAT, extra(b"[" * 63 + b"]" * 63)))

    def test_what_is_no_json_is_refused_wherever_it_is_sent(self):
        for name, body in BODIES:
            for path in (CHAT, "/v1/completions", "/v1/contexts", "/tokenize", "/detokenize"):
                with self.subTest(name, path=path):
                    self.check_refused(self.server.post(path, body), 400)
                    self.check_alive()

    def test_what_does_not_say_that_it_is_json_is_refused(self):
        body = extra(b"1")
        for kind in TYPES:  # a page of another origin may send the first without being asked
            with self.subTest(kind):
                answer = self.server.post(CHAT, body, headers={"Content-Type": kind})
                self.check_refused(answer, 415)
        for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
            with self.subTest(kind):
                self.check_ok(self.server.post(CHAT, body, headers={"Content-Type": kind}))

    def test_a_method_that_is_not_there_is_answered_with_those_that_are(self):
        for path, methods in METHODS:
            for method in methods:
                with self.subTest(path=path, method=method):
                    answer = self.server.request(method, path, b"{}" if method != "GET" else None)
                    self.check_refused(answer, 405)
                    self.assertIn("Allow", answer.headers)
                    self.assertNotIn(method, answer.headers["Allow"])
        self.check_alive()

    def test_a_path_that_is_not_there_is_not_found(self):
        for path in PATHS:
            for method in ("GET", "POST", "DELETE"):
                with self.subTest(path=path[:60], method=method):
                    answer = self.server.request(method, path, b"{}" if method == "POST" else None)
                    self.check_refused(answer, (400, 404, 405, 414))
                    self.assertNotIn(b"root:", answer.body)
        self.check_alive()

    def test_no_context_has_such_an_id(self):
        for name in IDS:
            for method in ("GET", "DELETE"):
                with self.subTest(id=name[:60], method=method):
                    answer = self.server.request(method, "/v1/contexts/" + name)
                    self.check_refused(answer, (400, 404, 414))
                    self.assertNotIn("X-Evil", answer.headers)
        for name in ["", "ctx_0", "../../etc/passwd", "\n", "\u00e9", "ctx_" + "0" * 100000]:
            with self.subTest(context_id=name[:60]):
                answer = self.server.chat("Hi", context_id=name)
                self.check_refused(answer, (400, 404), "context")
        self.check_alive()

    def test_bytes_that_are_no_request_are_refused(self):
        for name, data, statuses in BYTES:
            with self.subTest(name):
                answer = self.exchange(data)
                self.check_alive()
                if answer is None:
                    self.assertIn(None, statuses, "closed without an answer")
                else:
                    self.check_refused(answer, statuses)

    def exchange(self, data, timeout=60):
        """Sends as much as is taken; None where the connection was closed without an answer."""
        connection = self.server.raw(timeout=timeout)
        with connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            return read_answer(connection)

    def test_a_body_beyond_the_limit_is_refused_before_it_is_read(self):
        before = self.server.rss_bytes()
        answer = self.exchange(post(b"Content-Length: %d" % (64 * 2**20 + 1)))
        self.check_refused(answer, 413)
        with self.server.raw(post(b"Transfer-Encoding: chunked")) as connection:
            with contextlib.suppress(ConnectionError):
                for _ in range(80):
                    connection.sendall(b"100000\r\n" + b" " * 2**20 + b"\r\n")
            answer = read_answer(connection)
        if answer is not None:  # it may have closed while we sent
            self.check_refused(answer, 413)
        self.check_alive()
        self.assertLess(self.server.rss_bytes() - before, 200 * 2**20)

    def test_a_header_without_an_end_ends(self):
        before = self.server.rss_bytes()
        for name, start, more in (("line", b"GET /health HTTP/1.1\r\nX: ", b"a" * 65536),
                                  ("headers", b"GET /health HTTP/1.1\r\n", b"X: y\r\n" * 10000),
                                  ("request line", b"GET /", b"a" * 65536),
                                  ("trailers", chunked(b"0\r\n"), b"X: y\r\n" * 10000),
                                  ("chunk size", chunked(b""), b"0" * 65536)):
            with self.subTest(name), self.server.raw(start) as connection:
                with self.assertRaises(ConnectionError):
                    for _ in range(10000):
                        connection.sendall(more)
                self.check_alive()
        self.assertLess(self.server.rss_bytes() - before, 100 * 2**20)

    def test_a_client_that_leaves_half_way_is_no_one_elses_trouble(self):
        good = post(b"Content-Length: %d" % len(extra(b"1")), extra(b"1"))
        for name, data in (("before it says anything", b""), ("in the request line", b"POST /v1"),
                           ("in the headers", good[:60]), ("in the body", good[:-20]),
                           ("in a chunk", chunked(b"100\r\n{")), ("after it asked", good)):
            for how in ("half", "closed", "reset"):
                with self.subTest(name, how=how):
                    connection = self.server.raw(data, timeout=60)
                    if how == "reset":
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    if how == "half":
                        connection.shutdown(socket.SHUT_WR)
                        answer = read_answer(connection)  # at once: no one waits for what cannot come
                        if answer is not None and data != good:
                            self.check_refused(answer, 400)
                    connection.close()
                    self.check_alive()

    def test_requests_on_one_connection_are_kept_apart(self):
        good = line(b"X: y")
        with self.server.raw(good * 3) as connection:
            with connection.makefile("rb") as stream:
                self.assertEqual(stream.read(12), b"HTTP/1.1 200")
        # A body longer than it says is a request of its own, and none that can be.
        with self.server.raw(post(b"Content-Length: 2", b"[]GET / frob\r\n\r\n")) as connection:
            self.check_refused(read_answer(connection), 400)
        self.check_alive()

    def test_odd_headers_are_no_trouble(self):
        for name, value in (("X-Forwarded-For", ""), ("X-Forwarded-For", ","), ("Range", "bytes=0-0,-1"),
                            ("Range", "bytes=" + "0-0," * 1000 + "0-0"), ("Range", "bytes=99999999999999999999-"),
                            ("Range", "bytes=-1"), ("Accept", "\xff"), ("Accept", ",;q=9" * 500), ("Host", ""),
                            ("Connection", "x, close"), ("Accept-Encoding", "*;q=nan"), ("Cookie", "=" * 4000)):
            for path in ("/", "/openapi.json", "/v1/models"):
                with self.subTest(name=name, value=value[:40], path=path):
                    status = self.server.get(path, headers={name: value}).status
                    self.assertIn(status, (200, 206, 400, 403, 416))
        self.check_alive()

    def test_a_prompt_of_a_million_tokens_is_refused_with_both_numbers(self):
        long_words = () if WRITE_TINY_GGUF else ("letters with marks", "marks")  # above 1 MiB each
        n = 2 * 10**4 if WRITE_TINY_GGUF else 10**6  # some take n squared
        for name, content in (("words", "a " * n), ("one word", "a" * 4 * n), ("digits", "7" * n),
                              ("spaces", "x" + " " * 4 * n + "x"), ("line ends", "x" + "\n" * n + "x"),
                              ("letters with marks", "e\u0301" * n), ("marks", "!?" * n),
                              ("special tokens", "<|im_end|>" * max(n // 10, 5000)), ("emoji", "\U0001f9d1\u200d" * n)):
            with self.subTest(name):
                begun = time.monotonic()
                answer = self.server.chat("Why?", context=content)
                allowed = "1048576" if name in long_words else str(self.n_ctx_train)
                self.check_refused(answer, 400, allowed, r"\d{4,}.*\d{4,}")
                self.check_alive()
                print(f"{name}: refused after {time.monotonic() - begun:.1f} s")


class SlowClients(Case):
    N_SLOW = 200
    LONG_ANSWER = schema_format({"type": "array", "items": {"type": "integer"}, "minItems": 400})

    def test_slow_requests_delay_no_other(self):
        starts = (b"GET /health HTTP/1.1\r\nX: ", post(b"Content-Length: 1000", b"{"), chunked(b"1\r\n{\r\n"), b"")
        connections = [self.server.raw(starts[i % len(starts)]) for i in range(self.N_SLOW)]
        ended = threading.Event()

        def drip():
            while not ended.wait(1):
                for connection in connections:
                    with contextlib.suppress(OSError):
                        connection.send(b"1")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            for _ in range(5):
                begun = time.monotonic()
                self.check_ok(self.server.get("/health", timeout=20))
                body = {"messages": [USER], "max_tokens": 1}
                self.check_ok(self.server.post(CHAT, body, timeout=20))
                took = time.monotonic() - begun
                print(f"beside {self.N_SLOW} slow clients: {took:.2f} s")
                self.assertLess(took, 5)
                time.sleep(1)
        finally:
            ended.set()
            thread.join()
            for connection in connections:
                connection.close()
        self.check_alive()

    def test_a_stream_that_no_one_reads_delays_no_other(self):
        body = {"messages": [USER], "max_tokens": 2000, "stream": True, "logprobs": True, "top_logprobs": 20,
                "response_format": self.LONG_ANSWER}
        stuck = []
        try:
            for _ in range(4):
                connection = socket.socket()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                connection.connect(("127.0.0.1", self.server.port))
                data = json.dumps(body).encode()
                connection.sendall(post(b"Content-Length: %d" % len(data), data))
                stuck.append(connection)
            time.sleep(5)  # their buffers are full
            times = []
            for event in self.server.stream(CHAT, {"messages": [USER], "max_tokens": 50, "stream": True,
                                                   "response_format": self.LONG_ANSWER}):
                times.append(time.monotonic())
                self.assertNotIn("error", event)
            gap = max(later - earlier for earlier, later in zip(times, times[1:]))
            print(f"beside 4 streams that no one reads: {len(times)} events, longest gap {gap:.2f} s")
            self.assertGreater(len(times), 20)
            self.assertLess(gap, 10)
        finally:
            for connection in stuck:
                connection.close()
        self.check_alive()


if __name__ == "__main__":
    main()
