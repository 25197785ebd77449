"""Requests to a cloud over urllib3: signed, retried, and ended in time.

503, 429, resets, hangs and answers cut short are tried again with growing pauses until the attempts
or the seconds of `Patience` are used up. Every request must be one that may be repeated.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, SSLError
from urllib3.exceptions import TimeoutError as HttpTimeoutError

from chalicelib.errors import LeewardError, NotReady, Throttled, Unavailable

THROTTLED = frozenset({429, 503})
TRY_AGAIN = THROTTLED | {408, 500, 502, 504}
RECEIVED_BYTES = 1 << 18


@dataclass(frozen=True)
class Patience:
    """How long a request is tried. A pause doubles up to 100 times the first, half of it by chance.

    `silence_seconds` ends one attempt in which nothing more arrives, `seconds` the whole request.
    """

    attempts: int = 9
    seconds: float = 300.0
    connect_seconds: float = 5.0
    silence_seconds: float = 30.0
    first_pause_seconds: float = 0.1

    def pause_seconds(self, failures: int) -> float:
        doubled = self.first_pause_seconds * min(2.0**failures, 100.0)
        return doubled * random.uniform(0.5, 1.0)


@dataclass(frozen=True)
class Answer:
    """`attempts`: with more than one, an earlier one may have been carried out unheard."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    attempts: int = 1


@dataclass
class Request:
    """What is sent; `sign` of an Access adds headers, or a query, to a copy of it each time."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | bytearray | memoryview = b""


class Access(Protocol):
    def sign(self, request: Request) -> None: ...

    def renew(self) -> bool:
        """After a 401: whether there is something new to sign with."""


class NoAccess:
    """For emulators that ask for nothing."""

    def sign(self, request: Request) -> None: ...

    def renew(self) -> bool:
        return False


class HttpService:
    """One service. `name` stands in errors; connections are kept and shared by threads.

    `ca`: PEM of the only authorities to trust; None: those of this machine.
    """

    def __init__(
        self, name: str, access: Access, *, patience: Patience | None = None, ca: str | None = None
    ) -> None:
        self.name = name
        self._access = access
        self._patience = patience or Patience()
        self._pool = urllib3.PoolManager(maxsize=16, retries=False, ca_cert_data=ca)

    def call(self, request: Request) -> Answer:
        """Any answer but 408, 429 and 5xx.

        Raises: Throttled, Unavailable (both retryable), NotReady (no TLS, no such address).
        """
        for attempt in _Attempts(self.name, self._patience):
            body = bytearray()
            answer = attempt.run(partial(self._send, request, body))
            if answer is not None:
                return Answer(answer.status, answer.headers, bytes(body), attempt.number)
        raise AssertionError("the last attempt raises")

    def read(self, request: Request, start: int, end: int) -> tuple[Answer, bytearray]:
        """The bytes [start, end) of a resource, continued where a connection broke.

        An answer that is no 206 has its body in the buffer.
        """
        found = bytearray()
        for attempt in _Attempts(self.name, self._patience):
            before = len(found)
            headers = {**request.headers, "Range": f"bytes={start + before}-{end - 1}"}
            asked = Request(request.method, request.url, headers)
            answer = attempt.run(partial(self._send, asked, found))
            if answer is not None:
                return answer, found
            attempt.forget_failures(len(found) > before)
        raise AssertionError("the last attempt raises")

    def _send(self, request: Request, sink: bytearray, attempt: _Attempts) -> Answer:
        answer = self._once(request, sink, attempt)
        if answer.status == 401 and self._access.renew():
            del sink[:]
            return self._once(request, sink, attempt)
        return answer

    def _once(self, request: Request, sink: bytearray, attempt: _Attempts) -> Answer:
        signed = Request(request.method, request.url, dict(request.headers), request.body)
        self._access.sign(signed)
        patience = self._patience
        timeout = urllib3.Timeout(connect=patience.connect_seconds, read=patience.silence_seconds)
        response = self._pool.request(
            signed.method, signed.url, body=_sendable(signed.body), headers=signed.headers,
            timeout=timeout, preload_content=False, decode_content=False, redirect=False,
        )  # fmt: skip
        try:
            kept = sink if response.status not in TRY_AGAIN else bytearray()
            while data := response.read1(RECEIVED_BYTES):
                kept += data
                attempt.end_in_time()
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return Answer(response.status, response.headers)


class _Attempts:
    """Iterates once an attempt; the pause stands between two."""

    def __init__(self, name: str, patience: Patience) -> None:
        self._name, self._patience = name, patience
        self._failures = 0
        self._ends_at = time.monotonic() + patience.seconds
        self.number = 0

    def __iter__(self) -> _Attempts:
        return self

    def __next__(self) -> _Attempts:
        if self.number:
            time.sleep(self._patience.pause_seconds(self._failures))
        self.number += 1
        return self

    def run(self, send: Callable[[_Attempts], Answer]) -> Answer | None:
        """None when it has to be tried again."""
        try:
            answer = send(self)
        except HTTPError as error:
            if _never_works(error):
                raise self._misled(error) from error
            self._fail(self._silent(error), error)
            return None
        if answer.status not in TRY_AGAIN:
            return answer
        self._fail(self._refused(answer.status), None)
        return None

    def end_in_time(self) -> None:
        if time.monotonic() > self._ends_at:
            raise HttpTimeoutError("the answer takes too long")

    def forget_failures(self, progress: bool) -> None:
        if progress:
            self._failures = 0

    def _fail(self, error: LeewardError, cause: BaseException | None) -> None:
        self._failures += 1
        late = time.monotonic() > self._ends_at
        if late or self._failures >= self._patience.attempts:
            raise error from cause

    def _misled(self, error: HTTPError) -> NotReady:
        return NotReady(
            f"expected {self._name} at its address, found {type(error).__name__}",
            code="not-the-service",
            hint="Check the endpoint's address, its certificate and this machine's clock.",
        )

    def _silent(self, error: HTTPError) -> Unavailable:
        return Unavailable(
            f"{self._name} did not answer: {type(error).__name__}, {self.number} attempts",
            hint="Check the network and the provider's state; the call is tried again.",
        )

    def _refused(self, status: int) -> Unavailable:
        kind = Throttled if status in THROTTLED else Unavailable
        return kind(
            f"{self._name} answered HTTP {status} to each of {self.number} attempts",
            hint="It is tried again later.",
        )


def _sendable(body: bytes | bytearray | memoryview) -> Any:
    """urllib3 sends any buffer as it is; its types name bytes alone."""
    return body if len(body) else None


def _never_works(error: HTTPError) -> bool:
    """A certificate of somebody else, or no address; other TLS failures are broken connections."""
    if isinstance(error, SSLError):
        return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in error.args)
    return isinstance(error, LocationParseError)
