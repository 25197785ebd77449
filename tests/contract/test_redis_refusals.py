"""What a dump of Redis or its restore refuses, and how damage and failure are met."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from redis import Redis

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.redis.source import RedisServer
from chalicelib.adapters.redis.throwaway import ThrowawayRedis
from chalicelib.backup.take_redis import take_redis
from chalicelib.errors import (
    BadInput,
    CheckFailed,
    Damaged,
    NotReady,
    Quarantined,
    Refused,
    Unavailable,
)
from chalicelib.plan.dumps import can_read, encode_command
from chalicelib.plan.records import RecoveryPoint
from chalicelib.recover.restore_redis import verify_redis
from tests.doors import self_signed, tls_door
from tests.fakes import FailingObjectStore
from tests.redises import (
    CLOCK,
    REDIS_6,
    VALKEY_9,
    RealRedis,
    Shelf,
    emptied,
    free_port,
    running_redis,
)

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


def test_a_server_with_keys_is_refused_cleared_or_kept(
    shelf: Shelf, source: RealRedis, target: RealRedis
) -> None:
    source.client.set("a", "ours")
    shelf.take(source)
    target.client.set("a", "theirs")
    target.client.set("b", "theirs")
    with pytest.raises(Refused) as caught:
        shelf.restore(target)
    assert caught.value.instance_code == "target-not-empty"
    assert target.client.get("a") == b"theirs"
    assert shelf.restore(target, existing="keep").before == 2
    assert (target.client.get("a"), target.client.get("b")) == (b"ours", b"theirs")
    shelf.restore(target, existing="clear")
    assert target.client.keys() == [b"a"]


def test_a_server_too_old_for_it_is_refused_untouched(
    shelf: Shelf, servers: dict[str, RealRedis]
) -> None:
    new, old = emptied(servers["valkey-9"]), emptied(servers["redis-6"])
    new.client.set("a", "new")
    old.client.set("b", "old")
    shelf.take(new)
    with pytest.raises(Refused) as caught:
        shelf.restore(old, existing="clear")
    assert caught.value.instance_code == "payload-too-new"
    assert old.client.keys() == [b"b"]


def test_which_server_reads_which_payload() -> None:
    assert can_read(9, 9)
    assert can_read(80, 9)
    assert can_read(80, 11)
    assert can_read(12, 11)
    assert not can_read(9, 10)
    assert not can_read(80, 12)
    assert not can_read(11, 80)


def test_too_few_databases(shelf: Shelf, source: RealRedis) -> None:
    source.at(9).set("a", 1)
    shelf.take(source)
    with running_redis(databases="4") as small, pytest.raises(Refused) as caught:
        shelf.restore(small)
    assert caught.value.instance_code == "too-few-databases"


def test_a_server_that_throws_keys_away_is_found_out(shelf: Shelf, source: RealRedis) -> None:
    for i in range(3000):
        source.client.set(f"k{i}", os.urandom(2000))
    shelf.take(source)
    limits = {"maxmemory": "5mb", "maxmemory_policy": "allkeys-random"}
    with running_redis(**limits) as small, pytest.raises(CheckFailed) as caught:
        shelf.restore(small)
    assert caught.value.instance_code == "keys-missing"


def test_a_server_without_room(shelf: Shelf, source: RealRedis) -> None:
    for i in range(3000):
        source.client.set(f"k{i}", os.urandom(2000))
    shelf.take(source)
    with running_redis(maxmemory="5mb") as small, pytest.raises(NotReady) as caught:
        shelf.restore(small)
    assert caught.value.instance_code == "target-full"


def test_a_password(shelf: Shelf) -> None:
    with running_redis(requirepass="s3cret%20@/word") as server:
        server.client.set("a", 1)
        url = f"redis://:s3cret%2520%40%2Fword@127.0.0.1:{server.port}"
        shelf.take(replace(server, url=url))
        for wrong in ("redis://", "redis://:wrong-password@"):
            with pytest.raises(NotReady) as caught:
                shelf.take(replace(server, url=f"{wrong}127.0.0.1:{server.port}"))
            assert caught.value.instance_code == "credentials-refused"
            assert "wrong-password" not in str(caught.value.to_json())
    stored = b"".join(shelf.store.objects.values())
    assert b"s3cret" not in stored


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        (("~*", "+@all", "-dump"), "no-permission"),
        (("~mine:*", "+@all"), "no-permission"),
        (("~*", "+@all", "-info"), "no-permission"),
    ],
)
def test_a_user_with_too_few_rights(shelf: Shelf, rules: tuple[str, ...], code: str) -> None:
    with running_redis() as server:
        server.client.set("yours:a", 1)
        server.client.execute_command("ACL", "SETUSER", "backup", "on", ">pw", *rules)
        with pytest.raises(NotReady) as caught:
            shelf.take(replace(server, url=f"redis://backup:pw@127.0.0.1:{server.port}"))
    assert caught.value.instance_code == code
    assert shelf.store.objects == {}


def test_the_rights_that_the_hint_names_are_enough(shelf: Shelf, target: RealRedis) -> None:
    rights = "+scan +dump +pexpiretime +pttl +time +info +select +multi +exec +function|dump"
    with running_redis() as server:
        server.client.function_load(LIBRARY)
        server.client.set("a", 1, px=100_000)
        server.client.execute_command(
            "ACL", "SETUSER", "backup", "on", ">pw", "~*", "-@all", *rights.split()
        )
        point = shelf.take(replace(server, url=f"redis://backup:pw@127.0.0.1:{server.port}"))
        assert point.note == ""
        server.client.execute_command("ACL", "SETUSER", "backup", "-function|dump")
        point = shelf.take(replace(server, url=f"redis://backup:pw@127.0.0.1:{server.port}"))
        assert point.note.startswith("functions are not in it: ")


def test_a_cluster_is_refused(shelf: Shelf) -> None:
    # Its own choice of a second port, 10,000 above the first, may not exist.
    settings = {"cluster_enabled": "yes", "cluster_port": str(free_port())}
    with running_redis(**settings) as server, pytest.raises(Refused) as caught:
        shelf.take(server)
    assert caught.value.instance_code == "cluster-mode"


def test_a_replica_is_read_but_not_written(shelf: Shelf, target: RealRedis) -> None:
    with running_redis() as primary:
        primary.client.set("a", 1)
        with running_redis(replicaof=f"127.0.0.1 {primary.port}") as replica:
            deadline = time.monotonic() + 15
            while replica.client.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            shelf.take(replica)
            with pytest.raises(Refused) as caught:
                shelf.restore(replica, existing="keep")
            assert caught.value.instance_code == "target-is-replica"
            replica.client.execute_command("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(Refused) as caught:
                shelf.take(replica)
            assert caught.value.instance_code == "replica-behind"
    assert shelf.restore(target).keys == 1


def test_nobody_answers(shelf: Shelf) -> None:
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        port = hanging.getsockname()[1]
        started = time.monotonic()
        with (
            pytest.raises(Unavailable),
            RedisServer(f"redis://127.0.0.1:{port}", answer_seconds=0.5) as silent,
        ):
            silent.facts()
        assert time.monotonic() - started < 10
    with pytest.raises(Unavailable), RedisServer(f"redis://127.0.0.1:{port}") as closed:
        closed.facts()
    with pytest.raises(BadInput):
        RedisServer("http://user:pw@example.org")


def test_a_server_that_ends_in_the_middle_leaves_no_point(shelf: Shelf) -> None:
    with running_redis() as server:
        for i in range(2000):
            server.client.set(f"k{i}", i)

        class Dying(RedisServer):
            def dump(self, database: int) -> Iterator[Any]:
                for count, key in enumerate(super().dump(database)):
                    if count == 100:
                        Redis(port=server.port).shutdown(nosave=True)
                    yield key

        with pytest.raises(Unavailable), Dying(server.url) as source:
            take_redis(source, shelf.store, shelf.catalogue, component="cache", clock=CLOCK)
    assert shelf.store.objects == {}


@pytest.mark.parametrize("fail_at", range(1, 5))
def test_a_store_that_fails_leaves_no_point(shelf: Shelf, target: RealRedis, fail_at: int) -> None:
    target.client.set("a", 1)
    failing = FailingObjectStore(shelf.store, Unavailable("gone", hint="Wait."), fail_at=fail_at)
    try:
        with RedisServer(target.url) as source:
            take_redis(
                source, failing, StoredCatalogue(failing, "cache"), component="cache", clock=CLOCK
            )
    except Unavailable:
        assert shelf.catalogue.holdings().standings == ()
    else:
        assert len(shelf.catalogue.holdings().standings) == 1


@pytest.mark.parametrize("name", ["dump.resp.zst", "dump.json"])
@pytest.mark.parametrize("how", ["flipped", "short", "empty", "longer"])
def test_damage_is_found_before_the_server_is_touched(
    shelf: Shelf, source: RealRedis, target: RealRedis, name: str, how: str
) -> None:
    for i in range(200):
        source.client.set(f"k{i}", os.urandom(50))
    point = shelf.take(source)
    key = f"points/{point.id}/{name}"
    data = shelf.store.objects[key]
    middle = len(data) // 2
    shelf.store.objects[key] = {
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "short": data[:middle],
        "empty": b"",
        "longer": data + b"x",
    }[how]
    [(ok, found)] = shelf.verify(point).values()
    assert not ok
    assert name in found
    target.client.set("theirs", 1)
    with pytest.raises(Damaged):
        shelf.restore(target, existing="clear")
    assert target.client.keys() == [b"theirs"]
    with pytest.raises(Quarantined):
        shelf.restore(target, existing="clear")


def forged(shelf: Shelf, point: RecoveryPoint, stream: bytes) -> RecoveryPoint:
    """The point with another stream, and descriptions that agree with it."""
    facts = json.loads(shelf.store.get(f"points/{point.id}/dump.json"))
    facts |= {"sha256": hashlib.sha256(stream).hexdigest(), "bytes": len(stream)}
    key = f"points/{point.id}/dump"
    packed = zstandard.ZstdCompressor().compress(stream)
    stored = (
        shelf.store.put(f"{key}.resp.zst", packed),
        shelf.store.put(f"{key}.json", json.dumps(facts).encode()),
    )
    return replace(point, objects=stored)


@pytest.mark.parametrize(
    "more",
    [
        encode_command(b"FLUSHALL"),
        encode_command(b"CONFIG", b"SET", b"dir", b"/tmp"),
        encode_command(b"RESTORE", b"a", b"0", b"x", b"ABSTTL"),
        b"*1\r\n$99999999999\r\n",
        b"*2\r\n$6\r\nSELECT\r\n",
        b"PING\r\n",
    ],
)
def test_only_the_commands_of_a_dump_are_carried_out(
    shelf: Shelf, source: RealRedis, more: bytes
) -> None:
    source.client.set("a", 1)
    point = shelf.take(source)
    packed = shelf.store.get(f"points/{point.id}/dump.resp.zst")
    stream = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    assert all(ok for ok, _ in shelf.verify(forged(shelf, point, stream)).values())
    [(ok, found)] = shelf.verify(forged(shelf, point, stream + more)).values()
    assert not ok
    assert "dump.resp.zst" in found


@pytest.mark.parametrize(
    "change", [{"keys": {"0": 2}}, {"keys": {}}, {"sha256": "0" * 64}, {"format": "other"}, []]
)
def test_a_description_that_is_of_another_stream(
    shelf: Shelf, source: RealRedis, change: Any
) -> None:
    source.client.set("a", 1)
    point = shelf.take(source)
    facts = json.loads(shelf.store.get(f"points/{point.id}/dump.json"))
    content = json.dumps(facts | change if change else change).encode()
    stored = shelf.store.put(f"points/{point.id}/dump.json", content)
    [(ok, found)] = shelf.verify(replace(point, objects=(point.objects[0], stored))).values()
    assert not ok
    assert "dump" in found


def test_a_payload_that_the_server_cannot_read_is_no_proof(shelf: Shelf, source: RealRedis) -> None:
    source.client.set("a", "value")
    point = shelf.take(source)
    payload = bytearray(source.client.dump("a") or b"")
    payload[1] ^= 1
    stream = encode_command(b"SELECT", b"0")
    stream += encode_command(b"RESTORE", b"a", b"0", bytes(payload), b"ABSTTL", b"REPLACE")
    checks = shelf.verify(forged(shelf, point, stream))
    assert checks["dump-whole"][0]
    assert not checks["dump-restores"][0]


def test_over_tls(shelf: Shelf, source: RealRedis, target: RealRedis, tmp_path: Path) -> None:
    """Through a door that speaks TLS: the servers of the wheels are built without it."""
    certificate = self_signed(tmp_path)
    source.client.set("a", os.urandom(100_000))
    with tls_door(certificate, source.port) as port:
        url = f"rediss://localhost:{port}"
        with pytest.raises(Unavailable):
            shelf.take(replace(source, url=url))
        shelf.take(replace(source, url=f"{url}?ssl_ca_certs={certificate}"))
    shelf.restore(target)
    assert target.client.get("a") == source.client.get("a")


def test_nothing_of_a_throw_away_server_is_left(tmp_path: Path) -> None:
    with ThrowawayRedis()(payload_version=9) as server:
        folder = Path(server.name).parent
        assert folder.exists()
    assert not folder.exists()
    assert (
        str(folder)
        not in subprocess.run(["ps", "ax", "-ww"], capture_output=True, text=True).stdout
    )


def test_no_server_for_it(shelf: Shelf, source: RealRedis, tmp_path: Path) -> None:
    point = shelf.take(source)
    for named in (tmp_path / "none", Path("/bin/false")):
        with pytest.raises(NotReady) as caught:
            verify_redis(shelf.store, point, ThrowawayRedis(str(named)), clock=CLOCK)
        assert caught.value.instance_code == "no-redis-server"
    with pytest.raises(NotReady) as caught, ThrowawayRedis(str(REDIS_6))(payload_version=80):
        pass
    assert caught.value.instance_code == "no-redis-server"
    assert str(VALKEY_9) not in caught.value.message
