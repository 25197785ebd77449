"""Pruning a real bucket: many keys, versions, locks, a store that fails, a pruner that dies."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.s3.locks import S3Locks
from chalicelib.adapters.s3.store import S3ObjectStore, connect_s3
from chalicelib.backup.retention.lock_objects import apply_locks
from chalicelib.backup.retention.locks import decide_locks
from chalicelib.backup.retention.prune import PruneResult, apply_prune
from chalicelib.backup.retention.prune_facts import PruneDecision, decide_prune, read_facts
from chalicelib.errors import LeewardError, PruneTooLarge, Throttled, Unavailable
from chalicelib.plan.components import Retention
from chalicelib.plan.records import DatabasePoint, format_time
from chalicelib.plan.wal import parse_wal_key, segment_key
from chalicelib.ports import ObjectStore
from leeward.local.shims import object_lock
from tests.fakes import FailingObjectStore, InMemoryObjectStore
from tests.faults import failing_http_proxy
from tests.points import SEGMENT, database_standing
from tests.s3_servers import S3Server, moto_server, seaweed_server

DAY = timedelta(days=1)
# A Wednesday, some four weeks ahead of the servers' clock, which says when each object was written.
_TODAY = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=0)
NOW = _TODAY + (30 - _TODAY.weekday()) * DAY
POLICY = Retention(daily=3, weekly=2)


class AtNow:
    def now(self) -> datetime:
        return NOW

    def sleep(self, seconds: float) -> None:
        pass


class Shelf:
    """A component's backups: `days` full ones, an incremental on each, and their WAL."""

    def __init__(self, store: ObjectStore, *, locks: S3Locks | None = None) -> None:
        self.store = store
        self.catalogue = StoredCatalogue(store, "db")
        self.locks = locks

    def fill(self, days: int, *, segments: int = 2, at_first: int = 2) -> None:
        """`at_first`: how many objects the first two full ones have, which are to go."""
        for day in range(days):
            number = day * segments
            objects = at_first if day < 2 else 2
            full = self.add(NOW - (days - day) * DAY, number, objects=objects)
            self.add(full.taken_at + timedelta(hours=6), number + 1, objects=1, parent=full.id)
        for number in range(days * segments + 1):
            self.store.put(segment_key(1, number * SEGMENT), b"w" * 10)

    def add(
        self, at: datetime, number: int, *, objects: int, parent: str | None = None
    ) -> DatabasePoint:
        point = database_standing(
            at, start_lsn=number * SEGMENT + 40, end_lsn=number * SEGMENT + 400, parent=parent
        ).point
        assert isinstance(point, DatabasePoint)
        keys = [f"points/{point.id}/part-{n}" for n in range(objects)]
        with ThreadPoolExecutor(8) as threads:
            stored = tuple(threads.map(lambda key: self.store.put(key, b"d" * 100), keys))
        point = replace(point, objects=stored)
        self.catalogue.add(point)
        return point

    def decide(self, policy: Retention = POLICY, now: datetime = NOW) -> PruneDecision:
        facts = read_facts(self.store, self.catalogue, "db", locks=self.locks)
        return decide_prune(facts, policy, now=now)

    def prune(self, decision: PruneDecision | None = None, **more: Any) -> PruneResult:
        return apply_prune(
            decision or self.decide(), self.store, self.catalogue, POLICY,
            clock=AtNow(), locks=self.locks, **{"approved": True} | more,
        )  # fmt: skip

    def keys(self) -> set[str]:
        return {row.key for row in self.store.list()}

    def check_whole(self) -> None:
        """Every point there is can be restored: objects, chain and WAL are there."""
        holdings = self.catalogue.holdings()
        assert holdings.rejected == ()
        there, keys = {one.point.id for one in holdings.standings}, self.keys()
        for one in holdings.standings:
            point = one.point
            assert isinstance(point, DatabasePoint)
            assert {item.key for item in point.objects} <= keys
            assert point.parent_id is None or point.parent_id in there
            assert segment_key(1, point.start_lsn) in keys


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with ExitStack() as stack:
        stack.enter_context(object_lock.repaired())
        yield stack.enter_context(moto_server())


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def on_s3(server: S3Server, bucket: str) -> S3ObjectStore:
    return S3ObjectStore(connect_s3("us-east-1", server.url), bucket, "db/")


