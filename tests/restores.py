"""A database with points and WAL of some time, and restores of it; `history` is made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.postgres.files import server_processes
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.backup.base_backup import take_backup
from chalicelib.backup.wal_fetch import fetch_wal
from chalicelib.errors import CheckFailed
from chalicelib.plan.records import PointKind, RecoveryTarget, parse_lsn
from chalicelib.ports import Inventory
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.recovered import Recovered, recovered
from chalicelib.recover.database.replay import Replayed, replay
from chalicelib.recover.database.restore import Restored, restore
from tests.servers import RealServer, running_server

CLOCK = SystemClock()


@dataclass
class World:
    """A component's store, and where recovery puts its data."""

    root: Path
    store: FolderObjectStore
    moments: dict[str, Any]

    @property
    def catalogue(self) -> StoredCatalogue:
        return StoredCatalogue(self.store, "db")

    @property
    def means(self) -> Means:
        return Means(self.store, self.catalogue, ThrowawayServer, CLOCK)

    @property
    def folder(self) -> Path:
        return self.root / "work" / "data"

    def restore(self, target: RecoveryTarget, known: Inventory | None = None) -> Restored:
        return restore(self.means, target, self.folder, known=known)

    def replay(self, restored: Restored, **options: Any) -> Replayed:
        try:
            return replay(self.means, restored, self.folder, timeout_seconds=60, **options)
        except CheckFailed as error:
            error.add_note(f"the server's log ends: {error.context.get('log')}")
            raise

    def recover(self, target: RecoveryTarget) -> tuple[Restored, Replayed]:
        with self.recovered(target) as found:
            return found.restored, found.replayed

    def recovered(self, target: RecoveryTarget) -> AbstractContextManager[Recovered]:
        """The server that replayed answers inside."""
        return recovered(self.means, target, self.folder)

    @property
    def wal_folder(self) -> Path:
        return self.folder.with_name("data.wal")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with ThrowawayServer(self.folder) as server:
            server.start()
            server.wait_until("ready", timeout_seconds=20)
            with psycopg.connect(server.dsn()) as connection:
                return connection.execute(sql).fetchall()  # type: ignore[call-overload]

    def file(self, pattern: str) -> Path:
        [found] = (self.root / "store").glob(pattern)
        return found

    @property
    def bad_transaction(self) -> RecoveryTarget:
        return RecoveryTarget("xid", str(self.moments["xid"]), self.moments["lsn"])


END = RecoveryTarget("end", "")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> World:
    """full, changes, incremental, changes, incremental, good, bad, good: all with WAL."""
    root = tmp_path_factory.mktemp("history")
    world = World(root, FolderObjectStore(root / "store"), {})
    with running_server() as server:
        place = server.folder / "fast"
        shutil.copytree(server.data / "pg_notify", place)
        os.chown(place, server.data.stat().st_uid, server.data.stat().st_gid)
        server.run(
            f"create tablespace fast location '{place}'",
            "create table t (id int, note text)",
            "insert into t select i, repeat('x', 200) from generate_series(1, 8000) i",
            "create table shrinks as select i as id from generate_series(1, 50000) i",
            "create table gone as select 1 as id",
            "create table in_fast tablespace fast as select generate_series(1, 500) as id",
        )
        with PostgresSource(server.dsn()) as source:
            take_history(world, server, source)
    return world


def take_history(world: World, server: RealServer, source: PostgresSource) -> None:
    def take(kind: PointKind) -> None:
        take_backup(source, world.store, world.catalogue, component="db", kind=kind, clock=CLOCK)

    def tick() -> None:
        fetch_wal(source, world.store, world.catalogue, component="db", clock=CLOCK)

    tick()
    take("full")
    server.run(
        "update t set note = 'changed' where id % 10 = 0",
        "delete from shrinks where id > 100",
        "vacuum shrinks",
        "drop table gone",
        "create table grown as select repeat('y', 500) as x from generate_series(1, 500)",
        "insert into in_fast values (501)",
    )
    take("incremental")
    tick()
    server.run("insert into grown select repeat('z', 500) from generate_series(1, 500)")
    take("incremental")
    server.run("insert into t values (-1, 'good')")
    world.moments["before"] = server.run("select clock_timestamp()")[0][0]
    with server.connect() as connection, connection.transaction():
        [world.moments["xid"]] = connection.execute("select pg_current_xact_id()").fetchone()
        connection.execute("delete from t")
    world.moments["lsn"] = parse_lsn(server.run("select pg_current_wal_lsn()::text")[0][0])
    server.run("insert into t values (-2, 'after')")
    world.moments["after"] = server.run("select clock_timestamp()")[0][0]
    tick()


@pytest.fixture
def world(history: World, tmp_path: Path) -> Iterator[World]:
    """A copy whose store a test may damage."""
    shutil.copytree(history.root / "store", tmp_path / "store")
    copy = World(tmp_path, FolderObjectStore(tmp_path / "store"), history.moments)
    yield copy
    assert not copy.wal_folder.exists()
    if copy.folder.is_dir():
        assert server_processes(copy.folder) == []
