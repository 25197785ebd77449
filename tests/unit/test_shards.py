"""A sync cut into shards: the same outcome as a small one, and never a success that is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings

from chalicelib.backup.bucket.in_parts import Compared
from chalicelib.backup.bucket.replicas import BucketReplica, Copied
from chalicelib.backup.bucket.shard_plan import Limits, plan_shards
from chalicelib.backup.bucket.shards import count_results, do_shard, remove_old
from chalicelib.backup.bucket.sync import SyncResult
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.errors import LeewardError, NotReady, Refused, Tampered, Unavailable
from chalicelib.plan.shards import (
    Shard,
    ShardPlan,
    ShardResult,
    compared_key,
    lines_key,
    result_key,
)
from chalicelib.ports.buckets import Bucket, Deleted, ObjectRow
from tests.contract.test_buckets import ODD_KEYS
from tests.fakes import InMemoryObjectStore
from tests.sync_world import OBJECTS, World, contents

MIRROR = SyncPolicy(mirror=True, max_delete_share=1)
RUN = "run"


class Counting(BucketReplica):
    """Counts what is done to each key; a copy of one in `failing` raises its error."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket)
        self.copied: list[str] = []
        self.deleted: list[str] = []
        self.failing: dict[str, LeewardError] = {}
        self.dies_after = -1

    async def copy(self, source: Bucket, row: ObjectRow) -> Copied:
        if row.key in self.failing:
            raise self.failing[row.key]
        if len(self.copied) == self.dies_after:
            raise NotReady("the worker died", code="no-credentials")
        self.copied.append(row.key)
        return await super().copy(source, row)

    async def delete(self, keys: Sequence[str]) -> Deleted:
        self.deleted += keys
        return await super().delete(keys)


class Sharded:
    """A run over the buckets of a world, driven by hand."""

    def __init__(self, world: World, policy: SyncPolicy = MIRROR) -> None:
        self.world, self.policy = world, policy
        self.replica = Counting(world.replica)
        self.store = InMemoryObjectStore()
        self.world.clock.sleep(60)

    def plan(self, *, objects: int = 2, run: str = RUN, **how: object) -> ShardPlan:
        limits = how.pop("limits", Limits(objects))
        return asyncio.run(
            plan_shards(
                self.world.source, self.replica, self.policy, self.store, run,
                clock=self.world.clock, limits=limits, **how,  # type: ignore[arg-type]
            )
        )  # fmt: skip

    def do(self, shard: Shard, *, recheck: bool = False) -> ShardResult:
        return asyncio.run(
            do_shard(
                self.world.source, self.replica, self.policy, self.store, RUN, shard,
                clock=self.world.clock, recheck=recheck,
            )
        )  # fmt: skip

    def count(self, plan: ShardPlan) -> SyncResult:
        return count_results(plan, self.store, finished_at=self.world.clock.now())


def filled(source: Sequence[str], replica: Sequence[str] = (), **how: bool) -> Sharded:
    world = World(**how)
    for bucket, keys in ((world.source, source), (world.replica, replica)):
        for key in keys:
            asyncio.run(bucket.put(key, f"{bucket.name} {key}".encode()))
    return Sharded(world)


@settings(max_examples=100, deadline=None)
@given(OBJECTS, OBJECTS)
def test_all_shards_together_do_what_a_small_sync_does(
    source: dict[str, bytes], replica: dict[str, bytes]
) -> None:
    one, other = World(), World()
    for world in (one, other):
        for bucket, objects in ((world.source, source), (world.replica, replica)):
            for key, data in objects.items():
                asyncio.run(bucket.put(key, data))
    here = Sharded(one)
    plan = here.plan()
    other.clock.sleep(60)
    small = other.sync(policy=MIRROR)
    for shard in plan.shards:
        here.do(shard)
    assert contents(one.replica) == contents(other.replica) == source
    assert here.count(plan) == small


def test_every_odd_key_is_in_one_shard_and_arrives() -> None:
    here = filled(ODD_KEYS)
    plan = here.plan(objects=3)
    assert [shard.objects for shard in plan.shards][:-1] == [3] * (len(plan.shards) - 1)
    for shard in plan.shards:
        here.do(shard)
    assert contents(here.world.replica) == contents(here.world.source)
    assert sorted(here.replica.copied) == sorted(ODD_KEYS)
    assert here.count(plan).ok


def test_a_shard_ends_where_its_bytes_are_enough() -> None:
    here = filled(["a", "b", "c" * 40, "d"])
    plan = here.plan(limits=Limits(objects=10, bytes=20))
    assert [(shard.objects, shard.bytes) for shard in plan.shards] == [(2, 16), (1, 47), (1, 8)]


def test_too_many_deletions_are_refused_before_anything_is_done() -> None:
    here = filled(["new"], ["a", "b", "c"])
    here.policy = replace(MIRROR, max_delete_share=0.5)
    with pytest.raises(Refused) as refused:
        here.plan()
    assert refused.value.instance_code == "too-many-deletions"
    assert "shards/run/plan.json" not in here.store.objects
    assert "shards/run/map.json" not in here.store.objects
    assert sorted(contents(here.world.replica)) == ["a", "b", "c"]
    assert len(here.plan(approved=True).shards) == 3


def test_the_same_run_keeps_its_plan_and_another_makes_its_own() -> None:
    here = filled(["a"])
    first = here.plan()
    asyncio.run(here.world.source.put("b", b"later"))
    assert here.plan() == first
    assert here.plan(run="another").to_copy == 2


