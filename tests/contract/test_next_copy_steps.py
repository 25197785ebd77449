"""Steps that restore onto a server: the same point from another location before an older one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.tree import FolderTree
from chalicelib.adapters.redis.source import RedisServer
from chalicelib.adapters.s3.access import reach_s3
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.backup.take_files import take_files
from chalicelib.backup.take_redis import take_redis
from chalicelib.errors import Damaged, Refused
from chalicelib.evidence.records import StoredRecords
from chalicelib.incidents.run import Run
from chalicelib.plan.files import Selection
from chalicelib.plan.model import Plan
from chalicelib.plan.records import RecoveryPoint
from chalicelib.services import build
from chalicelib.services.locations import Locations
from chalicelib.services.steps.servers import host_restores
from chalicelib.services.steps.sources import Source, use_best
from leeward.local.cloud import LocalCloud
from leeward.plan_file import load_plan
from tests.commands import ARTIST
from tests.fakes import InMemoryObjectStore
from tests.fakes_state import InMemoryState
from tests.hosts import launch, make_template
from tests.redises import running_redis

CLOCK = SystemClock()
UPLOADS = "/var/www/artisttech/uploads"
CONTENTS = ("files.tar.zst", "dump.resp.zst")
BUCKETS = {"remote": "artisttech-backups", "second": "artisttech-second"}
REGIONS = {"remote": "us-east-1", "second": "us-west-2"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as started:
        yield started


@pytest.fixture(scope="module")
def server(cloud: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> str:
    make_template(cloud, tmp_path_factory.mktemp("image"))
    return launch(cloud, "artisttech-app")


@dataclass
class World:
    """Two locations in S3, and the records of one incident."""

    cloud: LocalCloud
    records: StoredRecords
    folder: Path

    def store(self, location: str, component: str) -> S3ObjectStore:
        access = reach_s3(REGIONS[location])
        return S3ObjectStore(access, BUCKETS[location], f"{component}/")

    def take(self, text: str) -> RecoveryPoint:
        """The uploads, as they are on a server; what they hold is `text`."""
        (self.folder / "uploads").mkdir(exist_ok=True)
        (self.folder / "uploads/a.txt").write_text(text)
        store = self.store("remote", "user-files")
        return take_files(
            FolderTree(self.folder), store, build.catalogue("user-files"),
            component="user-files", clock=CLOCK, selection=Selection(("uploads",), ()),
        )  # fmt: skip

    def copy(self, component: str) -> None:
        there = self.store("second", component)
        here = self.store("remote", component)
        for row in here.list():
            there.put(row.key, here.get(row.key))

    def spoil(self, location: str, point: RecoveryPoint) -> None:
        """The same size, and not what was stored."""
        store = self.store(location, point.component)
        [key] = [it.key for it in point.objects if Path(it.key).name in CONTENTS]
        content = bytearray(store.get(key))
        content[len(content) // 2] ^= 0xFF
        store.put(key, bytes(content))

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [it.body for it in self.records.read("inc-1") if it.kind == kind]


@pytest.fixture
def world(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    data = load_plan(ARTIST).plan.to_json()
    data["locations"]["second"] = data["locations"]["remote"] | {
        "role": "secondary", "region": REGIONS["second"], "bucket": BUCKETS["second"],
    }  # fmt: skip
    for name in ("user-files", "redis"):
        data["components"][name]["backups"][0]["to"] = ["remote", "second"]
    data["components"]["user-files"]["paths"] = [UPLOADS]
    plan, state = Plan.from_json(data), InMemoryState()
    made = World(cloud, StoredRecords(InMemoryObjectStore(), CLOCK), tmp_path)
    here = SimpleNamespace(
        stack="primary", backup_bucket=BUCKETS["remote"], region=REGIONS["remote"], data_key=None
    )
    places = Locations(plan, lambda name: {})
    for name, value in {
        "plan": plan, "state": state, "environment": here, "locations": places,
        "records": made.records,
    }.items():  # fmt: skip
        monkeypatch.setattr(build, name, lambda value=value: value)
    monkeypatch.setattr(build, "client", lambda name, region="": cloud.client(name, region or None))
    monkeypatch.setattr(build, "backups", lambda component: made.store("remote", component))
    monkeypatch.setattr(
        build,
        "catalogue",
        lambda it: StoredCatalogue(made.store("remote", it), it, index=state),
    )
    for name, bucket in BUCKETS.items():
        cloud.client("s3", REGIONS[name]).create_bucket(
            Bucket=bucket,
            **({"CreateBucketConfiguration": {"LocationConstraint": REGIONS[name]}}
               if name == "second" else {}),
        )  # fmt: skip
    yield made
    for name, bucket in BUCKETS.items():
        client = cloud.client("s3", REGIONS[name])
        for row in client.list_objects_v2(Bucket=bucket).get("Contents", []):
            client.delete_object(Bucket=bucket, Key=row["Key"])
        client.delete_bucket(Bucket=bucket)


def run_of(step: str = "restore-files") -> Run:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    return Run("run-1", step, "inc-1", "server-failure", "app-server", at, None)


def restore(world: World, server: str) -> tuple[dict[str, Any], str]:
    """What the step says, and what the upload on the server says then."""
    done = host_restores.files_restore_step(run_of(), {"component": "user-files"})
    return done, (world.cloud.hosts.root(server) / UPLOADS[1:] / "a.txt").read_text()


def test_the_same_point_is_taken_elsewhere_before_an_older_one(world: World, server: str) -> None:
    older, newest = world.take("older"), world.take("newest")
    world.copy("user-files")
    world.spoil("remote", newest)
    done, there = restore(world, server)
    assert there == "newest"
    assert done["point"] == newest.id
    assert "from second" in done["found"]
    [rejected] = world.told("rejected-point")
    assert rejected["point"] == newest.id
    assert rejected["reason"].startswith("in remote: ")
    assert f"{newest.id} in remote" in world.told("chosen-point")[-1]["reason"]
    chosen = next(it for it in world.told("decision") if "from second" in it["what"])
    assert any(it.startswith("remote: ") and older.id in it for it in chosen["alternatives"])
    keys = [row.key for row in world.store("second", "user-files").list()]
    assert not [key for key in keys if key.endswith("quarantine.json")], (
        "a run writes nothing there"
    )


def test_an_older_point_is_taken_when_no_location_has_the_newer_whole(
    world: World, server: str
) -> None:
    older, newest = world.take("older"), world.take("newest")
    world.copy("user-files")
    for location in BUCKETS:
        world.spoil(location, newest)
    done, there = restore(world, server)
    assert (there, done["point"]) == ("older", older.id)
    told = {it["reason"].split(":")[0] for it in world.told("rejected-point")}
    assert told == {"in remote", "in second"}
    for location in BUCKETS:
        world.spoil(location, older)
    with pytest.raises(Damaged) as caught:
        restore(world, server)
    assert caught.value.instance_code == "files-damaged"


def test_an_infected_point_is_taken_nowhere(world: World, server: str) -> None:
    """The note has not come to the other location yet."""
    older, newest = world.take("older"), world.take("newest")
    world.copy("user-files")
    build.catalogue("user-files").quarantine(
        newest.id, code="infected", reason="encrypted by somebody", at=CLOCK.now()
    )
    done, there = restore(world, server)
    assert (there, done["point"]) == ("older", older.id)


def test_nor_when_an_older_copy_must_be_looked_for_elsewhere(world: World, server: str) -> None:
    older, infected = world.take("older"), world.take("infected")
    world.copy("user-files")
    build.catalogue("user-files").quarantine(
        infected.id, code="infected", reason="encrypted by somebody", at=CLOCK.now()
    )
    world.spoil("remote", older)
    done, there = restore(world, server)
    assert (there, done["point"]) == ("older", older.id)
    assert "from second" in done["found"]


def test_what_an_earlier_run_found_damaged_is_taken_elsewhere_at_once(
    world: World, server: str
) -> None:
    world.take("older")
    newest = world.take("newest")
    world.copy("user-files")
    build.catalogue("user-files").quarantine(
        newest.id, code="files-damaged", reason="not what was stored", at=CLOCK.now()
    )
    assert restore(world, server)[1] == "newest"


@pytest.mark.parametrize("deaths", [1, 2, 3, 4])
def test_an_attempt_that_dies_leaves_the_next_one_the_same_choice(
    world: World, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    """At each write in turn: of the run's note, of the quarantine, of the record, of the choice."""
    world.take("older")
    newest = world.take("newest")
    world.copy("user-files")
    world.spoil("remote", newest)
    left = [deaths]

    def dying(act: Any) -> Any:
        def done(*words: Any, **named: Any) -> Any:
            answer = act(*words, **named)
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return answer

        return done

    state, records = build.state(), build.records()
    for thing, name in ((state, "create"), (state, "replace"), (records, "append")):
        monkeypatch.setattr(thing, name, dying(getattr(thing, name)))

    def use(source: Source, point: RecoveryPoint) -> str:
        host_restores._require_whole(source, point)
        return source.location

    with pytest.raises(KeyboardInterrupt):
        use_best(run_of(), "user-files", "archive", use)
    source, point, used = use_best(run_of(), "user-files", "archive", use)
    assert (source.location, point.id, used) == ("second", newest.id, "second")
    host_restores.say_chosen(run_of(), "user-files", source, point)
    [rejected] = world.told("rejected-point")
    assert rejected["reason"].startswith("in remote: ")


