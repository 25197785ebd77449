"""Makes an empty bucket what another was: from that one as far as it goes, else from its replica.

A key that the bucket itself still knows is taken from there, or left out when it is deleted there;
a key of which it has no version left is taken from the replica, as of a moment. Nothing in the
target is deleted, and nothing that somebody else put there is overwritten.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from chalicelib.errors import LeewardError
from chalicelib.plan.inventory import InventoryEntry
from chalicelib.ports.buckets import Bucket, ObjectRow, VersionRow
from chalicelib.recover.bucket.elsewhere import FOREIGN
from chalicelib.recover.bucket.flight import IN_FLIGHT, Flight
from chalicelib.recover.bucket.history import KeyHistory, read_histories
from chalicelib.recover.bucket.outcome import Copies, OutcomeMeter, UndoOutcome
from chalicelib.recover.bucket.same_content import Place, heads_of, read_and_compare, same_bytes
from chalicelib.recover.bucket.undo import ARCHIVED_CLASSES
from chalicelib.recover.bucket.witness import Vanished, of_copy

NAMED = 20
READ_AT_ONCE = 1000
# Of the header x-amz-restore, when a copy can be read. Source: S3 API reference, HeadObject.
THAWED = 'ongoing-request="false"'
Lost = Mapping[str, Vanished]


@dataclass(frozen=True)
class Wanted:
    """One object of the target: which version of which bucket it is copied from."""

    source: Bucket
    row: VersionRow

    @property
    def place(self) -> Place:
        return Place(self.source, self.row.key, self.row.version_id)


@dataclass(frozen=True)
class Filled:
    """`objects` there are to be, `from_replica` of them; `missing`: keys that are not as they
    should be, when all were compared (at most 20 are named), none where nothing was copied."""

    outcome: UndoOutcome
    objects: int
    from_replica: int
    missing: list[str]

    @property
    def ok(self) -> bool:
        return self.outcome.ok and not self.missing


async def fill_bucket(
    bucket: Bucket,
    replica: Bucket,
    target: Bucket,
    moment: datetime,
    vanished: Sequence[Vanished] = (),
) -> Filled:
    """Copy what is not there, then compare every object. Safe to repeat.

    Args:
        moment: of the replica; what came into the bucket later is taken from there.
        vanished: versions that the bucket lost for good; what is left of such a key there is older,
            so that it is taken from the replica, unless somebody wrote it again since.
    """
    lost = {one.key: one for one in vanished}
    outcome = await _copy(bucket, replica, target, moment, lost)
    objects = from_replica = 0
    missing: list[str] = []
    async for wanted, there in _pairs(bucket, replica, target, moment, lost):
        if wanted is None:
            continue
        objects += 1
        from_replica += wanted.source is replica
        if there is None or not await _same(wanted, Place(target, wanted.row.key), there):
            missing.append(wanted.row.key)
    return Filled(outcome, objects, from_replica, missing[:NAMED])


async def fill_from_point(
    entries: Callable[[], Iterator[InventoryEntry]], replica: Bucket, target: Bucket
) -> Filled:
    """Copy the versions that an inventory names, then compare every object. Safe to repeat.

    Args:
        entries: the inventory from its beginning, in byte order; read in another thread.
    """
    meter = OutcomeMeter(None)
    copies = Copies(replica.name, target, meter, None)
    objects = await _bring(_named(entries(), replica, target), replica, target, copies, meter)
    missing: list[str] = []
    async for wanted, there in _named(entries(), replica, target):
        if wanted and (
            there is None or not await _same(wanted, Place(target, wanted.row.key), there)
        ):
            missing.append(wanted.row.key)
    return Filled(meter.outcome(), objects, objects, missing[:NAMED])


async def look_from_point(
    entries: Callable[[], Iterator[InventoryEntry]], replica: Bucket, target: Bucket
) -> Filled:
    """What `fill_from_point` would do: each version is asked for and counted as "to-copy". One that
    is gone, or lies in an archive, is told as it would be told then."""
    meter = OutcomeMeter(None)
    looks = _Looks(replica, meter)
    objects = await _bring(_named(entries(), replica, target), replica, target, looks, meter)
    return Filled(meter.outcome(), objects, objects, [])


@dataclass(frozen=True)
class _Looks:
    """In place of Copies, for a dry run."""

    source: Bucket
    meter: OutcomeMeter

    async def copy(self, wanted: VersionRow) -> None:
        try:
            found = await self.source.head(wanted.key, version_id=wanted.version_id)
        except LeewardError as error:
            self.meter.failed(wanted.key, error)
            return
        archived = found.storage_class in ARCHIVED_CLASSES and THAWED not in found.restore
        self.meter.done("archived" if archived else "to-copy", wanted.size_bytes)


async def _bring(
    pairs: AsyncIterator[tuple[Wanted | None, ObjectRow | None]],
    replica: Bucket,
    target: Bucket,
    copies: Copies | _Looks,
    meter: OutcomeMeter,
) -> int:
    """The number of objects that there are to be."""
    objects = 0
    async with Flight(IN_FLIGHT) as flight:
        async for wanted, there in pairs:
            objects += wanted is not None
            if wanted is None and there is not None:
                meter.fail(there.key, "target-not-empty", FOREIGN)
            elif wanted is not None and there is None:
                await flight.start(copies.copy(wanted.row))
            elif wanted is not None and there is not None:
                await flight.start(_settle(wanted, there, target, {replica.name: copies}, meter))
        await flight.land()
    return objects


async def _named(
    entries: Iterator[InventoryEntry], replica: Bucket, target: Bucket
) -> AsyncIterator[tuple[Wanted | None, ObjectRow | None]]:
    """(what is to be there, what is there) for every key of the two, in order; never neither."""
    rows = target.list()
    row = await anext(rows, None)
    while batch := await asyncio.to_thread(lambda: list(islice(entries, READ_AT_ONCE))):
        for entry in batch:
            while row is not None and row.key < entry.key:
                yield None, row
                row = await anext(rows, None)
            here = row if row is not None and row.key == entry.key else None
            yield Wanted(replica, _version(entry)), here
            if here is not None:
                row = await anext(rows, None)
    while row is not None:
        yield None, row
        row = await anext(rows, None)


def _version(entry: InventoryEntry) -> VersionRow:
    return VersionRow(
        entry.key, entry.version, is_latest=False, is_marker=False,
        modified_at=entry.modified_at, size_bytes=entry.size_bytes, etag=entry.etag,
        storage_class="STANDARD",
    )  # fmt: skip


async def _copy(
    bucket: Bucket, replica: Bucket, target: Bucket, moment: datetime, lost: Lost
) -> UndoOutcome:
    meter = OutcomeMeter(None)
    copies = {name.name: Copies(name.name, target, meter, None) for name in (bucket, replica)}
    async with Flight(IN_FLIGHT) as flight:
        async for wanted, there in _pairs(bucket, replica, target, moment, lost):
            if wanted is None:
                if there is not None:
                    meter.fail(there.key, "target-not-empty", FOREIGN)
            elif there is None:
                await flight.start(copies[wanted.source.name].copy(wanted.row))
            else:
                await flight.start(_settle(wanted, there, target, copies, meter))
        await flight.land()
    return meter.outcome()


async def _settle(
    wanted: Wanted,
    there: ObjectRow,
    target: Bucket,
    copies: Mapping[str, Copies | _Looks],
    meter: OutcomeMeter,
) -> None:
    """What an earlier attempt put there stays, unless its source was written again since."""
    try:
        same = await _same(wanted, Place(target, there.key), there)
    except LeewardError as error:
        meter.failed(there.key, error)
        return
    if same:
        meter.done("same")
    elif wanted.row.modified_at > there.modified_at:
        await copies[wanted.source.name].copy(wanted.row)
    else:
        meter.fail(there.key, "target-not-empty", FOREIGN)


async def _same(wanted: Wanted, place: Place, there: ObjectRow) -> bool:
    if wanted.row.size_bytes != there.size_bytes:
        return False
    if wanted.row.etag and wanted.row.etag == there.etag:
        return True
    same = same_bytes(*await heads_of(wanted.place, place))
    return await read_and_compare(wanted.place, place) if same is None else same


async def _pairs(
    bucket: Bucket, replica: Bucket, target: Bucket, moment: datetime, lost: Lost
) -> AsyncIterator[tuple[Wanted | None, ObjectRow | None]]:
    """(what is to be there, what is there) for every key of the three, in order; never neither."""
    own, copies = read_histories(bucket, "", moment), read_histories(replica, "", moment)
    rows = target.list()
    mine, theirs, row = (
        await anext(own, None), await anext(copies, None), await anext(rows, None)
    )  # fmt: skip
    while mine or theirs or row:
        key = min(one.key for one in (mine, theirs, row) if one)
        wanted = _wanted(
            bucket, mine if mine and mine.key == key else None,
            replica, theirs if theirs and theirs.key == key else None,
            lost.get(key),
        )  # fmt: skip
        there = row if row and row.key == key else None
        if wanted or there:
            yield wanted, there
        if mine and mine.key == key:
            mine = await anext(own, None)
        if theirs and theirs.key == key:
            theirs = await anext(copies, None)
        if row and row.key == key:
            row = await anext(rows, None)


def _wanted(
    bucket: Bucket,
    mine: KeyHistory | None,
    replica: Bucket,
    theirs: KeyHistory | None,
    lost: Vanished | None,
) -> Wanted | None:
    if lost is not None and (mine is None or mine.now.modified_at <= lost.modified_at):
        row = of_copy(lost) if lost.copy else theirs.wanted if theirs else None
        return Wanted(replica, row) if row else None
    if mine is not None:
        return Wanted(bucket, mine.live) if mine.live else None
    return Wanted(replica, theirs.wanted) if theirs and theirs.wanted else None
