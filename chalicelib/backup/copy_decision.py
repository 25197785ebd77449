"""Which objects of a component are still to be copied from one location to another. Pure.

It follows from two listings. A point's manifest is last: in every location a manifest means a whole
point. A quarantine or a hold is removed where the source has it no more, but only of a point that
the source has whole: what is lost here takes no protection from the copies.

Source: docs/design.md, "Orders that must hold".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from chalicelib.plan.manifest import (
    BEGUN,
    HOLD,
    MANIFEST,
    PROOF,
    QUARANTINE,
    READ,
    SEALED,
    UNQUARANTINED,
    point_key,
    point_of_key,
)
from chalicelib.plan.records import (
    DatabasePoint,
    Record,
    RecoveryPoint,
)
from chalicelib.plan.wal import (
    BESIDE,
    SEGMENT_BYTES,
    WalEnd,
    WalObject,
    best_segments,
    parse_wal_key,
    wal_ends,
)
from chalicelib.ports import (
    Holdings,
    Listed,
)

# Notes that say something of the content or bind every location. `read.json` tells of one alone.
NOTES = (QUARANTINE, UNQUARANTINED, PROOF, HOLD)
CLOCKS_DIFFER = timedelta(minutes=5)

Reason = Literal["note", "wal", "index", "object", "manifest"]


@dataclass(frozen=True)
class CopyItem(Record):
    """One object to copy. `sha256` is what the manifest says, "" where none does. `stored_at`:
    since when the source has it, from which the lag is counted. `settled`: it was not written after
    its manifest."""

    key: str
    size_bytes: int
    stored_at: datetime
    reason: Reason
    sha256: str = ""
    settled: bool = False


@dataclass(frozen=True)
class CopyDecision:
    """`first`, then each of `points` with its manifest last. `obsolete`: quarantines and
    holds to remove.

    `lost`: keys among `first` that the target has had, as its manifest says, and has no more.
    `differing`: keys whose sizes differ in the two places; they are left for a repair.
    `left`: points that the source itself cannot vouch for, each (id, why). `vouched`: how many it
    can, without those in quarantine. `ends`: when the source had its WAL, which a copy's own times
    cannot tell.
    """

    first: tuple[CopyItem, ...]
    points: tuple[tuple[CopyItem, ...], ...]
    obsolete: tuple[str, ...]
    differing: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    ends: tuple[WalEnd, ...] = ()
    vouched: int = 0
    lost: tuple[str, ...] = ()

    @property
    def items(self) -> tuple[CopyItem, ...]:
        return (*self.first, *(item for point in self.points for item in point))

    @property
    def total_bytes(self) -> int:
        return sum(item.size_bytes for item in self.items)


def decide_copies(
    holdings: Holdings, source: Iterable[Listed], target: Iterable[Listed]
) -> CopyDecision:
    """What the target lacks, in the order in which it may be copied.

    Pure. A quarantined point's data is not copied: no restore may use it. Its note is, unless it is
    about the source's copy alone: a copy that was made before is whole.
    """
    rows = {row.key: row for row in source}
    there = {row.key: row for row in target}
    lacking = {key for key in rows if key not in there}
    damaged = {point_key(it.point.id, QUARANTINE) for it in holdings.standings if it.is_damaged}
    notes = [
        row
        for key, row in rows.items()
        if _is_note(key) and key not in damaged and _is_stale(row, there)
    ]
    segment_bytes = _segment_bytes(holdings)
    wal = [rows[key] for key in sorted(lacking & _current_wal(rows.values(), segment_bytes))]
    beside = [rows[key] for key in sorted(lacking) if key.startswith(BESIDE)]
    usable = [it.point for it in holdings.standings if not it.quarantined]
    pieces = [
        (manifest, _objects_of(point, manifest, rows, lacking))
        for point in usable
        if (manifest := rows.get(point_key(point.id, MANIFEST)))
    ]
    lost = [item for manifest, some in pieces if manifest.key in there for item in some]
    return CopyDecision(
        first=(
            *(_item(row, "note") for row in notes if _is_quarantine(row.key)),
            *(_item(row, "wal") for row in wal),
            *(_item(row, "index") for row in beside),
            *(_item(row, "note") for row in notes if not _is_quarantine(row.key)),
            *lost,
        ),
        points=tuple(
            (*some, _item(manifest, "manifest"))
            for manifest, some in pieces
            if manifest.key in lacking
        ),
        obsolete=tuple(sorted(_given_up(holdings, rows, there))),
        differing=tuple(
            key
            for key in sorted(rows.keys() & there.keys())
            if _is_data(key) and there[key].size_bytes != rows[key].size_bytes
        ),
        left=tuple((item.point_id, item.reason) for item in holdings.rejected),
        ends=tuple(wal_ends(_segments(rows.values(), segment_bytes))),
        vouched=len(usable),
        lost=tuple(item.key for item in lost),
    )


def _objects_of(
    point: RecoveryPoint, manifest: Listed, rows: dict[str, Listed], lacking: set[str]
) -> list[CopyItem]:
    """What the target lacks of them."""
    return [
        CopyItem(
            item.key, item.size_bytes, rows[item.key].modified_at, "object", item.sha256,
            settled=rows[item.key].modified_at <= manifest.modified_at,
        )
        for item in point.objects
        if item.key in lacking
    ]  # fmt: skip


def _item(row: Listed, reason: Reason) -> CopyItem:
    return CopyItem(row.key, row.size_bytes, row.modified_at, reason)


def _is_note(key: str) -> bool:
    return key.startswith("points/") and key.endswith(tuple(f"/{name}" for name in NOTES))


def _given_up(holdings: Holdings, rows: dict[str, Listed], there: Iterable[str]) -> Iterator[str]:
    """Keys of quarantines and holds that the source no longer has, of points that it has."""
    whole = {item.point.id: item for item in holdings.standings}
    for key in there:
        standing = whole.get(point_of_key(key))
        if standing is None or key in rows:
            continue
        if key == point_key(standing.point.id, HOLD):
            yield key
        if key == point_key(standing.point.id, QUARANTINE) and not standing.quarantined:
            yield key


def _is_quarantine(key: str) -> bool:
    return key.endswith("/quarantine.json")


def _is_data(key: str) -> bool:
    """What never changes under its key."""
    of_point = key.startswith("points/") and not key.endswith((READ, SEALED, BEGUN, *NOTES))
    return of_point or key.startswith("wal/")


def _is_stale(row: Listed, there: dict[str, Listed]) -> bool:
    """The two clocks may differ: a note is written again until its copy is clearly the later."""
    copy = there.get(row.key)
    return copy is None or copy.modified_at < row.modified_at + CLOCKS_DIFFER


def _current_wal(rows: Iterable[Listed], segment_bytes: int) -> set[str]:
    """Histories, and of each segment the best object: what is superseded is not copied."""
    wal = {row.key for row in rows if row.key.startswith("wal/")}
    all_segments = {row.key for row in rows if parse_wal_key(row.key, row.modified_at)}
    best = {item.key for item in _segments(rows, segment_bytes)}
    return (wal - all_segments) | best


def _segments(rows: Iterable[Listed], segment_bytes: int) -> tuple[WalObject, ...]:
    parsed = (parse_wal_key(row.key, row.modified_at, segment_bytes) for row in rows)
    return best_segments(item for item in parsed if item is not None)


def _segment_bytes(holdings: Holdings) -> int:
    points = [item.point for item in holdings.standings]
    sizes = (point.segment_bytes for point in points if isinstance(point, DatabasePoint))
    return max(sizes, default=SEGMENT_BYTES)
