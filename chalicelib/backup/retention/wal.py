"""Which stored WAL stays: what kept base backups cannot do without, and the promised window.

A base backup is consistent only when the WAL from its start to its end is replayed, so that much
stays as long as it does. Beyond that an unbroken stretch stays on every timeline that was written
to within `logs`, from the base backup before that window on, so that each moment in it can be
reached: one that can be restored with all it builds on. Timeline histories are no part of this:
they are tiny, and stay.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import NamedTuple

from chalicelib.backup.retention.reasons import Reason
from chalicelib.plan.components import Retention
from chalicelib.plan.records import DatabasePoint, PointStanding, format_lsn
from chalicelib.plan.units import format_duration
from chalicelib.plan.wal import (
    WalInventory,
    WalObject,
    best_segments,
    follow,
    restorable,
    segment_start,
)


class JudgedWal(NamedTuple):
    """One stored segment and why it stays or goes."""

    wal: WalObject
    reason: Reason


class WalRange(NamedTuple):
    """Neighbours on one timeline with the same reason: [start_lsn, end_lsn)."""

    timeline: int
    start_lsn: int
    end_lsn: int
    segments: int
    reason: Reason

    def __str__(self) -> str:
        span = f"{format_lsn(self.start_lsn)} to {format_lsn(self.end_lsn)}"
        return f"timeline {self.timeline}, {span}"


@dataclass(frozen=True)
class WalDecision:
    """Every object in exactly one of the two, by (timeline, start)."""

    keep: tuple[JudgedWal, ...]
    prune: tuple[JudgedWal, ...]


OUTLIVED = Reason("outlived", "before every moment that logs promise, and no base backup needs it")
SUPERSEDED = Reason("superseded", "a longer copy of the same segment is stored")


def decide_wal(
    objects: Iterable[WalObject],
    histories: Mapping[int, tuple[tuple[int, int], ...]],
    kept: Sequence[PointStanding],
    policy: Retention,
    *,
    now: datetime,
    segment_bytes: int,
    unreadable: int = 0,
) -> WalDecision:
    """Split stored WAL into what to keep and what to prune.

    Pure. Time counts back from the newest WAL, so that an outage makes nothing go. Without
    `policy.logs` the window is everything since the oldest kept point.

    Args:
        objects: all segments, superseded partial ones among them.
        kept: the standings that retention keeps; those of other kinds are passed over.
        unreadable: how many points cannot be judged; with any, no WAL goes, for nobody knows
            what they need.
    """
    ordered = sorted(objects, key=lambda one: (one.timeline, one.start_lsn, one.end_lsn))
    inventory = WalInventory(best_segments(ordered), dict(histories), segment_bytes)
    best = {one.key for one in inventory.segments}
    judge = _Judge(inventory, kept, policy, now, unreadable)
    keep, prune = [], []
    for one in ordered:
        reason = judge.why_kept(one)
        if one.key not in best:
            prune.append(JudgedWal(one, SUPERSEDED))
        elif reason is None:
            prune.append(JudgedWal(one, OUTLIVED))
        else:
            keep.append(JudgedWal(one, reason))
    return WalDecision(tuple(keep), tuple(prune))


def wal_ranges(judged: Iterable[JudgedWal]) -> list[WalRange]:
    """Put neighbours with the same reason together; `judged` by (timeline, start)."""
    found: list[WalRange] = []
    for wal, reason in judged:
        last = found[-1] if found else None
        joins = last and (last.timeline, last.end_lsn, last.reason) == (
            wal.timeline, wal.start_lsn, reason,
        )  # fmt: skip
        if last and joins:
            found[-1] = last._replace(end_lsn=wal.end_lsn, segments=last.segments + 1)
        else:
            found.append(WalRange(wal.timeline, wal.start_lsn, wal.end_lsn, 1, reason))
    return found


class _Judge:
    def __init__(
        self,
        wal: WalInventory,
        kept: Sequence[PointStanding],
        policy: Retention,
        now: datetime,
        unreadable: int,
    ) -> None:
        self._wal = wal
        points = [item.point for item in kept if isinstance(item.point, DatabasePoint)]
        self._bases = restorable(
            item.point
            for item in kept
            if isinstance(item.point, DatabasePoint) and not item.quarantined
        )
        self._everything = self._why_everything(unreadable)
        self._spans = _Spans(points, wal.segment_bytes)
        newest = min(now, max((one.stored_at for one in wal.segments), default=now))
        self._since = newest - policy.logs if policy.logs else None
        self._logs = policy.logs
        self._window = {} if self._everything else self._find_window()

    def why_kept(self, one: WalObject) -> Reason | None:
        if self._everything:
            return self._everything
        if needed_by := self._spans.over(one):
            return Reason("needed", f"{needed_by} is not consistent without it")
        if one.key in self._window:
            return self._window[one.key]
        if self._since is not None and one.stored_at >= self._since:
            return Reason("logs", f"stored within {_show(self._logs)} of the newest WAL")
        if one.timeline > 1 and one.timeline not in self._wal.histories:
            return Reason("no-history", f"the history of timeline {one.timeline} is not here")
        return None

    def _why_everything(self, unreadable: int) -> Reason | None:
        if unreadable:
            words = f"{unreadable} recovery points cannot be read: nobody knows what they need"
            return Reason("unreadable", words)
        if not self._bases:
            return Reason("no-base", "no base backup that can be restored is kept")
        return None

    def _find_window(self) -> dict[str, Reason]:
        found: dict[str, Reason] = {}
        for timeline in sorted({one.timeline for one in self._wal.segments}):
            anchor = self._anchor(timeline)
            if anchor is None or not self._was_written_to(timeline):
                continue
            start = segment_start(anchor.start_lsn, self._wal.segment_bytes)
            promised = f"the last {_show(self._logs)}" if self._logs else "any moment"
            reason = Reason("logs", f"reaches {promised} from {anchor.id}")
            for one in follow(self._wal, timeline):
                if one.end_lsn > start:
                    found[one.key] = reason
        return found

    def _was_written_to(self, timeline: int) -> bool:
        since = self._since
        return since is None or any(
            one.stored_at >= since for one in self._wal.segments if one.timeline == timeline
        )

    def _anchor(self, timeline: int) -> DatabasePoint | None:
        """The newest base backup on the way to this timeline that ended before the window, else
        the oldest one; without a window the oldest."""
        left_at = dict(self._wal.histories.get(timeline, ()))
        on_the_way = [
            point
            for point in self._bases
            if point.timeline == timeline or point.end_lsn <= left_at.get(point.timeline, -1)
        ]
        before = [point for point in on_the_way if self._since and point.finished_at <= self._since]
        if before:
            return max(before, key=lambda point: point.end_lsn)
        return min(on_the_way, key=lambda point: point.end_lsn, default=None)


class _Spans:
    """WAL that points need to become consistent, found by bisection.

    A segment counts on whichever timeline it lies: one in which a timeline ends is also the
    first of the next, and recovery reads that copy.
    """

    def __init__(self, points: Iterable[DatabasePoint], segment_bytes: int) -> None:
        spans = sorted(
            (segment_start(point.start_lsn, segment_bytes), point.end_lsn, point.id)
            for point in points
        )
        self._starts = [start for start, _, _ in spans]
        self._furthest = list(accumulate(((end, name) for _, end, name in spans), max))

    def over(self, one: WalObject) -> str:
        """The id of a point whose span reaches into the segment, "" when there is none."""
        behind = bisect_right(self._starts, one.end_lsn - 1)
        if not behind:
            return ""
        end, name = self._furthest[behind - 1]
        return name if end > one.start_lsn else ""


def _show(period: timedelta | None) -> str:
    return format_duration(period) if period else ""
