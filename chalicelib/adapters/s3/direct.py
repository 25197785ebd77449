"""Signed requests to one bucket from several threads, over connections that are kept.

A boto3 request takes some 2 ms of processor time, one of these a twentieth; its import takes a
quarter of a second. A body goes from the socket into the piece that is hashed, and from the part
that was hashed into the socket, without being copied. A connection belongs to one thread at a time
and is used again when its answer was whole.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple, TypeVar

from chalicelib.adapters.http.blocking import Answer, Connection
from chalicelib.adapters.http.text import (
    IDLE_SECONDS,
    Headers,
    Origin,
    origin_of,
    render_head,
)
from chalicelib.adapters.s3.ambient import ambient_proxy
from chalicelib.adapters.s3.errors import ahead_of, error_of, region_of
from chalicelib.adapters.s3.place import Patience, Place, Query, unreadable
from chalicelib.adapters.s3.signing import (
    EMPTY_SHA256,
    Credentials,
    Signer,
    encode_path,
    encode_query,
)
from chalicelib.adapters.s3.xml import parse_error
from chalicelib.errors import LeewardError, Unavailable

T = TypeVar("T")
Data = bytes | bytearray | memoryview
GOOD = (200, 204, 206)
READS = ("GET", "HEAD")
# An answer to HEAD has no body; one to GET says which of its reasons it was.
SILENT_REFUSALS = (301, 307, 400, 403, 404)
# What S3 tolerates between its clock and the signature's. Source: "RequestTimeTooSkewed".
TOLERATED_SECONDS = 900.0


class Request(NamedTuple):
    """`sha256`: of the body, in hexadecimal: S3 refuses any other. `seconds`: the longest silence,
    0: the usual."""

    method: str
    name: str = ""
    query: Query = ()
    headers: Mapping[str, str] = {}
    body: Data = b""
    sha256: str = EMPTY_SHA256
    seconds: float = 0.0


class Said(NamedTuple):
    """A whole answer."""

    headers: Headers
    body: bytes


class S3Direct:
    """Requests about one bucket and its objects, by their whole names."""

    def __init__(
        self,
        place: Place,
        credentials: Callable[[], Credentials],
        patience: Patience | None = None,
    ) -> None:
        self._place, self._credentials = place, credentials
        self._signer = Signer(place.region, credentials)
        self.patience = patience or Patience()
        self._idle: list[tuple[float, Connection]] = []
        self._seconds_ahead = 0.0

    @property
    def bucket(self) -> str:
        return self._place.bucket

    def tried(self, name: str, ask: Callable[[], T]) -> T:
        """What `ask` returns, asked again while its failure may pass."""
        failures = 0
        while True:
            try:
                return ask()
            except OSError as error:
                failure: LeewardError = self.unanswered(name, error)
            except (KeyError, ValueError) as error:
                failure = unreadable(self._place.bucket, name, error)
            except LeewardError as error:
                failure = error
            failures += 1
            if failures >= self.patience.attempts:
                raise failure
            if self._corrected(failure):
                continue
            if not failure.retryable:
                raise failure
            time.sleep(self.patience.pause(failures))

    def call(self, request: Request) -> Said:
        """The good answer to one attempt.

        Raises: as `error_of` tells, also for a 200 whose body is an error; OSError: no answer.
        """
        connection, answer = self._ask(request)
        try:
            body = answer.read_all()
            failed = b"<Error>" in body[:400] and parse_error(body).code
            if answer.status not in GOOD or failed:
                raise self._refusal(answer, request.name, body)
            return Said(answer.headers, body)
        finally:
            self._keep(connection, answer)

    def head(self, name: str, headers: Mapping[str, str]) -> Headers:
        """What the server says of the object. Raises as `call`."""
        connection, answer = self._ask(Request("HEAD", name, headers=headers))
        self._keep(connection, answer)
        if answer.status in SILENT_REFUSALS:
            with self.open(name, headers):
                pass
        if answer.status != 200:
            raise self._refusal(answer, name, b"")
        return answer.headers

    @contextmanager
    def open(self, name: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        """A GET whose body is still to be read; one attempt. Raises as `call`."""
        connection, answer = self._ask(Request("GET", name, headers=headers))
        try:
            if answer.status not in (200, 206):
                raise self._refusal(answer, name, answer.read(1 << 16))
            yield answer
        finally:
            self._keep(connection, answer)

    def unanswered(self, name: str, error: BaseException) -> LeewardError:
        failure = Unavailable(
            f"expected an answer of s3 for {self._place.bucket}, found {type(error).__name__}",
            code="no-answer",
            hint="Check the network and the endpoint; the call was tried again.",
            bucket=self._place.bucket,
            key=name,
        )
        failure.__cause__ = error
        return failure

    def close(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()

    def _corrected(self, failure: LeewardError) -> bool:
        """S3 told where the bucket is, or what time it is, and this did not know it yet."""
        region, ahead = region_of(failure), ahead_of(failure)
        if region and region != self._place.region:
            self._place.region = region
            self._signer = Signer(region, self._credentials)
            return True
        if ahead is not None and abs(ahead - self._seconds_ahead) > TOLERATED_SECONDS:
            self._seconds_ahead = ahead
            return True
        return False

    def _refusal(self, answer: Answer, name: str, body: bytes) -> LeewardError:
        return error_of(answer.status, answer.headers, body, bucket=self._place.bucket, key=name)

    def _ask(self, request: Request) -> tuple[Connection, Answer]:
        """A kept connection that is closed, or on which rubbish lies, is replaced."""
        url, base = self._place.address()
        origin = origin_of(url)
        path, query = encode_path(f"{base}/{request.name}"), encode_query(request.query)
        while True:
            signed = self._signer.sign(
                request.method, path, query, {"Host": origin.authority, **request.headers},
                at=datetime.now(UTC) - timedelta(seconds=self._seconds_ahead),
                payload_sha256=request.sha256,
            )  # fmt: skip
            # Without credentials nobody is asked.
            kept = self._take(origin, sure=request.method not in READS)
            connection = kept or self._connect(origin)
            target = f"{path}?{query}" if query else path
            try:
                head = render_head(request.method, target, signed, len(request.body))
                return connection, connection.ask(
                    head, request.body, bodiless=request.method == "HEAD", seconds=request.seconds
                )
            except OSError as error:
                connection.close()
                if kept is None or isinstance(error, TimeoutError):
                    raise

    def _take(self, origin: Origin, *, sure: bool) -> Connection | None:
        """`sure`: one that is still open. What is only read may be asked for twice."""
        while True:
            try:
                since, connection = self._idle.pop()
            except IndexError:
                return None
            young = since > time.monotonic() - IDLE_SECONDS
            if young and connection.origin == origin and (not sure or connection.quiet):
                return connection
            connection.close()

    def _keep(self, connection: Connection, answer: Answer) -> None:
        """The server may have asked to close it: then it is, and opened at its next use."""
        if answer.whole and connection.usable:
            self._idle.append((time.monotonic(), connection))
        else:
            connection.close()

    def _connect(self, origin: Origin) -> Connection:
        seconds = self.patience.read_seconds
        if not origin.tls:
            return Connection(origin, seconds=seconds, tls=None)
        tls, proxy = trusted(os.environ.get("AWS_CA_BUNDLE", "")), ambient_proxy(origin.host)
        return Connection(origin, seconds=seconds, tls=tls, proxy=proxy)


@cache
def trusted(bundle: str) -> ssl.SSLContext:
    """Whom this machine trusts; `bundle`: a file of certificates instead, as boto3 knows it."""
    return ssl.create_default_context(cafile=bundle or None)