def test_more_than_a_page_of_keys_goes_and_what_stays_is_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with seaweed_server() as server:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
        # boto3's own session keeps the first keys that it has seen in this process.
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        prune_many_keys(Shelf(on_s3(server, server.create_bucket())))


def prune_many_keys(shelf: Shelf) -> None:
    shelf.fill(6, at_first=510)
    decision = shelf.decide()
    result = shelf.prune(decision)
    assert sum(one.objects for one in result.points) > 1000
    assert result.freed_bytes == decision.freed_bytes
    assert result.spared == ()
    shelf.check_whole()
    assert len(shelf.catalogue.holdings().standings) == len(decision.retention.keep)
    assert {one.wal.key for one in decision.wal.keep} < shelf.keys()
    again = shelf.decide()
    assert again.retention.prune == ()
    assert again.wal.prune == ()
    assert again.freed_bytes == 0


def test_in_a_bucket_with_versions_nothing_is_destroyed(server: S3Server) -> None:
    """Markers alone: taking them away brings everything back."""
    bucket = server.create_bucket(versioned=True)
    shelf = Shelf(on_s3(server, bucket))
    shelf.fill(6)
    before = shelf.keys()
    result = shelf.prune()
    assert result.points
    shelf.check_whole()
    client = server.client
    found = client.list_object_versions(Bucket=bucket)
    assert len(found["Versions"]) == len(before)
    gone = before - shelf.keys()
    assert len(found["DeleteMarkers"]) == len(gone)
    for marker in found["DeleteMarkers"]:
        client.delete_object(Bucket=bucket, Key=marker["Key"], VersionId=marker["VersionId"])
    assert shelf.keys() == before
    shelf.check_whole()


def test_locked_points_stay_until_the_lock_ends(server: S3Server) -> None:
    bucket = f"b-{secrets.token_hex(6)}"
    server.client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    shelf = Shelf(on_s3(server, bucket), locks=S3Locks(server.client, bucket, "db/"))
    shelf.fill(6)
    assert shelf.locks
    goes = shelf.decide().retention.prune[-1]
    shelf.locks.extend(f"points/{goes.point.id}/manifest.json", NOW + DAY)
    locked = shelf.decide()
    assert goes.point.id not in {one.point.id for one in locked.retention.prune}
    rules = {kept.standing.point.id: kept.rules for kept in locked.retention.keep}
    assert rules[goes.point.id] == {"locked"}
    facts = read_facts(shelf.store, shelf.catalogue, "db", locks=shelf.locks)
    after = decide_prune(facts, POLICY, now=NOW + DAY)
    assert goes.point.id in {one.point.id for one in after.retention.prune}


def test_locks_are_put_on_all_that_a_point_needs(server: S3Server) -> None:
    bucket = f"b-{secrets.token_hex(6)}"
    server.client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    locks = S3Locks(server.client, bucket, "db/")
    shelf = Shelf(on_s3(server, bucket), locks=locks)
    shelf.fill(2)
    facts = read_facts(shelf.store, shelf.catalogue, "db", locks=locks)
    retention = decide_prune(facts, POLICY, now=NOW).retention
    wal = [one for row in facts.rows if (one := parse_wal_key(row.key, row.modified_at))]
    decision = decide_locks(retention, POLICY, now=NOW)
    result = apply_locks(decision, locks, wal, POLICY, now=NOW)
    assert result.gone == ()
    point = retention.keep[-1].standing.point
    until = {change.standing.point.id: change.until for change in decision.extend}[point.id]
    assert isinstance(point, DatabasePoint)
    keys = [item.key for item in point.objects]
    keys += [f"points/{point.id}/manifest.json", segment_key(1, point.start_lsn)]
    assert {locks.locked_until(key) for key in keys} == {until}
    again = read_facts(shelf.store, shelf.catalogue, "db", locks=locks)
    settled = decide_prune(again, POLICY, now=NOW).retention
    assert decide_locks(settled, POLICY, now=NOW).extend == ()


