"""Versions that are gone for good, found by what inventories of the bucket have seen.

A list of versions cannot tell that one was removed: a lifecycle rule, or anybody who may delete
versions, leaves no trace in it. An inventory of an earlier night names the version that each key
had then. A version that an inventory saw, that was written at or before the moment, and that the
list neither has nor replaces by a newer entry of the moment, has vanished.

    newest inventory before the moment    what stood then, unless it was replaced since
    first one after it                    what stood at the moment, and still stood then

What was written after the one, and removed for good before the other, no inventory has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from chalicelib.errors import OutsideWindow
from chalicelib.plan.inventory import InventoryEntry, SourceVersion
from chalicelib.plan.records import Record, RecoveryPoint
from chalicelib.ports.buckets import Bucket, VersionRow
from chalicelib.recover.bucket.history import LONGEST_UPLOAD, HistoryFold, KeyHistory

READ_AT_ONCE = 1000
SHOWN = 5
MOST_HELD = 100_000
"""Vanished versions that are held in memory, some 50 MB; of more, a point is restored instead."""
# By so much a replica's copy must be younger than its source to be known as a copy of it. Source:
# SyncPolicy.margin, by which the sync before the inventory decided the same.
MARGIN = timedelta(seconds=2)


@dataclass(frozen=True)
class Witness:
    """An inventory. `entries`: from its beginning, in byte order; read in another thread."""

    point_id: str
    taken_at: datetime
    entries: Callable[[], Iterator[InventoryEntry]]


@dataclass(frozen=True)
class Vanished(Record):
    """One version that the bucket no longer has.

    `point_id`: the inventory that saw it. `copy`: the replica's version that was made from it, ""
    when no copy is known to be of this very version.
    """

    key: str
    version_id: str
    modified_at: datetime
    size_bytes: int
    point_id: str
    copy: str = ""


@dataclass(frozen=True)
class Witnessed(Record):
    """What the inventories say. `seen`: versions that one of them named, each looked for.

    `before_at`, `after_at`: of the inventories that were asked, None where there is none.
    `revived`: keys that the bucket did not have at the inventory before the moment, although
    their versions say so: a delete marker was removed since. At most SHOWN are named.
    """

    before_at: datetime | None = None
    after_at: datetime | None = None
    seen: int = 0
    vanished: tuple[Vanished, ...] = ()
    revived: int = 0
    revived_keys: tuple[str, ...] = ()

    @property
    def with_copy(self) -> tuple[Vanished, ...]:
        return tuple(one for one in self.vanished if one.copy)

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(one.key for one in self.vanished)

    @property
    def without_copy(self) -> tuple[Vanished, ...]:
        return tuple(one for one in self.vanished if not one.copy)


UNWITNESSED = Witnessed()


def choose_witnesses(
    points: Sequence[RecoveryPoint], to_at: datetime
) -> tuple[RecoveryPoint | None, RecoveryPoint | None]:
    """The newest inventory of the moment, and the first after it. Pure.

    Later ones say nothing more of the moment: what was written before it and is still there was
    there at the first one too.
    """
    ordered = sorted(points, key=lambda point: point.taken_at)
    before = [point for point in ordered if point.taken_at <= to_at]
    after = [point for point in ordered if point.taken_at > to_at]
    return (before[-1] if before else None), (after[0] if after else None)


async def hear_witnesses(
    bucket: Bucket,
    before: Witness | None,
    after: Witness | None,
    to_at: datetime,
    *,
    prefix: str = "",
    most_held: int = MOST_HELD,
) -> Witnessed:
    """Hold all versions below the prefix against what the inventories name. Nothing is changed.

    An inventory that names no version of the bucket, as those of before it was asked for them,
    is no witness, and counts as none.

    Raises:
        OutsideWindow: code "too-many-vanished".
        Damaged, Tampered: an inventory cannot be read to its end.
    """
    if before is None and after is None:
        return UNWITNESSED
    hearing = _Hearing(to_at, before, after, most_held)
    first, second = _named(before, prefix), _named(after, prefix)
    histories = _histories(bucket, prefix, to_at)
    async with aclosing(first), aclosing(second), aclosing(histories):
        one, other = await anext(first, None), await anext(second, None)
        mine = await anext(histories, None)
        while one or other or mine:
            key = min(it.key for it in (one, other, mine) if it)
            hearing.hear(
                one if one and one.key == key else None,
                other if other and other.key == key else None,
                mine if mine and mine.key == key else None,
            )
            if one and one.key == key:
                one = await anext(first, None)
            if other and other.key == key:
                other = await anext(second, None)
            if mine and mine.key == key:
                mine = await anext(histories, None)
    return hearing.testimony()


@dataclass(frozen=True)
class _Key:
    """A key's history, and the versions of it that are there: (id, time) of each."""

    key: str
    history: KeyHistory
    versions: frozenset[tuple[str, datetime]]


