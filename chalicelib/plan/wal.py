"""WAL as it lies in a component's object store: names of segments, histories, and what they cover.

Pure arithmetic on names; docs/design.md lists the keys. A segment's name depends on the segment
size that the cluster was made with (16 MiB unless initdb was told otherwise).
Source: XLogFileName and readTimeLineHistory (src/include/access/xlog_internal.h,
src/backend/access/transam/timeline.c).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import zip_longest

from chalicelib.plan.records import DatabasePoint, Window, parse_time

SEGMENT_BYTES = 16 << 20
COPIED = "copied.json"
"""In a copy: {"ends": [[timeline, end LSN, stored_at], ...]} of where it was copied from."""
BESIDE = ("schemas/", "relations/")
"""Indexes that a recovery uses when they are there, named after when they were true."""
_INDEX_KEY = re.compile(rf"({'|'.join(BESIDE)})(?P<at>[^/]+)\.json")
INDEX_MARGIN = timedelta(days=1)
"""By how much an index may speak of later than its point: the WAL before it, two clocks."""
_KEY = re.compile(
    r"wal/(?P<timeline>[0-9A-F]{8})/(?P<name>[0-9A-F]{24})(\.(?P<end>[0-9A-F]{16})\.partial)?\.zst"
)
# Timeline, position, and words that nobody reads; what is none is a comment.
_HISTORY_LINE = re.compile(r"\s*([0-9]{1,10})\s+([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\b")
_HISTORY_KEY = re.compile(r"wal/([0-9A-F]{8})\.history")


def segment_start(lsn: int, segment_bytes: int = SEGMENT_BYTES) -> int:
    """The first byte of the segment that holds `lsn`."""
    return lsn - lsn % segment_bytes


def segment_name(timeline: int, lsn: int, segment_bytes: int = SEGMENT_BYTES) -> str:
    """PostgreSQL's own file name of the segment that holds `lsn`."""
    segments_per_id = (1 << 32) // segment_bytes
    high, low = divmod(lsn // segment_bytes, segments_per_id)
    return f"{timeline:08X}{high:08X}{low:08X}"


def segment_key(timeline: int, lsn: int, segment_bytes: int = SEGMENT_BYTES) -> str:
    return f"wal/{timeline:08X}/{segment_name(timeline, lsn, segment_bytes)}.zst"


def partial_key(timeline: int, end_lsn: int, segment_bytes: int = SEGMENT_BYTES) -> str:
    """Of the segment that holds the byte before `end_lsn`, filled up to there."""
    name = segment_name(timeline, end_lsn - 1, segment_bytes)
    return f"wal/{timeline:08X}/{name}.{end_lsn:016X}.partial.zst"


def history_key(timeline: int) -> str:
    return f"wal/{timeline:08X}.history"


def is_index_key(key: str) -> bool:
    return _INDEX_KEY.fullmatch(key) is not None


def outlived_indexes(stored: Collection[str], since: datetime) -> frozenset[str]:
    """Of the stored keys of indexes those that no moment from `since` on asks for.

    A moment asks for the last index before it and for what comes later, so that of each kind the
    last one before `since` stays. What tells no time stays.
    """
    gone: set[str] = set()
    for kind in BESIDE:
        dated = [(at, key) for key in stored if key.startswith(kind) if (at := _index_at(key))]
        before = sorted((at, key) for at, key in dated if at <= since - INDEX_MARGIN)
        gone.update(key for _, key in before[:-1])
    return frozenset(gone)


def _index_at(key: str) -> datetime | None:
    found = _INDEX_KEY.fullmatch(key)
    try:
        return parse_time(found["at"]) if found else None
    except ValueError:
        return None


@dataclass(frozen=True)
class WalObject:
    """A stored segment: the bytes [start_lsn, end_lsn) of a timeline."""

    key: str
    name: str
    timeline: int
    start_lsn: int
    end_lsn: int
    partial: bool
    stored_at: datetime


@dataclass(frozen=True)
class WalInventory:
    """The best object for each segment (a complete one, else the longest partial), by
    (timeline, start), and for each timeline its ancestors: ((timeline, switch LSN), ...)."""

    segments: tuple[WalObject, ...]
    histories: Mapping[int, tuple[tuple[int, int], ...]]
    segment_bytes: int = SEGMENT_BYTES


def parse_wal_key(
    key: str, stored_at: datetime, segment_bytes: int = SEGMENT_BYTES
) -> WalObject | None:
    """None for what is no segment (histories, indexes of changes, foreign files)."""
    found = _KEY.fullmatch(key)
    if not found:
        return None
    name, end = found["name"], found["end"]
    high, low = int(name[8:16], 16), int(name[16:], 16)
    start = (high << 32) + low * segment_bytes
    end_lsn = int(end, 16) if end else start + segment_bytes
    return WalObject(key, name, int(name[:8], 16), start, end_lsn, bool(end), stored_at)


def parse_history_key(key: str) -> int | None:
    """The timeline of a history's key, None for other keys."""
    found = _HISTORY_KEY.fullmatch(key)
    return int(found[1], 16) if found else None


def parse_history(content: bytes) -> tuple[tuple[int, int], ...]:
    """A timeline history file -> ((ancestor, LSN where it was left), ...), oldest first."""
    lines = content.decode(errors="replace").splitlines()
    rows = (it for line in lines if (it := _HISTORY_LINE.match(line)))
    return tuple((int(it[1]), (int(it[2], 16) << 32) + int(it[3], 16)) for it in rows)


def best_segments(objects: Iterable[WalObject]) -> tuple[WalObject, ...]:
    """One object a segment: the complete one, else the partial that reaches furthest."""
    best: dict[tuple[int, int], WalObject] = {}
    for item in objects:
        place = (item.timeline, item.start_lsn)
        if place not in best or item.end_lsn > best[place].end_lsn or not item.partial:
            best[place] = item
    return tuple(best[place] for place in sorted(best))


def follow(wal: WalInventory, timeline: int) -> list[WalObject]:
    """The segments that recovery along `timeline` reads, in order; gaps are left as they are.

    A segment in which a timeline ends is taken from the younger one, which starts with a copy
    of it, as PostgreSQL does; of the older one when the younger has none.
    """
    chosen: dict[int, WalObject] = {}
    for tli, left_at in (*wal.histories.get(timeline, ()), (timeline, None)):
        for item in wal.segments:
            if item.timeline == tli and (left_at is None or item.start_lsn < left_at):
                chosen[item.start_lsn] = item
    return [chosen[start] for start in sorted(chosen)]


def stretches(segments: Sequence[WalObject], segment_bytes: int) -> list[list[WalObject]]:
    """Split into runs without a gap: each begins where the one before ends."""
    runs: list[list[WalObject]] = []
    for item in segments:
        before = runs[-1][-1] if runs else None
        if before is None or before.end_lsn != item.start_lsn:
            runs.append([])
        runs[-1].append(item)
    return runs


def restorable(points: Iterable[DatabasePoint]) -> list[DatabasePoint]:
    """Those that a recovery can start from: all that each builds on is among them, down to a full
    one, and of none a page fails its checksum. In the order given."""
    points = list(points)
    waiting = [point for point in points if not point.checksum_failures]
    below = {""}
    while True:
        ready = {point.id for point in waiting if (point.parent_id or "") in below}
        if not ready:
            return [point for point in points if point.id in below]
        waiting = [point for point in waiting if point.id not in ready]
        below |= ready


def find_windows(wal: WalInventory, points: Iterable[DatabasePoint]) -> list[Window]:
    """Where recovery can stop, by (timeline, LSN): one window for each unbroken stretch of WAL
    with a base backup in it that can be restored. A recovery begins at none other."""
    usable = restorable(points)
    found = []
    for timeline in sorted({item.timeline for item in wal.segments}):
        for run in stretches(follow(wal, timeline), wal.segment_bytes):
            inside = [point for point in usable if _covers(wal, timeline, run, point)]
            if inside:
                oldest = min(inside, key=lambda point: point.end_lsn)
                found.append(
                    Window(
                        timeline=timeline,
                        start_lsn=oldest.end_lsn,
                        end_lsn=run[-1].end_lsn,
                        start_at=oldest.finished_at,
                        # S3 tells whole seconds, which may be before the backup's own end.
                        end_at=max(oldest.finished_at, *(item.stored_at for item in run)),
                    )
                )
    return found


@dataclass(frozen=True)
class WalEnd:
    """The WAL of a timeline up to `end_lsn` was stored at `stored_at` where it was first stored."""

    timeline: int
    end_lsn: int
    stored_at: datetime


def wal_ends(segments: Sequence[WalObject], newest: int = 200) -> list[WalEnd]:
    """The ends of all unbroken stretches, and of each of the newest segments."""
    in_order = sorted(segments, key=lambda item: (item.timeline, item.start_lsn))
    following = [(item.timeline, item.start_lsn) for item in in_order[1:]]
    return [
        WalEnd(item.timeline, item.end_lsn, item.stored_at)
        for number, (item, after) in enumerate(zip_longest(in_order, following), start=newest)
        if after != (item.timeline, item.end_lsn) or number >= len(in_order)
    ]


def bound_window(window: Window, ends: Iterable[WalEnd]) -> Window:
    """In a copy a segment is younger than what it holds: the window ends when the WAL up to its
    end was stored at its source, as far as that is known, and never later."""
    known = [
        end.stored_at
        for end in ends
        if end.timeline == window.timeline and end.end_lsn <= window.end_lsn
    ]
    latest = max(known, default=window.start_at)
    return replace(window, end_at=max(window.start_at, min(window.end_at, latest)))


def _covers(
    wal: WalInventory, timeline: int, run: Sequence[WalObject], point: DatabasePoint
) -> bool:
    """Whether a point lies on the way to `timeline` and all the WAL it needs is in the run."""
    left_at = dict(wal.histories.get(timeline, ())).get(point.timeline)
    on_the_way = point.timeline == timeline or (left_at is not None and point.end_lsn <= left_at)
    return on_the_way and run[0].start_lsn <= point.start_lsn and point.end_lsn <= run[-1].end_lsn
