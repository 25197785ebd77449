"""Inventories witness which versions a bucket had: what was removed since is found, brought back
from the replica, and never passed over as proven."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.backup.bucket.take_inventory import bucket_entries
from chalicelib.errors import OutsideWindow
from chalicelib.plan.inventory import InventoryEntry, SourceVersion
from chalicelib.plan.records import RecoveryPoint
from chalicelib.plan.signs import SeenRule
from chalicelib.ports.buckets import CopySource
from chalicelib.recover.bucket.apply import apply_undo
from chalicelib.recover.bucket.elsewhere import apply_copy, survey_copy
from chalicelib.recover.bucket.grade import Grade, grade_restore, rules_in_reach
from chalicelib.recover.bucket.proof import verify_copy, verify_undo
from chalicelib.recover.bucket.refill import Refilled, refill, still_there
from chalicelib.recover.bucket.survey import survey_undo
from chalicelib.recover.bucket.undo import UndoRules
from chalicelib.recover.bucket.witness import (
    Witness,
    Witnessed,
    choose_witnesses,
    hear_witnesses,
    is_copy,
    without,
)
from tests.fakes_buckets import InMemoryBuckets
from tests.fakes_versions import START, VersionedBucket, second

T = second(100)


class Scene:
    """A bucket and its replica, which is brought up to it five seconds after each writing."""

    def __init__(self) -> None:
        self.bucket = VersionedBucket("uploads")
        self.replica = VersionedBucket("replica", self.bucket.world)
        self.points: list[tuple[datetime, list[InventoryEntry]]] = []

    def at(self, number: int) -> None:
        self.bucket.now = self.replica.now = second(number)

    def write(self, **objects: str) -> None:
        for key, text in objects.items():
            self.bucket.write(key, text.encode())

    def remove(self, *keys: str) -> None:
        for key in keys:
            self.bucket.remove(key)

    def vanish(self, key: str, place: int = 0) -> None:
        """A version goes for good: 0 is the newest."""
        version = self.bucket.versions[key][place].facts.version_id
        asyncio.run(self.bucket.delete([(key, version)]))

    def take(self) -> None:
        """A sync, which leaves what the bucket deleted, and the inventory after it."""
        taken_at = self.bucket.now
        self.bucket.now += timedelta(seconds=5)
        self.replica.now = self.bucket.now
        asyncio.run(self._take(taken_at))

    async def _take(self, taken_at: datetime) -> None:
        for key in self.bucket.state():
            data, stored = self.bucket.state()[key], self.replica.state().get(key)
            if data != stored:
                await self.replica.copy_from(CopySource(self.bucket.name, key))
        entries = bucket_entries(self.replica, source=self.bucket)
        self.points.append((taken_at, [it async for it in entries if it is not None]))

    def hear(self, to_at: datetime = T, prefix: str = "", most_held: int = 100) -> Witnessed:
        before = [it for it in self.points if it[0] <= to_at]
        after = [it for it in self.points if it[0] > to_at]
        return asyncio.run(
            hear_witnesses(
                self.bucket, _witness(before[-1:]), _witness(after[:1]), to_at, prefix=prefix,
                most_held=most_held,
            )
        )  # fmt: skip

    def restore(self, to_at: datetime = T, *, replica: bool = True) -> tuple[Refilled, Grade]:
        """What the command does: hear, survey, undo, refill, prove, grade."""
        self.bucket.now = max(self.bucket.now, to_at) + timedelta(seconds=60)
        heard = self.hear(to_at)
        rules = UndoRules(to_at, aside=heard.keys)

        async def run() -> tuple[Refilled, Grade]:
            plan = await survey_undo(self.bucket, rules)
            outcome = await apply_undo(self.bucket, rules, plan=plan)
            copies = heard.with_copy if replica else ()
            refilled = await refill(self.bucket, self.replica, copies, in_place=True)
            proof = await verify_undo(self.bucket, rules, plan.state)
            found = await still_there(self.bucket, self.replica, copies)
            return refilled, grade_restore(
                as_listed=outcome.ok and proof.ok and refilled.ok,
                testimony=without(heard, found), to_at=to_at,
            )  # fmt: skip

        return asyncio.run(run())


def _witness(points: Sequence[tuple[datetime, list[InventoryEntry]]]) -> Witness | None:
    if not points:
        return None
    taken_at, entries = points[-1]
    return Witness(f"{taken_at:%Y%m%dT%H%M%SZ}-objects", taken_at, lambda: iter(entries))


def test_a_version_that_was_removed_for_good_is_brought_back_and_proven() -> None:
    scene = Scene()
    scene.write(kept="1", gone="2", older="3")
    scene.at(20)
    scene.write(older="4")
    scene.at(40)
    scene.take()
    scene.at(200)
    scene.vanish("gone")
    scene.vanish("older")
    heard = scene.hear()
    assert [(it.key, bool(it.copy)) for it in heard.vanished] == [("gone", True), ("older", True)]
    refilled, grade = scene.restore()
    assert scene.bucket.state() == {"kept": b"1", "gone": b"2", "older": b"4"}
    assert refilled.counts == {"back": 2}
    assert grade.level == "proven"
    again, grade = scene.restore()
    assert (again.counts, grade.level) == ({"same": 2}, "proven")


def test_without_a_replica_it_is_named_left_alone_and_not_proven() -> None:
    scene = Scene()
    scene.write(kept="1", older="3")
    scene.at(20)
    scene.write(older="4")
    scene.at(40)
    scene.take()
    scene.at(200)
    scene.vanish("older")
    before = scene.bucket.rows()
    _, grade = scene.restore(replica=False)
    assert grade.level == "not-proven"
    assert "1 versions" in grade.why
    assert "'older'" in grade.why
    assert scene.bucket.rows() == before


def test_a_version_that_the_replica_lost_too_is_not_proven() -> None:
    scene = Scene()
    scene.write(gone="2")
    scene.at(40)
    scene.take()
    scene.vanish("gone")
    version = scene.replica.versions["gone"][0].facts.version_id
    asyncio.run(scene.replica.delete([("gone", version)]))
    refilled, grade = scene.restore()
    assert [it.code for it in refilled.failures] == ["object-missing"]
    assert grade.level == "not-proven"


def test_what_the_list_of_versions_explains_has_not_vanished() -> None:
    """Replaced or deleted since the inventory, by entries that are there."""
    scene = Scene()
    scene.write(replaced="1", deleted="2", kept="3")
    scene.at(20)
    scene.take()
    scene.at(50)
    scene.write(replaced="new")
    scene.remove("deleted")
    scene.at(200)
    scene.vanish("replaced", 1)
    scene.vanish("deleted", 1)
    heard = scene.hear()
    assert (heard.vanished, heard.seen) == ((), 3)
    _, grade = scene.restore()
    assert grade.level == "proven"
    assert scene.bucket.state() == {"replaced": b"new", "kept": b"3"}


def test_the_first_inventory_after_the_moment_witnesses_too() -> None:
    """What was written after the one before, and stood until the one after."""
    scene = Scene()
    scene.at(10)
    scene.take()
    scene.write(old="1")
    scene.at(50)
    scene.write(fresh="2")
    scene.at(150)
    scene.write(later="3")
    scene.at(160)
    scene.take()
    scene.at(200)
    scene.vanish("fresh")
    scene.vanish("later")
    [vanished] = scene.hear().vanished
    assert vanished.key == "fresh"
    refilled, _ = scene.restore()
    assert refilled.counts == {"back": 1}
    assert scene.bucket.state() == {"old": b"1", "fresh": b"2"}


def test_a_marker_that_was_removed_is_told_and_not_proven() -> None:
    """Nobody knows whether the object was there: the list says that it was never deleted."""
    scene = Scene()
    scene.write(kept="1", deleted="2")
    scene.take()
    scene.at(20)
    scene.remove("deleted")
    scene.at(40)
    scene.take()
    scene.at(200)
    scene.vanish("deleted")  # the newest entry is the marker
    heard = scene.hear()
    assert (heard.revived, heard.revived_keys) == (1, ("deleted",))
    _, grade = scene.restore()
    assert grade.level == "not-proven"
    assert "'deleted'" in grade.why


def test_an_inventory_without_the_versions_of_the_bucket_is_no_witness() -> None:
    scene = Scene()
    scene.write(a="1")
    scene.take()
    taken_at, [entry] = scene.points[0]
    older = InventoryEntry(entry.key, entry.size_bytes, entry.modified_at, version=entry.version)
    scene.points[0] = (taken_at, [older])
    scene.vanish("a")
    heard = scene.hear()
    assert (heard.before_at, heard.vanished) == (None, ())
    _, grade = scene.restore()
    assert grade.level == "versions-alone"


def test_a_copy_that_is_as_old_as_its_source_is_not_taken_for_it() -> None:
    """The next writing within the second may be what was copied."""
    source = SourceVersion("v", second(10), 1, "etag")
    entry = InventoryEntry("k", 1, second(12), "other", "copy", source=source)
    assert not is_copy(entry)
    assert is_copy(InventoryEntry("k", 1, second(13), "other", "copy", source=source))
    assert is_copy(InventoryEntry("k", 1, second(10), "etag", "copy", source=source))
    assert not is_copy(InventoryEntry("k", 2, second(13), "etag", "copy", source=source))
    assert not is_copy(InventoryEntry("k", 1, second(13), "etag", "copy"))


def test_a_prefix_and_a_limit_bound_what_is_held() -> None:
    scene = Scene()
    scene.write(**{f"a{n}": "1" for n in range(4)}, b="2")
    scene.take()
    for key in list(scene.bucket.versions):
        scene.vanish(key)
    assert [it.key for it in scene.hear(prefix="b").vanished] == ["b"]
    with pytest.raises(OutsideWindow) as caught:
        scene.hear(most_held=4)
    assert caught.value.instance_code == "too-many-vanished"


def test_into_another_bucket_what_vanished_comes_from_the_replica() -> None:
    scene = Scene()
    scene.write(kept="1", gone="2", older="3")
    scene.at(20)
    scene.write(older="4")
    scene.at(40)
    scene.take()
    scene.at(200)
    scene.vanish("gone")
    scene.vanish("older")
    target = VersionedBucket("target", scene.bucket.world)
    heard = scene.hear()
    rules = UndoRules(T, aside=heard.keys)

    async def run() -> tuple[int, Refilled, bool]:
        plan = await survey_copy(scene.bucket, target, rules)
        await apply_copy(scene.bucket, target, rules)
        refilled = await refill(target, scene.replica, heard.with_copy, in_place=False)
        proof = await verify_copy(scene.bucket, target, rules, plan.state)
        return plan.foreign_count, refilled, proof.ok

    for counts in ({"back": 2}, {"same": 2}):
        assert asyncio.run(run()) == (0, Refilled(counts), True)
        assert target.state() == {"kept": b"1", "gone": b"2", "older": b"4"}
    target.write("gone", b"somebody's")
    _, refilled, _ = asyncio.run(run())
    assert [(it.key, it.code) for it in refilled.failures] == [("gone", "target-not-empty")]
    assert target.state()["gone"] == b"somebody's"


steps = st.tuples(
    st.sampled_from(["write", "write", "delete", "take", "vanish"]),
    st.sampled_from(["a", "a/b", "b"]),
    st.sampled_from(["1", "22", "33"]),
    st.integers(1, 4),
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(steps, max_size=25), st.integers(0, 80))
def test_a_restore_that_is_called_proven_has_every_object_of_the_last_inventory(
    course: list[tuple[str, str, str, int]], to: int
) -> None:
    """Whatever is written, deleted and removed for good, at any time, and whatever the moment: what
    stood at the inventory before it, and was not replaced since by what anybody can still see, is
    what readers get. Without removals, readers get exactly what they got."""
    scene, number, was = Scene(), 0, dict[str, bytes]()
    stood: dict[str, bytes] = {}
    touched: set[str] = set()
    removed = False
    for what, key, text, pause in course:
        number += pause if what != "take" else pause + 6
        scene.at(number)
        if what == "write":
            scene.write(**{key: text})
        elif what == "delete" and key in scene.bucket.state():
            scene.remove(key)
        elif what == "take":
            scene.take()
            if number <= to:
                stood, touched = scene.bucket.state(), set()
        elif what == "vanish" and key in scene.bucket.versions:
            scene.vanish(key)
            removed = True
        if number <= to:
            was = scene.bucket.state()
            if what in ("write", "delete", "vanish"):
                touched.add(key)
    if not scene.bucket.versions and not scene.points:
        return
    _, grade = scene.restore(second(to))
    if not grade.ok:
        return
    now = scene.bucket.state()
    if not removed:
        assert now == was
    for key in stood.keys() - touched:
        assert now.get(key) == stood[key], key


def test_what_is_said_of_a_restore_is_never_more_than_is_known() -> None:
    none = Witnessed()
    assert grade_restore(as_listed=False, testimony=none, to_at=T).level == "not-proven"
    alone = grade_restore(as_listed=True, testimony=none, to_at=T)
    assert (alone.level, alone.ok) == ("versions-alone", False)
    assert "no inventory from before the moment" in alone.why
    old = Witnessed(before_at=T - timedelta(days=2, seconds=1))
    assert grade_restore(as_listed=True, testimony=old, to_at=T).level == "versions-alone"
    after = Witnessed(after_at=T + timedelta(hours=1))
    assert grade_restore(as_listed=True, testimony=after, to_at=T).level == "versions-alone"
    near = Witnessed(before_at=T - timedelta(days=2), seen=3)
    good = grade_restore(as_listed=True, testimony=near, to_at=T)
    assert good.ok
    assert "2026-11-20T08:01:40" in good.why
    assert "no inventory has seen" in good.why
    assert grade_restore(as_listed=False, testimony=near, to_at=T).level == "not-proven"


def test_a_rule_that_was_there_for_a_while_is_told() -> None:
    """It may have removed what was replaced after the moment, when it was there for long enough."""
    rule = SeenRule("logs/", 1, T, T + timedelta(days=1))
    assert rules_in_reach((rule,), prefix="", to_at=T) == (rule,)
    assert rules_in_reach((rule,), prefix="logs/a", to_at=T) == (rule,)
    assert rules_in_reach((rule,), prefix="img/", to_at=T) == ()
    assert rules_in_reach((rule,), prefix="", to_at=T + timedelta(seconds=1)) == ()
    found = grade_restore(as_listed=True, testimony=Witnessed(), to_at=T, rules=(rule,))
    assert found.level == "not-proven"
    assert "1 days after they were replaced" in found.why


def test_the_inventories_around_the_moment_are_asked() -> None:
    def point(number: int) -> RecoveryPoint:
        at = second(number)
        return RecoveryPoint(
            id=f"p{number}", component="c", kind="objects", taken_at=at, finished_at=at,
            objects=(), source_bytes=0, encryption="",
        )  # fmt: skip

    points = [point(it) for it in (300, 10, 200, 50)]
    assert choose_witnesses(points, second(100)) == (points[3], points[2])
    assert choose_witnesses(points, second(50)) == (points[3], points[2])
    assert choose_witnesses(points, second(5)) == (None, points[1])
    assert choose_witnesses(points, second(500)) == (points[0], None)
    assert choose_witnesses([], START) == (None, None)


def test_a_bucket_that_lost_everything_is_told_by_its_inventory() -> None:
    """The list of versions is empty: it has no key left to say anything of."""
    scene = Scene()
    scene.write(a="1", b="2")
    scene.at(40)
    scene.take()
    scene.vanish("a")
    scene.vanish("b")
    assert not scene.bucket.versions
    refilled, grade = scene.restore()
    assert (refilled.counts, grade.level) == ({"back": 2}, "proven")
    assert scene.bucket.state() == {"a": b"1", "b": b"2"}


def test_nothing_is_asked_without_inventories() -> None:
    lonely = VersionedBucket("lonely", InMemoryBuckets())
    heard = asyncio.run(hear_witnesses(lonely, None, None, T))
    assert heard == Witnessed()
    assert lonely.asked["list"] == 0
