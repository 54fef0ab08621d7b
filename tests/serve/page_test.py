"""The page in a real browser: headless Chromium, driven through Selenium.

Wants Debian's chromium, chromium-driver and python3-selenium.
"""

import os
import re
import tempfile
import time

from browser import DROP, STOP_AT_TEXT, By, Keys
from page_case import BLOCK, HOLD, LONG, Case
from support import WRITE_TINY_GGUF, main


class Documents(Case):
    def names(self, *expected):
        self.page.wait(f"{expected}", lambda: self.page.texts("#documents .name") == list(expected))

    def test_a_file_dragged_into_the_window_is_a_document(self):
        data = {"items": [], "files": [self.file("log.txt")], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            if kind == "drop":
                self.page.wait("a mark", lambda: "over" in self.page.by_id("drop").get_attribute("class"))
            self.page.cdp("Input.dispatchDragEvent", type=kind, x=700, y=300, data=data)
        self.names("log.txt")
        self.assertNotIn("over", self.page.by_id("drop").get_attribute("class"))

    def test_several_documents_by_each_way_are_one_context(self):
        self.page.js(DROP, [["a.txt", "First."], ["b.txt", "Caf\u00e9."]])
        self.names("a.txt", "b.txt")
        self.give(self.file("a.txt", "Third."))
        self.names("a.txt", "b.txt", "a.txt (2)")
        self.page.by_id("write").click()
        self.page.by_id("text").send_keys("Fourth.")
        self.page.by_id("add").click()
        self.page.js("const clipboardData = new DataTransfer(); clipboardData.setData('text/plain', 'Fifth.');"
                     "document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData, bubbles: true}))")
        self.names("a.txt", "b.txt", "a.txt (2)", "Pasted text", "Pasted text (2)")
        self.page.all("#documents button")[2].click()
        self.names("a.txt", "b.txt", "Pasted text", "Pasted text (2)")
        self.page.encode()
        self.assertEqual([body["files"] for body in self.page.sent("/v1/contexts")], [[
            {"name": "a.txt", "text": "First."}, {"name": "b.txt", "text": "Caf\u00e9."},
            {"name": "Pasted text", "text": "Fourth."}, {"name": "Pasted text (2)", "text": "Fifth."}]])
        self.assertEqual(self.page.text("subject"), "a.txt and 3 more")

    def test_what_is_no_text_is_refused_by_its_name(self):
        for name, content, said in [
                ("nul.bin", b"ab\0cd", "nul.bin: not text: it has a NUL byte."),
                ("latin1.txt", b"caf\xe9", "latin1.txt: not UTF-8 text."),
                ("blank.txt", b" \n", "blank.txt: empty."),
                ("paper.pdf", b"%PDF-1.4 x", "paper.pdf: a PDF, not text. pdftotext makes text of it.")]:
            with self.subTest(name=name):
                self.give(self.file(name, content))
                self.page.wait("the line", lambda said=said: self.page.text("document-error") == said)
                self.assertEqual(self.page.texts("#documents .name"), [])
                self.assertFalse(self.page.by_id("encode").is_enabled())
        self.give(self.file("nul.bin", b"\0"), self.file("log.txt"))
        self.names("log.txt")
        self.page.wait("the line", lambda: self.page.text("document-error").startswith("nul.bin: "))

    def test_names_and_texts_are_never_markup(self):
        evil = "<img src=x onerror=document.title='broken'>"
        self.page.js(DROP, [[evil, "The <b>bold</b> fox. " * 20]])
        self.names(evil)
        self.page.set("max-tokens", "4")
        self.page.encode()
        self.assertEqual(self.page.text("subject"), evil)
        self.page.asked(f"Why {evil}?", 1)
        self.assertEqual(self.page.texts(".question"), [f"You asked: Why {evil}?"])
        self.assertEqual(self.page.all("main img, aside img, .context img"), [])
        self.assertEqual(self.driver.title, "Aster")


class Encoding(Case):
    def test_tiles_fill_one_after_the_other_behind_the_anchor(self):
        self.encoded()
        made = self.server.get("/v1/contexts").json()["data"][0]
        self.assertGreater(made["blocks"], 1)
        seen = self.page.js("return seen.tiles")
        states = [one["filled"] for one in seen]
        self.assertEqual({len(filled) for filled in states}, {made["blocks"]})
        self.assertEqual(states, sorted(states))
        self.assertTrue(any(filled[0] == 1 and filled[-1] == 0 for filled in states), states)
        self.assertEqual(states[-1], [1] * made["blocks"])
        for filled in states:  # a block is begun when those before it are done
            self.assertEqual(filled, sorted(filled, reverse=True))
        running = [one for one in seen if one["role"] == "progressbar" and one["now"]]
        self.assertRegex(running[0]["text"], rf"^[\d,]+ of {made['tokens']:,} tokens, block \d+ of {made['blocks']}$")
        self.assertTrue(all(re.match(r"[\d,]+ of [\d,]+ tokens( ·|$)", one["figures"].replace("\xa0", " "))
                            for one in running), running)
        self.assertTrue(any("tokens/s" in one["figures"] for one in running), running)
        self.assertTrue(any(one["progress"].endswith("left") for one in running), running)
        tiles = self.page.all(".tile")
        self.assertEqual(["anchor" in tile.get_attribute("class").split() for tile in tiles],
                         [True] + [False] * (made["blocks"] - 1))
        self.assertEqual(self.page.texts(".tile .number")[:2], ["1 anchor", "2"])
        self.assertEqual(self.page.by_id("tiles").get_attribute("role"), "img")
        self.assertIn("anchor", self.page.by_id("tiles").get_attribute("aria-label"))

    def test_what_is_filled_is_painted(self):
        self.encoded()
        time.sleep(0.5)  # the last tile's transition
        anchor, block = (self.page.painted(bar) for bar in self.page.all(".tile .bar")[:2])
        amber, blue = anchor[len(anchor) // 2], block[len(block) // 2]
        self.assertGreater(amber[0], amber[2] + 100, amber)
        self.assertGreater(blue[2], blue[0] + 100, blue)
        self.assertEqual((anchor[3], anchor[-4]), (amber, amber))
        self.assertEqual((block[2], block[-4]), (amber, blue))  # it is encoded behind the anchor
        self.page.js("document.querySelectorAll('.tile')[1].style.setProperty('--filled', '50%')")
        time.sleep(0.5)
        half = self.page.painted(self.page.all(".tile .bar")[1])
        self.assertEqual((half[len(half) * 2 // 5], half[len(half) * 3 // 5] == blue), (blue, False))

    def test_an_encoding_can_be_cancelled_and_begun_again(self):
        self.star()
        self.give(self.file("log.txt"))
        self.page.wait("the button", self.page.by_id("encode").is_enabled)
        with self.page.network(HOLD):
            self.page.by_id("encode").click()
            self.assertEqual(self.page.focused(), "cancel")
            self.page.press(Keys.ENTER)
            self.page.wait("the line", lambda: self.page.text("document-error").startswith("Cancelled. "))
        self.assertTrue(self.page.by_id("encode").is_displayed())
        self.assertEqual(self.page.texts("#documents .name"), ["log.txt"])
        self.page.encode()
        self.assertEqual(self.page.text("document-error"), "")
        self.assertEqual(self.page.text("subject"), "log.txt")

    def test_a_cancelled_encoding_says_where_it_was(self):
        if WRITE_TINY_GGUF:
            self.skipTest("the tiny model is done before anybody can cancel")
        self.give(self.file("log.txt", self.text() * 9))
        self.page.wait("the button", self.page.by_id("encode").is_enabled)
        self.page.by_id("encode").click()
        self.page.wait("a tile", lambda: self.page.js("return seen.tiles.length"))
        self.page.by_id("cancel").click()
        self.page.wait("the line", lambda: self.page.text("document-error"))
        self.assertRegex(self.page.text("document-error"), r"^Cancelled at [\d,]+ of [\d,]+ tokens\. ")

    def test_dense_attention_is_one_tile_without_an_anchor(self):
        self.page.set("attention", "dense")
        self.give(self.file("log.txt"))
        self.page.wait("the button", self.page.by_id("encode").is_enabled)
        self.page.encode()
        self.assertEqual(self.page.sent("/v1/contexts")[0]["attention"], "dense")
        self.assertEqual((len(self.page.all(".tile")), len(self.page.all(".tile.anchor"))), (1, 0))
        self.assertEqual(self.page.texts(".tile .number"), ["dense"])
        self.assertFalse(self.page.by_id("legend").is_displayed())

    def test_a_refused_context_is_one_line_and_the_documents_stay(self):
        self.may_be_refused = True
        self.star()
        self.page.set("block-size", "99999999999")
        self.give(self.file("log.txt"))
        self.page.wait("the button", self.page.by_id("encode").is_enabled)
        self.page.by_id("encode").click()
        said = self.page.wait("the line", lambda: self.page.text("document-error"))
        self.assertIn("block_size", said)
        self.assertEqual(self.page.texts("#documents .name"), ["log.txt"])
        self.page.set("block-size", "many")
        self.page.by_id("encode").click()
        self.page.wait("the line", lambda: self.page.text("document-error") ==
                       'Block size "many": expected auto or a whole number.')
        self.page.set("block-size", str(BLOCK))
        self.page.encode()


class Store(Case):
    def test_a_context_is_chosen_and_deleted(self):
        self.encoded()
        self.page.wait("the memory", lambda: re.match(r"KV memory [\d.]+ [kMG]B of [\d.]+ [kMGT]B$",
                                                      self.page.text("memory")))
        first, second = self.page.all("#contexts .choice")
        self.assertIn("log.txt", second.text)
        first.find_element(By.TAG_NAME, "label").click()
        self.assertEqual(self.page.text("subject"), "No document")
        second.find_element(By.TAG_NAME, "label").click()
        self.assertEqual(self.page.text("subject"), "log.txt")
        delete = second.find_element(By.TAG_NAME, "button")
        delete.click()
        self.assertEqual(len(self.server.get("/v1/contexts").json()["data"]), 1)
        self.assertEqual(delete.get_attribute("aria-label"), "Really delete log.txt?")
        delete.click()
        self.page.wait("its end", lambda: len(self.page.all("#contexts .choice")) == 1)
        self.assertEqual(self.server.get("/v1/contexts").json()["data"], [])
        self.assertEqual(self.page.text("subject"), "No document")

    def test_contexts_of_others_are_there_too(self):
        made = self.server.post("/v1/contexts", {"text": self.text(), "name": "theirs", "attention": "star",
                                                 "block_size": BLOCK, "window": 1, "overlap": 20}).json()
        self.page.open(self.server.url)
        self.page.wait("the row", lambda: len(self.page.all("#contexts .choice")) == 2)
        self.page.all("#contexts label")[1].click()
        self.assertEqual(self.page.text("subject"), "theirs")
        self.assertEqual(len(self.page.all(".tile")), made["blocks"])
        self.assertEqual(self.page.text("window-note"), "each sees the 20 tokens and the block before it, too")
        self.assertIn("the anchor; each sees the 20 tokens and the block before it, too",
                      self.page.by_id("tiles").get_attribute("aria-label"))
        self.page.set("max-tokens", "4")
        self.page.asked("Why?", 1)
        self.assertEqual(self.page.sent("/v1/chat/completions")[0]["context_id"], made["id"])


class Chat(Case):
    def test_an_answer_streams_in_with_its_figures(self):
        self.encoded()
        answer = self.page.asked(LONG, 1)
        self.assertTrue(answer.strip())
        steps = [one for one in dict.fromkeys(self.page.js("return seen.answers")) if one]
        self.assertGreater(len(steps), 2)
        self.assertLess(len(steps[0]), len(answer) / 2)
        for step in steps:
            self.assertTrue(answer.startswith(step), step)
        self.assertRegex(self.page.figures(), r"^TTFT [\d.]+ m?s · [\d,]+ of [\d,]+ tokens cached · "
                                              r"[\d,.]+ tokens/s · \d+ tokens? of answer")
        cached = int(self.page.figures().split(" · ")[1].split()[0].replace(",", ""))
        self.assertGreaterEqual(cached, self.server.get("/v1/contexts").json()["data"][0]["tokens"] - 16)
        body = self.page.sent("/v1/chat/completions")[0]
        self.assertEqual((body["stream"], body["stream_options"]), (True, {"include_usage": True}))
        self.assertEqual((body["temperature"], body["max_tokens"]), (0, 40))
        self.assertEqual(body["messages"], [{"role": "user", "content": LONG}])
        self.assertNotIn("attention", body)

    def test_the_next_question_brings_the_earlier_turns_until_a_new_conversation(self):
        self.encoded()
        first = self.page.asked("Who read the gauge?", 1)
        self.page.asked("When?", 2)
        self.assertEqual(self.page.sent("/v1/chat/completions")[1]["messages"], [
            {"role": "user", "content": "Who read the gauge?"}, {"role": "assistant", "content": first},
            {"role": "user", "content": "When?"}])
        self.page.by_id("fresh").click()
        self.assertEqual((self.page.all(".turn"), self.page.focused()), ([], "question"))
        self.page.asked("Why?", 1)
        self.assertEqual(self.page.sent("/v1/chat/completions")[2]["messages"], [{"role": "user", "content": "Why?"}])

    def test_stop_ends_an_answer_and_the_box_is_free_at_once(self):
        self.page.set("max-tokens", "400")
        self.page.set("temperature", "0")
        self.page.js(STOP_AT_TEXT)
        with self.page.network(HOLD):
            self.page.ask(LONG)
            self.page.by_id("question").send_keys("And th")  # typed while it answers
            self.assertFalse(self.page.by_id("send").is_enabled())
            self.page.by_id("question").send_keys(Keys.ENTER)
            self.page.wait("some text", lambda: self.page.texts(".answer")[-1:] > [""])
        self.page.wait("the end", self.page.idle)
        self.assertEqual(len(self.page.all(".turn")), 1)
        self.assertTrue(self.page.figures().endswith("stopped"), self.page.figures())
        self.assertEqual(self.page.focused(), "question")
        partial = self.page.js("return document.querySelector('.answer').textContent")
        time.sleep(0.3)
        self.assertEqual(self.page.texts(".answer")[0], partial.replace("\xa0", " "))
        self.page.set("max-tokens", "4")
        self.page.asked("en?", 2)
        self.assertEqual(self.page.sent("/v1/chat/completions")[1]["messages"][1:], [
            {"role": "assistant", "content": partial}, {"role": "user", "content": "And then?"}])

    def test_stop_drops_what_came_with_the_last_piece(self):
        self.page.js(STOP_AT_TEXT)
        self.page.js("""
          const chunk = (content) => `data: ${JSON.stringify({choices: [{index: 0, delta: {content}}]})}\\n\\n`;
          const real = window.fetch;
          window.fetch = async (path, options) => path.endsWith('completions')
              ? new Response(Array(100).fill('word ').map(chunk).join('') + 'data: [DONE]\\n\\n')
              : real(path, options);
        """)
        self.page.ask("Count.")
        self.page.wait("the end", lambda: self.page.texts(".turn .figures")[-1:] and "stopped" in self.page.figures())
        self.assertIn(self.page.texts(".answer")[0].count("word"), range(1, 10))

    def test_the_end_of_the_conversation_stays_in_view(self):
        self.page.set("max-tokens", "4")
        where = ("return [document.querySelector('.turn:last-child .figures').getBoundingClientRect().bottom,"
                 "document.getElementById('ask').getBoundingClientRect().top, innerHeight]")
        for n, width in enumerate((1280, 360), 1):
            self.page.size(width, 700)
            self.page.set("question", "line\n" * 60 + "?")
            self.page.by_id("question").send_keys("")
            self.page.asked("", n)
            self.page.wait("the end in view", lambda: self.page.js(where)[0] <= self.page.js(where)[1])
            self.assertLess(*self.page.js(where)[1:])
            self.page.js("document.querySelector('.turn').scrollIntoView()")  # and lets go when one scrolls up
            self.page.wait("the start", lambda: self.page.js(where)[0] > self.page.js(where)[1])

    def test_a_chat_needs_no_document(self):
        self.page.set("max-tokens", "4")
        self.page.set("attention", "dense")
        self.assertTrue(self.page.by_id("hello").is_displayed())
        self.page.asked("Who are you?", 1)
        self.assertFalse(self.page.by_id("hello").is_displayed())
        body = self.page.sent("/v1/chat/completions")[0]
        self.assertNotIn("context_id", body)
        self.assertEqual(body["attention"], "dense")

    def test_each_context_has_a_conversation_of_its_own(self):
        self.page.set("max-tokens", "4")
        self.page.asked("Who are you?", 1)
        self.encoded()
        self.assertEqual(self.page.all(".turn"), [])
        self.page.all("#contexts label")[0].click()
        self.assertEqual(self.page.texts(".question"), ["You asked: Who are you?"])


class Thinking(Case):
    """Over SmolLM2 with a template that makes it think: it never comes to an end with that."""

    TEMPLATE = """{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}
        {%- if message.reasoning_content %}{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{%- endif %}
        {{- message.content + '<|im_end|>\\n' }}{%- endfor %}
        {%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"""

    @classmethod
    def setUpClass(cls):
        path = os.path.join(cls.enterClassContext(tempfile.TemporaryDirectory()), "template.jinja")
        with open(path, "w", encoding="utf-8") as file:
            file.write(cls.TEMPLATE)
        cls.ARGUMENTS = ("--chat-template-file", path)
        super().setUpClass()

    def thoughts(self):
        return self.page.js("return document.querySelector('.turn:last-child .thoughts')?.textContent")

    def test_an_answer_that_never_came_is_said(self):
        self.page.set("max-tokens", "12")
        self.assertEqual(self.page.asked("Who are you?", 1), "")
        self.assertTrue(self.thoughts().strip())
        self.assertRegex(self.page.figures(), r"^TTFT .* · No answer: all of it was thinking · .* · cut at the limit$")
        self.assertEqual(self.page.js("return seen.status.at(-1)"), "No answer")
        self.page.asked("", 1)  # the question is in the box again, its turn goes
        self.assertEqual(self.page.sent("/v1/chat/completions")[-1]["messages"],
                         [{"role": "user", "content": "Who are you?"}])

    def test_thinking_stands_folded_above_the_answer_and_is_not_sent_again(self):
        self.page.js("""
          const chunk = (delta) => `data: ${JSON.stringify({choices: [{index: 0, delta}]})}\\n\\n`;
          const deltas = [{role: 'assistant', content: null}, {reasoning_content: 'A log'},
                          {reasoning_content: ' is kept.'},
                          {content: 'The'}, {content: ' keeper.'}];
          const real = window.fetch;
          window.fetch = async (path, options) => {
            window.fetch = real;
            return new Response(deltas.map(chunk).join('') + 'data: [DONE]\\n\\n');
          };
        """)
        self.assertEqual(self.page.asked("Who?", 1), "The keeper.")
        self.assertEqual(self.thoughts(), "A log is kept.")
        self.assertRegex(self.page.figures(), r"^TTFT [\d.]+ m?s$")
        self.assertFalse(self.page.all(".thoughts")[0].is_displayed())
        self.page.all(".thinking summary")[0].click()
        self.assertTrue(self.page.all(".thoughts")[0].is_displayed())
        self.assertLess(*self.page.js("return ['.thinking', '.answer'].map((name) => "
                                      "document.querySelector(name).getBoundingClientRect().top)"))
        self.page.set("max-tokens", "4")
        self.page.asked("When?", 2)
        self.assertEqual(self.page.sent("/v1/chat/completions")[-1]["messages"][1],
                         {"role": "assistant", "content": "The keeper."})


class Errors(Case):
    def setUp(self):
        super().setUp()
        self.may_be_refused = True

    def check_kept(self, question, said):
        line = self.page.wait("the line", lambda: self.page.text("ask-error"))
        self.assertIn(said, line)
        self.assertNotIn("\n", line)
        self.page.wait("the text", lambda: self.page.by_id("question").get_attribute("value") == question)
        self.assertTrue(self.page.by_id("send").is_enabled())

    def test_a_refused_question_is_one_line_and_nothing_typed_is_lost(self):
        self.page.set("temperature", "9")
        self.page.ask("What is it?")
        self.check_kept("What is it?", "temperature")
        self.page.set("temperature", "hot")
        self.page.press(Keys.ENTER)
        self.page.wait("the line", lambda: 'Temperature "hot": expected' in self.page.text("ask-error"))
        self.check_kept("What is it?", "Temperature")
        self.page.set("temperature", "0")
        self.page.set("max-tokens", "4")
        self.page.asked("", 1)  # the text is there, Enter asks
        self.assertEqual(self.page.text("ask-error"), "")
        self.assertEqual(self.page.sent("/v1/chat/completions")[-1]["messages"],
                         [{"role": "user", "content": "What is it?"}])

    def test_a_context_that_went_is_said_and_its_conversation_goes_on(self):
        self.encoded()
        self.page.asked("Who read the gauge?", 1)
        context = self.server.get("/v1/contexts").json()["data"][0]["id"]
        self.server.request("DELETE", "/v1/contexts/" + context)
        self.page.ask("When?")
        self.check_kept("When?", "no such context")
        self.page.wait("its end", lambda: self.page.text("subject") == "Gone from the store")
        self.page.by_id("encode").click()
        self.page.wait("the context", lambda: self.page.text("subject") == "log.txt")
        self.assertEqual(self.page.texts(".question")[0], "You asked: Who read the gauge?")
        self.page.by_id("send").click()
        self.page.wait("the answer", lambda: self.page.idle() and "of answer" in self.page.figures())
        self.assertEqual(len(self.page.sent("/v1/chat/completions")[-1]["messages"]), 3)

    def test_a_conversation_about_a_context_that_went_is_not_taken_to_another(self):
        self.encoded()
        self.page.asked("Who read the gauge?", 1)
        first = self.server.get("/v1/contexts").json()["data"][0]["id"]
        self.server.post("/v1/contexts", {"text": "The other text. " * 200, "name": "other.txt"})
        self.server.request("DELETE", "/v1/contexts/" + first)
        self.page.ask("When?")
        self.page.wait("its end", lambda: self.page.text("subject") == "Gone from the store")
        other = next(one for one in self.page.all("#contexts .choice") if "other.txt" in one.text)
        other.find_element(By.TAG_NAME, "label").click()
        self.page.wait("the other", lambda: self.page.text("subject") == "other.txt")
        self.assertEqual(self.page.texts(".question"), [])

    def test_a_server_that_is_not_there_is_said(self):
        with self.page.network(offline=True):
            self.page.ask("Are you there?")
            self.check_kept("Are you there?", "The server does not answer.")
        self.page.set("max-tokens", "4")
        self.page.asked("", 1)


class Key(Case):
    KEY = "sesame"

    def test_a_key_is_asked_for_and_kept_in_this_tab_only(self):
        self.may_be_refused = True
        self.page.wait("the line", lambda: "key" in self.page.text("store-error").lower())
        self.page.wait("the field", self.page.by_id("key").is_displayed)
        self.page.by_id("key").send_keys(self.KEY + Keys.TAB)
        self.page.wait("the figures", lambda: self.page.text("memory").startswith("KV memory"))
        self.assertEqual(self.page.text("store-error"), "")
        self.page.set("max-tokens", "4")
        self.page.asked("Who are you?", 1)
        self.assertEqual(self.page.js("return [localStorage.length, document.cookie]"), [0, ""])
        self.assertNotIn(self.KEY, "".join(one["url"] for one in self.page.requests))


if __name__ == "__main__":
    main()
