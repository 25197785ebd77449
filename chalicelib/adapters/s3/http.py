"""Signed requests to one bucket: tried again when what failed may pass.

Keys go over the wire exactly as they are. A body in an encoding (gzip) is handed on as stored. An
answer counts only when it is whole: `read` runs inside the attempt, so a 200 that carries an error
or half a document is one more failure.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple, NoReturn, TypeVar

from chalicelib.adapters.http.text import origin_of, render_request
from chalicelib.adapters.http.wire import Connections, Response
from chalicelib.adapters.s3.errors import error_of, region_of
from chalicelib.adapters.s3.place import Patience, Place, Query, unreadable
from chalicelib.adapters.s3.signing import (
    EMPTY_SHA256,
    Credentials,
    Signer,
    encode_path,
    encode_query,
)
from chalicelib.adapters.s3.xml import parse_error
from chalicelib.errors import BadInput, LeewardError, Unavailable

T = TypeVar("T")
# Longest key in S3, in bytes of UTF-8.
KEY_BYTES = 1024


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class S3Http:
    """One bucket's requests. The connections are shared and owned by the caller."""

    def __init__(
        self,
        connections: Connections,
        place: Place,
        credentials: Callable[[], Credentials],
        patience: Patience,
    ) -> None:
        self._connections = connections
        self._credentials = credentials
        self._signer = Signer(place.region, credentials)
        self.place = place
        self.patience = patience
        self.requests = 0

    async def call(
        self,
        method: str,
        key: str = "",
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        read: Callable[[Answer], T],
        seconds: float = 0.0,
    ) -> T:
        """What `read` makes of the first good answer. `seconds`: longest silence, 0 the usual."""
        _check_key(key)
        failures = 0
        while True:
            try:
                response = await self._send(method, key, query, headers, body, seconds)
                answer = Answer(response.status, response.headers, await response.read())
                return read(self._checked(answer, key))
            except OSError as error:
                failure: LeewardError = self._unanswered(error, key)
            except (KeyError, ValueError) as error:
                failure = unreadable(self.place.bucket, key, error)
            except LeewardError as error:
                failure = error
            failures += 1
            await self._wait_or_raise(failure, failures)

    @asynccontextmanager
    async def open(
        self, key: str, query: Query, headers: Mapping[str, str]
    ) -> AsyncIterator[Response]:
        """A GET whose body is still to be read; one attempt. Raises as `call` does."""
        _check_key(key)
        response = await self._send("GET", key, query, headers, b"", 0.0)
        try:
            if response.status not in (200, 206):
                answer = Answer(response.status, response.headers, await response.read())
                self._raise_error(answer, key)
            yield response
        finally:
            response.close()

    async def wait_or_raise(self, error: BaseException, key: str, failures: int) -> None:
        """After failure number `failures`: pause when it may pass, else raise it."""
        known = error if isinstance(error, LeewardError) else self._unanswered(error, key)
        await self._wait_or_raise(known, failures)

    async def _wait_or_raise(self, failure: LeewardError, failures: int) -> None:
        region = region_of(failure)
        if region and region != self.place.region:
            self.place.region = region
            self._signer = Signer(region, self._credentials)
            return
        if not failure.retryable or failures >= self.patience.attempts:
            raise failure
        await asyncio.sleep(self.patience.pause(failures))

    async def _send(
        self,
        method: str,
        key: str,
        query: Query,
        headers: Mapping[str, str] | None,
        body: bytes,
        seconds: float,
    ) -> Response:
        url, base = self.place.address()
        origin = origin_of(url)
        path = encode_path(f"{base}/{key}")
        encoded = encode_query(query)
        signed = self._signer.sign(
            method, path, encoded, {"Host": origin.authority, **(headers or {})},
            at=datetime.now(UTC),
            payload_sha256=hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256,
        )  # fmt: skip
        target = f"{path}?{encoded}" if encoded else path
        self.requests += 1
        return await self._connections.send(
            origin, render_request(method, target, signed, body), bodiless=method == "HEAD",
            seconds=seconds or self.patience.read_seconds,
        )  # fmt: skip

    def _checked(self, answer: Answer, key: str) -> Answer:
        """S3 may say 200 at once and then fail, with the error as the body."""
        if answer.status not in (200, 204, 206):
            self._raise_error(answer, key)
        if b"<Error>" in answer.body[:400] and parse_error(answer.body).code:
            self._raise_error(answer, key)
        return answer

    def _raise_error(self, answer: Answer, key: str) -> NoReturn:
        raise error_of(
            answer.status, answer.headers, answer.body, bucket=self.place.bucket, key=key
        )

    def _unanswered(self, error: BaseException, key: str) -> LeewardError:
        failure = Unavailable(
            f"expected an answer of s3 for {self.place.bucket}, found {type(error).__name__}",
            code="no-answer",
            hint="Check the network and the endpoint; the call was tried again.",
            bucket=self.place.bucket,
            key=key,
        )
        failure.__cause__ = error
        return failure


def sha256_header(body: bytes) -> dict[str, str]:
    """S3 refuses a body that is not this one, and keeps the checksum of an object."""
    return {"x-amz-checksum-sha256": b64encode(hashlib.sha256(body).digest()).decode()}


def _check_key(key: str) -> None:
    try:
        length = len(key.encode())
    except UnicodeEncodeError as error:
        raise BadInput(
            f"expected a key of UTF-8 text, found {key!r}",
            code="key-not-utf-8",
            hint="S3 has no such key; look where the name came from.",
        ) from error
    if length > KEY_BYTES:
        raise BadInput(
            f"expected a key of at most {KEY_BYTES} bytes, found {length}",
            code="key-too-long",
            hint="Choose a shorter name or prefix.",
        )
