"""Every damage of the drill, done to a real server under load, is found for what it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
import pytest

from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.inspect import PostgresInspector
from chalicelib.adapters.postgres.waldump import PgWaldump
from chalicelib.errors import BadInput, CheckFailed, Damaged
from chalicelib.plan.components import DamageThresholds
from chalicelib.plan.records import Damage, RecoveryTarget, format_time, parse_lsn
from chalicelib.recover.database.changes import Activity, ChangeScan, Transaction
from chalicelib.recover.database.find import Search, find_damage
from chalicelib.recover.database.relations import gather_relations, read_relations
from chalicelib.recover.moment import named_transactions, target_before
from leeward.local.damage import DAMAGES, Injected, Victim
from leeward.local.sample_app import create_schema
from tests.servers import RealServer, running_server

PROJECTS = 3000
THRESHOLDS = DamageThresholds(rows=1000, times_usual=20)
ROLES = """
CREATE ROLE nexus_app LOGIN PASSWORD 'app';
CREATE ROLE leeward LOGIN REPLICATION CREATEDB CREATEROLE PASSWORD 'operator';
GRANT nexus_app TO leeward WITH ADMIN OPTION;
GRANT pg_read_all_data, pg_monitor, pg_signal_backend TO leeward;
"""


@pytest.fixture
def production() -> Iterator[RealServer]:
    with running_server() as server:
        server.run(*ROLES.strip().split("\n"), "CREATE DATABASE nexus OWNER nexus_app")
        server.run(
            "CREATE EXTENSION amcheck",
            "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO leeward",
            database="nexus",
        )
        create_schema(server.dsn("nexus", "nexus_app", "app"), projects=PROJECTS)
        server.run("ANALYZE", database="nexus")
        yield server


@contextmanager
def write_load(server: RealServer) -> Iterator[None]:
    """Small transactions, one after the other, until the block ends; errors are the damage's."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            try:
                with server.connect("nexus", user="nexus_app", password="app") as connection:
                    while not stop.wait(0.003):
                        number += 1
                        connection.execute(
                            "UPDATE projects SET budget_cents = budget_cents + 1 WHERE id = %s",
                            (number % PROJECTS + 1,),
                        )
            except psycopg.Error:
                stop.wait(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


class Scene:
    """A source whose WAL and relation map up to now are known, as stored backups know them."""

    def __init__(self, server: RealServer) -> None:
        self.server = server
        self.operator = server.dsn("nexus", "leeward", "operator")
        self.databases = PostgresDatabases(self.operator, find_binaries())
        self.start = self._lsn()
        with self.databases.session() as session:
            _, numbered = read_relations(session)
        entries = {
            str(number): {
                "name": it.name, "kind": it.kind, "parent": it.parent, "rows": it.rows,
            }
            for number, it in numbered.items()
        }  # fmt: skip
        self.map = {"databases": {"nexus": entries}}
        self.sound_at = datetime.now(UTC)

    def _lsn(self) -> int:
        """The end of what is flushed; a transaction at its end makes sure that it holds all."""
        self.server.run("SELECT pg_logical_emit_message(true, 'leeward', 'tick')")
        return parse_lsn(self.server.run("SELECT pg_current_wal_flush_lsn()::text")[0][0])

    def _wal(self) -> PgWaldump:
        return PgWaldump(find_binaries(), self.server.data / "pg_wal")

    def activity(self, moment: str = "") -> Activity:
        scan = ChangeScan(keep=named_transactions(moment))
        return scan.read(self._wal().dump(1, self.start, self._lsn()))

    def commits(self) -> list[Transaction]:
        scan = ChangeScan()
        chunks = self._wal().dump(1, self.start, self._lsn())
        return [transaction for chunk in chunks for transaction in scan.feed(chunk)]

    def search(self, moment: str = "", **more: object) -> Search:
        with self.databases.session() as session:
            live = read_relations(session)
        return Search(
            activity=self.activity(moment),
            relations=gather_relations("nexus", [self.map], live),
            inspector=PostgresInspector(self.operator, self.databases),
            thresholds=THRESHOLDS,
            timeline=1,
            now=datetime.now(UTC),
            since=self.sound_at,
            **more,  # type: ignore[arg-type]
        )

    def find(self, moment: str = "") -> Damage:
        return find_damage(self.search(moment), moment=moment)

    def injure(self, name: str, table: str = "") -> Injected:
        return DAMAGES[name](Victim(self.server.dsn("nexus"), self.server.data, table=table))


LOGICAL = ["update-without-where", "delete-without-where", "truncate", "drop-table",
           "wrong-migration"]  # fmt: skip
PHYSICAL = ["heap-bytes", "relation-file", "index-mismatch"]


@pytest.mark.parametrize("name", LOGICAL)
def test_finds_the_transaction_that_did_it(production: RealServer, name: str) -> None:
    scene = Scene(production)
    with write_load(production):
        injected = scene.injure(name)
        damage = scene.find()
    assert (damage.kind, damage.xid) == (injected.kind, injected.xid)
    assert damage.target.kind == "xid"
    assert damage.target.value == str(injected.xid)
    assert damage.damaged_at == injected.at
    assert damage.target.lsn <= (injected.commit_lsn or 0)
    assert injected.table in damage.tables
    assert damage.rows == injected.rows


@pytest.mark.parametrize("name", PHYSICAL)
def test_finds_physical_damage_and_goes_to_the_end(production: RealServer, name: str) -> None:
    scene = Scene(production)
    with write_load(production):
        injected = scene.injure(name)
        damage = scene.find()
    assert damage.kind == injected.kind
    assert damage.target == RecoveryTarget("end", "", timeline=1)
    assert injected.file.split("/")[-1] in damage.found + str(damage.tables)


@pytest.mark.parametrize("relation", ["assets_project", "assets_id_seq", "scratch"])
def test_finds_whichever_file_is_gone(production: RealServer, relation: str) -> None:
    production.run("CREATE TABLE scratch (n int)", "CHECKPOINT", database="nexus")
    scene = Scene(production)
    path = production.run(f"SELECT pg_relation_filepath('{relation}')", database="nexus")[0][0]
    (production.data / path).unlink()
    damage = scene.find()
    assert (damage.kind, damage.tables) == ("relation-file", (path,))
    assert relation in damage.found


def test_believes_what_postgres_18_leaves_of_the_length_of_pg_class(
    production: RealServer,
) -> None:
    """Its VACUUM FULL of pg_class keeps the old number of pages there."""
    stale = "UPDATE pg_class SET relpages = 1000 WHERE oid = '{}'::regclass"
    production.run(stale.format("pg_class"), database="nexus")
    scene = Scene(production)
    assert scene.search().inspector.missing_files() == ()
    production.run(stale.format("pg_proc"), database="nexus")
    [fault] = scene.search().inspector.missing_files()
    assert "pg_catalog.pg_proc has" in fault.what


def test_finds_a_page_that_is_bad_on_disk_alone(production: RealServer) -> None:
    """Every query still reads the good copy in memory."""
    production.run("CHECKPOINT", "SELECT sum(size_bytes) FROM assets", database="nexus")
    scene = Scene(production)
    path = production.run("SELECT pg_relation_filepath('assets')", database="nexus")[0][0]
    with (production.data / path).open("r+b") as heap:
        heap.seek(3 * 8192 + 4000)
        heap.write(b"\xff" * 64)
    damage = scene.find()
    assert (damage.kind, damage.tables) == ("page", (f"{path} block 3",))


def test_finds_a_missing_segment_that_a_slot_needs(production: RealServer) -> None:
    production.run("SELECT pg_create_physical_replication_slot('leeward', true)")
    scene = Scene(production)
    scene.start = parse_lsn("0/0")
    injected = scene.injure("wal-segment")
    scene.start = scene._lsn()
    damage = scene.find()
    assert (damage.kind, damage.tables) == ("wal-gap", (injected.file,))


HARMLESS = {
    "vacuum-full": ("VACUUM FULL assets",),
    "vacuum-full-twice": ("VACUUM FULL assets", "VACUUM FULL assets"),
    "cluster": ("CLUSTER assets USING assets_pkey",),
    "reindex": ("REINDEX TABLE assets",),
    "create-index": ("CREATE INDEX ON assets (path)",),
    "analyze": ("ANALYZE assets", "VACUUM assets"),
    "materialized-view": (
        "CREATE MATERIALIZED VIEW totals AS SELECT * FROM assets",
        "REFRESH MATERIALIZED VIEW totals",
    ),
    "bulk-load": (
        "CREATE TABLE loaded AS SELECT * FROM assets",
        "INSERT INTO loaded SELECT * FROM assets",
    ),
    "empty-table": ("CREATE TABLE scratch (n int)", "TRUNCATE scratch", "DROP TABLE scratch"),
    "catalogue": ("VACUUM FULL pg_class", "VACUUM FULL pg_attribute"),
    "rolled-back": ("DO $$ BEGIN DELETE FROM assets; RAISE EXCEPTION 'no'; "
                    "EXCEPTION WHEN raise_exception THEN NULL; END $$",),
}  # fmt: skip


def test_calls_no_upkeep_damage(production: RealServer) -> None:
    scene = Scene(production)
    for statements in HARMLESS.values():
        production.run(*statements, database="nexus")
    with pytest.raises(CheckFailed) as raised:
        scene.find()
    assert raised.value.instance_code == "no-damage-found"
    assert raised.value.context["alternatives"] == []


@pytest.mark.parametrize("kind", ["TABLE", "UNLOGGED TABLE"])
def test_a_table_that_is_dropped_and_made_again_at_once_is_lost(
    production: RealServer, kind: str
) -> None:
    """As a deployment does that creates its tables anew: by WAL alone it looks like a VACUUM FULL
    or a SET UNLOGGED."""
    scene = Scene(production)
    again = (
        f"BEGIN; DROP TABLE assets; CREATE {kind} assets (id bigint PRIMARY KEY, t text); COMMIT"
    )
    production.run(again, database="nexus")
    damage = scene.find()
    assert (damage.kind, damage.tables) == ("drop", ("public.assets",))
    assert damage.rows == PROJECTS * 4


def test_takes_no_moved_database_for_a_dropped_one(production: RealServer) -> None:
    """Its folder in the old tablespace is dropped."""
    with production.connect() as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute("CREATE TABLESPACE fast LOCATION ''")
    scene = Scene(production)
    production.run("ALTER DATABASE nexus SET TABLESPACE fast")
    with pytest.raises(CheckFailed) as raised:
        scene.find()
    assert raised.value.instance_code == "no-damage-found"
    assert raised.value.context["alternatives"] == []


@pytest.mark.parametrize("times", [1, 2])
def test_a_rewritten_pg_database_hides_no_mark_of_a_drop(
    production: RealServer, times: int
) -> None:
    """Its file has a number that no map knows; and going back to where the files went brings a
    database back to which nobody can connect."""
    scene = Scene(production)
    for _ in range(times):
        production.run("VACUUM FULL pg_database")
    marked_from = scene._lsn()
    production.run("DROP DATABASE nexus WITH (FORCE)")
    activity = scene.activity()
    [dropped] = [it for it in activity.notable if it.dropped_databases]
    assert marked_from <= dropped.drop_lsn == max(activity.marks.values())
    assert target_before(dropped.xid, dropped.commit_lsn, dropped.drop_lsn, 1).kind == "lsn"


def test_counts_the_rows_of_savepoints_and_prepared_transactions(production: RealServer) -> None:
    scene = Scene(production)
    with production.connect("nexus") as connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM assets WHERE id <= 10")
        connection.execute("SAVEPOINT a")
        connection.execute("DELETE FROM assets WHERE id <= 5000")
        connection.execute("SAVEPOINT b")
        connection.execute("UPDATE projects SET owner = ''")
        connection.execute("ROLLBACK TO b")
        connection.execute("PREPARE TRANSACTION 'both'")
        connection.execute("COMMIT PREPARED 'both'")
    damage = scene.find()
    assert (damage.kind, damage.tables, damage.rows) == ("mass-delete", ("public.assets",), 5000)


def test_takes_the_first_of_several_and_names_the_others(production: RealServer) -> None:
    scene = Scene(production)
    first = scene.injure("update-without-where", "assets")
    second = scene.injure("update-without-where", "assets")
    small = scene.injure("update-without-where", "projects")
    damage = scene.find()
    assert damage.xid == first.xid
    assert [other["xid"] for other in damage.alternatives] == [second.xid, small.xid]


def test_sees_that_a_small_table_was_emptied(production: RealServer) -> None:
    production.run(
        "CREATE TABLE plans (name text)",
        "INSERT INTO plans SELECT 'plan ' || n FROM generate_series(1, 40) n",
        "ANALYZE plans",
        database="nexus",
    )
    scene = Scene(production)
    production.run("DELETE FROM plans", database="nexus")
    damage = scene.find()
    assert (damage.kind, damage.tables, damage.rows) == ("mass-delete", ("public.plans",), 40)


def test_finds_large_objects_that_were_unlinked(production: RealServer) -> None:
    production.run("SELECT lo_from_bytea(0, 'film') FROM generate_series(1, 1500)",
                   "ANALYZE pg_largeobject_metadata", database="nexus")  # fmt: skip
    scene = Scene(production)
    production.run("SELECT lo_unlink(oid) FROM pg_largeobject_metadata", database="nexus")
    damage = scene.find()
    assert (damage.kind, damage.rows) == ("mass-delete", 1500)
    assert damage.tables == ("pg_catalog.pg_largeobject_metadata",)


def test_does_what_a_person_says(production: RealServer) -> None:
    scene = Scene(production)
    injected = scene.injure("truncate", "assets")
    damage = scene.find(moment=str(injected.xid))
    assert damage.target.lsn == scene.find().target.lsn
    at = format_time(scene.sound_at)
    assert scene.find(moment=at).target == RecoveryTarget("time", at, timeline=1)
    assert scene.find(moment="0/16b3748").target.value == "0/16B3748"
    assert [a["xid"] for a in scene.find(moment=at).alternatives] == [injected.xid]


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        ("yesterday", "bad-moment"),
        ("2026-11-22T08:30:00", "bad-moment"),
        ("2999-01-01T00:00:00Z", "bad-moment"),
        ("1", "bad-moment"),
        ("4294967295", "no-such-transaction"),
    ],
)
def test_refuses_a_moment_that_cannot_be(production: RealServer, moment: str, code: str) -> None:
    with pytest.raises(BadInput) as raised:
        Scene(production).find(moment=moment)
    assert raised.value.instance_code == code


