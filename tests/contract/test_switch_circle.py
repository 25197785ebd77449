"""The whole way on real servers: backup, damage, find, restore, replay, verify, load, equal.

The operator has the rights that docs/operator-role.md gives, and no others.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.inspect import PostgresInspector
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.adapters.postgres.waldump import PgWaldump
from chalicelib.backup.base_backup import take_backup
from chalicelib.backup.wal_fetch import fetch_wal
from chalicelib.plan.components import Assertion, DamageThresholds, DatabaseChecks
from chalicelib.plan.records import Damage, RecoveryTarget, format_time
from chalicelib.plan.wal import follow
from chalicelib.recover.database.changes import ChangeScan
from chalicelib.recover.database.digests import TableDigest, compare_digests, table_digests
from chalicelib.recover.database.fence import open_writes, stop_writes
from chalicelib.recover.database.find import Search, find_damage
from chalicelib.recover.database.load import load_database
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.replay import replay
from chalicelib.recover.database.restore import Restored, restore
from chalicelib.recover.database.segments import read_segment
from chalicelib.recover.database.switch import retire_database
from chalicelib.recover.moment import last_commit_in
from chalicelib.recover.window import find_window
from chalicelib.services.steps.database.relations import invalid_row, relations_of
from chalicelib.verify.database import verify_database, verify_pages
from chalicelib.verify.schema import Schema, read_schema
from chalicelib.verify.watch import watch_database
from leeward.local.damage import DAMAGES, Injected, Victim
from leeward.local.sample_app import create_schema
from tests.servers import RealServer, running_server

CLOCK = SystemClock()
PROJECTS = 1500
CHECKS = DatabaseChecks(
    assertions=(Assertion(name="assets", sql="SELECT count(*) FROM assets", expect=">= 6000"),)
)
DOCUMENTED = Path(__file__).parents[2] / "docs" / "operator-role.md"


def documented_rights() -> list[str]:
    """The blocks of SQL that the page tells an administrator to run first."""
    return re.findall(r"```sql\n(.*?)```", DOCUMENTED.read_text(), re.DOTALL)[:2]


@dataclass
class Circle:
    """One component: its production, its backups, and a recovery of it."""

    server: RealServer
    root: Path
    writes: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.store = FolderObjectStore(self.root / "store")
        self.catalogue = StoredCatalogue(self.store, "db")
        self.operator_dsn = self.server.dsn("nexus", "leeward", "operator")
        self.operator = PostgresDatabases(self.operator_dsn, find_binaries())

    def back_up(self) -> None:
        with PostgresSource(self.operator_dsn) as source:
            take_backup(
                source, self.store, self.catalogue, component="db", kind="full", clock=CLOCK
            )

    def fetch_wal(self) -> None:
        with PostgresSource(self.operator_dsn, any_database=True) as source:
            fetch_wal(source, self.store, self.catalogue, component="db", clock=CLOCK)

    @contextmanager
    def writing(self) -> Iterator[None]:
        writer = threading.Thread(target=self._write)
        self.stop.clear()
        writer.start()
        try:
            yield
        finally:
            self.stop.set()
            writer.join()

    def _write(self) -> None:
        try:
            with self.server.connect("nexus", user="nexus_app", password="app") as connection:
                while not self.stop.wait(0.002):
                    connection.execute(
                        "WITH made AS (INSERT INTO assets (project_id, path, size_bytes)"
                        " VALUES (1, 'x', 1) RETURNING project_id)"
                        " UPDATE projects SET owner = 'w' FROM made WHERE id = project_id"
                    )
                    self.writes += 1
        except psycopg.Error:
            return

    def contents(self, database: str = "") -> dict[str, TableDigest]:
        """Without sequences: WAL holds them up to 32 values ahead (SEQ_LOG_VALS, sequence.c)."""
        found = table_digests(self.operator, database)
        return {name: digest for name, digest in found.items() if "sequence" not in name}

    def schema(self) -> Schema:
        with self.operator.session() as session:
            return read_schema(session)

    def injure(self, name: str) -> Injected:
        victim = Victim(self.server.dsn("nexus"), self.server.data, self.store)
        return DAMAGES[name](victim)

    def find(self, moment: str = "") -> Damage:
        """As the step does: from the stored WAL, and from the source as the operator."""
        inventory = self.catalogue.inventory()
        window = find_window(inventory.windows, RecoveryTarget("end", ""))
        folder = self.root / "wal"
        folder.mkdir()
        for item in follow(inventory.wal, window.timeline):
            content = read_segment(self.store, item, inventory.wal.segment_bytes)
            (folder / item.name).write_bytes(content)
        wal = PgWaldump(find_binaries(), folder)
        start = window.start_lsn - window.start_lsn % inventory.wal.segment_bytes
        scan = ChangeScan(sequence_value=partial(wal.sequence_value, window.timeline))
        search = Search(
            activity=scan.read(wal.dump(window.timeline, start, window.end_lsn)),
            relations=relations_of(self.store, self.operator),
            inspector=PostgresInspector(self.operator_dsn, self.operator),
            thresholds=DamageThresholds(rows=1000, times_usual=20),
            timeline=window.timeline,
            now=CLOCK.now(),
            invalid_row=invalid_row(self.operator),
            last_commit=lambda lsn: last_commit_in(wal.dump(window.timeline, start, lsn)),
        )
        return find_damage(search, moment=moment)

    def rebuild(self, target: RecoveryTarget) -> Restored:
        data = self.root / "data"
        means = Means(self.store, self.catalogue, ThrowawayServer, CLOCK)
        restored = restore(means, target, data)
        replay(means, restored, data)
        return restored

    def verify_and_load(self, damage: Damage, schema: Schema, new_name: str) -> list[str]:
        """The names of failed checks; loaded when there are none."""
        server = ThrowawayServer(self.root / "data")
        with server:
            server.start()
            server.wait_until("ready", timeout_seconds=30)
            dsn = server.dsn("nexus")
            for index in damage.tables if damage.kind == "index" else ():
                # Its WAL brings a wrong index back as it was.
                with psycopg.connect(dsn, autocommit=True) as connection:
                    connection.execute(f"REINDEX INDEX {index}")
            recovered = PostgresDatabases(dsn, find_binaries())
            results = verify_database(
                recovered,
                PostgresInspector(dsn, recovered, may_install=True),
                CHECKS,
                moment=CLOCK.now(),
                clock=CLOCK,
                schema=schema,
            )
            failed = [f"{result.name}: {result.found}" for result in results if not result.ok]
            if not failed:
                load_database(
                    recovered,
                    self.operator,
                    new_name,
                    run_id="run-1",
                    folder=self.root / "dump",
                    clock=CLOCK,
                )
            pages = verify_pages(server, clock=CLOCK)
        return failed if pages.ok else [*failed, pages.found]


@pytest.fixture
def circle(tmp_path: Path) -> Iterator[Circle]:
    with running_server() as server:
        on_server, in_database = documented_rights()
        server.run("CREATE ROLE nexus_app LOGIN PASSWORD 'app'", on_server)
        server.run("CREATE DATABASE nexus OWNER nexus_app")
        server.run(in_database, database="nexus")
        create_schema(server.dsn("nexus", "nexus_app", "app"), projects=PROJECTS)
        server.run("VACUUM ANALYZE", database="nexus")
        yield Circle(server, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "update-without-where",
        "truncate",
        "drop-table",
        "drop-database",
        "wrong-migration",
        "heap-bytes",
        "relation-file",
        "index-mismatch",
        "backup-object",
    ],
)
def test_all_that_was_committed_before_the_damage_is_back(circle: Circle, name: str) -> None:
    circle.back_up()
    circle.fetch_wal()
    with circle.writing():
        CLOCK.sleep(0.1)
        circle.back_up()
        CLOCK.sleep(0.1)
    circle.fetch_wal()
    before, schema = circle.contents(), circle.schema()
    injured = [circle.injure(name)]
    if name == "backup-object":
        injured.append(circle.injure("update-without-where"))
    logical = injured[-1].xid is not None
    if logical:
        with circle.writing():
            CLOCK.sleep(0.05)
    stop_writes(circle.operator, "nexus_app", token=1, run_id="run-1", clock=CLOCK)
    circle.fetch_wal()
    damage = circle.find()
    assert damage.kind == injured[-1].kind
    restored = circle.rebuild(damage.target)
    assert bool(restored.rejected) == (name == "backup-object")
    assert circle.verify_and_load(damage, schema, "nexus_recovery") == []
    open_writes(circle.operator, "nexus_app", token=1)
    assert compare_digests(before, circle.contents("nexus_recovery")) == ()
    assert circle.writes > 10


def test_a_database_is_back_that_was_dropped_and_made_again(circle: Circle) -> None:
    """As a reset meant for another machine does; its neighbour keeps what it commits meanwhile."""
    circle.server.run("CREATE DATABASE neighbour", "ALTER DATABASE nexus CONNECTION LIMIT 50")
    circle.back_up()
    circle.fetch_wal()
    with circle.writing():
        CLOCK.sleep(0.1)
    circle.server.run("CREATE TABLE notes AS SELECT 1 AS n", database="neighbour")
    before, schema = circle.contents(), circle.schema()
    circle.server.run("DROP DATABASE nexus", "CREATE DATABASE nexus OWNER nexus_app")
    create_schema(circle.server.dsn("nexus", "nexus_app", "app"), projects=10)
    circle.server.run("INSERT INTO notes VALUES (2)", database="neighbour")
    circle.fetch_wal()
    damage = circle.find()
    assert (damage.kind, damage.tables) == ("drop", ("the whole database",))
    circle.rebuild(damage.target)
    assert circle.verify_and_load(damage, schema, "nexus_recovery") == []
    assert compare_digests(before, circle.contents("nexus_recovery")) == ()
    limit = "SELECT datconnlimit FROM pg_database WHERE datname = 'nexus_recovery'"
    assert circle.server.run(limit) == [(50,)]
    assert circle.server.run("SELECT n FROM notes", database="neighbour") == [(1,), (2,)]


def test_a_time_before_a_drop_that_nobody_wrote_before_is_reached(circle: Circle) -> None:
    """A replay to a time ends at the next commit, which is the drop's: too late for its files."""
    circle.back_up()
    circle.fetch_wal()
    with circle.writing():
        CLOCK.sleep(0.1)
    before, schema = circle.contents(), circle.schema()
    CLOCK.sleep(0.1)
    moment = format_time(CLOCK.now())
    CLOCK.sleep(0.1)
    circle.server.run("DROP DATABASE nexus WITH (FORCE)")
    circle.fetch_wal()
    damage = circle.find(moment=moment)
    assert (damage.target.kind, damage.target.value) == ("time", moment)
    circle.rebuild(damage.target)
    assert circle.verify_and_load(damage, schema, "nexus_recovery") == []
    assert compare_digests(before, circle.contents("nexus_recovery")) == ()


