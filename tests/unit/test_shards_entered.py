"""The end of a run in shards: what its inventory names must be what was compared."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.backup.bucket.inventory_parts import cut_parts, take_part
from chalicelib.backup.bucket.replicas import BucketReplica
from chalicelib.backup.bucket.shard_plan import plan_shards
from chalicelib.backup.bucket.shards import count_results, do_shard
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.errors import CheckFailed
from chalicelib.plan.shards import folder_of
from chalicelib.services import build
from chalicelib.services.jobs.many import finish_shards
from chalicelib.services.locations import Locations
from leeward.plan_file import load_plan
from tests.fakes import InMemoryObjectStore
from tests.sync_world import World

PLAN = load_plan(Path(__file__).parents[2] / "policies" / "plans" / "nexus-studio.yaml").plan
COMPONENT, RUN, POINT = "nexus-uploads", "run", "20261122T080000Z-objects"
ENTER = {"component": COMPONENT, "run": RUN, "job": {}, "enter": True}


class Run:
    """A run whose shards are done, and counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.store = World(versioned=True), InMemoryObjectStore()
        self.catalogue = StoredCatalogue(self.store, COMPONENT)
        self.metrics: dict[str, float] = {}
        self.world.put(self.world.source, a="1", b="2", c="3")
        self._copy()
        monkeypatch.setattr(build, "plan", lambda: PLAN)
        monkeypatch.setattr(build, "locations", lambda: Locations(PLAN, lambda name: {}))
        monkeypatch.setattr(build, "backups", lambda component: self.store)
        monkeypatch.setattr(build, "catalogue", lambda component: self.catalogue)
        monkeypatch.setattr(build, "clock", lambda: self.world.clock)
        monkeypatch.setattr(build, "metrics", lambda: self)

    def put(self, component: str, values: dict[str, float]) -> None:
        self.metrics |= values

    def _copy(self) -> None:
        sides: tuple[Any, ...] = (self.world.source, BucketReplica(self.world.replica))
        policy, clock = SyncPolicy(), self.world.clock
        plan = asyncio.run(plan_shards(*sides, policy, self.store, RUN, clock=clock))
        for shard in plan.shards:
            work = do_shard(*sides, policy, self.store, RUN, shard, clock=clock, recheck=False)
            asyncio.run(work)
        done = count_results(plan, self.store, finished_at=datetime.now(UTC))
        self.store.put(f"{folder_of(RUN)}done.json", json.dumps(done.to_json()).encode())

    def write_down(self) -> None:
        for part in cut_parts(self.store, RUN, POINT, ["b"]):
            asyncio.run(take_part(self.world.replica, self.store, RUN, part))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


def test_an_inventory_of_all_that_was_compared_is_a_point(run: Run) -> None:
    run.write_down()
    finish_shards(ENTER)
    assert [it.point.id for it in run.catalogue.holdings().standings] == [POINT]
    assert run.metrics == {"SyncFailures.primary": 0, "Synced.primary": 1}


def test_one_that_names_less_is_no_point_and_the_replica_is_not_in_step(run: Run) -> None:
    """Somebody empties the replica meanwhile, or its listing ends early."""
    asyncio.run(run.world.replica.delete([("c", "")]))
    run.write_down()
    with pytest.raises(CheckFailed) as caught:
        finish_shards(ENTER)
    assert caught.value.instance_code == "inventory-short"
    assert caught.value.context == {"compared": 3, "found": 2}
    assert run.catalogue.holdings().standings == ()
    assert run.metrics == {}