def test_bisects_what_it_cannot_see(production: RealServer) -> None:
    scene = Scene(production)
    for number in range(1, 30):
        production.run(
            f"UPDATE projects SET budget_cents = {number} WHERE id = {number}", database="nexus"
        )
    wrong = scene.commits()[17]
    asked: list[int] = []

    def is_sound(target: RecoveryTarget) -> bool:
        asked.append(target.lsn)
        return target.lsn <= wrong.commit_lsn

    damage = find_damage(scene.search(commits=scene.commits, is_sound=is_sound))
    assert (damage.kind, damage.xid) == ("suspected", wrong.xid)
    assert damage.target == RecoveryTarget("xid", str(wrong.xid), wrong.commit_lsn, 1)
    assert len(asked) <= 6


def test_never_takes_a_hole_in_the_wal_for_silence(production: RealServer) -> None:
    scene = Scene(production)
    first = production.run("SELECT pg_walfile_name(pg_current_wal_lsn())")[0][0]
    production.run("SELECT pg_switch_wal()", "CREATE TABLE after_it (n int)")
    segment = production.data / "pg_wal" / first
    content = bytearray(segment.read_bytes())
    middle = scene.start % len(content) + 8
    content[middle : middle + 4096] = b"\xff" * 4096
    segment.write_bytes(content)
    with pytest.raises(Damaged) as raised:
        scene.activity()
    assert raised.value.instance_code == "wal-unreadable"
