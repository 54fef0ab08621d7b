"""The page on a narrow screen, in the dark, by keyboard, by screen reader, without motion."""

from browser import CONTRAST, DROP, ActionChains, Keys
from page_case import HOLD, LONG, Case
from support import main


class Everyone(Case):
    def check_no_sideways_scroll(self, state):
        for width in (360, 320):
            self.page.size(width, 640)
            wide = self.page.js("""
                return [...document.querySelectorAll('button, input, select, textarea, .tile, .answer')]
                    .filter((one) => one.offsetWidth > 1)
                    .map((one) => Math.ceil(one.getBoundingClientRect().right))
                    .concat(document.documentElement.scrollWidth);""")
            self.assertLessEqual(max(wide), width, state)

    def test_a_narrow_screen_never_scrolls_sideways(self):
        self.check_no_sideways_scroll("empty")
        self.page.js(DROP, [["a-name-without-any-space-that-is-very-long-" * 3 + ".txt", self.text()]])
        self.star()
        self.page.wait("the button", self.page.by_id("encode").is_enabled)
        self.page.encode()
        self.page.js("document.getElementById('settings').open = true")
        self.check_no_sideways_scroll("encoded, with the settings open")
        self.page.asked("W" * 200 + "?", 1)
        self.check_no_sideways_scroll("answered")

    def test_the_colours_follow_the_scheme_and_can_be_read(self):
        self.encoded()
        self.page.asked("Who?", 1)
        self.page.set("temperature", "hot")
        self.page.ask("Who?")
        back = {}
        for scheme in ("light", "dark"):
            self.page.media(("prefers-color-scheme", scheme))
            back[scheme] = self.page.painted(self.page.by_id("end"))[0]
            ratio, text = self.page.js(CONTRAST)
            self.assertGreaterEqual(ratio, 4.5, f"{scheme}: {text!r}")
        self.assertGreater(min(back["light"]), 200, back)
        self.assertLess(max(back["dark"]), 60, back)

    def test_a_keyboard_is_enough(self):
        page = self.page
        self.star()
        page.set("max-tokens", "400")
        page.js("document.activeElement.blur()")
        page.tab_to("write")
        page.press(Keys.ENTER)
        self.assertEqual(page.focused(), "text")
        page.press(self.text()[:1500])
        page.tab_to("add")
        page.press(Keys.ENTER)
        self.assertEqual(page.focused(), "encode")
        page.press(Keys.ENTER)
        page.wait("the context", lambda: page.text("subject") == "Pasted text")
        self.assertEqual(page.focused(), "question")
        page.press("Who")
        ActionChains(self.driver).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
        page.press("are you? Say much.")
        self.assertEqual(page.all(".turn"), [])
        with page.network(HOLD):
            page.press(Keys.ENTER)
            self.assertFalse(page.idle())
            page.press(Keys.ESCAPE)
            page.wait("the end", page.idle)
        self.assertEqual(page.figures(), "stopped")  # before anything of the answer came
        self.assertEqual(page.focused(), "question")
        self.assertEqual(page.by_id("question").get_attribute("value"), "Who\nare you? Say much.")
        self.assertEqual(page.sent("/v1/chat/completions")[0]["messages"][-1]["content"], "Who\nare you? Say much.")

    def test_a_screen_reader_is_told_enough_and_not_each_token(self):
        self.encoded()
        answer = self.page.asked(LONG, 1)
        said = list(dict.fromkeys(self.page.js("return seen.status")))
        self.assertEqual([one for one in said if one][0], "Encoding begins")
        self.assertTrue(any(one.startswith("Encoded: ") for one in said), said)
        self.assertEqual(said[-2:], ["Waiting for the answer", "The answer is complete"])
        self.assertLess(len(said), 10)
        live = self.page.js("return [...document.querySelectorAll('[aria-live], [role=alert], [role=status], "
                            "[role=log]')].map((one) => one.textContent)")
        self.assertFalse([text for text in live if answer in text])
        nodes = self.page.cdp("Accessibility.getFullAXTree")["nodes"]
        named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if "role" in node}
        roles = {"button", "textbox", "combobox", "radio", "checkbox", "region", "complementary", "image"}
        self.assertEqual([role for role, name in named if role in roles and not name], [])
        self.assertLessEqual({"banner", "main", "complementary", "region", "status"}, {role for role, _ in named})
        self.assertLessEqual({("textbox", "Question"), ("button", "Ask"), ("radio", "log.txt")},
                             {(role, name.split("\n")[0].split(" 1")[0]) for role, name in named} |
                             {(role, "log.txt") for role, name in named if name.startswith("log.txt")})

    def test_motion_is_left_out_when_asked(self):
        self.encoded()
        style = "return getComputedStyle(document.querySelector('.fill')).transitionDuration"
        self.assertNotEqual(self.page.js(style), "0s")
        self.page.media(("prefers-reduced-motion", "reduce"))
        self.assertEqual(self.page.js(style), "0s")

    def test_the_policy_keeps_strangers_out(self):
        policy = self.server.get("/").headers["Content-Security-Policy"]
        self.assertIn("default-src 'self'", policy)
        self.assertNotIn("unsafe", policy)
        for path, kind in [("/", "text/html"), ("/style.css", "text/css"), ("/app.js", "text/javascript"),
                           ("/icon.svg", "image/svg+xml")]:
            self.assertEqual(self.server.get(path).headers.get_content_type(), kind, path)


if __name__ == "__main__":
    main()
