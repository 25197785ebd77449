"""What a sync does with each key, and when it may delete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.backup.bucket.sync_decision import (
    SyncPolicy,
    check_deletions,
    decide_key,
    shows_later_changes,
)
from chalicelib.errors import Refused
from chalicelib.ports.buckets import ObjectRow

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
A, B = "a" * 32, "b" * 32
PARTS = "c" * 32 + "-3"
PLAIN = SyncPolicy()
KMS = SyncPolicy(opaque_etags=True)


def row(etag: str = A, *, size: int = 10, at: int = 0, of: str | None = None) -> ObjectRow:
    """`at`: seconds after NOW. `of`: the ETag that it was copied from."""
    return ObjectRow("k", size, etag, NOW + timedelta(seconds=at), copied_from=of)


@pytest.mark.parametrize(
    ("source", "target", "policy", "expected"),
    [
        (row(), None, PLAIN, "copy new"),
        (row(size=11), row(at=100), PLAIN, "copy size"),
        (row(), row(at=-100), PLAIN, "leave same-etag"),
        # A replica that somebody overwrote later is not what the source is.
        (row(A), row(B, at=100), PLAIN, "copy etag"),
        (row(A), row(B, at=100), KMS, "leave copied-later"),
        (row(A, at=100), row(B), KMS, "copy newer"),
        (row(PARTS), row(PARTS, at=-100), PLAIN, "leave same-etag"),
        (row(PARTS), row(A, at=100), PLAIN, "leave copied-later"),
        (row(PARTS), row(A, at=1), PLAIN, "copy same-moment"),
        (row(PARTS, at=1), row(A), PLAIN, "copy newer"),
        (row(A), row("", at=100), PLAIN, "leave copied-later"),
        (row(A), row("", at=0), PLAIN, "copy same-moment"),
        # A copy in another cloud that tells what it was made of: no time counts.
        (row(A), row("", at=0, of=A), KMS, "leave same-etag"),
        (row(PARTS), row("", at=-100, of=PARTS), KMS, "leave same-etag"),
        (row(A), row("", at=100, of=B), KMS, "copy etag"),
        (row(A), row("", at=100, of=""), KMS, "copy overwritten"),
        (row(A), row("", size=11, at=100, of=""), PLAIN, "copy overwritten"),
        (row(A), row("", size=11, at=100, of=A), PLAIN, "copy size"),
        (row(""), row("", at=100, of=""), PLAIN, "copy overwritten"),
        (None, row(), PLAIN, "keep not-in-source"),
        (None, row(), SyncPolicy(mirror=True), "delete not-in-source"),
    ],
)
def test_each_pair_has_one_answer_and_its_reason(
    source: ObjectRow | None, target: ObjectRow | None, policy: SyncPolicy, expected: str
) -> None:
    found = decide_key(source, target, policy)
    assert f"{found.action} {found.reason}" == expected


ROWS = st.builds(
    row, st.sampled_from([A, B, PARTS, ""]), size=st.sampled_from([1, 2]), at=st.integers(-9, 9)
)
COPIES = st.builds(
    row, st.just(""), size=st.sampled_from([1, 2]), at=st.integers(-9, 9),
    of=st.sampled_from([A, B, PARTS, ""]),
)  # fmt: skip


@given(
    source=ROWS,
    target=st.none() | ROWS | COPIES,
    policy=st.builds(SyncPolicy, mirror=st.booleans(), opaque_etags=st.booleans()),
)
def test_what_is_left_is_the_same_or_was_written_after_the_source(
    source: ObjectRow, target: ObjectRow | None, policy: SyncPolicy
) -> None:
    found = decide_key(source, target, policy)
    assert found.action in ("copy", "leave")
    if found.action == "leave":
        assert target is not None
        assert target.size_bytes == source.size_bytes
        same = source.etag != "" and source.etag in (target.etag, target.copied_from)
        assert same or target.copied_from is None
        assert same or target.modified_at - source.modified_at > policy.margin


TENTHS = st.integers(0, 30)


@settings(max_examples=1000)
@given(asked=TENTHS, later=TENTHS, dated=st.integers(-30, 50), behind=st.integers(0, 10))
def test_what_changes_after_it_was_read_is_copied_again_or_looked_for(
    asked: int, later: int, dated: int, behind: int
) -> None:
    """Times in tenths of a second, shown in whole ones; the source's clock may be one behind."""
    written_at, dated_at = (asked + later - behind) // 10, (asked + dated) // 10
    if shows_later_changes(timedelta(seconds=dated_at - asked // 10), KMS):
        found = decide_key(row(A, at=written_at), row(B, at=dated_at), KMS)
        assert found.reason in ("newer", "same-moment")


def test_only_a_time_of_the_copy_s_own_clock_spares_a_look() -> None:
    expected = {None: False, -3600: False, -3: False, -2: True, 0: True, 1: True, 2: False}
    for seconds, spared in expected.items():
        dated_after = None if seconds is None else timedelta(seconds=seconds)
        assert shows_later_changes(dated_after, KMS) is spared, seconds


def test_deletions_have_a_limit() -> None:
    policy = SyncPolicy(mirror=True, max_delete_share=0.05)
    check_deletions(0, 0, policy)
    check_deletions(50, 1000, policy)
    for deletions, objects in ((51, 1000), (1, 10)):
        with pytest.raises(Refused) as caught:
            check_deletions(deletions, objects, policy)
        assert caught.value.instance_code == "too-many-deletions"
        assert caught.value.context == {"deletions": deletions, "replica_objects": objects}
