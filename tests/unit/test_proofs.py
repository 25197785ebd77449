"""Which point a restore test takes, how proofs stand, and what quarantine does to a restore."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.errors import OutsideWindow, Quarantined
from chalicelib.plan.inventory import InventoryEntry
from chalicelib.plan.records import PointStanding, RecoveryTarget
from chalicelib.plan.wal import WalInventory
from chalicelib.ports import Inventory, RejectedPoint
from chalicelib.recover.window import choose_points
from chalicelib.verify.proofs import choose_point, stand_proofs
from chalicelib.verify.samples import draw_sample
from tests.points import standing

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def taken(days_ago: int, proven_days_ago: float | None = None, quarantined: str = ""):
    proven = None if proven_days_ago is None else NOW - proven_days_ago * DAY
    found: PointStanding = standing(NOW - days_ago * DAY)
    return replace(found, proven_at=proven, quarantined=quarantined)


def test_the_newest_is_proven_first_and_then_the_one_that_waited_longest() -> None:
    never, old, newest = taken(9), taken(5, 4), taken(1)
    assert choose_point([newest, old, never]) is newest
    proven = replace(newest, proven_at=NOW)
    assert choose_point([never, old, proven]) is never
    assert choose_point([replace(never, proven_at=NOW), old, proven]) is old
    assert choose_point([never, old, proven], newest=True) is proven


def test_a_quarantined_point_is_never_taken_and_proves_nothing() -> None:
    doubted = taken(1, 0, quarantined="signs of ransomware")
    assert choose_point([doubted, taken(3)]).quarantined == ""
    assert stand_proofs([doubted], valid_for=None, now=NOW).stands is False
    with pytest.raises(OutsideWindow) as caught:
        choose_point([doubted])
    assert caught.value.instance_code == "no-point"


@pytest.mark.parametrize(("days_ago", "stands"), [(8, True), (8.001, False)])
def test_a_proof_stands_for_as_long_as_the_plan_says(days_ago: float, stands: bool) -> None:
    found = stand_proofs([taken(20, 19), taken(9, days_ago)], valid_for=8 * DAY, now=NOW)
    assert (found.stands, found.age) == (stands, days_ago * DAY)


def test_a_proof_that_is_dated_after_now_does_not_stand() -> None:
    """A clock that was ahead for one night would keep everything proven for ever."""
    found = stand_proofs([taken(20, 19), taken(2, -1)], valid_for=8 * DAY, now=NOW)
    assert (found.stands, found.age) == (False, 19 * DAY)
    assert stand_proofs([taken(2, -0.003)], valid_for=8 * DAY, now=NOW).stands
    assert stand_proofs([taken(2, -1)], valid_for=None, now=NOW).proven_at is None


def test_a_spot_check_takes_any_point() -> None:
    points = [taken(days) for days in range(5)]
    drawn = {choose_point(points, draw=random.Random(seed)).point.id for seed in range(60)}
    assert drawn == {it.point.id for it in points}


def test_every_object_has_the_same_chance_of_being_drawn() -> None:
    entries = [InventoryEntry(f"k{number}", 10, NOW) for number in range(20)]
    counts: Counter[str] = Counter()
    for seed in range(2000):
        sample = draw_sample(iter(entries), random.Random(seed), size=5)
        assert (sample.objects, sample.total_bytes, len(sample.entries)) == (20, 200, 5)
        counts.update(it.key for it in sample.entries)
    assert set(counts) == {it.key for it in entries}
    assert 400 < min(counts.values()) <= max(counts.values()) < 600


def test_when_every_point_is_quarantined_the_restore_names_them() -> None:
    rejected = tuple(
        RejectedPoint(it, Quarantined.code, "quarantined: infected") for it in ("a-full", "b-full")
    )
    inventory = Inventory((), rejected, WalInventory((), {}, 16 << 20), ())
    with pytest.raises(Quarantined) as caught:
        choose_points(inventory, RecoveryTarget("end", ""))
    assert "a-full is quarantined: infected; b-full" in caught.value.message
