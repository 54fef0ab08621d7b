"""The OpenAPI file that the server gives out is true: schemathesis asks by it and finds nothing else."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from support import Server, main

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


if __name__ == "__main__":
    main()
