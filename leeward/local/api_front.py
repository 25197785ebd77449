"""A REST API as API Gateway serves it: a loopback port, each path handed to its function.

Made from the definition of the deployed template (Swagger 2.0 with `aws_proxy` integrations). What
comes is handed on as it came: the body as text, or in base64 for a type that the definition calls
binary; the headers with the case that they had.

Not here: authorisers, caching, throttling, mapping templates, request validation.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from chalicelib.errors import BadInput
from leeward.local.serving import serve

# Source: docs.aws.amazon.com, "Amazon API Gateway quotas", REST APIs.
LARGEST_BODY_BYTES = 10 * 1024 * 1024
LARGEST_HEADERS_BYTES = 10_240
PRIVATE = ("connection", "content-length", "transfer-encoding")
HOST = "127.0.0.1"

Event = dict[str, Any]
Invoke = Callable[[str, Event], tuple[Any, bool]]
"""(function's ARN, event) -> (what it returned, whether it failed)."""


@dataclass(frozen=True)
class Route:
    """`path` may hold {names}."""

    path: str
    method: str
    function: str

    def match(self, path: str) -> dict[str, str] | None:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(self.path))
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found else None


@dataclass(frozen=True)
class Definition:
    routes: tuple[Route, ...]
    binary: frozenset[str]


def read_definition(body: Event) -> Definition:
    """Raises BadInput (code "unknown-resource") for an integration other than `aws_proxy`."""
    routes = [
        Route(path, method.upper(), _function_of(operation["x-amazon-apigateway-integration"]))
        for path, item in body["paths"].items()
        for method, operation in item.items()
    ]
    return Definition(tuple(routes), frozenset(body["x-amazon-apigateway-binary-media-types"]))


def _function_of(integration: Event) -> str:
    found = re.search(r"/functions/(.+)/invocations$", str(integration["uri"]))
    if integration["type"] != "aws_proxy" or found is None:
        raise BadInput(
            f"the local cloud does not know the integration {integration['type']}",
            hint="teach it to leeward/local/api_front.py",
            code="unknown-resource",
        )
    return found[1]


class ApiFront:
    """Serves a definition below `/<stage>/` from `start` until `stop`."""

    def __init__(self, definition: Definition, invoke: Invoke, *, stage: str, api: str) -> None:
        self._definition, self._invoke = definition, invoke
        self._stage, self._api = stage, api

    def start(self) -> str:
        """The address, with the stage."""
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                status, headers, data = front.serve(self)
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._end = serve(self._server)
        return f"http://{HOST}:{self._server.server_port}/{self._stage}/"

    def stop(self) -> None:
        self._end()

    def serve(self, asked: BaseHTTPRequestHandler) -> tuple[int, list[tuple[str, str]], bytes]:
        length = int(asked.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY_BYTES:
            asked.close_connection = True
            return _said(413, "Request Too Long")
        body = asked.rfile.read(length)
        if len(str(asked.headers)) > LARGEST_HEADERS_BYTES:
            return _said(431, "Request Header Fields Too Large")
        parts = urlsplit(asked.path)
        prefix = f"/{self._stage}/"
        path = "/" + parts.path.removeprefix(prefix)
        found = self._route(asked.command, path) if parts.path.startswith(prefix) else None
        if found is None:
            return _said(403, "Missing Authentication Token")
        route, parameters = found
        event = self._event(route, parameters, path, parts.query, asked, body)
        returned, failed = self._invoke(route.function, event)
        if failed or not isinstance(returned, dict) or "statusCode" not in returned:
            return _said(502, "Internal server error")
        return _answer(returned)

    def _route(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        for route in self._definition.routes:
            parameters = route.match(path)
            if parameters is not None and route.method == method:
                return route, parameters
        return None

    def _event(
        self,
        route: Route,
        parameters: dict[str, str],
        path: str,
        query: str,
        asked: BaseHTTPRequestHandler,
        body: bytes,
    ) -> Event:
        headers = [(k, v) for k, v in asked.headers.items() if k.lower() not in PRIVATE]
        asked_for = parse_qsl(query, keep_blank_values=True)
        kind = asked.headers.get_content_type()
        binary = kind in self._definition.binary
        return {
            "resource": route.path,
            "path": path,
            "httpMethod": route.method,
            "headers": dict(headers),
            "multiValueHeaders": _many(headers),
            "queryStringParameters": dict(asked_for) or None,
            "multiValueQueryStringParameters": _many(asked_for) or None,
            "pathParameters": parameters or None,
            "stageVariables": None,
            "requestContext": {
                "apiId": self._api,
                "stage": self._stage,
                "resourcePath": route.path,
                "httpMethod": route.method,
                "path": f"/{self._stage}{path}",
                "requestId": str(uuid.uuid4()),
                "requestTimeEpoch": int(datetime.now(UTC).timestamp() * 1000),
                "identity": {"sourceIp": asked.client_address[0]},
            },
            # CONVERT_TO_TEXT: what is no UTF-8 arrives changed, in AWS too.
            "body": _as_text(body, binary=binary),
            "isBase64Encoded": binary,
        }


def _as_text(body: bytes, *, binary: bool) -> str | None:
    if not body:
        return None
    return base64.b64encode(body).decode() if binary else body.decode(errors="replace")


def _many(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _answer(returned: Event) -> tuple[int, list[tuple[str, str]], bytes]:
    headers = list((returned.get("headers") or {}).items())
    for name, values in (returned.get("multiValueHeaders") or {}).items():
        headers += [(name, value) for value in values]
    text = str(returned.get("body") or "")
    data = base64.b64decode(text) if returned.get("isBase64Encoded") else text.encode()
    kept = [(name, str(value)) for name, value in headers if name.lower() not in PRIVATE]
    return int(returned["statusCode"]), kept, data


def _said(status: int, message: str) -> tuple[int, list[tuple[str, str]], bytes]:
    data = json.dumps({"message": message}).encode()
    return status, [("Content-Type", "application/json")], data
