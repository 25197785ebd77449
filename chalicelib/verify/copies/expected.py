"""Every object that a location must hold, with what it must be and since when that is known."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from chalicelib.plan.records import DatabasePoint, RecoveryPoint
from chalicelib.plan.wal import (
    SEGMENT_BYTES,
    WalInventory,
    best_segments,
    is_index_key,
    outlived_indexes,
    parse_history_key,
    parse_wal_key,
)
from chalicelib.ports import Listed
from chalicelib.verify.copies.findings import Finding, in_bytes
from chalicelib.verify.copies.ledger import Ledger, Seen
from chalicelib.verify.copies.survey import Survey


@dataclass(frozen=True)
class Expected:
    """An object that is there, in its size.

    `sha256`: of its manifest; for WAL and the indexes beside it as it was read before, "" when
    nothing is known of it.
    `since`: the last moment at which its bytes were known to be right: when it was read, else
    when it was written, because writing compares digests. `state`: known = read before and not
    written since; changed = written since it was read; new = never read.
    """

    key: str
    point_id: str
    size_bytes: int
    sha256: str
    since: datetime
    state: Literal["known", "changed", "new"]
    seen: Seen | None = None

    @property
    def is_wal(self) -> bool:
        return self.key.startswith("wal/")

    @property
    def is_unread_index(self) -> bool:
        """Only what was read once is missed when it is gone: no manifest names it."""
        return self.state == "new" and is_index_key(self.key)


def expect_objects(
    survey: Survey, ledger: Ledger, *, now: datetime
) -> tuple[tuple[Expected, ...], tuple[Finding, ...]]:
    """The objects to look at, by key, and what the listing alone shows to be wrong.

    One of another size than it should have is among both: reading it tells what it is instead.
    """
    expected: dict[str, Expected] = {}
    findings: dict[str, Finding] = {}
    for point_id, item in ((point.id, item) for point in survey.points for item in point.objects):
        size_bytes = item.size_bytes
        if (stored := survey.rows.get(item.key)) is None:
            wrong = Finding("missing", item.key, point_id, f"{size_bytes} bytes", "none")
            findings[item.key] = wrong
            continue
        seen = ledger.seen.get(item.key)
        expected[item.key] = _expect(stored, point_id, size_bytes, item.sha256, seen, now)
    for row in (*wal_rows(survey), *index_rows(survey)):
        seen = ledger.seen.get(row.key)
        size_bytes = seen.size_bytes if seen else row.size_bytes
        sha256 = seen.sha256 if seen else ""
        expected[row.key] = _expect(row, "", size_bytes, sha256, seen, now)
    for key in missed_indexes(survey, ledger.seen):
        size_bytes = ledger.seen[key].size_bytes
        findings[key] = Finding("missing", key, "", in_bytes(size_bytes), "none")
    for key, wanted in expected.items():
        findings |= _wrong_size(wanted, survey.rows[key])
    return tuple(expected[key] for key in sorted(expected)), tuple(findings.values())


def _expect(
    row: Listed, point_id: str, size_bytes: int, sha256: str, seen: Seen | None, now: datetime
) -> Expected:
    # A clock that is ahead must not make an object look as if it had just been read.
    written_at = min(row.modified_at, now)
    if seen is not None and seen.is_of(row):
        since = max(seen.read_at, written_at)
        return Expected(row.key, point_id, size_bytes, sha256, since, "known", seen)
    state: Literal["changed", "new"] = "new" if seen is None else "changed"
    return Expected(row.key, point_id, size_bytes, sha256, written_at, state, seen)


def _wrong_size(item: Expected, row: Listed) -> dict[str, Finding]:
    if row.size_bytes == item.size_bytes:
        return {}
    code = "truncated" if row.size_bytes < item.size_bytes else "damaged"
    sizes = in_bytes(item.size_bytes), in_bytes(row.size_bytes)
    return {item.key: Finding(code, item.key, item.point_id, *sizes)}


def segment_bytes_of(points: tuple[RecoveryPoint, ...]) -> int:
    sizes = (point.segment_bytes for point in points if isinstance(point, DatabasePoint))
    return max(sizes, default=SEGMENT_BYTES)


def wal_rows(survey: Survey) -> Iterator[Listed]:
    """Histories, and of each segment the object that a recovery would take."""
    for item in wal_of(survey).segments:
        yield survey.rows[item.key]
    for row in survey.rows.values():
        if parse_history_key(row.key) is not None:
            yield row


def index_rows(survey: Survey) -> Iterator[Listed]:
    return (row for key, row in survey.rows.items() if is_index_key(key))


def missed_indexes(survey: Survey, known: Collection[str]) -> frozenset[str]:
    """Of the known keys those of indexes that are gone, but for what a prune lets go: no point
    that is stored asks for it."""
    gone = {key for key in known if is_index_key(key) and key not in survey.rows}
    oldest = min((point.taken_at for point in survey.points), default=None)
    if oldest is None or survey.unreached:
        return frozenset(gone)
    return frozenset(gone - outlived_indexes([*survey.rows, *gone], oldest))


def wal_of(survey: Survey) -> WalInventory:
    segment_bytes = segment_bytes_of(survey.points)
    rows = survey.rows.values()
    parsed = (parse_wal_key(row.key, row.modified_at, segment_bytes) for row in rows)
    return WalInventory(best_segments(filter(None, parsed)), survey.histories, segment_bytes)


def key_by_digest(points: tuple[RecoveryPoint, ...], ledger: Ledger) -> Mapping[str, str]:
    """SHA-256 -> a key that has this content, to name what lies under a wrong one."""
    known = {item.sha256: key for key, item in ledger.seen.items()}
    return known | {item.sha256: item.key for point in points for item in point.objects}
