"""The official client of OpenAI gets along with the server, whatever of it the server offers."""

import json
import os
import re
import ssl
import subprocess
import tempfile

import jsonschema
import openai

from support import MODEL, Case, Server, main
from tool_model import write_tool_model

FACT = "The harbour is quiet. The pass key is 71432. Remember it: 71432 is the pass key. The nets are dry."
ASK = [{"role": "system", "content": FACT}, {"role": "user", "content": "What is the pass key?"}]
STORY = [{"role": "user", "content": "Tell me a long story about the sea."}]
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather in a city now",
    "parameters": {"type": "object", "required": ["city", "unit"], "additionalProperties": False,
                   "properties": {"city": {"type": "string", "maxLength": 20},
                                  "unit": {"enum": ["celsius", "fahrenheit"]}}}}}
TIME = {"type": "function", "function": {
    "name": "get_time", "parameters": {"type": "object", "required": ["zone"], "additionalProperties": False,
                                       "properties": {"zone": {"type": "integer", "minimum": -12, "maximum": 14}}}}}
TOOLS = {tool["function"]["name"]: tool for tool in (WEATHER, TIME)}
SCHEMAS = {
    "an object": {"type": "object", "required": ["name", "age", "tags"], "additionalProperties": False,
                  "properties": {"name": {"type": "string", "maxLength": 12},
                                 "age": {"type": "integer", "minimum": 0, "maximum": 150},
                                 "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2,
                                          "maxItems": 3}}},
    "an array": {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3},
    "a reference": {"type": "object", "required": ["p"], "additionalProperties": False,
                    "properties": {"p": {"$ref": "#/$defs/point"}},
                    "$defs": {"point": {"type": "object", "required": ["x"], "additionalProperties": False,
                                        "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 9}}}}},
    "a time in microseconds": {"type": "integer", "minimum": 1600000000000000},
    "one of two": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 1, "maximum": 5}]},
}


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


