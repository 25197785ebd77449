"""One stored object read to its end and hashed, in constant memory, by one check or by several."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf
from typing import IO, cast

import zstandard

from chalicelib.errors import Damaged
from chalicelib.ports import FeedsPieces, ObjectStore, ReadsOn, StoredFacts
from chalicelib.ports.lasting import RunningDigest
from chalicelib.verify.copies.begun import SPARE_SECONDS, Begun
from chalicelib.verify.copies.expected import Expected
from chalicelib.verify.copies.flight import TimeLimit

PIECE_BYTES = 1 << 20
# A request that brings so much takes hardly longer than one that only asks about it.
QUICK_BYTES = 4 << 20
# So much is read while it is waited for: the network is the limit, not the processor.
LITTLE_BYTES = 256 << 10
# Half of what a Lambda with one processor reads of S3.
SURE_BYTES_A_SECOND = 40 << 20


@dataclass(frozen=True)
class Content:
    sha256: str
    size_bytes: int
    facts: StoredFacts | None = None
    """What the store said of the very version that was read, where it was asked no more for it."""


class _Stopped(Exception):
    pass


def read_content(store: ObjectStore, item: Expected, limit: TimeLimit) -> Content | None:
    """None when the time was over before its end.

    A WAL segment of which nobody knows the digest must at least be what its writer compressed:
    its own checksum, which zstd wrote behind it, is compared.

    Raises: as ObjectStore.read; Damaged (code "wal-unreadable").
    """
    if limit.over.is_set() or limit.passed:
        return None
    chunks, facts = _Hashing(limit), None
    try:
        if item.is_wal and item.key.endswith(".zst") and not item.sha256:
            _unpack(item.key, chunks.of(store.read(item.key)))
        elif isinstance(store, FeedsPieces):
            facts = store.feed(item.key, chunks.take)
        else:
            for chunk in store.read(item.key):
                chunks.take(chunk)
    except _Stopped:
        return None
    return Content(chunks.digest.hexdigest(), chunks.size_bytes, facts)


def read_at_once(
    store: ObjectStore, reads: Iterable[Expected], *, long_bytes: int, seconds: float | None
) -> frozenset[str]:
    """Which of those to be read are not looked at before: one request tells both.

    Others are looked at first, lest nothing is known of them when the time is over.

    Args:
        seconds: that are left, None: as many as it takes.
    """
    if not isinstance(store, FeedsPieces):
        return frozenset()
    left = inf if seconds is None else seconds * SURE_BYTES_A_SECOND
    chosen = set()
    for item in reads:
        if not item.sha256 or item.size_bytes >= long_bytes:
            continue
        if item.size_bytes > QUICK_BYTES:
            left -= item.size_bytes
        if left >= 0 or item.size_bytes <= QUICK_BYTES:
            chosen.add(item.key)
    return frozenset(chosen)


def read_long(store: ReadsOn, item: Expected, limit: TimeLimit, begun: Begun) -> Content | Begun:
    """Go on with an object that no single check can read; put it down before the time is over.

    Raises: as ReadsOn.read_on.
    """
    digest, position = RunningDigest(state=begun.state), begun.position
    if position < item.size_bytes:
        for chunk in store.read_on(item.key, position, version=begun.version):
            digest.update(chunk)
            position += len(chunk)
            left = limit.left_seconds()
            if limit.over.is_set() or (left is not None and left <= SPARE_SECONDS):
                break
    if position < item.size_bytes:
        return replace(begun, position=position, state=digest.state())
    return Content(digest.hexdigest(), position)


class _Hashing:
    """Counts and hashes what it takes; a file for zstandard, too."""

    def __init__(self, limit: TimeLimit) -> None:
        self.digest = hashlib.sha256()
        self.size_bytes = 0
        self._limit = limit
        self._chunks: Iterator[bytes] = iter(())

    def take(self, chunk: bytes | memoryview) -> None:
        if self._limit.over.is_set() or self._limit.passed:
            raise _Stopped
        self.digest.update(chunk)
        self.size_bytes += len(chunk)

    def of(self, chunks: Iterator[bytes]) -> _Hashing:
        self._chunks = chunks
        return self

    def read(self, _size: int) -> bytes:
        chunk = next((one for one in self._chunks if one), b"")
        self.take(chunk)
        return chunk


def _unpack(key: str, chunks: _Hashing) -> None:
    unpacked = 0
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], chunks))
        while piece := reader.read(PIECE_BYTES):
            unpacked += len(piece)
    except zstandard.ZstdError as error:
        raise _no_segment(key) from error
    while chunks.read(PIECE_BYTES):
        pass
    # A segment is a power of two of at least 1 MiB, a partial one filled up to it.
    if unpacked < PIECE_BYTES or unpacked & (unpacked - 1):
        raise _no_segment(key)


def _no_segment(key: str) -> Damaged:
    return Damaged(
        f"expected a whole WAL segment in {key}, found something else",
        code="wal-unreadable",
        hint="Copy the segment back from another location, or take a full backup.",
        key=key,
    )
