"""What one row of another cloud says of the object that an inventory names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.plan.copy_notes import NO_COPY, CopyNote
from chalicelib.plan.inventory import InventoryEntry, SourceVersion
from chalicelib.plan.records import RecoveryPoint
from chalicelib.verify.copies.findings import Finding
from chalicelib.verify.copies.replica_contents import ReplicaRow
from chalicelib.verify.copies.replica_rows import judge_row

NIGHT = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
OLD, HOUR = NIGHT - timedelta(days=9), timedelta(hours=1)
CHECKED = NIGHT + 6 * HOUR
ONE, TWO = "1" * 64, "2" * 64
SAME, OTHER, AGAIN = CopyNote("e1", ONE), CopyNote("e2", TWO), CopyNote("e9", ONE)
POINT = RecoveryPoint(
    id="p1", component="assets", kind="objects", taken_at=NIGHT, finished_at=NIGHT, objects=(),
    source_bytes=1, encryption="none",
)  # fmt: skip


def entry(*, sha256: str = ONE, at: datetime = OLD, source: bool = True) -> InventoryEntry:
    """`at`: when it came into the replica in AWS."""
    version = SourceVersion("v1", at, 10, "e1") if source else None
    return InventoryEntry("k", 10, at, "opaque", "r1", sha256=sha256, source=version)


def row(noted: CopyNote | None, *, at: datetime = OLD, size: int = 10) -> ReplicaRow:
    return ReplicaRow("k", size, at, noted=noted)


@pytest.mark.parametrize(
    ("named", "found", "judged"),
    [
        # What Leeward noted is the inventory's content, whenever it was written.
        (entry(), row(SAME), None),
        (entry(), row(SAME, at=NIGHT + HOUR), None),
        (entry(), row(AGAIN, at=NIGHT + HOUR), None),
        (entry(), row(SAME, size=9), "truncated"),
        (entry(), row(SAME, size=11), "damaged"),
        (entry(sha256=""), row(SAME), None),
        # No copy of Leeward's, but for what may get its note in this moment.
        (entry(), row(NO_COPY), "overwritten"),
        (entry(), row(NO_COPY, at=NIGHT + HOUR), "overwritten"),
        (entry(), row(NO_COPY, at=CHECKED - timedelta(seconds=1)), "newer"),
        (entry(sha256=""), row(NO_COPY), "overwritten"),
        # A copy of something else.
        (entry(), row(OTHER), "damaged"),
        (entry(sha256=""), row(OTHER), "damaged"),
        (entry(), row(OTHER, at=NIGHT + HOUR), "newer"),
        (entry(), row(OTHER, at=NIGHT - timedelta(minutes=1)), "newer"),
        (entry(at=NIGHT - HOUR), row(OTHER), "newer"),
        (entry(at=NIGHT - 25 * HOUR), row(OTHER), "damaged"),
        # Nothing tells: size and time have to do.
        (entry(), row(None), None),
        (entry(), row(None, size=11), "damaged"),
        (entry(), row(None, at=NIGHT + HOUR, size=11), "newer"),
        (entry(sha256="", source=False), row(OTHER, at=NIGHT + HOUR), "newer"),
        (entry(sha256="", source=False), row(NO_COPY), "overwritten"),
    ],
)
def test_each_row_has_one_judgement(
    named: InventoryEntry, found: ReplicaRow, judged: str | None
) -> None:
    said = judge_row(named, found, POINT, versioned=False, now=CHECKED)
    assert (said.code if isinstance(said, Finding) else said) == judged


def test_a_version_is_held_against_its_own_entry_alone() -> None:
    later = ReplicaRow("k", 10, NIGHT + HOUR, "r1", "opaque")
    assert judge_row(entry(), later, POINT, versioned=True, now=CHECKED) is None
    other = later._replace(etag="another")
    said = judge_row(entry(), other, POINT, versioned=True, now=CHECKED)
    assert isinstance(said, Finding)
    assert said.code == "damaged"
