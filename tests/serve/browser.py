"""A headless Chromium with Aster's page in it, driven through Selenium.

Wants Debian's chromium, chromium-driver and python3-selenium.
"""

import base64
import contextlib
import json
import struct
import sys
import time
import zlib

try:
    from selenium import webdriver
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    print("SKIPPED: no selenium; apt-get install chromium chromium-driver python3-selenium")
    sys.exit(77)

from support import TIMEOUT

DRIVER = "/usr/bin/chromedriver"

# Notes what the tiles and the last answer looked like whenever they changed.
WATCH = """
window.seen = {tiles: [], answers: [], status: []};
new MutationObserver(() => {
  const filled = [...document.querySelectorAll('.tile')].map((tile) => Number(tile.dataset.filled));
  if (filled.length && !filled.some(Number.isNaN)) {
    const root = document.getElementById('tiles');
    seen.tiles.push({filled, role: root.getAttribute('role'), now: root.getAttribute('aria-valuenow'),
                     text: root.getAttribute('aria-valuetext'),
                     figures: document.getElementById('figures').textContent,
                     progress: document.getElementById('progress').textContent});
  }
  const answers = document.querySelectorAll('.answer');
  if (answers.length) seen.answers.push(answers[answers.length - 1].textContent);
  seen.status.push(document.getElementById('status').textContent);
}).observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
"""

DROP = """
const transfer = new DataTransfer();
for (const [name, text] of arguments[0]) transfer.items.add(new File([text], name));
const target = document.getElementById('drop');
for (const type of ['dragenter', 'dragover', 'drop']) {
  target.dispatchEvent(new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true}));
}
"""

# Presses Stop when the first piece of an answer is there.
STOP_AT_TEXT = """
new MutationObserver((_, observer) => {
  if (!document.querySelector('.answer')?.textContent) return;
  observer.disconnect();
  document.getElementById('stop').click();
}).observe(document.getElementById('turns'), {subtree: true, childList: true, characterData: true});
"""

# The contrast of each text on the page with what is behind it: the lowest, and whose it is.
CONTRAST = """
const parts = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (color) => parts(color).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  const color = getComputedStyle(element).backgroundColor;
  return parts(color)[3] === 0 ? behind(element.parentElement) : color;
};
let worst = [99, ''];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walk.nextNode());) {
  const element = node.parentElement;
  if (!node.data.trim() || !element.checkVisibility()) continue;
  if (element.closest('.hidden, :disabled, noscript')) continue;
  const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < worst[0]) worst = [ratio, node.data.trim()];
}
return worst;
"""


def start_browser():
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Service(DRIVER), options=options)


def pixels(png):
    """Rows of (r, g, b) of a PNG that Chromium made: 8 bits, RGB or RGBA, not interlaced."""
    at, data, n = 8, b"", 0
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at:at + 8])
        if kind == b"IHDR":
            width, _, _, color = struct.unpack(">IIBB", png[at + 8:at + 18])
            n = {2: 3, 6: 4}[color]
        elif kind == b"IDAT":
            data += png[at + 8:at + 8 + size]
        at += size + 12
    data, before = zlib.decompress(data), bytearray(width * n)
    for first in range(0, len(data), width * n + 1):
        row = bytearray(data[first + 1:first + 1 + width * n])
        for i in range(len(row)):
            left, up, corner = row[i - n] if i >= n else 0, before[i], before[i - n] if i >= n else 0
            guess = min((abs(up - corner), left), (abs(left - corner), up),
                        (abs(left + up - 2 * corner), corner), key=lambda pair: pair[0])[1]
            row[i] = (row[i] + (0, left, up, (left + up) // 2, guess)[data[first]]) % 256
        yield [tuple(row[i:i + 3]) for i in range(0, len(row), n)]
        before = row


class Browser:
    """The page as a person has it: what is there, what is clicked, what goes over the network."""

    def __init__(self, driver):
        self.driver, self.requests, self.console = driver, [], []

    def cdp(self, command, **arguments):
        return self.driver.execute_cdp_cmd(command, arguments)

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def by_id(self, name):
        return self.driver.find_element(By.ID, name)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, name):
        """As it is shown, also where it is out of view."""
        return self.js("return document.getElementById(arguments[0]).textContent", name).replace("\xa0", " ")

    def texts(self, selector):
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
        return [text.replace("\xa0", " ") for text in self.js(script, selector)]

    def open(self, url):
        self.size(1280, 800)
        self.media(("prefers-color-scheme", "light"))
        self.driver.get(url)
        self.js("sessionStorage.clear()")
        self.driver.get(url)
        self.js(WATCH)
        self.wait("its figures", lambda: "trained" in self.text("facts") or self.text("store-error"))

    def wait(self, what, condition, seconds=TIMEOUT):
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(StaleElementReferenceException):
                if got := condition():
                    return got
            if time.monotonic() > end:
                raise AssertionError(f"never came: {what}; the page: {self.by_id('status').text!r} "
                                     f"{self.driver.find_element(By.TAG_NAME, 'body').text!r}")
            time.sleep(0.02)

    def size(self, width, height):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, *features):
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in features])

    @contextlib.contextmanager
    def network(self, latency=0, offline=False):
        self.cdp("Network.enable")
        speed = {"uploadThroughput": -1, "downloadThroughput": -1}
        self.cdp("Network.emulateNetworkConditions", offline=offline, latency=latency, **speed)
        try:
            yield
        finally:
            self.cdp("Network.emulateNetworkConditions", offline=False, latency=0, **speed)

    def press(self, *keys):
        """Keys to whatever has the focus."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self):
        return self.js("return document.activeElement.id || document.activeElement.className")

    def tab_to(self, name):
        """Tab until the element has the focus, which must be seen at each stop."""
        for _ in range(40):
            self.press(Keys.TAB)
            outline = self.js("const at = document.activeElement, next = at.nextElementSibling;"
                              "return [at, next].map((one) => one && getComputedStyle(one).outlineStyle)")
            assert "solid" in outline, f"the focus on {self.focused()} is not seen: {outline}"
            if self.focused() == name:
                return
        raise AssertionError(f"Tab never comes to {name}")

    def set(self, name, value):
        self.js("const [field, value] = arguments; field.value = value;"
                "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {bubbles: true}))",
                self.by_id(name), value)

    def ask(self, question):
        self.by_id("question").send_keys(question + Keys.ENTER)

    def asked(self, question, n_turns):
        """Asks, and waits for the whole answer: its text."""
        self.ask(question)
        self.wait("the answer", lambda: len(self.all(".turn")) == n_turns and self.idle())
        return self.js("return [...document.querySelectorAll('.answer')].pop().textContent")

    def idle(self):
        return not self.by_id("stop").is_displayed()

    def figures(self):
        return self.texts(".turn .figures")[-1]

    def encode(self):
        """Encodes what is there and waits for the end."""
        self.by_id("encode").click()
        self.wait("the context", lambda: self.by_id("encode").is_displayed() and
                  self.text("encode-note").startswith("Encoded"))

    def sent(self, path):
        """The bodies of the requests of this test so far that ended in the path."""
        self.collect()
        return [json.loads(one["postData"]) for one in self.requests
                if one["url"].endswith(path) and one["method"] == "POST"]

    def collect(self):
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"])
        self.console += self.driver.get_log("browser")

    def painted(self, element):
        """The colours along the middle of an element, left to right."""
        rows = list(pixels(base64.b64decode(element.screenshot_as_base64)))
        return rows[len(rows) // 2]