def judge_key(
    seen: Sequence[tuple[SourceVersion, str]],
    versions: frozenset[tuple[str, datetime]],
    then: VersionRow | None,
) -> tuple[SourceVersion, str] | None:
    """The version of the moment that is gone, None when nothing is. Pure.

    Args:
        seen: (version, id of the inventory), none of them newer than the moment.
        versions: (id, time) of all that are there.
        then: the newest entry of the moment, a version or a marker.
    """
    if not seen:
        return None
    newest = max(seen, key=lambda it: it[0].modified_at)
    found = newest[0]
    if (found.version, found.modified_at) in versions:
        return None
    if then is not None and then.modified_at > found.modified_at:
        return None
    return newest


class _Hearing:
    def __init__(
        self, to_at: datetime, before: Witness | None, after: Witness | None, most_held: int
    ) -> None:
        self._to_at, self._before, self._after = to_at, before, after
        self._most_held = most_held
        self._named = [0, 0]
        self._seen = 0
        self._vanished: list[Vanished] = []
        self._revived = 0
        self._revived_keys: list[str] = []

    def hear(
        self, one: InventoryEntry | None, other: InventoryEntry | None, mine: _Key | None
    ) -> None:
        seen: list[tuple[SourceVersion, str]] = []
        entries: dict[str, InventoryEntry] = {}
        for place, (entry, witness) in enumerate(((one, self._before), (other, self._after))):
            if entry is None or witness is None or entry.source is None:
                continue
            self._named[place] += 1
            if entry.source.modified_at <= self._to_at:
                seen.append((entry.source, witness.point_id))
                entries[witness.point_id] = entry
        self._seen += bool(seen)
        then = mine.history.then if mine else None
        gone = judge_key(seen, mine.versions if mine else frozenset(), then)
        if gone is not None:
            self._hold(gone, entries)
        elif mine and (one is None or one.source is None) and self._was_absent(mine.history):
            self._revived += 1
            self._revived_keys = [*self._revived_keys, mine.key][:SHOWN]

    def _hold(self, gone: tuple[SourceVersion, str], entries: dict[str, InventoryEntry]) -> None:
        source, point_id = gone
        entry = entries[point_id]
        copy = entry.version if is_copy(entry) else ""
        self._vanished.append(
            Vanished(
                entry.key, source.version, source.modified_at, source.size_bytes, point_id, copy
            )
        )
        if len(self._vanished) > self._most_held:
            raise OutsideWindow(
                f"expected single versions to be gone, found more than {self._most_held} that"
                f" {point_id} names",
                code="too-many-vanished",
                hint="`leeward restore inventory` makes a bucket of what a point names.",
            )

    def _was_absent(self, history: KeyHistory) -> bool:
        """At the inventory before the moment, although a version of then says it was there.

        What was sent in parts is dated from the beginning of its upload.
        """
        wanted, before = history.wanted, self._before
        if wanted is None or before is None:
            return False
        sent = LONGEST_UPLOAD if "-" in wanted.etag else timedelta()
        return wanted.modified_at + sent < before.taken_at.replace(microsecond=0)

    def testimony(self) -> Witnessed:
        before = self._before if self._named[0] else None
        after = self._after if self._named[1] else None
        if before is None:
            self._revived, self._revived_keys = 0, []
        return Witnessed(
            before.taken_at if before else None, after.taken_at if after else None, self._seen,
            tuple(self._vanished), self._revived, tuple(self._revived_keys),
        )  # fmt: skip


def is_copy(entry: InventoryEntry) -> bool:
    """Whether the replica's version was made from the version of the bucket beside it. Pure."""
    source = entry.source
    if source is None or source.size_bytes != entry.size_bytes:
        return False
    if source.etag and source.etag == entry.etag:
        return True
    return source.modified_at + MARGIN < entry.modified_at


async def _named(witness: Witness | None, prefix: str) -> AsyncGenerator[InventoryEntry, None]:
    if witness is None:
        return
    entries = witness.entries()
    while batch := await asyncio.to_thread(lambda: list(islice(entries, READ_AT_ONCE))):
        for entry in batch:
            if entry.key.startswith(prefix):
                yield entry


async def _histories(bucket: Bucket, prefix: str, to_at: datetime) -> AsyncGenerator[_Key, None]:
    fold = HistoryFold(to_at)
    versions: set[tuple[str, datetime]] = set()
    rows: AsyncIterator[VersionRow] = bucket.list_versions(prefix)
    async for row in rows:
        history = fold.add(row)
        if history is not None:
            yield _Key(history.key, history, frozenset(versions))
            versions = set()
        if not row.is_marker:
            versions.add((row.version_id, row.modified_at))
    history = fold.end()
    if history is not None:
        yield _Key(history.key, history, frozenset(versions))


def of_copy(one: Vanished) -> VersionRow:
    """The replica's version, as a copy is made from it."""
    return VersionRow(
        one.key, one.copy, is_latest=False, is_marker=False, modified_at=one.modified_at,
        size_bytes=one.size_bytes, storage_class="STANDARD",
    )  # fmt: skip


def without(testimony: Witnessed, keys: frozenset[str]) -> Witnessed:
    """The same, when somebody has accounted for these keys."""
    left = tuple(one for one in testimony.vanished if one.key not in keys)
    return replace(testimony, vanished=left)
