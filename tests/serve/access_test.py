"""Who is let in: keys, origins of pages, names of the host, and a port that is taken."""

import subprocess
import unittest

from support import ASTER, Case, Server, main

CHAT = "/v1/chat/completions"


class Origins(Case):
    def test_another_origin_is_told_nothing(self):
        origin = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST",
                  "Access-Control-Request-Headers": "content-type"}
        for method, path in (("OPTIONS", CHAT), ("OPTIONS", "/v1/contexts"), ("GET", "/v1/models")):
            with self.subTest(method=method, path=path):
                answer = self.server.request(method, path, headers=origin)
                self.assertFalse([n for n in answer.headers if n.lower().startswith("access-control-")])
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"},
                        {"Origin": "http://127.0.0.1.evil.example"},
                        {"Host": "evil.example"},  # its name leads here
                        {"Host": "localhost.evil.example"}, {"Host": "127.0.0.1@evil.example"}):
            with self.subTest(headers=headers):
                self.check_refused(self.server.get("/v1/models", headers=headers), 403)
                self.check_refused(self.server.post(CHAT, body, headers=headers), 403)
        for host in (f"127.0.0.1:{self.server.port}", f"localhost:{self.server.port}"):
            with self.subTest(host=host):
                self.check_ok(self.server.get("/v1/models", headers={"Host": host, "Origin": "http://" + host}))

    def test_a_page_that_is_let_in_may_send_the_headers_of_its_client(self):
        with Server("--cors-origin", "http://app.example") as server:
            asked = {"Origin": "http://app.example", "Access-Control-Request-Method": "POST"}
            for headers, allowed in (({"Access-Control-Request-Headers": "content-type, x-stainless-os"},
                                      "content-type, x-stainless-os"), ({}, "Authorization, Content-Type")):
                answer = server.request("OPTIONS", CHAT, headers={**asked, **headers})
                self.assertEqual(answer.status, 204, answer)
                self.assertEqual(answer.headers["Access-Control-Allow-Headers"], allowed)
                self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "http://app.example")


class Starting(unittest.TestCase):
    def test_a_port_that_another_server_has_is_told(self):
        with Server() as first:
            second = subprocess.run([ASTER, "serve", "-m", first.model_path, "--port", str(first.port)], timeout=60,
                                    stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        self.assertEqual(second.returncode, 1, second)
        self.assertIn(f"127.0.0.1:{first.port}: can't listen there", second.stderr)


class Keys(Case):
    KEY = "sk-aster-0123456789"
    OPEN = ("/health",)

    def test_nothing_but_health_is_there_without_the_key(self):
        wrong = [None, "", "Bearer", "Bearer ", "Bearer x", f"Bearer {self.KEY[:-1]}", f"Bearer {self.KEY}0",
                 f"Bearer {self.KEY.upper()}", f"Basic {self.KEY}", self.KEY, f"Bearer {self.KEY} x",
                 "Bearer " + "x" * 5000]
        for method, path in (("GET", "/v1/models"), ("GET", "/props"), ("GET", "/metrics"), ("GET", "/v1/contexts"),
                             ("GET", "/v1/contexts/ctx_0"), ("DELETE", "/v1/contexts/ctx_0"), ("POST", CHAT),
                             ("POST", "/v1/completions"), ("POST", "/tokenize"), ("POST", "/detokenize"),
                             ("POST", "/v1/contexts"), ("GET", "/openapi.json")):
            for header in wrong:
                with self.subTest(method=method, path=path, header=header and header[:40]):
                    answer = self.server.request(method, path, b"{}" if method == "POST" else None,
                                                 headers={"Authorization": header})
                    self.check_refused(answer, 401)
                    self.assertIn("Bearer", answer.headers["WWW-Authenticate"])
                    self.assertNotIn(self.KEY, str(answer))

    def test_health_needs_no_key_and_the_key_opens_the_rest(self):
        self.assertEqual(self.server.get("/health", headers={"Authorization": None}).status, 200)
        self.check_ok(self.server.get("/v1/models"))
        self.check_ok(self.server.chat("Hi", max_tokens=1))

    def test_the_log_has_neither_key_nor_prompt(self):
        self.check_ok(self.server.chat("A most secret question", max_tokens=1))
        self.server.get("/v1/models", headers={"Authorization": "Bearer a-wrong-key"})
        for secret in (self.KEY, "a-wrong-key", "secret question"):
            self.assertNotIn(secret, self.server.log())


if __name__ == "__main__":
    main()
