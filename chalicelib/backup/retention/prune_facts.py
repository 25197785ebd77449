"""What a pruner must know of one component at one location, and what follows from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from chalicelib.backup.long_copies import KEPT
from chalicelib.backup.retention.decide import decide_retention
from chalicelib.backup.retention.reasons import RetentionDecision
from chalicelib.backup.retention.wal import WalDecision, decide_wal
from chalicelib.errors import Truncated
from chalicelib.plan.components import Retention
from chalicelib.plan.manifest import MANIFEST, POINTS, QUARANTINE, point_key, point_of_key
from chalicelib.plan.records import DatabasePoint, PointStanding
from chalicelib.plan.wal import (
    BESIDE,
    SEGMENT_BYTES,
    WalObject,
    outlived_indexes,
    parse_history,
    parse_history_key,
    parse_wal_key,
)
from chalicelib.ports import Catalogue, Listed, ObjectStore, RejectedPoint
from chalicelib.ports.locks import ObjectLocks

# A backup or a copy that still runs has objects and no manifest yet; of a long one the next object
# may come a week after the last.
SAFETY_AGE = KEPT + timedelta(days=1)
READ_THREADS = 8


@dataclass(frozen=True)
class PruneFacts:
    """`rows`: everything below points/ and wal/, and the indexes beside them. `standings` with the
    locks that the store has."""

    component: str
    standings: tuple[PointStanding, ...]
    rejected: tuple[RejectedPoint, ...]
    rows: tuple[Listed, ...]
    histories: Mapping[int, tuple[tuple[int, int], ...]]


class Leftover(NamedTuple):
    """Objects of a point that has no manifest: what a crash left of a backup or of a prune."""

    point_id: str
    keys: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True)
class PruneDecision:
    """What goes and what stays of a component. `sizes`: bytes by key, as listed; `folders`: by
    point id, notes and manifest among them. `indexes`: keys of those that go."""

    component: str
    retention: RetentionDecision
    wal: WalDecision
    leftovers: tuple[Leftover, ...]
    sizes: Mapping[str, int]
    folders: Mapping[str, int]
    indexes: tuple[str, ...] = ()

    def point_bytes(self, standing: PointStanding) -> int:
        return self.folders.get(standing.point.id, standing.point.stored_bytes)

    @property
    def freed_bytes(self) -> int:
        points = sum(map(self.point_bytes, self.retention.prune))
        wal = sum(self.sizes.get(one.wal.key, 0) for one in self.wal.prune)
        leftovers = sum(one.size_bytes for one in self.leftovers)
        return points + wal + leftovers + sum(self.sizes.get(key, 0) for key in self.indexes)

    @property
    def kept_bytes(self) -> int:
        points = sum(self.point_bytes(kept.standing) for kept in self.retention.keep)
        return points + sum(self.sizes.get(one.wal.key, 0) for one in self.wal.keep)


def read_facts(
    store: ObjectStore, catalogue: Catalogue, component: str, *, locks: ObjectLocks | None = None
) -> PruneFacts:
    """Listings first: what is added meanwhile is then too new to be judged.

    Raises:
        Unavailable, Throttled: as ObjectStore; nothing was changed.
    """
    rows = tuple(row for prefix in (POINTS, "wal/", *BESIDE) for row in store.list(prefix))
    histories = {
        timeline: parse_history(store.get(row.key))
        for row in rows
        if (timeline := parse_history_key(row.key)) is not None
    }
    held = catalogue.holdings()
    standings = held.standings if locks is None else _with_locks(held.standings, locks)
    return PruneFacts(component, standings, held.rejected, rows, histories)


def _with_locks(
    standings: Iterable[PointStanding], locks: ObjectLocks
) -> tuple[PointStanding, ...]:
    def look(standing: PointStanding) -> PointStanding:
        try:
            until = locks.locked_until(point_key(standing.point.id, MANIFEST))
        except Truncated:
            return standing
        return replace(standing, locked_until=until)

    with ThreadPoolExecutor(READ_THREADS) as threads:
        return tuple(threads.map(look, standings))


def decide_prune(
    facts: PruneFacts, policy: Retention, *, now: datetime, time_zone: str = "UTC"
) -> PruneDecision:
    """Points, WAL and leftovers of one component: what stays and what goes. Pure.

    Raises:
        NothingWouldRemain: as `decide_retention`.
    """
    retention = decide_retention(
        facts.standings, policy, now=now, time_zone=time_zone, unreadable=facts.rejected
    )
    kept = [one.standing for one in retention.keep]
    sizes = {row.key: row.size_bytes for row in facts.rows}
    return PruneDecision(
        facts.component,
        retention,
        decide_stored_wal(facts, kept, policy, now=now),
        tuple(find_leftovers(facts, now=now)),
        sizes,
        _bytes_by_point(sizes),
        decide_indexes(facts, kept),
    )


def decide_stored_wal(
    facts: PruneFacts, kept: list[PointStanding], policy: Retention, *, now: datetime
) -> WalDecision:
    sizes = {
        item.point.segment_bytes
        for item in facts.standings
        if isinstance(item.point, DatabasePoint)
    }
    segment_bytes = max(sizes, default=SEGMENT_BYTES)
    return decide_wal(
        _segments(facts.rows, segment_bytes), facts.histories, kept, policy,
        now=now, segment_bytes=segment_bytes, unreadable=len(facts.rejected),
    )  # fmt: skip


def decide_indexes(facts: PruneFacts, kept: list[PointStanding]) -> tuple[str, ...]:
    """Keys of the indexes that no kept point, and no moment after the oldest of them, asks for.

    None while a point cannot be read: nobody knows what it needs.
    """
    oldest = min((one.point.taken_at for one in kept), default=None)
    if oldest is None or facts.rejected:
        return ()
    return tuple(sorted(outlived_indexes([row.key for row in facts.rows], oldest)))


def _segments(rows: Iterable[Listed], segment_bytes: int) -> Iterator[WalObject]:
    for row in rows:
        found = parse_wal_key(row.key, row.modified_at, segment_bytes)
        if found is not None:
            yield found


def find_leftovers(facts: PruneFacts, *, now: datetime) -> Iterator[Leftover]:
    """Sets without a manifest, all of whose objects are older than any run can last.

    A set that the catalogue's index still knows lost its manifest to somebody else: it can be
    mended, and is none. Neither is a quarantined one.
    """
    known = {item.point.id for item in facts.standings}
    known |= {item.point_id for item in facts.rejected}
    folders: defaultdict[str, list[Listed]] = defaultdict(list)
    for row in facts.rows:
        if (point_id := point_of_key(row.key)) and point_id not in known:
            folders[point_id].append(row)
    for point_id, rows in sorted(folders.items()):
        names = {row.key for row in rows}
        if names & {point_key(point_id, MANIFEST), point_key(point_id, QUARANTINE)}:
            continue
        if max(row.modified_at for row in rows) < now - SAFETY_AGE:
            keys = tuple(row.key for row in rows)
            yield Leftover(point_id, keys, sum(row.size_bytes for row in rows))


def _bytes_by_point(sizes: Mapping[str, int]) -> Mapping[str, int]:
    found: defaultdict[str, int] = defaultdict(int)
    for key, size_bytes in sizes.items():
        found[point_of_key(key)] += size_bytes
    return found