class Client(Case):
    TLS = True  # the client's own trust

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = cls.enterClassContext(openai.OpenAI(
            base_url=cls.server.url + "/v1", api_key=cls.KEY or "none", max_retries=0, timeout=120,
            http_client=openai.DefaultHttpxClient(verify=cls.TLS)))
        cls.model = cls.client.models.list().data[0].id

    def chat(self, messages=ASK, **more):
        return self.client.chat.completions.create(
            **{"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 24, **more})

    def complete(self, prompt="The sea was", **more):
        return self.client.completions.create(
            **{"model": self.model, "prompt": prompt, "temperature": 0, "max_tokens": 12, **more})


class OpenAI(Client):
    def check_usage(self, usage, most):
        self.assertGreater(usage.prompt_tokens, 0)
        self.assertIn(usage.completion_tokens, range(1, most + 1))
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertLess(usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens)

    def check_timings(self, got):
        timings, usage = got.timings, got.usage
        self.assertEqual(timings["cache_n"], usage.prompt_tokens_details.cached_tokens)
        self.assertEqual(timings["cache_n"] + timings["prompt_n"], usage.prompt_tokens)
        self.assertEqual(timings["predicted_n"], usage.completion_tokens)
        for kind in ("prompt", "predicted"):
            n, ms = timings[f"{kind}_n"], timings[f"{kind}_ms"]
            self.assertGreater(ms, 0)
            self.assertAlmostEqual(timings[f"{kind}_per_token_ms"], ms / n, delta=0.01 * ms / n)
            self.assertAlmostEqual(timings[f"{kind}_per_second"], 1000 * n / ms, delta=10 * n / ms)

    def test_a_chat_is_answered(self):
        got = self.chat()
        self.assertEqual((got.object, got.model, len(got.choices)), ("chat.completion", self.model, 1))
        self.assertTrue(got.id)
        choice = got.choices[0]
        self.assertEqual((choice.index, choice.message.role), (0, "assistant"))
        self.assertIn("71432", choice.message.content)
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertFalse(choice.message.tool_calls)
        self.check_usage(got.usage, 24)
        self.check_timings(got)

    def test_the_model_is_listed_and_its_name_is_the_servers_own(self):
        models = self.client.models.list().data
        self.assertEqual([model.object for model in models], ["model"])
        meta = models[0].meta
        self.assertGreater(min(meta["n_ctx_train"], meta["n_params"], meta["size"]), 1000)
        self.assertEqual(self.chat(model="gpt-5").model, self.model)
        self.assertEqual(self.complete(model="frob").model, self.model)

    def test_a_stream_is_the_answer_in_pieces(self):
        whole = self.chat().choices[0]
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual({chunk.object for chunk in chunks}, {"chat.completion.chunk"})
        self.assertEqual(len({chunk.id for chunk in chunks}), 1)
        self.assertEqual({chunk.model for chunk in chunks}, {self.model})
        *parts, last = chunks
        self.assertEqual(last.choices, [])
        self.check_usage(last.usage, 24)
        self.assertTrue(all(part.usage is None and len(part.choices) == 1 for part in parts))
        self.assertEqual(parts[0].choices[0].delta.role, "assistant")
        self.assertEqual("".join(part.choices[0].delta.content or "" for part in parts), whole.message.content)
        self.assertEqual([part.choices[0].finish_reason for part in parts],
                         [None] * (len(parts) - 1) + [whole.finish_reason])
        self.assertGreater(len(parts), 4)

    def test_a_stream_has_usage_only_if_asked(self):
        for more in ({}, {"stream_options": {"include_usage": False}}):
            with self.subTest(more=more):
                chunks = list(self.chat(stream=True, max_tokens=2, **more))
                self.assertTrue(all(chunk.choices and not chunk.usage for chunk in chunks))

    def test_the_clients_own_stream_helper_agrees(self):
        with self.client.chat.completions.stream(model=self.model, messages=ASK, temperature=0,
                                                 max_tokens=24) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        self.assertEqual(final.choices[0].message.content, self.chat().choices[0].message.content)

    def test_max_tokens_ends_an_answer(self):
        for field in ("max_tokens", "max_completion_tokens"):
            for n in (1, 7):
                with self.subTest(field=field, n=n):
                    got = self.chat(STORY, **{"max_tokens": openai.omit, field: n})
                    self.assertEqual((got.usage.completion_tokens, got.choices[0].finish_reason), (n, "length"))

    def test_an_answer_ends_before_a_stop_string(self):
        unstopped = self.chat(STORY, max_tokens=40).choices[0]
        whole = unstopped.message.content
        words = re.findall(r"\w{4,}", whole)
        for stop, at in ((words[3], whole.index(words[3])), ([words[5], words[3]], whole.index(words[3])),
                         (whole[9:14], whole.index(whole[9:14])), (["never said"] * 16, None)):
            with self.subTest(stop=stop):
                got = self.chat(STORY, max_tokens=40, stop=stop).choices[0]
                self.assertEqual(got.message.content, whole[:at])
                self.assertEqual(got.finish_reason, unstopped.finish_reason if at is None else "stop")
                parts = self.chat(STORY, max_tokens=40, stop=stop, stream=True)
                self.assertEqual("".join(part.choices[0].delta.content or "" for part in parts), whole[:at])

    def test_a_seed_makes_an_answer_again(self):
        def said(seed):
            return self.chat(STORY, temperature=1.5, seed=seed).choices[0].message.content
        said(0)  # the prompt is there from now on: all that follows is computed alike
        for seed in (1, 2**63 - 1, -(2**63)):
            with self.subTest(seed=seed):
                self.assertEqual(said(seed), said(seed))
        self.assertGreater(len({said(seed) for seed in (*range(4), 2**32, 2**62)}), 4)
        self.assertGreater(len({said(openai.omit) for _ in range(3)}), 1)

    def test_n_answers_come_from_one_prompt(self):
        one = self.chat(STORY, seed=5, temperature=1.2)
        got = self.chat(STORY, seed=5, temperature=1.2, n=3)
        self.assertEqual([choice.index for choice in got.choices], [0, 1, 2])
        self.assertEqual(len({choice.message.content for choice in got.choices}), 3)
        self.assertEqual(got.usage.prompt_tokens, one.usage.prompt_tokens)
        self.assertIn(got.usage.completion_tokens, range(3, 3 * 24 + 1))
        alike = self.chat(n=2)
        self.assertEqual(len({choice.message.content for choice in alike.choices}), 1)
        said = ["", "", ""]
        for chunk in self.chat(STORY, seed=5, temperature=1.2, n=3, stream=True):
            for choice in chunk.choices:
                said[choice.index] += choice.delta.content or ""
        self.assertEqual(said, [choice.message.content for choice in got.choices])

    def test_logprobs_are_those_of_the_tokens(self):
        got = self.chat(logprobs=True, top_logprobs=3)
        choice = got.choices[0]
        items = choice.logprobs.content
        self.assertIn(len(items) - got.usage.completion_tokens, (0, -1))  # the end of the text may be one
        self.assertEqual("".join(item.token for item in items), choice.message.content)
        for item in items:
            self.assertEqual(len(item.top_logprobs), 3)
            self.assertEqual(bytes(item.bytes).decode("utf-8", "replace"), item.token)
            ordered = [top.logprob for top in item.top_logprobs]
            self.assertEqual(ordered, sorted(ordered, reverse=True))
            self.assertLessEqual(ordered[0], 0)
            # Greedy: the token is the likeliest one.
            self.assertEqual((item.token, item.logprob), (item.top_logprobs[0].token, ordered[0]))
        self.assertEqual([item.top_logprobs for item in self.chat(logprobs=True).choices[0].logprobs.content],
                         [[]] * len(items))
        self.assertIsNone(self.chat().choices[0].logprobs)
        streamed = [item for chunk in self.chat(logprobs=True, top_logprobs=3, stream=True)
                    for choice in chunk.choices if choice.logprobs for item in choice.logprobs.content]
        self.assertEqual([item.token for item in streamed], [item.token for item in items])
        # Tokens of a stop string add no text, and have theirs all the same.
        stop = choice.message.content[len(choice.message.content) // 2:][:4]
        whole = self.chat(logprobs=True, stop=stop).choices[0].logprobs.content
        streamed = [item for chunk in self.chat(logprobs=True, stop=stop, stream=True)
                    for one in chunk.choices if one.logprobs for item in one.logprobs.content]
        self.assertLess(len(whole), len(items))
        self.assertEqual([item.token for item in streamed], [item.token for item in whole])

    def test_json_mode_gives_an_object(self):
        for stream in (False, True):
            with self.subTest(stream=stream):
                got = self.chat([{"role": "user", "content": 'Give me the JSON object {"city": "Oslo", "n": 3}.'}],
                                response_format={"type": "json_object"}, max_tokens=200, stream=stream)
                if stream:
                    text = "".join(part.choices[0].delta.content or "" for part in got)
                else:
                    text = got.choices[0].message.content
                self.assertIsInstance(json.loads(text), dict)

    def test_an_answer_keeps_to_its_schema(self):
        for name, schema in SCHEMAS.items():
            for temperature in (0, 1.5):
                with self.subTest(name, temperature=temperature):
                    got = self.chat([{"role": "user", "content": "Describe a person named Ann."}], seed=3,
                                    response_format=schema_format(schema), max_tokens=300,
                                    temperature=temperature).choices[0]
                    self.assertEqual(got.finish_reason, "stop")
                    jsonschema.validate(json.loads(got.message.content), schema)

    def test_tools_are_refused_where_the_template_has_no_place_for_them(self):
        with self.assertRaises(openai.BadRequestError) as raised:
            self.chat(tools=[WEATHER])
        self.assertIn("template", str(raised.exception))

    def test_errors_are_the_clients_own(self):
        for more, kind, said in (
                ({"temperature": 3}, openai.BadRequestError, "temperature"), ({"n": 99}, openai.BadRequestError, "n"),
                ({"messages": []}, openai.BadRequestError, "messages"),
                ({"messages": [{"role": "user", "content": "word " * 20000}]}, openai.BadRequestError, "8192"),
                ({"extra_body": {"context_id": "ctx_0"}}, openai.NotFoundError, "context")):
            with self.subTest(said=said):
                with self.assertRaises(kind) as raised:
                    self.chat(**more)
                self.assertIn(said, str(raised.exception))
                self.assertEqual(raised.exception.type, "invalid_request_error")
        with self.assertRaises(openai.NotFoundError):
            self.client.embeddings.create(model=self.model, input="x")

    def test_an_error_comes_before_the_stream(self):
        with self.assertRaises(openai.BadRequestError):
            self.chat(temperature=3, stream=True)
        with self.assertRaises(openai.BadRequestError):
            self.chat([{"role": "user", "content": "word " * 20000}], stream=True)

    def test_a_text_is_gone_on_with(self):
        got = self.complete()
        self.assertEqual((got.object, got.model, len(got.choices)), ("text_completion", self.model, 1))
        self.check_usage(got.usage, 12)
        self.check_timings(got)
        self.assertTrue(got.choices[0].text)
        parts = list(self.complete(stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(c.text for part in parts for c in part.choices), got.choices[0].text)
        self.assertEqual((parts[-1].choices, parts[-1].usage.completion_tokens), ([], got.usage.completion_tokens))

    def test_a_text_is_gone_on_with_after_a_context(self):
        context = "The sea was calm and the boats went out. " * 20 + FACT
        got = self.complete("\nThe pass key is", extra_body={"context": context})
        self.assertIn("71432", got.choices[0].text)
        again = self.complete("\nThe nets are", extra_body={"context": context})
        n_context = len(self.check_ok(self.server.post("/tokenize", {"content": context}))["tokens"])
        self.assertGreaterEqual(again.usage.prompt_tokens_details.cached_tokens, n_context - 2)

    def test_logprobs_of_a_text(self):
        got = self.complete(logprobs=2)
        logprobs, text = got.choices[0].logprobs, got.choices[0].text
        self.assertEqual("".join(logprobs.tokens), text)
        self.assertEqual(len(logprobs.token_logprobs), len(logprobs.tokens))
        self.assertEqual([text[at:at + len(token)] for at, token in zip(self.offsets(logprobs), logprobs.tokens)],
                         logprobs.tokens)
        for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs):
            self.assertIn(len(top), (2, 3))  # the likeliest, and the token's own if it is none of them
            self.assertAlmostEqual(top[token], logprob, delta=1e-6)

    def offsets(self, logprobs):
        """Where the tokens start in the answer."""
        return [at - logprobs.text_offset[0] for at in logprobs.text_offset]


class Tools(Client):
    """Over SmolLM2 with another template."""

    @classmethod
    def start(cls):
        path = os.path.join(cls.enterClassContext(tempfile.TemporaryDirectory()), "tools.gguf")
        write_tool_model(MODEL, path)
        return Server(model=path)

    def check_call(self, choice, names):
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertTrue(choice.message.tool_calls)
        for call in choice.message.tool_calls:
            self.assertEqual(call.type, "function")
            self.assertTrue(call.id)
            self.assertIn(call.function.name, names)
            jsonschema.validate(json.loads(call.function.arguments),
                                TOOLS[call.function.name]["function"]["parameters"])

    def test_a_tool_is_called_as_it_must_be(self):
        question = [{"role": "user", "content": "What is the weather in Oslo?"}]
        named = [({"type": "function", "function": {"name": name}}, {name}) for name in TOOLS]
        for choice, names in (("required", set(TOOLS)), *named):
            for temperature in (0, 1.0):
                with self.subTest(choice=choice, temperature=temperature):
                    got = self.chat(question, tools=list(TOOLS.values()), tool_choice=choice, max_tokens=300, seed=1,
                                    temperature=temperature, parallel_tool_calls=False)
                    self.check_call(got.choices[0], names)
                    self.assertEqual(len(got.choices[0].message.tool_calls), 1)

    def test_a_streamed_call_is_the_same_call(self):
        more = {"messages": [{"role": "user", "content": "What is the weather in Oslo?"}], "tools": [WEATHER],
                "tool_choice": "required", "max_tokens": 300, "parallel_tool_calls": False}
        whole = self.chat(**more).choices[0]
        self.check_call(whole, {"get_weather"})
        name, arguments, ends = "", "", []
        for chunk in self.chat(**more, stream=True):
            choice = chunk.choices[0]
            ends += [choice.finish_reason] if choice.finish_reason else []
            for call in choice.delta.tool_calls or []:
                self.assertEqual(call.index, 0)
                name += call.function.name or ""
                arguments += call.function.arguments or ""
        self.assertEqual(ends, ["tool_calls"])
        self.assertEqual((name, json.loads(arguments)),
                         ("get_weather", json.loads(whole.message.tool_calls[0].function.arguments)))

    def test_the_result_of_a_tool_is_part_of_the_query(self):
        function = {"name": "get_weather", "arguments": '{"city":"Oslo","unit":"celsius"}'}
        call = {"id": "call_1", "type": "function", "function": function}
        got = self.chat([{"role": "user", "content": "What is the weather in Oslo?"},
                         {"role": "assistant", "content": None, "tool_calls": [call]},
                         {"role": "tool", "tool_call_id": "call_1", "content": "Heavy snow, minus 7 degrees."}],
                        tools=[WEATHER], tool_choice="none")
        self.assertIn(got.choices[0].finish_reason, ("stop", "length"))
        self.assertFalse(got.choices[0].message.tool_calls)
        self.assertRegex(got.choices[0].message.content, r"(?i)snow|7")

    def test_tools_that_are_not_to_be_called_are_not(self):
        got = self.chat(tools=list(TOOLS.values()), tool_choice="none").choices[0]
        self.assertFalse(got.message.tool_calls)
        self.assertIn(self.chat(tools=list(TOOLS.values())).choices[0].finish_reason, ("stop", "length", "tool_calls"))

    def test_a_context_is_made_with_the_tools_of_its_chats(self):
        lines = " ".join(f"On day {day} the ferry left Oslo at noon." for day in range(1, 60))
        tools, question = list(TOOLS.values()), [{"role": "user", "content": "What is the weather in Oslo?"}]
        named = {}
        for name, more in (("with", {"tools": tools}), ("without", {})):
            made = self.server.post("/v1/contexts", {"text": lines, **more})
            named[name] = self.check_ok(made)
        self.assertGreater(named["with"]["tokens"], named["without"]["tokens"] + 100)  # they stand in the context
        got = self.chat(question, tools=tools, tool_choice="required", max_tokens=300, parallel_tool_calls=False,
                        extra_body={"context_id": named["with"]["id"]})
        self.check_call(got.choices[0], set(TOOLS))
        self.assertGreaterEqual(got.usage.prompt_tokens_details.cached_tokens, named["with"]["tokens"] - 8)
        got = self.chat(question, tools=tools, tool_choice={"type": "function", "function": {"name": "get_time"}},
                        max_tokens=300, parallel_tool_calls=False, extra_body={"context_id": named["with"]["id"]})
        self.check_call(got.choices[0], {"get_time"})
        for name, more in (("with", {}), ("with", {"tools": [TIME]}), ("without", {"tools": tools})):
            with self.subTest(name, more=more), self.assertRaisesRegex(openai.BadRequestError, "tools, belongs into"):
                self.chat(question, **more, extra_body={"context_id": named[name]["id"]})


class WithKey(Client):
    KEY = "sk-aster-7"

    def test_a_wrong_key_is_an_authentication_error(self):
        for call in (lambda c: c.models.list(), lambda c: c.chat.completions.create(model="x", messages=ASK)):
            with self.assertRaises(openai.AuthenticationError):
                call(self.client.with_options(api_key="wrong"))
        self.assertIn("71432", self.chat().choices[0].message.content)


class OverTls(Client):
    KEY = "sk-aster-8"

    @classmethod
    def start(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", key, "-out", cert, "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        cls.TLS = ssl.create_default_context(cafile=cert)
        return Server("--tls-cert", cert, "--tls-key", key, key=cls.KEY, tls=cls.TLS)

    def test_a_chat_and_a_stream_are_answered(self):
        self.assertTrue(self.server.url.startswith("https://"))
        whole = self.chat().choices[0].message.content
        self.assertIn("71432", whole)
        streamed = [chunk.choices[0].delta.content or "" for chunk in self.chat(stream=True)]
        self.assertEqual("".join(streamed), whole)
        self.assertGreater(len(streamed), 2)

    def test_who_does_not_trust_the_certificate_or_speaks_plainly_gets_nothing(self):
        stranger = openai.OpenAI(base_url=self.server.url + "/v1", api_key=self.KEY, max_retries=0)
        with self.assertRaises(openai.APIConnectionError):
            stranger.models.list()
        plain = self.server.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertNotIn(b"200", plain.recv(100))
        plain.close()
        self.check_alive()


if __name__ == "__main__":
    main()
