"""A web server in front of an application, as nginx is: one address, passed on to another.

Run as `python -m leeward.local.front LISTEN_ADDRESS LISTEN_PORT TO_ADDRESS TO_PORT`. When the
application does not answer it says 502, as nginx does.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER_SECONDS = 5.0


def make_handler(to: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name http.server calls
            status, body = fetch(f"{to}{self.path}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def fetch(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 502, b"bad gateway"


def main() -> None:
    address, port, to_address, to_port = sys.argv[1:5]
    handler = make_handler(f"http://{to_address}:{to_port}")
    ThreadingHTTPServer((address, int(port)), handler).serve_forever()


if __name__ == "__main__":
    main()