def test_a_sequence_is_ahead_again_before_it_was_put_back(circle: Circle) -> None:
    """A replay up to the commit of a setval has done it."""
    circle.back_up()
    with circle.writing():
        CLOCK.sleep(0.1)
    highest = "SELECT max(id) FROM assets"
    [(before,)] = circle.server.run(highest, database="nexus")
    sql = "SELECT pg_current_xact_id()::text, setval('assets_id_seq', 7)"
    [(xid, _)] = circle.server.run(sql, database="nexus")
    circle.fetch_wal()
    circle.rebuild(circle.find(moment=f"xid {xid}").target)
    with ThrowawayServer(circle.root / "data") as server:
        server.start()
        server.wait_until("ready", timeout_seconds=30)
        with psycopg.connect(server.dsn("nexus")) as connection:
            [row] = connection.execute(f"SELECT ({highest}), last_value FROM assets_id_seq")
    assert row[0] == before <= row[1]


def cancel_drop(server: RealServer) -> None:
    """DROP DATABASE, held up by a session that answers nobody, and cancelled as by Ctrl-C."""
    with server.connect() as silent, server.connect() as dropping, server.connect() as other:
        os.kill(silent.info.backend_pid, signal.SIGSTOP)
        try:
            drop = threading.Thread(target=_drop_in_vain, args=(dropping,))
            drop.start()
            deadline = CLOCK.now() + timedelta(seconds=30)
            while drop.is_alive() and CLOCK.now() < deadline:
                [(marked,)] = other.execute("SELECT datconnlimit = -2 FROM pg_database"
                                            " WHERE datname = 'nexus'")  # fmt: skip
                if marked:
                    other.execute("SELECT pg_cancel_backend(%s)", (dropping.info.backend_pid,))
                CLOCK.sleep(0.01)
            drop.join()
        finally:
            os.kill(silent.info.backend_pid, signal.SIGCONT)


def _drop_in_vain(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("DROP DATABASE nexus")


def test_a_database_is_back_whose_drop_was_cancelled(circle: Circle) -> None:
    """It is there, and nobody can connect to it any more."""
    circle.back_up()
    circle.fetch_wal()
    with circle.writing():
        CLOCK.sleep(0.1)
    before, schema = circle.contents(), circle.schema()
    circle.server.run("VACUUM FULL pg_database")  # no stored map has seen its new file
    cancel_drop(circle.server)
    inspector = PostgresInspector(circle.operator_dsn, circle.operator)
    seen = watch_database(circle.operator, inspector, CHECKS, since=None, clock=CLOCK)
    assert seen.signs == ("database",)
    stop_writes(circle.operator, "nexus_app", token=1, run_id="run-1", clock=CLOCK)
    circle.fetch_wal()
    damage = circle.find()
    assert damage.kind == "drop"
    assert "did not end" in damage.found
    circle.rebuild(damage.target)
    assert circle.verify_and_load(damage, schema, "nexus_recovery") == []
    retire_database(circle.operator, "nexus", "nexus_app")
    open_writes(circle.operator, "nexus_app", token=1)
    assert compare_digests(before, circle.contents("nexus_recovery")) == ()
