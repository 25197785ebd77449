"""Redis and Valkey dumped and brought back: every type, expiries, writers beside it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.adapters.redis.source import RedisServer
from chalicelib.backup.take_redis import take_redis
from chalicelib.errors import CheckFailed
from chalicelib.ports.sources import StoredKey
from chalicelib.recover.restore_redis import restore_redis
from tests.redises import CLOCK, REDIS_6, RealRedis, Shelf, emptied, running_redis

LATER_MS = 4_000_000_000_000
LIBRARY = "#!lua name=lib\nredis.register_function('f', function() return 'hello' end)"


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, RealRedis]]:
    with running_redis(REDIS_6) as old, running_redis() as new, running_redis() as other:
        yield {"redis-6": old, "valkey-9": new, "target": other}


@pytest.fixture(params=["redis-6", "valkey-9"])
def source(request: pytest.FixtureRequest, servers: dict[str, RealRedis]) -> RealRedis:
    return emptied(servers[request.param])


@pytest.fixture
def target(servers: dict[str, RealRedis]) -> RealRedis:
    return emptied(servers["target"])


def fill(server: RealRedis) -> None:
    """Every built-in type in every encoding it has, in two databases."""
    r = server.client
    r.set("int", 42)
    r.set("short", "text")
    r.set(b"\x00\xff\r\n key", os.urandom(100_000))
    r.set("empty", "")
    r.setbit("bits", 100_001, 1)
    r.pfadd("log", *range(1000))
    r.geoadd("geo", (13.4, 52.5, "berlin"))
    for name, count in (("small", 3), ("large", 3000)):
        r.rpush(f"list-{name}", *(os.urandom(40) for _ in range(count)))
        r.sadd(f"ints-{name}", *range(count))
        r.sadd(f"set-{name}", *(os.urandom(20) for _ in range(count)))
        r.zadd(f"zset-{name}", {f"m{i}": i / 7 for i in range(count)})
        r.hset(f"hash-{name}", mapping={f"f{i}": os.urandom(20) for i in range(count)})
    for i in range(500):
        r.xadd("stream", {"n": i}, id=f"{i + 1}-0")
    r.xdel("stream", "7-0")
    r.xgroup_create("stream", "group", id="0")
    r.xreadgroup("group", "anna", {"stream": ">"}, count=20)
    r.xack("stream", "group", "1-0", "2-0")
    r.xgroup_create("stream", "idle", id="$")
    r.set("lasting", 1, pxat=LATER_MS)
    server.at(9).set("elsewhere", 1)


def test_a_server_that_somebody_emptied_is_told(shelf: Shelf, source: RealRedis) -> None:
    assert shelf.take(source).note.startswith("no key is in it")
    source.client.set("a", 1)
    assert shelf.take(source).note == ""


def test_every_type_comes_back(shelf: Shelf, source: RealRedis, target: RealRedis) -> None:
    fill(source)
    point = shelf.take(source)
    before = source.digests()
    assert (point.kind, point.note) == ("dump", "")
    checks = shelf.verify(point)
    assert {name: ok for name, (ok, _) in checks.items()} == {
        "dump-whole": True, "dump-restores": True,
    }  # fmt: skip
    found = shelf.restore(target)
    assert target.digests() == before
    assert (found.keys, found.expired, found.before) == (len(before), 0, 0)
    # Redis 6 tells the time that is left, and what it took to say so is lost.
    assert 0 <= LATER_MS - target.client.pexpiretime("lasting") < 100
    for command in ("GROUPS", "CONSUMERS"):
        words = ("XINFO", command, "stream", "group")[: 3 if command == "GROUPS" else 4]
        ours, theirs = (it.client.execute_command(*words) for it in (source, target))
        assert plain(theirs) == plain(ours)
    assert target.client.xpending("stream", "group")["pending"] == 18
    assert target.client.xinfo_stream("stream")["last-generated-id"] == b"500-0"


def plain(value: Any) -> Any:
    """XINFO's rows without how long ago something was, and what only newer servers tell."""
    kept = ("name", "consumers", "pending", "last-delivered-id")
    return [{k: row[k] for k in kept if k in row} for row in value]


def test_functions_come_back(shelf: Shelf, target: RealRedis) -> None:
    with running_redis() as source:
        source.client.function_load(LIBRARY)
        source.client.set("a", 1)
        point = shelf.take(source)
    assert shelf.verify(point)["dump-restores"][0]
    assert shelf.restore(target).functions
    assert target.client.fcall("f", 0) == b"hello"
    shelf.restore(target, existing="clear")
    assert target.client.fcall("f", 0) == b"hello"
    target.client.function_flush()


# Long enough for a dump on a machine that has other things to do.
SOON_MS = 4_000


