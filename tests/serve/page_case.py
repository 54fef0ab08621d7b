"""What the tests of the page share: a server, a browser, and a text that fills two blocks or more."""

import os
import tempfile
import unittest

from browser import Browser, start_browser
from support import Server

TEXT = "".join(f"On day {i} the keeper read the gauge and wrote {i * 7 % 31} into the log.\n"
               for i in range(45))
BLOCK = 256  # tokens: the text is two blocks or more to any tokenizer
HOLD = 5000  # ms in which an answer is still on its way, however fast the server is
LONG = "Tell the whole story of the keeper, day by day, in many words."  # its answer is long


class Case(unittest.TestCase):
    ARGUMENTS = ()
    KEY = None

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server(*cls.ARGUMENTS, key=cls.KEY))
        cls.driver = start_browser()
        cls.addClassCleanup(cls.driver.quit)
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())

    def setUp(self):
        for context in self.server.get("/v1/contexts").json()["data"]:
            self.server.request("DELETE", "/v1/contexts/" + context["id"])
        self.page = Browser(self.driver)
        self.driver.get("about:blank")
        self.page.collect()
        self.page.requests, self.page.console = [], []
        self.may_be_refused = False
        self.page.open(self.server.url)

    def tearDown(self):
        """No test may have made the page talk to anybody else, or complain."""
        self.page.collect()
        self.assertTrue(self.page.requests)
        for request in self.page.requests:
            self.assertTrue(request["url"].startswith(self.server.url + "/"), request["url"])
        for entry in self.page.console:
            if not (self.may_be_refused and entry["source"] == "network"):
                self.assertNotIn(entry["level"], ("SEVERE", "WARNING"), entry)

    def text(self):
        """A text that starts as no other test's does, so that nothing of it is in the store."""
        return f"Log {self.id()}.\n{TEXT}"

    def file(self, name, content=None):
        content = self.text() if content is None else content
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return path

    def give(self, *paths):
        self.page.by_id("files").send_keys("\n".join(paths))

    def star(self):
        self.page.set("attention", "star")
        self.page.set("block-size", str(BLOCK))
        self.page.set("temperature", "0")
        self.page.set("max-tokens", "40")

    def encoded(self):
        self.star()
        self.give(self.file("log.txt"))
        self.page.wait("the document", lambda: self.page.all("#documents li"))
        self.page.encode()
