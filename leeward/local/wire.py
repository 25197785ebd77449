"""Which AWS call an HTTP request is, and how its service says that it cannot serve it.

Read from the request alone: the scope of its signature (or of a presigned query), the header
X-Amz-Target, the form's Action, or method and path beside the service's model in botocore.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.message import Message
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

FORM = "application/x-www-form-urlencoded"
SCOPE = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request")
# Without a scope only S3 is asked: presigned the old way, or for what everybody may read.
UNSIGNED = ("", "", "s3")
RPC_PATH = re.compile(r"/service/[^/]+/operation/(\w+)")
# Where the name that a request is signed for is not botocore's name of the service.
MODELS = {"elasticloadbalancing": "elbv2", "monitoring": "cloudwatch", "states": "stepfunctions"}


@dataclass(frozen=True)
class ApiCall:
    """`service` as signatures name it, `operation` as botocore does; "" where it cannot be told.

    `resource`: of S3 the bucket.
    """

    region: str
    service: str
    operation: str
    key_id: str = ""
    resource: str = ""

    def in_region(self, region: str) -> ApiCall:
        return replace(self, region=region)


@dataclass(frozen=True)
class ErrorAnswer:
    status: int
    headers: dict[str, str]
    body: bytes


def read_call(
    method: str, path: str, headers: Message, body: Any
) -> tuple[ApiCall, io.BytesIO | None]:
    """The call; and the body again when it had to be read."""
    url = urlsplit(path)
    query = parse_qs(url.query, keep_blank_values=True)
    signed = headers.get("Authorization") or "Credential=" + query.get("X-Amz-Credential", [""])[0]
    scope = SCOPE.search(signed)
    key_id, region, service = scope.groups() if scope else UNSIGNED
    read, form = None, b""
    if headers.get("Content-Type", "").startswith(FORM):
        form = body.read(int(headers.get("Content-Length") or 0))
        read = io.BytesIO(form)
    operation = _operation(service, method, url.path, query, headers, form)
    bucket = unquote(url.path).lstrip("/").partition("/")[0] if service == "s3" else ""
    return ApiCall(region, service, operation, key_id, bucket), read


def _operation(
    service: str,
    method: str,
    path: str,
    query: dict[str, list[str]],
    headers: Message,
    form: bytes,
) -> str:
    if target := headers.get("X-Amz-Target"):
        return target.rpartition(".")[2]
    if form:
        return parse_qs(form.decode(errors="replace")).get("Action", [""])[0]
    if rpc := RPC_PATH.search(path):
        return rpc[1]
    given = {it.lower() for it in (*query, *headers)}
    fits = [it for it in _routes(service) if it.fits(method, path.rstrip("/"), query, given)]
    return max(fits, key=lambda it: it.weight).operation if fits else ""


@dataclass(frozen=True)
class Route:
    """How an operation is asked for. `needs`: names of headers and of the query, lower case."""

    operation: str
    method: str
    path: re.Pattern[str]
    query: dict[str, list[str]]
    needs: frozenset[str]
    weight: tuple[int, int]

    def fits(self, method: str, path: str, query: dict[str, list[str]], given: set[str]) -> bool:
        asked = all(value in ([""], query.get(name)) for name, value in self.query.items())
        return (
            method == self.method
            and asked
            and self.needs <= given
            and bool(self.path.fullmatch(path))
        )


@cache
def _routes(service: str) -> tuple[Route, ...]:
    """Of a service whose operations are told by method and path; () of an unknown one."""
    model = _model(service)
    if model is None:
        return ()
    return tuple(_route(model.operation_model(name)) for name in model.operation_names)


def _route(operation: Any) -> Route:
    path, _, query = operation.http["requestUri"].partition("?")
    wanted = parse_qs(query, keep_blank_values=True)
    parts = [_part(it) for it in re.split(r"(\{[^}]*\})", path.rstrip("/"))]
    needs = frozenset(_needed_names(operation.input_shape)) | {it.lower() for it in wanted}
    literal = re.sub(r"\{[^}]*\}", "", path)
    return Route(
        operation.name,
        operation.http["method"],
        re.compile("".join(parts)),
        wanted,
        needs,
        (len(needs), len(literal)),
    )


def _needed_names(shape: Any) -> Iterator[str]:
    for name in shape.required_members if shape else ():
        where = shape.members[name].serialization
        if where.get("location") in ("header", "querystring"):
            yield where["name"].lower()


def _part(text: str) -> str:
    if not text.startswith("{"):
        return re.escape(text)
    return ".+" if text.endswith("+}") else "[^/]+"


@cache
def _model(service: str) -> Any:
    from botocore.exceptions import UnknownServiceError
    from botocore.session import get_session

    try:
        return get_session().get_service_model(MODELS.get(service, service))
    except UnknownServiceError:
        return None


def error_answer(call: ApiCall, *, throttled: bool) -> ErrorAnswer:
    """As the service itself says "not now" (throttled) or "I cannot" (HTTP 503)."""
    model = _model(call.service)
    protocol = model.metadata["protocol"] if model else "json"
    if call.service == "s3":
        code = "SlowDown" if throttled else "ServiceUnavailable"
        return _xml(503, f"<Error><Code>{code}</Code><Message>Not now.</Message></Error>")
    if protocol in ("query", "ec2", "rest-xml"):
        code = "Throttling" if throttled else "ServiceUnavailable"
        text = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>Not now.</Message></Error>"
        return _xml(400 if throttled else 503, f"<ErrorResponse>{text}</ErrorResponse>")
    code = "ThrottlingException" if throttled else "ServiceUnavailableException"
    if call.service == "lambda" and throttled:
        code = "TooManyRequestsException"
    status = 503 if not throttled else 429 if protocol == "rest-json" else 400
    headers = {"Content-Type": "application/x-amz-json-1.0", "x-amzn-ErrorType": code}
    return ErrorAnswer(
        status, headers, json.dumps({"__type": code, "message": "Not now."}).encode()
    )


def _xml(status: int, text: str) -> ErrorAnswer:
    return ErrorAnswer(status, {"Content-Type": "text/xml"}, text.encode())