def wait_until(moment_ms: int) -> None:
    """Until a key that expires then has expired."""
    time.sleep(max(moment_ms / 1000 - time.time(), 0) + 0.1)


def test_expiries_are_moments(shelf: Shelf, source: RealRedis, target: RealRedis) -> None:
    now = int(time.time() * 1000)
    source.client.set("soon", 1, pxat=now + SOON_MS)
    source.client.set("later", 1, pxat=now + 600_000)
    source.client.set("never", 1)
    point = shelf.take(source)
    wait_until(now + SOON_MS)
    assert shelf.verify(point)["dump-restores"] == (
        True,
        "valkey 9.1.2 holds 3 keys, each of 3 was found",
    )
    found = shelf.restore(target)
    assert (found.keys, found.expired) == (2, 1)
    assert sorted(target.client.keys()) == [b"later", b"never"]
    assert abs(target.client.pexpiretime("later") - now - 600_000) < 5
    assert target.client.pexpiretime("never") == -1


class Forgetful(RedisServer):
    """A server on which somebody changes all expiries meanwhile."""

    expires_at_ms: int | None = None

    def restore(self, keys: Sequence[StoredKey]) -> None:
        super().restore([replace(key, expires_at_ms=self.expires_at_ms) for key in keys])


@pytest.mark.parametrize("expires_at_ms", [None, LATER_MS])
def test_another_expiry_is_found_out(
    shelf: Shelf, source: RealRedis, target: RealRedis, expires_at_ms: int | None
) -> None:
    source.client.set("later", 1, px=600_000)
    shelf.take(source)
    server = Forgetful(target.url)
    server.expires_at_ms = expires_at_ms
    with server, pytest.raises(CheckFailed) as caught:
        restore_redis(shelf.store, shelf.catalogue, server, clock=CLOCK)
    assert caught.value.instance_code == "keys-missing"
    assert "later" in caught.value.message


def test_an_expired_key_takes_away_the_one_of_its_name(
    shelf: Shelf, source: RealRedis, target: RealRedis
) -> None:
    soon = int(time.time() * 1000) + SOON_MS
    source.client.set("soon", 1, pxat=soon)
    shelf.take(source)
    target.client.set("soon", "older")
    wait_until(soon)
    assert shelf.restore(target, existing="keep").expired == 1
    assert target.client.get("soon") is None


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.binary(max_size=300), st.binary(max_size=3000), max_size=20))
def test_any_key_and_any_value(servers: dict[str, RealRedis], values: dict[bytes, bytes]) -> None:
    source, target = emptied(servers["valkey-9"]), emptied(servers["target"])
    for name, value in values.items():
        source.client.set(name, value)
    shelf = Shelf()
    shelf.take(source)
    shelf.restore(target)
    assert {name: target.client.get(name) for name in target.client.scan_iter()} == values


def test_writers_beside_the_dump(shelf: Shelf, source: RealRedis, target: RealRedis) -> None:
    """Keys that stay are all in it, whatever comes and goes beside them."""
    pipe = source.client.pipeline()
    for i in range(5000):
        pipe.set(f"stays-{i}", i)
    pipe.execute()
    done = threading.Event()

    def churn() -> None:
        client, i = source.at(0), 0
        while not done.is_set():
            i += 1
            with client.pipeline() as batch:
                for j in range(200):
                    batch.set(f"churn-{i}-{j}", "x")
                    batch.delete(f"churn-{i - 3}-{j}")
                batch.execute()

    writer = threading.Thread(target=churn)
    writer.start()
    try:
        point = shelf.take(source)
    finally:
        done.set()
        writer.join()
    assert shelf.verify(point)["dump-restores"][0]
    shelf.restore(target)
    there = set(target.client.keys("stays-*"))
    assert there == {b"stays-%d" % i for i in range(5000)}


def test_what_was_removed_meanwhile_is_said(shelf: Shelf, source: RealRedis) -> None:
    for i in range(3000):
        source.client.set(f"k{i}", i)

    class Meddling(RedisServer):
        def dump(self, database: int) -> Iterator[Any]:
            for count, key in enumerate(super().dump(database)):
                if count == 10:
                    source.client.flushall()
                yield key

    with Meddling(source.url) as server:
        point = take_redis(server, shelf.store, shelf.catalogue, component="cache", clock=CLOCK)
    assert point.note.startswith("3000 keys were counted before, ")
    assert shelf.verify(point)["dump-restores"][0]


def test_an_empty_server_gives_an_empty_dump(
    shelf: Shelf, source: RealRedis, target: RealRedis
) -> None:
    point = shelf.take(source)
    assert shelf.verify(point)["dump-restores"][0]
    assert shelf.restore(target).keys == 0
