"""page_screenshots.py DIR: saves pictures of the page for the documentation.

Wants Debian's chromium, chromium-driver and python3-selenium.
"""

import os
import sys
import time

from browser import Browser, start_browser
from support import Server

DOCUMENT = os.path.join(os.path.dirname(__file__), "..", "..", "data", "skarholm.txt")


def screenshots(folder):
    """What the page looks like, at work on the document that comes with Aster."""
    os.makedirs(folder, exist_ok=True)
    with Server() as server:
        page = Browser(start_browser())
        try:
            page.open(server.url)

            def save(name, seconds=0.4):
                time.sleep(seconds)  # for transitions
                page.driver.save_screenshot(os.path.join(folder, name + ".png"))

            save("page-empty")
            page.by_id("files").send_keys(os.path.abspath(DOCUMENT))
            page.wait("the document", lambda: page.all("#documents li"))
            page.by_id("encode").click()
            begun = "return document.querySelectorAll('.tile.begun').length"
            page.wait("the second tile", lambda: page.js(begun) > 1)
            save("page-encoding")
            page.wait("the context", lambda: page.text("subject") == "skarholm.txt")
            page.set("temperature", "0")
            page.set("max-tokens", "120")
            page.asked("What is the special magic number for the lighthouse mentioned in the provided text?", 1)
            save("page-light")
            page.media(("prefers-color-scheme", "dark"))
            save("page-dark")
            page.media(("prefers-color-scheme", "light"))
            page.size(360, 780)
            save("page-narrow")
        finally:
            page.driver.quit()


if __name__ == "__main__":
    screenshots(sys.argv[1])
