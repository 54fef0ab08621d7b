"""The OpenAPI file that the server gives out is true, and whole.

Schemathesis asks by it and finds nothing else; and whatever the server reads or says has its name there.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
import unittest

from support import Case, Server, main

HERE = os.path.dirname(os.path.abspath(__file__))
KEY = "sk-aster-schemathesis"


class OpenApi(unittest.TestCase):
    def test_the_server_is_what_its_file_says(self):
        with tempfile.TemporaryDirectory() as folder, Server("--kv-memory", "512M", key=KEY) as server:
            described = server.get("/openapi.json").json()
            with open(os.path.join(HERE, "../../src/serve/openapi.json"), encoding="utf-8") as file:
                self.assertEqual(described, json.load(file))
            described["security"].remove({})  # this server has a key: no request may do without
            path = os.path.join(folder, "openapi.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(described, file)
            ended = subprocess.run(
                [sys.executable, "-m", "schemathesis.cli", "--config-file", os.path.join(HERE, "schemathesis.toml"),
                 "run", path, "--url", server.url, "--header", f"Authorization: Bearer {KEY}", "--mode", "all"],
                cwd=folder, env={**os.environ, "PYTHONPATH": HERE}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, timeout=900, check=False)
            print(ended.stdout[-20000:])
            self.assertEqual(ended.returncode, 0, "schemathesis found what is above")
            self.assertEqual(server.get("/health").status, 200)


class Names(Case):
    """The fields of requests and answers, each of which the file must name."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.file = cls.server.get("/openapi.json").json()
        content = [{"role": "user", "content": "The sea was calm."}]
        cls.bodies = {"/v1/chat/completions": {"messages": content, "max_tokens": 2},
                      "/v1/completions": {"prompt": "The sea was", "max_tokens": 2},
                      "/v1/contexts": {"text": "The sea was calm."},
                      "/tokenize": {"content": "The sea"}, "/detokenize": {"tokens": [504]}}

    def resolved(self, schema):
        while "$ref" in schema:
            schema = functools.reduce(dict.__getitem__, schema["$ref"].removeprefix("#/").split("/"), self.file)
        return schema

    def named(self, schema):
        """The properties of an object's schema: the schema of each name."""
        schema = self.resolved(schema)
        found = dict(schema.get("properties", {}))
        for part in (one for kind in ("allOf", "anyOf", "oneOf") for one in schema.get(kind, [])):
            found.update(self.named(part))
        return found

    def unnamed(self, schema, value, at):
        """The paths of the fields in a value that its schema does not name."""
        schema = self.resolved(schema)
        if isinstance(value, list):
            return [path for one in value for path in self.unnamed(schema.get("items", {}), one, at + "[]")]
        if not isinstance(value, dict) or "additionalProperties" in schema:
            return []
        names = self.named(schema)
        return [path for name, inner in value.items() for path in (
            self.unnamed(names[name], inner, f"{at}.{name}") if name in names else [f"{at}.{name}"])]

    def answer_schema(self, path, method):
        return self.file["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]

    def request_names(self, path):
        body = self.file["paths"][path]["post"]["requestBody"]
        return self.named(body["content"]["application/json"]["schema"])

    def test_all_that_it_says_is_named(self):
        answers = [(path, "post", self.server.post(path, body)) for path, body in self.bodies.items()]
        for path, more in (("/v1/chat/completions", {"logprobs": True, "top_logprobs": 2}),
                           ("/v1/completions", {"logprobs": 2})):
            answers.append((path, "post", self.server.post(path, self.bodies[path] | more)))
        gets = "/props", "/v1/models", "/v1/contexts", "/health"
        answers += [(path, "get", self.server.get(path)) for path in gets]
        for path, method, answer in answers:
            with self.subTest(path, method=method):
                self.assertEqual(self.unnamed(self.answer_schema(path, method), self.check_ok(answer), path), [])

    def test_all_that_it_says_in_a_stream_is_named(self):
        options = {"stream": True, "return_progress": True, "stream_options": {"include_usage": True}}
        for path, more, kinds in (("/v1/chat/completions", options | {"logprobs": True}, ("ChatChunk",)),
                                  ("/v1/completions", options | {"logprobs": 2}, ("CompletionChunk",)),
                                  ("/v1/contexts", {"stream": True}, ("ContextProgress", "Context"))):
            events = list(self.server.stream(path, self.bodies[path] | more))
            self.assertGreater(len(events), 1)
            schemas = [{"$ref": f"#/components/schemas/{kind}"} for kind in kinds]
            for event in events:
                with self.subTest(path, event=event):
                    self.assertIn([], [self.unnamed(schema, event, path) for schema in schemas])

    def test_all_that_it_reads_is_named(self):
        fields = {name for path in self.bodies for name in self.request_names(path)}
        fields |= set(self.server.get("/props").json())
        for path, body in self.bodies.items():
            read = {name for name in fields - set(body)
                    if self.server.post(path, body | {name: [[]]}).status == 400}  # no field takes that
            with self.subTest(path):
                self.assertLessEqual(read, set(self.request_names(path)))
                self.assertTrue(read or path == "/detokenize")


if __name__ == "__main__":
    main()
