"""A server with backups and a copy of it as it was before a transaction: for rows taken back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.postgres.binaries import Binaries, find_binaries
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.adapters.postgres.waldump import PgWaldump
from chalicelib.backup.base_backup import take_backup
from chalicelib.backup.wal_fetch import fetch_wal
from chalicelib.plan.records import RecoveryTarget, parse_lsn
from chalicelib.recover.database.changes import ChangeScan, Transaction
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.replay import replay
from chalicelib.recover.database.restore import restore
from chalicelib.recover.rows.gone import GoneScan, rewrote
from chalicelib.recover.rows.sources import Wish
from chalicelib.recover.rows.take_back import Aside, RowsBack, take_rows_back
from tests.clusters import fresh_cluster
from tests.servers import RealServer, running_server

CLOCK = SystemClock()
PASSWORD = "secret"
STUDIO = """
CREATE TABLE owners (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mail text UNIQUE);
CREATE TABLE projects (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner bigint NOT NULL REFERENCES owners ON DELETE CASCADE,
    parent bigint REFERENCES projects,
    name text NOT NULL COLLATE "C",
    cents bigint NOT NULL,
    euros numeric GENERATED ALWAYS AS (cents / 100.0) STORED
);
CREATE TABLE assets (
    project bigint REFERENCES projects ON DELETE CASCADE,
    path varchar(80), tags text[], meta jsonb, "Odd ""x" bytea, size double precision,
    PRIMARY KEY (project, path)
);
INSERT INTO owners (mail) SELECT 'a' || n || '@studio' FROM generate_series(1, 20) n;
INSERT INTO projects (owner, parent, name, cents)
  SELECT 1 + n % 20, CASE WHEN n % 3 = 0 THEN n - 1 END, 'p' || n, n * 7
    FROM generate_series(1, 300) n;
INSERT INTO assets SELECT 1 + n % 300, 'f' || n, ARRAY['x', n::text], jsonb_build_object('n', n),
       decode(md5(n::text), 'hex'), n / 7.0 FROM generate_series(1, 3000) n;
"""
ALL = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t"

SINCE_16 = ", INHERIT TRUE, SET TRUE"
ROLES = (
    f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'",
    f"CREATE ROLE leeward LOGIN REPLICATION CREATEDB CREATEROLE PASSWORD '{PASSWORD}'",
    "GRANT app TO leeward WITH ADMIN OPTION, INHERIT TRUE, SET TRUE",
    "GRANT pg_read_all_data, pg_monitor TO leeward",
)


@dataclass
class Kept:
    """What was said just before the commit."""

    back: list[RowsBack] = field(default_factory=list)
    xids: list[str] = field(default_factory=list)
    aside: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, back: RowsBack, xid: str, aside: Aside) -> None:
        self.back.append(back)
        self.xids.append(xid)
        self.aside += aside


@dataclass
class RowWorld:
    """One server of several databases, each owned by `app`; a full backup of it and its WAL."""

    server: RealServer
    root: Path
    start: int

    def __post_init__(self) -> None:
        self.store = FolderObjectStore(self.root / "store")
        self.catalogue = StoredCatalogue(self.store, "db")

    def back_up(self) -> None:
        with PostgresSource(self.server.dsn()) as source:
            fetch_wal(source, self.store, self.catalogue, component="db", clock=CLOCK)
            take_backup(
                source, self.store, self.catalogue, component="db", kind="full", clock=CLOCK
            )

    def app(self, database: str) -> psycopg.Connection[Any]:
        return self.server.connect(database, user="app", password=PASSWORD)

    def run(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """As the application, each statement in its own transaction; the rows of the last."""
        with self.app(database) as connection:
            for statement in statements:
                cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def contents(self, database: str, *tables: str) -> list[str]:
        """A digest of each table's rows."""
        return [self.run(database, ALL.format(table))[0][0] for table in tables]

    def damage(self, database: str, *statements: str) -> int:
        """As the application, in one transaction; its id."""
        with self.app(database) as connection, connection.transaction():
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            assert row
            return int(row[0])

    def live(self, database: str) -> PostgresDatabases:
        """As Leeward's own role, which is no superuser; no programs are needed for it."""
        return PostgresDatabases(self.server.dsn(database, user="leeward", password=PASSWORD))

    def transaction(self, xid: int) -> Transaction:
        [found] = [
            transaction
            for chunk in self._dump()
            for transaction in self._scan.feed(chunk)
            if transaction.xid == xid
        ]
        return found

    def _dump(self) -> Iterator[bytes]:
        self._scan = ChangeScan()
        self.server.run("SELECT pg_logical_emit_message(true, 'leeward', 'tick')")
        end = parse_lsn(self.server.run("SELECT pg_current_wal_flush_lsn()::text")[0][0])
        return PgWaldump(find_binaries(), self.server.data / "pg_wal").dump(1, self.start, end)

    @contextmanager
    def before(self, target: RecoveryTarget, database: str) -> Iterator[PostgresDatabases]:
        """A throw-away server, recovered to there."""
        with PostgresSource(self.server.dsn()) as source:
            fetch_wal(source, self.store, self.catalogue, component="db", clock=CLOCK)
        folder = self.root / "work" / "data"
        means = Means(self.store, self.catalogue, ThrowawayServer, CLOCK)
        restored = restore(means, target, folder)
        replay(means, restored, folder)
        with ThrowawayServer(folder) as server:
            server.start()
            server.wait_until("ready", timeout_seconds=20)
            yield PostgresDatabases(server.dsn(database), find_binaries(17))

    @contextmanager
    def before_transaction(self, xid: int, database: str) -> Iterator[PostgresDatabases]:
        target = RecoveryTarget("xid", str(xid), self.transaction(xid).commit_lsn)
        with self.before(target, database) as then:
            yield then

    def wish(self, xid: int, *tables: str) -> Wish:
        """What the transaction deleted, truncated or dropped."""
        found = self.transaction(xid)
        scan = GoneScan((xid, *found.children))
        return Wish(
            places=scan.read(self._dump()),
            lost_files=frozenset(relfile.number for relfile, _ in found.dropped),
            tables=tables,
            rewrote=rewrote(found),
            changed=scan.changed,
        )

    def take_back(self, xid: int, database: str, *tables: str) -> tuple[RowsBack, Kept]:
        kept = Kept()
        with self.before_transaction(xid, database) as then:
            back = take_rows_back(then, self.live(database), self.wish(xid, *tables), keep=kept)
        return back, kept


@contextmanager
def row_world(
    root: Path, databases: dict[str, str], binaries: Binaries | None = None
) -> Iterator[RowWorld]:
    """`databases`: name -> what makes its tables, as the application. `binaries`: of another
    version than 17."""
    with fresh_cluster(binaries) if binaries else running_server() as server:
        old = binaries is not None and binaries.major < 16
        server.run(*(it.removesuffix(SINCE_16) if old else it for it in ROLES))
        start = parse_lsn(server.run("SELECT pg_current_wal_insert_lsn()::text")[0][0])
        world = RowWorld(server, root, start)
        for name, script in databases.items():
            server.run(f"CREATE DATABASE {name} OWNER app")
            with world.app(name) as connection:
                connection.execute(script)  # type: ignore[call-overload]
        world.back_up()
        yield world
