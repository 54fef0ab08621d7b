"""A context is encoded once: questions about it, follow-ups and other requests that start alike find it there."""

import json
import os
import re
import tempfile
import time

from support import WRITE_TINY_GGUF, Case, Server, main

TINY = bool(WRITE_TINY_GGUF)  # its words mean nothing
N_LONG = 3000 if TINY else 7000
WORDS = "harbour net ferry lamp stone river cloud bread glass wheel".split()
FIELDS = {"id": str, "object": str, "created": int, "last_used": int, "tokens": int, "cached_tokens": int,
          "attention": str, "block_size": int, "anchor_size": int, "window": int, "overlap": int, "blocks": int, "bytes": int,
          "encode_ms": (int, float), "name": (str, type(None))}
CHAT = "/v1/chat/completions"
TEMPLATE = 200 if TINY else 48  # tokens of the marks of a few turns, at most; the tiny model spells them out


def text_of(n_words, seed):
    """A text of n words that starts as no other seed's does."""
    lines = [f"Log {seed}."]
    for i in range(n_words // 8):
        a, b, c = (WORDS[(seed * 7 + i * k) % 10] for k in (1, 3, 7))
        lines.append(f"On day {i} the {a} and the {b} saw a {c}.")
    return " ".join(lines)


class Asking(Case):
    def n_tokens(self, text):
        return len(self.check_ok(self.server.post("/tokenize", {"content": text}))["tokens"])

    def text_of_tokens(self, n_tokens, seed):
        """A text of about n tokens, never more."""
        words = 2000
        per_word = self.n_tokens(text_of(words, seed)) / words
        return text_of(int(0.97 * n_tokens / per_word), seed)

    def create(self, **body):
        return self.check_ok(self.server.post("/v1/contexts", body))

    def ask(self, message, /, **more):
        return self.check_ok(self.server.chat(message, **more))

    def cached(self, got):
        """What was there; the timings must agree."""
        usage, timings = got["usage"], got["timings"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        self.assertEqual((timings["cache_n"], timings["cache_n"] + timings["prompt_n"]),
                         (cached, usage["prompt_tokens"]))
        return cached


class Contexts(Asking):
    def test_a_context_is_made_listed_and_deleted(self):
        made = self.create(text=text_of(100, 1), name="log")
        self.assertEqual(set(made), set(FIELDS))
        for field, kind in FIELDS.items():
            self.assertIsInstance(made[field], kind, field)
        self.assertRegex(made["id"], r"\Actx_\w{16,}\Z")
        self.assertEqual((made["object"], made["name"]), ("context", "log"))
        self.assertLess(abs(made["created"] - time.time()), 60)
        self.assertLessEqual(0, made["tokens"] - self.n_tokens(text_of(100, 1)))
        self.assertLess(made["tokens"] - self.n_tokens(text_of(100, 1)), 2 * TEMPLATE)
        self.assertGreater(made["bytes"], made["tokens"] * 64)
        path = "/v1/contexts/" + made["id"]
        other = self.create(text=text_of(100, 2))
        self.assertIsNone(other["name"])
        listed = self.check_ok(self.server.get("/v1/contexts"))
        self.assertEqual(listed["object"], "list")
        ids = [context["id"] for context in listed["data"]]
        self.assertLess(ids.index(other["id"]), ids.index(made["id"]))  # last used first
        self.assertEqual(self.check_ok(self.server.get(path)), made)
        time.sleep(1.1)
        self.ask("Why?", context_id=made["id"], max_tokens=1)
        used = self.check_ok(self.server.get(path))
        self.assertGreater(used["last_used"], made["last_used"])
        self.assertEqual({**used, "last_used": 0}, {**made, "last_used": 0})
        self.assertEqual(self.check_ok(self.server.get("/v1/contexts"))["data"][0]["id"], made["id"])
        self.assertEqual(self.check_ok(self.server.request("DELETE", path)),
                         {"id": made["id"], "object": "context.deleted", "deleted": True})
        for answer in (self.server.get(path), self.server.request("DELETE", path),
                       self.server.chat("Why?", context_id=made["id"])):
            self.check_refused(answer, 404, "context")
        self.assertNotIn(made["id"], [c["id"] for c in self.check_ok(self.server.get("/v1/contexts"))["data"]])
        self.assertEqual(self.check_ok(self.server.get("/v1/contexts/" + other["id"])), other)

    def test_a_deleted_context_gives_its_memory_back(self):
        def used():
            return self.check_ok(self.server.get("/props"))["kv_memory"]["used_bytes"]
        before = used()
        made = self.create(text=text_of(800, 3))
        self.assertGreaterEqual(used() - before, made["bytes"] // 2)
        self.check_ok(self.server.request("DELETE", "/v1/contexts/" + made["id"]))
        self.eventually(used, lambda now: now - before <= made["bytes"] // 10)

    def test_files_and_messages_are_contexts_too(self):
        files = [{"name": "one.txt", "text": text_of(40, 4)}, {"name": "two.txt", "text": text_of(40, 5)}]
        messages = [{"role": "system", "content": text_of(40, 6)}, {"role": "user", "content": "Who left?"},
                    {"role": "assistant", "content": "The ferry."}]
        for name, body, texts in (("files", files, [word for file in files for word in file.values()]),
                                  ("messages", messages, [message["content"] for message in messages])):
            with self.subTest(name):
                made = self.create(**{name: body})
                least = sum(map(self.n_tokens, texts))
                self.assertGreaterEqual(made["tokens"], least - len(texts))
                self.assertLess(made["tokens"], least + 2 * TEMPLATE)
                got = self.ask("And then?", context_id=made["id"])
                self.assertGreaterEqual(self.cached(got), made["tokens"] - 1)

    def test_a_chat_pays_for_its_question_alone(self):
        text = text_of(400, 7) + " The pass key is 71432. Remember it. " + text_of(400, 8)
        for more in ({"attention": "dense"}, {"attention": "star", "block_size": 256}):
            with self.subTest(more=more):
                made = self.create(text=text, **more)
                self.assertEqual(made["attention"], more["attention"])
                if "block_size" in more:
                    self.assertEqual((made["block_size"], made["blocks"]), (256, -(-made["tokens"] // 256)))
                for question in ("What is the pass key?", "Who saw the ferry?"):
                    got = self.ask(question, context_id=made["id"], max_tokens=24)
                    self.assertGreaterEqual(self.cached(got), made["tokens"] - 1)
                    self.assertLess(got["timings"]["prompt_n"], self.n_tokens(question) + TEMPLATE)
                    if "pass key" in question and not TINY:
                        self.assertIn("71432", got["choices"][0]["message"]["content"])

    def test_a_context_is_as_if_it_were_sent_along(self):
        text = text_of(100, 9) + " The pass key is 71432. Remember it. " + text_of(100, 10)
        question = "What is the pass key?"
        made = self.create(text=text, attention="dense")
        named = self.ask(question, context_id=made["id"], max_tokens=24)
        whole = self.ask(f"{text}\n\n{question}", question=question, attention="dense", max_tokens=24)
        self.assertEqual(named["usage"]["prompt_tokens"], whole["usage"]["prompt_tokens"])
        self.assertGreaterEqual(self.cached(whole), made["tokens"] - 1)
        if not TINY:  # word for word they may differ: one computed more at once than the other
            for got in (named, whole):
                self.assertIn("71432", got["choices"][0]["message"]["content"])

    def test_messages_go_on_from_the_context_or_are_refused(self):
        """A template may put a system message first; then nothing of the context can be used."""
        made = self.create(text=text_of(50, 22))
        answer = self.server.chat("Why?", context="Another start.", context_id=made["id"])
        if answer.status == 200:
            self.assertGreaterEqual(self.cached(answer.json()), made["tokens"] - 8)  # the seam
        else:
            self.check_refused(answer, 400, "context")

    def test_two_of_text_files_and_messages_are_refused(self):
        self.check_refused(self.server.post("/v1/contexts", {
            "text": "a", "messages": [{"role": "user", "content": "b"}]}), 400, "text")

    def test_a_second_question_over_a_long_context_waits_for_itself_alone(self):
        text = self.text_of_tokens(N_LONG, 11)
        seconds, prompts = [], []
        for question in ("What did the harbour see?", "Who saw the bread, and on which day?"):
            begun, first = time.monotonic(), None
            body = {"messages": [{"role": "system", "content": text}, {"role": "user", "content": question}],
                    "temperature": 0, "max_tokens": 4, "stream": True, "stream_options": {"include_usage": True}}
            for event in self.server.stream(CHAT, body):
                if first is None and any(c["delta"].get("content") for c in event["choices"]):
                    first = time.monotonic() - begun
                last = event
            seconds.append(first or time.monotonic() - begun)
            prompts.append(last["usage"])
        cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in prompts]
        print(f"{prompts[0]['prompt_tokens']} tokens: TTFT {seconds[0]:.2f} s, then {seconds[1]:.3f} s: "
              f"{seconds[1] / seconds[0]:.3f} of it; {cached[1]} were there")
        self.assertGreater(prompts[0]["prompt_tokens"], 0.9 * N_LONG)
        self.assertLess(cached[0], TEMPLATE)
        self.assertGreaterEqual(cached[1], self.n_tokens(text) - 2)

    def test_a_follow_up_never_encodes_again(self):
        for attention in ("dense", "star", "auto"):
            with self.subTest(attention=attention):
                seed = {"dense": 12, "star": 13, "auto": 14}[attention]
                messages = [{"role": "system", "content": text_of(500, seed)}]
                held = 0
                for question in ("What did the net see?", "And the lamp?", "Why?", "Who else?"):
                    messages.append({"role": "user", "content": question})
                    got = self.check_ok(self.server.post(CHAT, {"messages": messages, "temperature": 0,
                                                                "max_tokens": 12, "attention": attention}))
                    if held:
                        self.assertGreaterEqual(self.cached(got), held)
                        self.assertLess(got["timings"]["prompt_n"], self.n_tokens(question) + TEMPLATE)
                    # The last token that was said has not been run; special ones may be said again otherwise.
                    held = got["usage"]["prompt_tokens"] + (0 if TINY else got["usage"]["completion_tokens"] - 2)
                    messages.append({"role": "assistant", "content": got["choices"][0]["message"]["content"]})

    def test_what_a_cancelled_request_encoded_is_not_lost(self):
        text = self.text_of_tokens(N_LONG // 2, 15)
        body = {"messages": [{"role": "system", "content": text}, {"role": "user", "content": "Why?"}],
                "temperature": 0, "max_tokens": 2, "stream": True, "return_progress": True}
        done = 0
        for event in self.server.stream(CHAT, body):
            progress = event.get("prompt_progress")
            if progress and progress["processed"] > progress["total"] // 3:
                done = progress["processed"]
                break
        self.assertGreater(done, 0, "no progress was told")
        time.sleep(2)  # it is noticed within a step
        got = self.ask("Why?", context=text, max_tokens=2)
        print(f"cancelled after {done} tokens; {self.cached(got)} of {got['usage']['prompt_tokens']} were there")
        self.assertGreaterEqual(self.cached(got), done // 2)

    def test_the_progress_of_a_context_is_told(self):
        text = self.text_of_tokens(N_LONG // 2, 16)
        with self.server.raw_stream("/v1/contexts", {"text": text, "stream": True}) as stream:
            self.assertEqual(stream.answer.headers.get_content_type(), "text/event-stream")
            data = [line[6:] for line in stream if line.startswith("data: ")]
        self.assertEqual(data.pop(), "[DONE]")
        *events, made = map(json.loads, data)
        self.assertEqual(made["object"], "context")
        self.assertEqual({event["object"] for event in events}, {"context.progress"})
        told = [event["prompt_progress"] for event in events]
        self.assertGreater(len(told), 2)
        for progress in told:
            self.assertEqual(progress["total"], made["tokens"])
            self.assertEqual(progress["cache"], made["cached_tokens"])
            self.assertGreaterEqual(min(progress["time_ms"], progress["time_left_ms"]), 0)
        for field in ("processed", "time_ms"):
            self.assertEqual([p[field] for p in told], sorted(p[field] for p in told))
        self.assertEqual(told[-1]["processed"], made["tokens"])
        self.assertEqual({event["blocks"] for event in events}, {made["blocks"]})
        self.assertEqual(self.check_ok(self.server.get("/v1/contexts/" + made["id"])), made)

    def test_the_progress_of_a_chat_is_told(self):
        text = self.text_of_tokens(N_LONG // 2, 17)
        body = {"messages": [{"role": "system", "content": text}, {"role": "user", "content": "Why?"}], "max_tokens": 2,
                "stream": True, "return_progress": True}
        told = [event["prompt_progress"] for event in self.server.stream(CHAT, body) if "prompt_progress" in event]
        self.assertGreater(len(told), 2)
        self.assertEqual([p["processed"] for p in told], sorted(p["processed"] for p in told))
        self.assertEqual(len({p["total"] for p in told}), 1)
        self.assertGreater(told[-1]["processed"], told[-1]["total"] // 2)
        del body["return_progress"]
        self.assertFalse([event for event in self.server.stream(CHAT, body) if "prompt_progress" in event])

    def test_too_long_a_context_is_refused_with_both_numbers(self):
        trained = self.check_ok(self.server.get("/props"))["n_ctx_train"]
        text = text_of(trained, 18)
        for answer in (self.server.post("/v1/contexts", {"text": text}), self.server.chat("Why?", context=text)):
            self.check_refused(answer, 400, str(trained), r"\d{4,}.*\d{4,}")

    def test_a_question_must_end_the_last_user_message(self):
        text = text_of(300, 19)
        first = self.ask(f"{text}\nWhat did the net see?", question="What did the net see?")
        second = self.ask(f"{text}\nWho left?", question="Who left?")
        self.assertGreaterEqual(self.cached(second), self.n_tokens(text) - 2)
        self.assertGreater(first["usage"]["prompt_tokens"], 300)
        self.check_refused(self.server.chat("Who left? Tell me.", question="Who left?"), 400, "question")


class Keys(Asking):
    """Two keys in a file, each with a store as if it were alone."""

    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "keys")
        with open(path, "w", encoding="ascii") as file:
            file.write("key-a\nkey-b\n")
        os.chmod(path, 0o600)
        cls.server = cls.enterClassContext(Server("--api-key-file", path))
        cls.server.key = "key-a"

    def test_a_context_is_there_for_its_key_only(self):
        text = text_of(300, 20)
        made = self.create(text=text, name="secret-name")
        path = "/v1/contexts/" + made["id"]
        self.assertEqual(self.check_ok(self.server.get("/v1/contexts", key="key-b"))["data"], [])
        chat = {"context_id": made["id"], "messages": [{"role": "user", "content": "x"}]}
        for answer in (self.server.get(path, key="key-b"), self.server.request("DELETE", path, key="key-b"),
                       self.server.post(CHAT, chat, key="key-b")):
            self.check_refused(answer, 404)
            self.assertNotIn(b"secret-name", answer.body)
        self.assertEqual(self.check_ok(self.server.get(path))["id"], made["id"])

    def test_what_one_key_encoded_is_not_there_for_another(self):
        text = text_of(300, 21)
        body = {"messages": [{"role": "system", "content": text}, {"role": "user", "content": "Why?"}], "max_tokens": 1}
        times = [self.cached(self.check_ok(self.server.post(CHAT, body, key=key)))
                 for key in ("key-a", "key-a", "key-b", "key-b")]
        self.assertLess(times[0], TEMPLATE)
        self.assertEqual(times[2], 0)
        self.assertGreater(min(times[1], times[3]), self.n_tokens(text) - 2)


class SmallStore(Asking):
    """Room for three contexts of some 700 tokens, and the pages that a request has besides, but not for four."""

    @classmethod
    def setUpClass(cls):
        with Server() as server:
            made = json.loads(server.post("/v1/contexts", {"text": text_of(400, 0), "attention": "dense"}).body)
        cls.bytes = made["bytes"]
        cls.limit = 4 * made["bytes"] - 1
        cls.server = cls.enterClassContext(Server("--kv-memory", str(cls.limit)))

    def make(self, seed):
        return self.create(text=text_of(400, seed), attention="dense")["id"]

    def ids(self):
        return [context["id"] for context in self.check_ok(self.server.get("/v1/contexts"))["data"]]

    def check_within_limit(self):
        memory = self.check_ok(self.server.get("/props"))["kv_memory"]
        self.assertEqual(memory["limit_bytes"], self.limit)
        self.assertLessEqual(memory["used_bytes"], self.limit)

    def test_the_context_that_was_used_longest_ago_goes_first(self):
        first, second, third = (self.make(seed) for seed in (1, 2, 3))
        self.assertEqual(self.ids()[:3], [third, second, first])
        self.ask("Why?", context_id=first, max_tokens=1)
        self.check_within_limit()
        fourth = self.make(4)
        self.assertNotIn(second, self.ids())
        self.assertIn(first, self.ids())
        for answer in (self.server.get("/v1/contexts/" + second), self.server.chat("Why?", context_id=second)):
            self.check_refused(answer, 404, r"memory|evicted|room|went")
        self.ask("Why?", context_id=fourth, max_tokens=1)
        self.check_within_limit()

    def test_what_can_never_fit_is_refused_with_both_numbers(self):
        kept = self.make(5)
        text = text_of(2000, 6)
        for answer in (self.server.post("/v1/contexts", {"text": text, "allow_long": True}),
                       self.server.chat("Why?", context=text, allow_long=True)):
            self.check_refused(answer, 400, r"\d.*\d", "memory")
            numbers = [float(n) for n in re.findall(r"\d+(?:\.\d+)?", answer.json()["error"]["message"])]
            self.assertGreaterEqual(len(numbers), 2)
        self.assertIn(kept, self.ids())  # nothing had to go for what was refused
        self.check_alive()

    def test_a_stream_keeps_the_context_it_is_about(self):
        held = self.make(7)
        body = {"messages": [{"role": "user", "content": "Tell a long story."}], "context_id": held, "stream": True,
                "max_tokens": 200, "temperature": 1.0, "seed": 1}
        events = self.server.stream(CHAT, body)
        next(events)
        for seed in range(8, 12):
            answer = self.server.post("/v1/contexts", {"text": text_of(400, seed), "attention": "dense"})
            self.assertIn(answer.status, (200, 503), answer)
            self.check_within_limit()
        rest = list(events)
        self.assertIn(rest[-1]["choices"][0]["finish_reason"], ("stop", "length"))

    def test_many_contexts_stay_within_the_limit(self):
        for seed in range(20, 32):
            self.make(seed)
            self.check_within_limit()
        self.assertIn(len(self.ids()), range(2, 5))


if __name__ == "__main__":
    main()
