"""Errors as HTTP answers: one table from class and code to status, problem+json (RFC 9457).

Chalice turns an error into an answer before any middleware sees it; so this is done here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chalice.app import Response

from chalicelib.errors import BadInput, LeewardError, NotReady, Refused, Unavailable
from chalicelib.telemetry import logger

STATUS_OF_CODE = {
    "bad-signature": 401,
    "replayed": 409,
    "too-large": 413,
    # Tokens
    "no-token": 401,
    "bad-token": 401,
    "token-expired": 401,
    "token-revoked": 401,
    # What is asked for is not there, or does not do that
    "not-found": 404,
    "unknown-incident": 404,
    "unknown-run": 404,
    "unknown-component": 404,
    "not-asked": 404,
    "method-not-allowed": 405,
    "not-json": 415,
    # A defect of the deployment, and what a person lacks
    "access-denied": 503,
    "not-enrolled": 403,
    # As things stand
    "already-answered": 409,
    "already-closed": 409,
    "in-flight": 409,
    "run-over": 409,
    "run-running": 409,
    "too-late": 409,
    "key-reused": 422,
    "too-many-codes": 429,
}
NOTHING: Mapping[str, str] = {}
# Source: RFC 6750, section 3.
CHALLENGE = 'Bearer realm="leeward"'
TOKENS = ("no-token", "bad-token", "token-expired", "token-revoked")
SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=63072000",
    "X-Content-Type-Options": "nosniff",
}
STATUS_OF_CLASS: tuple[tuple[type[LeewardError], int], ...] = (
    (BadInput, 400),
    (Refused, 403),
    (NotReady, 503),
    (Unavailable, 503),
)


def answered(work: Callable[[], Response]) -> Response:
    """The answer of `work`, or the problem that it raised."""
    try:
        return work()
    except LeewardError as error:
        logger.warning("refused", extra={"code": error.instance_code, "error": error.message})
        return problem(error)


def secured(response: Response) -> Response:
    """With the headers that every answer to programs has."""
    response.headers.update(SECURITY)
    response.headers.setdefault("Content-Type", "application/json")
    return response


def problem(error: LeewardError, headers: Mapping[str, str] = NOTHING) -> Response:
    """`errors` of the error's context are the fields that are wrong."""
    status = status_of(error)
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": error.instance_code,
        "status": status,
        "detail": error.message,
        "hint": error.hint,
    }
    if "errors" in error.context:
        body["errors"] = error.context["errors"]
    told: dict[str, Any] = {"Content-Type": "application/problem+json", **headers}
    if error.instance_code in TOKENS:
        told["WWW-Authenticate"] = CHALLENGE
    return Response(body, told, status)


def status_of(error: LeewardError) -> int:
    """The HTTP status that says it: of the code where that has its own, else of the class."""
    of_class = (status for kind, status in STATUS_OF_CLASS if isinstance(error, kind))
    return STATUS_OF_CODE.get(error.instance_code) or next(of_class, 500)