def test_a_copy_that_may_be_older_is_made_although_its_time_looks_right() -> None:
    """A second attempt cannot tell by the times whether the first one made it."""
    here = filled(["k"], ["k"], versioned=True)
    here.policy = replace(MIRROR, opaque_etags=True)
    world = here.world
    begun_at = world.clock.now()
    world.clock.sleep(60)
    asyncio.run(world.replica.put("k", b"source k"))
    world.clock.sleep(60)
    world.source.complete("k", b"SOURCE K", begun_at)
    world.clock.sleep(60)
    plan = here.plan()
    assert plan.reasons == {"copy may-be-older": 1}
    here.do(*plan.shards, recheck=True)
    assert contents(world.replica) == {"k": b"SOURCE K"}
    world.clock.sleep(60)
    known = Compared.from_bytes(here.store.objects[compared_key(RUN)])
    assert here.plan(run="next", compared=known).reasons == {"leave copied-later": 1}


def test_a_worker_that_died_is_followed_by_one_that_does_the_rest_alone() -> None:
    here = filled(["a", "b", "c", "d"], ["x"], versioned=True)
    copies, deletions = here.plan(objects=4).shards
    here.replica.dies_after = 2
    with pytest.raises(NotReady):
        here.do(copies)
    assert not here.count(here.plan()).ok, "a shard without a result is a failure"
    here.replica.dies_after = -1
    here.world.clock.sleep(5)
    again = here.do(copies, recheck=True)
    assert sorted(here.replica.copied) == ["a", "b", "c", "d"], "nothing is copied twice"
    assert again.copied + again.left == 4
    here.do(deletions)
    del here.store.objects[result_key(RUN, deletions.name)]
    assert here.do(deletions, recheck=True).left == 1
    assert here.replica.deleted == ["x"], "a second deletion would put a second marker"
    assert here.count(here.plan()).ok


def test_a_second_attempt_copies_what_changed_since_the_first() -> None:
    here = filled(["a"])
    (shard,) = here.plan().shards
    here.do(shard)
    del here.store.objects[result_key(RUN, shard.name)]
    # As the replica's time has it, the copy is the younger one.
    here.world.clock.sleep(-3600)
    asyncio.run(here.world.source.put("a", b"as it is now"))
    here.world.clock.sleep(3600)
    assert here.do(shard, recheck=True).copied == 1
    assert contents(here.world.replica) == {"a": b"as it is now"}


def test_a_result_that_is_there_is_not_made_again_unless_it_is_a_failure() -> None:
    here = filled(["a", "b"])
    (shard,) = here.plan().shards
    here.replica.failing["a"] = Unavailable("no answer")
    assert here.do(shard).failed == 1
    here.replica.failing.clear()
    here.world.clock.sleep(5)
    assert here.do(shard, recheck=True).failed == 0
    before = here.world.source.requests
    assert here.do(shard, recheck=True).copied == 1
    assert here.world.source.requests == before


def test_a_key_that_fails_is_named_and_the_others_are_done() -> None:
    here = filled(["a", "b", "c", "d"])
    here.replica.failing["b"] = NotReady("in the archive", code="archived")
    plan = here.plan()
    for shard in plan.shards:
        here.do(shard)
    result = here.count(plan)
    assert not result.ok
    assert [(it.key, it.code) for it in result.failures] == [("b", "archived")]
    assert sorted(contents(here.world.replica)) == ["a", "c", "d"]
    here.replica.failing.clear()
    here.world.clock.sleep(5)
    assert here.world.sync(policy=MIRROR).copied == 1, "the next run goes on"


@pytest.mark.parametrize("loss", ["missing", "of other lines", "of fewer objects"])
def test_a_shard_without_a_good_result_makes_the_run_a_failure(loss: str) -> None:
    """What calls the shards may say that all went well: the results are counted."""
    here = filled(["a", "b", "c"])
    plan = here.plan()
    for shard in plan.shards:
        here.do(shard)
    key = result_key(RUN, plan.shards[0].name)
    if loss == "missing":
        del here.store.objects[key]
    else:
        changed = {"sha256": "0" * 64} if loss == "of other lines" else {"copied": 1}
        here.store.objects[key] = json.dumps(json.loads(here.store.objects[key]) | changed).encode()
    result = here.count(plan)
    assert (result.failed, result.failures[0].code) == (2, "shard-without-result")
    assert plan.shards[0].name in result.failures[0].key


def test_lines_that_somebody_changed_are_refused() -> None:
    here = filled(["a", "b"], ["x"])
    shard = here.plan().shards[-1]
    here.store.objects[lines_key(RUN, shard.name)] = b'"a"\n'
    with pytest.raises(Tampered) as refused:
        here.do(shard)
    assert refused.value.instance_code == "shard-changed"
    assert here.replica.deleted == []


def test_s3_is_asked_to_copy_first_from_the_threshold_on() -> None:
    here = filled(["a", "b", "c"])
    assert not here.plan(run="1").batch
    assert not here.plan(run="2", batch_above=4).batch
    assert here.plan(run="3", batch_above=3).batch


def test_what_old_runs_left_is_removed() -> None:
    here = filled(["a"])
    here.plan()
    now = max(row.modified_at for row in here.store.list())
    assert remove_old(here.store, now - timedelta(days=1)) == 0
    assert remove_old(here.store, now + timedelta(seconds=1)) == 4
    assert here.store.objects == {}


def test_a_plan_reads_back_as_it_was_written() -> None:
    here = filled(["a", "b", "c"], ["x"])
    plan = here.plan()
    assert ShardPlan.from_json(json.loads(here.store.objects["shards/run/plan.json"])) == plan
    items = json.loads(here.store.objects["shards/run/map.json"])
    assert tuple(map(Shard.from_json, items)) == plan.shards
    assert isinstance(plan.planned_at, datetime)
