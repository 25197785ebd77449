"""Objects in S3 read in one request each, for whoever reads many of them side by side.

Half the processor time of reading ranges ahead (measured with its SHA-256: 1.5 s a GB, 3 s there),
because nothing is put together or copied; one object alone is as fast as one connection.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.adapters.s3_store import (
    BROKEN_BODY,
    LONGEST_PAUSE_SECONDS,
    READ_ATTEMPTS,
    S3ObjectStore,
    _mapped_object,
)
from chalicelib.errors import Truncated

# Larger pieces are put together from what the socket gives, which costs more than it saves.
PIECE_BYTES = 256 << 10


class S3ObjectStreams(S3ObjectStore):
    """An S3ObjectStore whose `read` is one request, begun again where a connection broke."""

    def read(self, key: str) -> Iterator[bytes]:
        first = self._open(key)
        size, etag = int(first["ContentLength"]), str(first["ETag"])
        at = failures = 0
        answer: dict[str, Any] | None = first
        while True:
            before = at
            with mapped("s3", key=key), suppress(*BROKEN_BODY):
                answer = answer or self._open(key, Range=f"bytes={at}-{size - 1}", IfMatch=etag)
                with closing(answer["Body"]) as body:
                    while piece := body.read(PIECE_BYTES):
                        at += len(piece)
                        yield piece
            if at >= size:
                return
            failures = 0 if at > before else failures + 1
            if failures == READ_ATTEMPTS:
                raise _short(key, size, at)
            answer = None
            time.sleep(min(0.1 * 2**failures, LONGEST_PAUSE_SECONDS))

    def _open(self, key: str, **how: str) -> dict[str, Any]:
        with mapped("s3", key=key), _mapped_object(key):
            return dict(self._client.get_object(**self._address(key), **how))


def _short(key: str, size: int, at: int) -> Truncated:
    return Truncated(
        f"expected {size} bytes of {key}, found {at}",
        code="object-short",
        hint="Use another recovery point; this object cannot be read to its end.",
        key=key,
    )
