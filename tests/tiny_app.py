"""An application server for tests: says what it was started with, and ends when it is told to."""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

TOLD = ("HOSTNAME", "DATABASE_URL", "ASSETS_BUCKET", "PASSWORD", "MODE")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802 - the name http.server calls
        told = {name: os.environ[name] for name in TOLD if name in os.environ}
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    if os.environ.get("DATABASE_URL") == "broken":
        sys.exit("no such database")
    HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
