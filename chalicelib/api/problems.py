"""Errors as HTTP answers: one table from class and code to status, problem+json (RFC 9457).

Chalice turns an error into an answer before any middleware sees it; so this is done here.
"""

from __future__ import annotations

from collections.abc import Callable

from chalice.app import Response

from chalicelib.errors import BadInput, LeewardError, NotReady, Refused, Unavailable
from chalicelib.telemetry import logger

STATUS_OF_CODE = {"bad-signature": 401, "replayed": 409, "too-large": 413}
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


def problem(error: LeewardError) -> Response:
    status = STATUS_OF_CODE.get(error.instance_code) or _status(error)
    body = {
        "type": "about:blank",
        "title": error.instance_code,
        "status": status,
        "detail": error.message,
        "hint": error.hint,
    }
    return Response(body, {"Content-Type": "application/problem+json"}, status)


def _status(error: LeewardError) -> int:
    return next((status for kind, status in STATUS_OF_CLASS if isinstance(error, kind)), 500)
