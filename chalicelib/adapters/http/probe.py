"""Health probes over HTTP: one GET, a fresh connection, certificates verified, a hard deadline.

A server that sends a byte now and then keeps every timeout of a socket from firing; a name server
that says nothing keeps one from being reached. So each probe has a thread of its own, and who asked
goes on without it when the time is up.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError

from chalicelib.errors import BadInput
from chalicelib.ports.health import Answer

# What is read of an answer at most; a health address says less.
BODY_BYTES = 1 << 16
# What a service that is not well says as its `status`, also when the HTTP status is 200.
# Source: "status" of draft-inadarei-api-health-check-06; org.springframework.boot.actuate.health.
NOT_WELL = frozenset({"fail", "error", "down", "out_of_service", "unhealthy"})
SCHEMES = ("http", "https")


class HttpProber:
    """`certificates`: a file of authorities (PEM) beside the system's own, "" for none."""

    def __init__(self, certificates: str = "") -> None:
        self._certificates = certificates or None

    def probe(self, address: str, *, says: str, within_seconds: float) -> Answer:
        """See ports/health.py."""
        require_address(address)
        asked_at, began = datetime.now(UTC), time.monotonic()
        came: list[Answer] = []

        def ask() -> None:
            status, problem = self._ask(address, says, within_seconds)
            came.append(Answer(asked_at, time.monotonic() - began, status, problem))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(within_seconds)
        if not came:
            return Answer(asked_at, within_seconds, None, f"no answer in {within_seconds:g} s")
        return came[0]

    def _ask(self, address: str, says: str, seconds: float) -> tuple[int | None, str]:
        with urllib3.PoolManager(ca_certs=self._certificates) as pool:
            try:
                answer = pool.request(
                    "GET",
                    address,
                    headers={"User-Agent": "leeward", "Cache-Control": "no-cache"},
                    timeout=urllib3.Timeout(total=seconds),
                    retries=False,
                    redirect=False,
                    preload_content=False,
                )
                body = _read(answer, until=time.monotonic() + seconds)
            except HTTPError as error:
                return None, why_none(error)
            except OSError as error:
                return None, f"the connection broke: {type(error).__name__}"
        return answer.status, judge(answer.status, body, says)


def _read(answer: urllib3.BaseHTTPResponse, *, until: float) -> bytes:
    """In pieces, so that a body that never ends is left when the time is up."""
    body = b""
    while len(body) < BODY_BYTES and time.monotonic() < until:
        piece = answer.read1(BODY_BYTES, decode_content=True)
        if not piece:
            break
        body += piece
    return body


def require_address(address: str) -> None:
    """Raises BadInput (code "bad-health-address")."""
    try:
        url = urlsplit(address)
        fits = url.scheme in SCHEMES and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(
            f"expected an address such as https://host/health, found {address!r}",
            hint="correct `health` of the component in the plan",
            code="bad-health-address",
        )


def judge(status: int, body: bytes, says: str) -> str:
    """Why an answer is not good, "" when it is: its status, what it must say, what it says itself.

    A JSON object that says `healthy: false` or `status: DOWN` is not believed for its status 200.
    """
    if not 200 <= status < 300:
        return f"HTTP {status}"
    if says and says.encode() not in body:
        return f"HTTP {status} without {says!r}"
    if _says_it_is_not(body):
        return f"HTTP {status}, and says itself that it is not healthy"
    return ""


def _says_it_is_not(body: bytes) -> bool:
    try:
        told: Any = json.loads(body)
    except ValueError:
        return False
    if not isinstance(told, dict):
        return False
    return told.get("healthy") is False or str(told.get("status")).lower() in NOT_WELL


def why_none(error: HTTPError) -> str:
    """One line, by the class of the error alone."""
    said = {
        "ConnectTimeoutError": "no connection in time",
        "ReadTimeoutError": "connected, no answer in time",
        "NameResolutionError": "the name has no address",
        "NewConnectionError": "nobody listens there",
        "SSLError": "the certificate or its name does not hold",
        "ProtocolError": "the connection broke before the answer",
        "IncompleteRead": "the answer was cut short",
        "DecodeError": "the answer cannot be read",
    }
    kinds = [type(it).__name__ for it in (error, error.__cause__, getattr(error, "reason", None))]
    found = next((said[kind] for kind in kinds if kind in said), kinds[0])
    return "the address cannot be asked" if isinstance(error, LocationParseError) else found
