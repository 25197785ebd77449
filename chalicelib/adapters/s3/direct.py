"""Signed requests to one bucket from several threads, over connections that are kept.

For who looks at or reads very many objects: a boto3 request takes some 2 ms of processor time,
one of these a twentieth, and a body goes from the socket into the piece that is hashed without
being copied. A connection belongs to one thread at a time and is used again when its answer was
whole.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

from chalicelib.adapters.http.blocking import Answer, Connection
from chalicelib.adapters.http.text import (
    IDLE_SECONDS,
    Headers,
    Origin,
    origin_of,
    render_request,
)
from chalicelib.adapters.s3.errors import error_of
from chalicelib.adapters.s3.place import Patience, Place, Query, unreadable
from chalicelib.adapters.s3.signing import (
    EMPTY_SHA256,
    Credentials,
    Signer,
    encode_path,
    encode_query,
)
from chalicelib.adapters.s3.xml import Page, parse_page
from chalicelib.errors import LeewardError, Unavailable

T = TypeVar("T")


class S3Direct:
    """GET and HEAD of one bucket's objects, and their listing."""

    def __init__(
        self,
        place: Place,
        credentials: Callable[[], Credentials],
        patience: Patience | None = None,
    ) -> None:
        self._place, self._signer = place, Signer(place.region, credentials)
        self.patience = patience or Patience()
        self._idle: list[tuple[float, Connection]] = []
        self._tls: ssl.SSLContext | None = None

    def head(self, name: str, headers: Mapping[str, str]) -> Headers:
        """What the server says of the object. Raises as `error_of` tells, Unavailable."""
        return self.tried(name, lambda: self._head(name, headers))

    def page(self, query: Query) -> Page:
        """One of the bucket's listing. Raises as `head`."""
        return self.tried("", lambda: self._page(encode_query(query)))

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
            if not failure.retryable or failures >= self.patience.attempts:
                raise failure
            time.sleep(self.patience.pause(failures))

    @contextmanager
    def open(self, name: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        """A GET whose body is still to be read; one attempt.

        Raises: as `error_of` tells; OSError: no answer.
        """
        connection, answer = self._ask("GET", name, headers)
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

    def _head(self, name: str, headers: Mapping[str, str]) -> Headers:
        connection, answer = self._ask("HEAD", name, headers)
        self._keep(connection, answer)
        if answer.status == 404:
            # An answer to HEAD has no body; this one says whether the bucket is missing.
            with self.open(name, headers):
                pass
        if answer.status != 200:
            raise self._refusal(answer, name, b"")
        return answer.headers

    def _page(self, query: str) -> Page:
        connection, answer = self._ask("GET", "", {}, query)
        try:
            body = b"".join(iter(lambda: answer.read(1 << 20), b""))
            if answer.status != 200:
                raise self._refusal(answer, "", body)
            return parse_page(body)
        finally:
            self._keep(connection, answer)

    def _refusal(self, answer: Answer, name: str, body: bytes) -> LeewardError:
        return error_of(answer.status, answer.headers, body, bucket=self._place.bucket, key=name)

    def _ask(
        self, method: str, name: str, headers: Mapping[str, str], query: str = ""
    ) -> tuple[Connection, Answer]:
        """A kept connection that is closed, or on which rubbish lies, is replaced."""
        url, base = self._place.address()
        origin = origin_of(url)
        path = encode_path(f"{base}/{name}")
        while True:
            kept = self._take()
            connection = kept or self._connect(origin)
            signed = self._signer.sign(
                method, path, query, {"Host": origin.authority, **headers},
                at=datetime.now(UTC), payload_sha256=EMPTY_SHA256,
            )  # fmt: skip
            try:
                request = render_request(method, f"{path}?{query}" if query else path, signed)
                return connection, connection.ask(request, bodiless=method == "HEAD")
            except OSError as error:
                connection.close()
                if kept is None or isinstance(error, TimeoutError):
                    raise

    def _take(self) -> Connection | None:
        while self._idle:
            since, connection = self._idle.pop()
            if since > time.monotonic() - IDLE_SECONDS:
                return connection
            connection.close()
        return None

    def _keep(self, connection: Connection, answer: Answer) -> None:
        """The server may have asked to close it: then it is, and opened at its next use."""
        if answer.whole and connection.usable:
            self._idle.append((time.monotonic(), connection))
        else:
            connection.close()

    def _connect(self, origin: Origin) -> Connection:
        if origin.tls:
            self._tls = self._tls or ssl.create_default_context()
        seconds = self.patience.read_seconds
        return Connection(origin, seconds=seconds, tls=self._tls if origin.tls else None)
