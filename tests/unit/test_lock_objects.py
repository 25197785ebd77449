"""Locks as the store really keeps them: what it took and does not have is never told as locked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.backup.retention.decide import decide_retention
from chalicelib.backup.retention.lock_objects import OLD_WAL_AT_ONCE, LockResult, apply_locks
from chalicelib.backup.retention.locks import decide_locks
from chalicelib.errors import Truncated
from chalicelib.plan.components import Retention
from chalicelib.plan.wal import parse_wal_key, segment_key
from tests.points import SEGMENT, standing

NOW = datetime(2026, 11, 22, 2, tzinfo=UTC)
POLICY = Retention(daily=7, weekly=4)
POINTS = [standing(NOW - day * timedelta(days=1)) for day in range(3)]
MANIFESTS = {f"points/{one.point.id}/manifest.json" for one in POINTS}


@dataclass
class Locks:
    """`deaf`: says that it locked, and did not. `gone`: these keys are not there."""

    deaf: bool = False
    gone: frozenset[str] = frozenset()
    until: dict[str, datetime] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def locked_until(self, key: str) -> datetime | None:
        if key in self.gone:
            raise Truncated(f"expected {key}, found none", code="object-missing", hint="look")
        return self.until.get(key)

    def extend(self, key: str, until: datetime) -> bool:
        self.asked.append(key)
        if (self.locked_until(key) or NOW) >= until:
            return False
        if not self.deaf:
            self.until[key] = until.replace(microsecond=0)
        return True


def lock(locks: Locks) -> LockResult:
    kept = decide_retention(POINTS, POLICY, now=NOW)
    return apply_locks(decide_locks(kept, POLICY, now=NOW), locks, [], POLICY, now=NOW)


def test_a_store_that_has_every_lock_is_well() -> None:
    locks = Locks()
    result = lock(locks)
    assert result.ok
    assert locks.until.keys() >= MANIFESTS


def test_a_store_that_says_yes_and_locks_nothing_is_found_out() -> None:
    result = lock(Locks(deaf=True))
    assert not result.ok
    assert set(result.refused) == MANIFESTS


@pytest.mark.parametrize("gone", sorted(MANIFESTS))
def test_a_point_whose_manifest_is_gone_is_not_told_as_locked(gone: str) -> None:
    result = lock(Locks(gone=frozenset({gone})))
    assert not result.ok
    assert result.gone == (gone,)


def test_wal_of_days_that_the_extender_missed_is_locked_when_it_is_back() -> None:
    """And then no more is looked at than one handful beyond the new."""
    hours = [NOW - number * timedelta(hours=1) for number in range(30 * 24)]
    wal = [found for number, at in enumerate(hours)
           if (found := parse_wal_key(segment_key(1, number * SEGMENT), at))]  # fmt: skip
    locks, policy = Locks(), Retention(daily=7, logs=timedelta(days=20))

    def run() -> int:
        nothing = decide_locks(decide_retention([], policy, now=NOW), policy, now=NOW)
        return apply_locks(nothing, locks, wal, policy, now=NOW).extended

    assert run() == 20 * 24
    assert all(locks.until[one.key] == one.stored_at + policy.logs for one in wal[: 20 * 24])
    assert run() == 0
    for one in wal[: 5 * 24]:
        del locks.until[one.key]
    asked: list[str] = []
    locks.asked = asked
    assert run() == 5 * 24
    assert len(asked) <= 5 * 24 + 2 * OLD_WAL_AT_ONCE
