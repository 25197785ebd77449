"""Which inventories a bucket is held against before a sync, and what is told of what is gone."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.backup.bucket.removed_versions import Removals
from chalicelib.backup.bucket.take_inventory import bucket_entries, take_inventory
from chalicelib.plan.manifest import LARGEST_BYTES, MANIFEST, point_key
from chalicelib.plan.records import RecoveryPoint
from chalicelib.services import build
from chalicelib.services.jobs.removals import look_for_removed, save_looked, tell_removed
from leeward.plan_file import load_plan
from tests.fakes import InMemoryObjectStore
from tests.fakes_state import InMemoryState
from tests.fakes_versions import VersionedBucket

PLAN = load_plan(Path(__file__).parents[2] / "policies" / "plans" / "nexus-studio.yaml").plan
COMPONENT, DAY = "nexus-uploads", timedelta(days=1)


class Job:
    """A bucket, its replica and its points; what is told of it is kept in `metrics` and `state`."""

    def __init__(self) -> None:
        self.source = VersionedBucket("nexus-assets")
        self.replica = VersionedBucket("replica", self.source.world)
        self.store, self.state = InMemoryObjectStore(), InMemoryState()
        self.catalogue = StoredCatalogue(self.store, COMPONENT, index=self.state)
        self.metrics: list[float] = []
        self.points: list[RecoveryPoint] = []

    def now(self) -> object:
        return self.source.now

    def put(self, component: str, values: dict[str, float]) -> None:
        assert component == COMPONENT
        self.metrics += [values.pop("VersionsRemoved")]
        assert not values

    def night(self, *keys: str) -> RecoveryPoint:
        """The keys are written, and after a sync written down."""
        for key in keys:
            for bucket in (self.source, self.replica):
                bucket.write(key, b"1")
        point_id = f"{self.source.now:%Y%m%dT%H%M%SZ}-objects"
        entries = bucket_entries(self.replica, source=self.source)
        taken = asyncio.run(take_inventory(entries, self.store, point_id, entries_per_object=1))
        point = RecoveryPoint(
            id=point_id, component=COMPONENT, kind="objects", taken_at=self.source.now,
            finished_at=self.source.now, objects=taken.objects, source_bytes=taken.bytes,
            encryption="",
        )  # fmt: skip
        self.catalogue.add(point)
        self.source.now = self.replica.now = self.source.now + DAY
        return point

    def erase(self, *keys: str) -> None:
        rows = [(it.key, it.version_id) for it in self.source.rows() if it.key in keys]
        asyncio.run(self.source.delete(rows))

    def damage(self, point: RecoveryPoint) -> None:
        self.store.put(point.objects[0].key, b"something else")

    def look(self, location: str = "primary", **how: bool) -> Removals:
        return asyncio.run(look_for_removed(COMPONENT, location, self.source, **how))

    def gone(self, location: str = "primary") -> list[str]:
        return [it.key for it in self.look(location).named]


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    made = Job()
    for name, value in (
        ("plan", PLAN), ("clock", made), ("metrics", made), ("state", made.state),
        ("locations", SimpleNamespace(primary="primary")),
    ):  # fmt: skip
        monkeypatch.setattr(build, name, lambda value=value: value)
    monkeypatch.setattr(build, "backups", lambda component: made.store)
    monkeypatch.setattr(build, "catalogue", lambda component: made.catalogue)
    return made


def declare(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """The plan with `erases_at_most` of the bucket."""
    bucket = PLAN.components[COMPONENT].model_copy(update={"erases_at_most": share})
    plan = PLAN.model_copy(update={"components": PLAN.components | {COMPONENT: bucket}})
    monkeypatch.setattr(build, "plan", lambda: plan)


def test_nobody_is_told_of_what_the_plan_expects_and_everybody_of_more(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, 0.5)
    job.night("a", "b", "c", "d")
    job.erase("a", "b")
    found = job.look()
    assert (found.removed, found.erased) == (0, 2)
    assert (job.metrics, signs(job)) == ([0.0], [])
    assert tell_removed(0, 2, ()) == "; 2 versions erased, as the plan expects"
    job.erase("c")
    found = job.look()
    assert (found.removed, found.erased) == (3, 0)
    assert (job.metrics, len(signs(job))) == ([0.0, 3.0], 1)


def signs(job: Job) -> list[str]:
    return [row["found"] for row in job.state.query("signs#nexus-assets", "sign#")]


def test_the_first_night_has_nothing_to_compare_with(job: Job) -> None:
    assert job.look() == Removals()
    assert (job.metrics, signs(job)) == ([0.0], [])


def test_what_is_gone_is_told_once_however_often_it_is_looked_for(job: Job) -> None:
    job.night("a", "b")
    assert job.look().removed == 0
    job.erase("a")
    assert job.look(quietly=True).removed == 1
    assert (job.metrics, signs(job)) == ([0.0], []), "a dry run tells nobody"
    assert [job.gone(), job.gone()] == [["a"], ["a"]]
    assert job.metrics == [0.0, 1.0, 1.0]
    [told] = signs(job)
    assert told == (
        "versions that were there at 2026-11-22T08:00:00.000000Z, removed for good: 1: 'a'"
    )


def test_the_newest_inventory_that_is_sound_is_asked(job: Job) -> None:
    older, newer = job.night("a"), job.night("b")
    job.erase("a", "b")
    assert job.gone() == ["a", "b"]
    job.damage(newer)
    assert job.gone() == ["a"], "what the older one names"
    job.damage(older)
    found = job.look()
    assert (found.removed, found.unread) == (0, (newer.id, older.id))
    assert job.metrics[-1] == 2.0, "nobody knows, and that is no green"


def test_an_inventory_larger_than_any_is_passed_over_and_not_read(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = job.night("a"), job.night("b")
    job.store.put(point_key(newer.id, MANIFEST), bytes(LARGEST_BYTES + 1))
    read: list[str] = []
    get = job.store.get
    monkeypatch.setattr(job.store, "get", lambda key: read.append(key) or get(key))
    job.erase("a", "b")
    assert job.gone() == ["a"]
    assert point_key(older.id, MANIFEST) in read
    assert point_key(newer.id, MANIFEST) not in read


def test_an_inventory_that_nobody_entered_into_the_index_is_passed_over(job: Job) -> None:
    """Whoever removes versions for good could write one that names none of them."""
    older = job.night("a", "b")
    job.erase("a")
    index = StoredCatalogue(job.store, COMPONENT, index=job.state)
    job.catalogue = StoredCatalogue(job.store, COMPONENT)
    forged = job.night("c")
    job.catalogue = index
    assert forged.id > older.id
    assert job.gone() == ["a"]
    for row in job.state.query(f"catalogue#{COMPONENT}"):
        entry = {name: value for name, value in row.items() if name != "sort"}
        assert job.state.remove(f"catalogue#{COMPONENT}", row["sort"], expected=entry)
    assert job.look().unread == (forged.id, older.id), "nobody knows, and that is no green"


def test_another_cloud_is_held_against_every_inventory_since_its_last_good_sync(job: Job) -> None:
    """Whose own syncs leave none: what came and went between two of them is in one of these."""
    job.night("a")
    job.night("b")
    job.erase("a", "b")
    newest = job.night("c")
    assert job.gone() == []
    assert job.metrics == [0.0]
    found = job.look("secondary")
    assert {it.key for it in found.named} == {"a", "b"}
    assert (found.point_id, job.metrics) == (newest.id, [0.0]), "told of the bucket, so once"
    save_looked(COMPONENT, "secondary", found)
    assert job.gone("secondary") == []
    job.erase("c")
    job.night("d")
    assert job.gone("secondary") == ["c"]
    job.source.now += 30 * DAY
    assert job.gone("secondary") == [], "after so long the newest one alone"