def test_503s_and_resets_on_the_way_are_ridden_out(server: S3Server) -> None:
    bucket = server.create_bucket()
    shelf = Shelf(on_s3(server, bucket))
    shelf.fill(6)
    decision = shelf.decide()
    with failing_http_proxy(server.port, failures=4, reset=False) as port:
        shelf.store = S3ObjectStore(
            connect_s3("us-east-1", f"http://127.0.0.1:{port}"), bucket, "db/"
        )
        shelf.catalogue = StoredCatalogue(shelf.store, "db")
        result = shelf.prune(decision)
    shelf = Shelf(on_s3(server, bucket))
    assert len(result.points) == len(decision.retention.prune)
    shelf.check_whole()


# Every place at which a pruner can die, on the store in memory.


@pytest.mark.parametrize("error", [Throttled("slow down"), Unavailable("reset")])
def test_a_failure_at_any_deletion_leaves_what_is_whole(error: LeewardError) -> None:
    """The next run, two days later, removes the rest: nothing stays half."""
    clean = Shelf(InMemoryObjectStore())
    clean.fill(6)
    clean.prune()
    for fail_at in range(1, 200):
        shelf = Shelf(InMemoryObjectStore())
        shelf.fill(6)
        failing = Shelf(FailingObjectStore(shelf.store, error, fail_at=fail_at))
        with suppress(type(error)):
            failing.prune(shelf.decide())
            break
        shelf.check_whole()
        shelf.prune()
        shelf.check_whole()
        assert shelf.keys() == clean.keys()
    assert fail_at > 20


def index_keys(*days: int) -> dict[str, list[str]]:
    """Of each kind one for each of so many days before `NOW`, oldest first."""
    times = [NOW - day * DAY for day in days]
    return {
        "schemas": [f"schemas/{format_time(at)}.json" for at in times],
        "relations": [f"relations/{at:%Y%m%dT%H%M%S.%fZ}.json" for at in times],
    }


@pytest.mark.parametrize("kind", ["schemas", "relations"])
def test_an_index_goes_once_a_later_one_stands_before_the_oldest_point_that_stays(
    kind: str,
) -> None:
    shelf = Shelf(InMemoryObjectStore())
    shelf.fill(6)
    kept = shelf.decide().retention.keep
    oldest = (NOW - min(one.standing.point.taken_at for one in kept)) // DAY
    keys = index_keys(oldest + 30, oldest + 8, oldest + 2, oldest, oldest - 1)[kind]
    for key in (*keys, f"{kind}/undated.json"):
        shelf.store.put(key, b"{}")
    decision = shelf.decide()
    assert list(decision.indexes) == keys[:2]
    assert decision.freed_bytes - replace(decision, indexes=()).freed_bytes == 4
    done = shelf.prune(decision)
    assert done.indexes == 2
    left = [row.key for row in shelf.store.list(f"{kind}/")]
    assert sorted(left) == sorted([*keys[2:], f"{kind}/undated.json"])
    shelf.check_whole()
    assert shelf.decide().indexes == ()


def test_an_index_stays_for_a_point_that_is_spared() -> None:
    shelf = Shelf(InMemoryObjectStore())
    shelf.fill(6)
    decision = shelf.decide()
    first = min(one.point.taken_at for one in decision.retention.prune)
    needed = f"schemas/{format_time(first - 2 * DAY)}.json"
    for key in (needed, f"schemas/{format_time(first + 2 * DAY)}.json"):
        shelf.store.put(key, b"{}")
    decision = shelf.decide()
    assert decision.indexes == (needed,)
    held = next(it.point.id for it in decision.retention.prune if it.point.taken_at == first)
    shelf.catalogue.hold(held, reason="an inquiry", at=NOW)
    assert shelf.prune(decision).indexes == 0
    assert shelf.store.get(needed) == b"{}"


def test_no_index_goes_while_a_point_cannot_be_read() -> None:
    shelf = Shelf(InMemoryObjectStore())
    shelf.fill(6)
    for key in index_keys(400, 300)["schemas"]:
        shelf.store.put(key, b"{}")
    assert len(shelf.decide().indexes) == 1
    torn = next(key for key in sorted(shelf.keys()) if key.endswith("manifest.json"))
    shelf.store.put(torn, b"{")
    assert shelf.decide().indexes == ()


