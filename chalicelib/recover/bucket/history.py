"""A bucket's keys as they stand and as they stood at a moment, from versions and delete markers.

Entries count as of the moment when their time, as the server lists it, is not after it. S3 lists
whole seconds, rounded down: what changed within the second of the moment is of it, and is noted.
The order of the server decides between entries of one second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

from chalicelib.ports.buckets import Bucket, VersionRow
from chalicelib.recover.bucket.flight import Flight

Gap = Literal["null-version", "out-of-order"]
Note = Literal["same-second", "sent-in-parts"]

# S3 dates an object that was sent in parts from the beginning of its upload, not from its end.
# An upload seldom takes longer than this; one that was begun within it may have ended later.
LONGEST_UPLOAD = timedelta(hours=1)
LISTINGS = 128
"""Streams at once."""
MOST_SHARDS = 128
"""More folders than this on one level are many small ones, and a request for each is too much."""
ENOUGH_SHARDS = 32
RANGE_ROWS = 600
"""Entries of a range: with what an undo adds they fit into one page of 1,000."""
MOST_SAMPLES = 4096
MOST_ROWS = 1000
"""Entries between the folders that are kept in memory."""
DEEPEST_LEVEL = 3


Work = Callable[[AsyncIterator["KeyHistory"]], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class KeyHistory:
    """A key as it stands and as it stood. `then` is its newest entry of the moment, if any.

    `markers`: ids of the delete markers above `then`, newest first, when nothing else is above.
    `covering`: of those above the newest version of all, when they are all newer than the moment.
    `gaps`: why `then` may not be what stood there; `notes`: what a person should know.
    """

    key: str
    now: VersionRow
    then: VersionRow | None
    oldest_at: datetime
    markers: tuple[str, ...] = ()
    covering: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    notes: tuple[Note, ...] = ()
    entries: int = 1

    @property
    def live(self) -> VersionRow | None:
        """The object that a reader gets now."""
        return None if self.now.is_marker else self.now

    @property
    def wanted(self) -> VersionRow | None:
        """The object that a reader got then."""
        return None if self.then is None or self.then.is_marker else self.then


async def read_histories(bucket: Bucket, prefix: str, to_at: datetime) -> AsyncIterator[KeyHistory]:
    """The history of each key below the prefix, in the order of the keys, streamed."""
    async for history in _fold(bucket.list_versions(prefix), to_at):
        yield history


async def for_each_shard(bucket: Bucket, prefix: str, to_at: datetime, work: Work) -> None:
    """Give `work` the histories of all keys below the prefix, in several streams at once.

    Each key is in exactly one stream. A listing is one page after the other, so that its time is
    the server's latency; streams below different prefixes hide it.
    """
    cut = await _cut(bucket, prefix)
    async with Flight(LISTINGS) as flight:
        await flight.start(work(_fold(_given(cut.rows), to_at)))
        for scope in cut.scopes:
            await flight.start(work(read_histories(bucket, scope, to_at)))


async def for_each_range(
    bucket: Bucket, prefix: str, to_at: datetime, cuts: tuple[str, ...], work: Work
) -> None:
    """As for_each_shard, by the order of the keys alone: what lies between two cuts is a stream.

    Whatever the cuts are, and whatever was written since they were chosen, the streams together are
    the listing from the first key to the last: each begins after the key with which another ends.

    Args:
        cuts: keys in order, each once.
    """
    async with Flight(LISTINGS) as flight:
        for after, through in pairwise(("", *cuts, "")):
            rows = bucket.list_versions(prefix, key_marker=after, through=through)
            await flight.start(work(_fold(rows, to_at)))


class CutMeter:
    """Chooses the cuts while keys come in any order; its memory does not grow with them."""

    def __init__(self) -> None:
        self._step = RANGE_ROWS // 8
        self._rows = 0
        self._samples: list[str] = []

    def add(self, history: KeyHistory) -> None:
        self._rows += history.entries
        if self._rows < self._step:
            return
        self._rows = 0
        self._samples.append(history.key)
        if len(self._samples) >= MOST_SAMPLES:
            self._samples = sorted(self._samples)[::2]
            self._step *= 2

    def cuts(self) -> tuple[str, ...]:
        every = max(1, RANGE_ROWS // self._step)
        return tuple(sorted(self._samples)[every - 1 :: every])


@dataclass(frozen=True)
class _Cut:
    """`rows`: all entries of the keys that are below none of the scopes."""

    rows: list[VersionRow]
    scopes: list[str]


async def _cut(bucket: Bucket, prefix: str) -> _Cut:
    """At folders, found by asking for one level of the key space after the other."""
    cut = _Cut([], [prefix])
    for _ in range(DEEPEST_LEVEL):
        levels = await asyncio.gather(*(_level(bucket, scope) for scope in cut.scopes))
        rows = [row for level in levels for row in level.rows]
        scopes = [scope for level in levels for scope in level.scopes]
        if scopes == cut.scopes or len(scopes) > MOST_SHARDS:
            break
        cut = _Cut(cut.rows + rows, scopes)
        if len(scopes) >= ENOUGH_SHARDS:
            break
    return cut


async def _level(bucket: Bucket, scope: str) -> _Cut:
    """One level further down; the scope itself where that is too wide."""
    rows: list[VersionRow] = []
    scopes: list[str] = []
    async with aclosing(bucket.version_level(scope)) as level:
        async for found in level:
            if isinstance(found, str):
                scopes.append(found)
            else:
                rows.append(found)
            if len(rows) > MOST_ROWS or len(scopes) > MOST_SHARDS:
                return _Cut([], [scope])
    return _Cut(rows, scopes)


async def _given(rows: list[VersionRow]) -> AsyncIterator[VersionRow]:
    for row in rows:
        yield row


async def _fold(rows: AsyncIterator[VersionRow], to_at: datetime) -> AsyncIterator[KeyHistory]:
    fold = HistoryFold(to_at)
    async for row in rows:
        history = fold.add(row)
        if history is not None:
            yield history
    history = fold.end()
    if history is not None:
        yield history


class HistoryFold:
    """Makes one KeyHistory of the rows of each key, fed one row after the other."""

    def __init__(self, to_at: datetime) -> None:
        self._to_at = to_at
        # Nothing of the last millisecond's second can be after the moment.
        self._second = to_at.replace(microsecond=0) if to_at.microsecond < 999_000 else None
        self._now: VersionRow | None = None

    def add(self, row: VersionRow) -> KeyHistory | None:
        """The history of the key before, when this row is the first of another."""
        if self._now is not None and self._now.key == row.key:
            self._continue(row)
            return None
        history = self.end()
        self._begin(row)
        return history

    def end(self) -> KeyHistory | None:
        """The history of the last key; None when there was no row, or it was told already."""
        if self._now is None:
            return None
        now, self._now = self._now, None
        alone = () if self._versions_above else tuple(self._markers)
        covering = tuple(self._covering) if self._covers_one else ()
        return KeyHistory(
            now.key, now, self._then, self._before, alone if self._then else (),
            covering, tuple(self._gaps), tuple(self._notes), self._entries,
        )  # fmt: skip

    def _begin(self, row: VersionRow) -> None:
        self._now = row
        self._then: VersionRow | None = None
        self._markers: list[str] = []
        self._versions_above = False
        self._covering: list[str] = []
        self._covers_one = False
        self._gaps: dict[Gap, None] = {}
        self._notes: dict[Note, None] = {}
        self._entries = 0
        self._before = row.modified_at
        if not row.is_latest:
            self._gaps["out-of-order"] = None
        self._take(row)

    def _continue(self, row: VersionRow) -> None:
        if row.is_latest or row.modified_at > self._before:
            self._gaps["out-of-order"] = None
        self._before = row.modified_at
        self._take(row)

    def _take(self, row: VersionRow) -> None:
        self._entries += 1
        at = row.modified_at
        self._cover(row)
        if at == self._second:
            self._notes["same-second"] = None
        if self._then is not None:
            return
        if at <= self._to_at:
            self._then = row
            if "-" in row.etag and self._to_at - at <= LONGEST_UPLOAD:
                self._notes["sent-in-parts"] = None
            return
        if row.version_id == "null":
            self._gaps["null-version"] = None
        if row.is_marker and not self._versions_above:
            self._markers.append(row.version_id)
        else:
            self._versions_above = True
            self._markers.clear()

    def _cover(self, row: VersionRow) -> None:
        """Until the first version is met, or a marker that was there at the moment."""
        if self._covers_one or self._then is not None:
            return
        if not row.is_marker:
            self._covers_one = True
        elif row.modified_at > self._to_at:
            self._covering.append(row.version_id)
