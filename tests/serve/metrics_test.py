"""What /metrics says is Prometheus's text form, and true."""

import re

from prometheus_client.parser import text_string_to_metric_families

from support import Case, main

CHAT = "/v1/chat/completions"
# What there must be: kind, words of the name. Each is one family.
HISTOGRAMS = {"ttft": r"ttft|time_to_first_token", "queue": r"queue", "prefill": r"prefill", "decode": r"decode"}
COUNTERS = {"requests": r"requests", "prompt tokens": r"prompt_tokens", "answer tokens": r"answer_tokens",
            "cached tokens": r"cached_tokens"}
GAUGES = {"running": r"running", "waiting": r"waiting|queued", "KV bytes": r"kv.*bytes"}


class Metrics(Case):
    def families(self):
        answer = self.server.get("/metrics")
        self.assertEqual((answer.status, answer.headers.get_content_type()), (200, "text/plain"), answer)
        self.assertEqual(answer.headers.get_param("version"), "0.0.4")
        return {family.name: family for family in text_string_to_metric_families(answer.body.decode())}

    def find(self, families, kind, words):
        found = [family for family in families.values()
                 if family.type == kind and re.search(words, family.name)]
        self.assertTrue(found, f"no {kind} of {words} among {[f'{f.type} {f.name}' for f in families.values()]}")
        return found[0]

    def total(self, kind, words):
        """The sum over all labels; of requests, over those of chats."""
        family = self.find(self.families(), kind, words)
        suffix = {"histogram": "_count", "counter": "_total", "gauge": ""}[kind]
        return sum(sample.value for sample in family.samples
                   if sample.name == family.name + suffix and sample.labels.get("route", CHAT) == CHAT)

    def test_every_family_is_named_and_described(self):
        families = self.families()
        for name, family in families.items():
            with self.subTest(name):
                self.assertRegex(name, r"\Aaster_[a-z_]+\Z")
                self.assertTrue(family.documentation)
                self.assertIn(family.type, ("counter", "gauge", "histogram"))
                if family.type == "histogram":
                    self.assertRegex(name, r"_(seconds|tokens|bytes)\Z")
        for kind, wanted in (("histogram", HISTOGRAMS), ("counter", COUNTERS), ("gauge", GAUGES)):
            for words in wanted.values():
                with self.subTest(kind=kind, words=words):
                    self.find(families, kind, words)

    def test_histograms_add_up(self):
        self.check_ok(self.server.chat("Hi"))
        for words in HISTOGRAMS.values():
            with self.subTest(words):
                family = self.find(self.families(), "histogram", words)
                by_name = {}
                for sample in family.samples:
                    by_name.setdefault(sample.name[len(family.name):], []).append(sample)
                limits = [float(sample.labels["le"]) for sample in by_name["_bucket"]]
                counts = [sample.value for sample in by_name["_bucket"]]
                self.assertEqual((limits, counts), (sorted(limits), sorted(counts)))
                self.assertEqual((limits[-1], counts[-1]), (float("inf"), by_name["_count"][0].value))
                self.assertGreaterEqual(by_name["_sum"][0].value, 0)
                self.assertGreater(len(limits), 5)
                self.assertGreater(limits[-2], 60)  # a long prefill must not lie in the last bucket

    def test_requests_and_tokens_are_counted(self):
        kinds = [("histogram", words) for words in HISTOGRAMS.values()] + [("counter", w) for w in COUNTERS.values()]
        messages = [{"role": "system", "content": "The net is dry. " * 40}, {"role": "user", "content": "Why?"}]
        question = {"messages": messages, "max_tokens": 5, "temperature": 0}
        before = {words: self.total(kind, words) for kind, words in kinds}
        usages = [self.check_ok(self.server.post(CHAT, question))["usage"] for _ in range(3)]
        grown = {words: self.total(kind, words) - before[words] for kind, words in kinds}
        for words in HISTOGRAMS.values():
            with self.subTest(words):
                self.assertEqual(grown[words], 3)
        self.assertEqual(grown[COUNTERS["requests"]], 3)
        self.assertEqual(grown[COUNTERS["answer tokens"]], sum(usage["completion_tokens"] for usage in usages))
        cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
        self.assertGreater(cached, 0)
        # Whether the prompt's counter holds those that were there is for its HELP to say.
        whole = sum(usage["prompt_tokens"] for usage in usages)
        self.assertIn(grown[COUNTERS["prompt tokens"]], (whole, whole - cached))

    def test_a_refused_request_is_counted_as_such(self):
        before = {sample.name + str(sample.labels): sample.value for family in self.families().values()
                  for sample in family.samples if family.type == "counter"}
        self.assertEqual(self.server.chat("Hi", temperature=-1).status, 400)
        after = {sample.name + str(sample.labels): sample.value for family in self.families().values()
                 for sample in family.samples if family.type == "counter"}
        grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
        print(f"a refused request counts in {grown}")
        self.assertTrue(grown)
        self.assertFalse([name for name in grown if "tokens" in name])

    def test_gauges_say_what_is_there(self):
        self.check_ok(self.server.chat("Hi"))
        for words in (GAUGES["running"], GAUGES["waiting"]):
            self.eventually(lambda words=words: self.total("gauge", words), lambda n: n == 0)
        before = self.check_ok(self.server.get("/props"))["kv_memory"]["used_bytes"]
        families = self.families()
        values = [sample.value for family in families.values() if family.type == "gauge"
                  for sample in family.samples if re.search(GAUGES["KV bytes"], sample.name)]
        self.assertIn(before, values)
        stream = self.server.raw_stream(CHAT, {"messages": [{"role": "user", "content": "Tell a long story."}],
                                               "stream": True, "max_tokens": 400, "temperature": 1})
        with stream as lines:
            next(lines)
            self.assertEqual(self.total("gauge", GAUGES["running"]), 1)

    def test_a_text_of_a_prompt_is_nowhere(self):
        self.check_ok(self.server.chat("Where is the xylophone?", context="Beneath the zeppelin."))
        text = self.server.get("/metrics").body.decode()
        self.assertNotRegex(text, "xylophone|zeppelin")


if __name__ == "__main__":
    main()