def test_keys_come_from_the_location_that_has_the_newest_dump_whole(
    world: World, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    with running_redis() as redis:
        points = []
        for text in ("older", "newest"):
            redis.client.set("session", text)
            with RedisServer(redis.url) as source:
                points.append(
                    take_redis(
                        source, world.store("remote", "redis"), build.catalogue("redis"),
                        component="redis", clock=CLOCK,
                    )
                )  # fmt: skip
        world.copy("redis")
        world.spoil("remote", points[-1])
        redis.client.flushall()
        secret = json.dumps({"url": redis.url})
        world.cloud.client("secretsmanager").create_secret(
            Name="artisttech/redis", SecretString=secret
        )
        done = host_restores.cache_restore_step(run_of("restore-keys"), {"component": "redis"})
        assert redis.client.get("session") == b"newest"
    assert done["point"] == points[-1].id
    assert "from second" in done["found"]
    [rejected] = world.told("rejected-point")
    assert rejected["point"] == points[-1].id


def test_what_a_location_refuses_is_no_damage(world: World) -> None:
    world.take("newest")

    def use(source: Source, point: RecoveryPoint) -> None:
        raise Refused("no right to read it", hint="ask for it")

    with pytest.raises(Refused):
        use_best(run_of(), "user-files", "archive", use)
    assert world.told("rejected-point") == []