def test_leftovers_of_a_running_backup_are_not_touched() -> None:
    """A terabyte over a slow line is on its way for days, with what came before it in place."""
    shelf = Shelf(InMemoryObjectStore())
    shelf.fill(2)
    shelf.store.put("points/20261221T020000Z-full/base.tar.zst", b"half")
    young = shelf.decide(now=datetime.now(UTC) + timedelta(days=7))
    assert young.leftovers == ()
    old = shelf.decide()
    assert [one.point_id for one in old.leftovers] == ["20261221T020000Z-full"]
    assert shelf.prune(old).leftovers == ("20261221T020000Z-full",)
    shelf.check_whole()


def test_a_point_whose_manifest_somebody_else_removed_is_no_leftover() -> None:
    """The index still knows it: its data can be mended with the manifest of another location."""
    from tests.fakes_state import InMemoryState

    shelf = Shelf(InMemoryObjectStore())
    shelf.catalogue = StoredCatalogue(shelf.store, "db", index=InMemoryState())
    shelf.fill(6)
    victim = shelf.catalogue.holdings().standings[0].point
    shelf.store.delete(f"points/{victim.id}/manifest.json")
    decision = shelf.decide()
    assert decision.leftovers == ()
    assert [one.point_id for one in decision.retention.unreadable] == [victim.id]
    assert decision.wal.prune == ()


def test_a_hold_or_quarantine_placed_meanwhile_wins() -> None:
    shelf = Shelf(InMemoryObjectStore())
    shelf.fill(6)
    decision = shelf.decide()
    held = next(one.point for one in decision.retention.prune if one.point.parent_id)
    shelf.catalogue.hold(held.id, reason="legal", at=NOW)
    result = shelf.prune(decision)
    there = {one.point.id for one in shelf.catalogue.holdings().standings}
    assert {held.id, held.parent_id} <= there
    assert {name for name, _ in result.spared} == {held.id, held.parent_id}
    shelf.check_whole()


class HoldsWhileItRuns(InMemoryObjectStore):
    """A hold appears after the first manifest was removed."""

    def __init__(self) -> None:
        super().__init__()
        self.hold = ""

    def delete(self, key: str) -> None:
        super().delete(key)
        if self.hold and key.endswith("/manifest.json"):
            self.put(f"points/{self.hold}/hold.json", b"{}")
            self.hold = ""


def test_a_hold_placed_while_the_pruner_runs_wins() -> None:
    store = HoldsWhileItRuns()
    shelf = Shelf(store)
    shelf.fill(6)
    decision = shelf.decide()
    held = [one.point for one in decision.retention.prune if one.point.parent_id][-1]
    store.hold = held.id
    result = shelf.prune(decision)
    told = dict(result.spared)
    assert told == {
        held.id: "held meanwhile", held.parent_id: "needed by a point that was spared"
    }  # fmt: skip
    shelf.check_whole()


def test_a_new_incremental_saves_what_it_builds_on() -> None:
    shelf = Shelf(InMemoryObjectStore())
    shelf.fill(6)
    decision = shelf.decide()
    parent = next(one.point for one in decision.retention.prune if one.point.parent_id is None)
    shelf.add(NOW - timedelta(minutes=5), 12, objects=1, parent=parent.id)
    result = shelf.prune(decision)
    assert parent.id in dict(result.spared)
    shelf.check_whole()


def test_more_than_the_share_needs_approval() -> None:
    shelf = Shelf(InMemoryObjectStore())
    shelf.fill(12)
    before = shelf.keys()
    decision = shelf.decide()
    with pytest.raises(PruneTooLarge) as caught:
        shelf.prune(decision, approved=False)
    assert caught.value.instance_code == "prune-too-large"
    assert shelf.keys() == before
    assert shelf.prune(decision, approved=False, max_share=0.9).points
    shelf.check_whole()


def test_removed_manifests_do_not_make_the_pruner_do_the_rest() -> None:
    """Without an index, sets without a manifest look like leftovers; of many it asks."""
    shelf = Shelf(InMemoryObjectStore())
    shelf.fill(5)
    for one in shelf.catalogue.holdings().standings[:8]:
        shelf.store.delete(f"points/{one.point.id}/manifest.json")
    with pytest.raises(PruneTooLarge):
        shelf.prune(approved=False)


def test_the_result_is_a_record() -> None:
    shelf = Shelf(InMemoryObjectStore())
    shelf.fill(6)
    data = shelf.prune().to_json()
    assert data["points"][0].keys() == {"point_id", "objects", "size_bytes", "reason"}
    assert data["started_at"].endswith("Z")
