"""WAL that a recovery needs and that is not stored, from names alone."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.plan.records import DatabasePoint, RecoveryPoint, format_lsn
from chalicelib.plan.wal import (
    WalInventory,
    WalObject,
    follow,
    history_key,
    restorable,
    segment_key,
    segment_start,
    stretches,
)
from chalicelib.verify.copies.findings import Finding


@dataclass(frozen=True)
class Gap:
    """The bytes [start_lsn, end_lsn) of a timeline. `point_id` "": no single point needs them to
    be restored, but recovery to later moments cannot pass them."""

    timeline: int
    start_lsn: int
    end_lsn: int
    point_id: str = ""

    def as_finding(self, segment_bytes: int) -> Finding:
        key = segment_key(self.timeline, self.start_lsn, segment_bytes)
        span = f"WAL from {format_lsn(self.start_lsn)} to {format_lsn(self.end_lsn)}"
        return Finding("wal-gap", key, self.point_id, f"{span} of timeline {self.timeline}", "none")


def find_gaps(
    wal: WalInventory,
    points: Sequence[RecoveryPoint],
    *,
    now: datetime,
    wal_within: timedelta | None,
) -> tuple[Gap, ...]:
    """Gaps in what each base backup needs to be consistent, and in the promised window.

    The window reaches back `wal_within`, to the last base backup before it that can be restored;
    None promises none.
    """
    databases = [point for point in points if isinstance(point, DatabasePoint)]
    gaps: dict[tuple[int, int], Gap] = {}
    usable = restorable(databases)
    if wal_within is not None and usable:
        for gap in _in_window(wal, usable, now - wal_within):
            gaps[gap.timeline, gap.start_lsn] = gap
    for point in databases:
        for gap in _of_point(wal, point):
            gaps[gap.timeline, gap.start_lsn] = gap
    return tuple(gaps[place] for place in sorted(gaps))


def missing_histories(wal: WalInventory, keys: Container[str]) -> Iterator[Finding]:
    """A timeline after the first cannot be followed without the file that tells its ancestors."""
    for timeline in sorted({item.timeline for item in wal.segments} - {1}):
        if (key := history_key(timeline)) not in keys:
            yield Finding("missing", key, "", "the history of this timeline", "none")


def _of_point(wal: WalInventory, point: DatabasePoint) -> Iterator[Gap]:
    start = segment_start(point.start_lsn, point.segment_bytes)
    for begin, end in _holes(follow(wal, point.timeline), start, point.end_lsn):
        yield Gap(point.timeline, begin, end, point.id)


def _in_window(
    wal: WalInventory, points: Sequence[DatabasePoint], promised_from: datetime
) -> Iterator[Gap]:
    """Between the base backup from which the window starts and the last stored byte."""
    before = [point for point in points if point.finished_at <= promised_from]
    first = before[-1] if before else points[0]
    newest = max((item.timeline for item in wal.segments), default=first.timeline)
    segments = follow(wal, newest)
    if segments:
        start = segment_start(first.start_lsn, first.segment_bytes)
        for begin, end in _holes(segments, start, segments[-1].end_lsn):
            yield Gap(newest, begin, end)


def _holes(segments: Sequence[WalObject], start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of [start, end) that no segment has."""
    at = start
    for run in stretches(segments, 0):
        if run[0].start_lsn > at and at < end:
            yield at, min(run[0].start_lsn, end)
        at = max(at, run[-1].end_lsn)
    if at < end:
        yield at, end
