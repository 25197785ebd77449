"""A recovered database loaded into the target: equal, owned as before, and safe to repeat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.errors import CheckFailed, NotReady, Refused
from chalicelib.recover.database.digests import compare_digests, table_digests
from chalicelib.recover.database.load import load_database, recovery_name
from chalicelib.recover.database.loaded import Loaded, tell_left_out, tell_outside
from leeward.local.sample_app import create_schema
from tests.servers import RealServer, running_server

ROLES = (
    "CREATE ROLE nexus_app LOGIN PASSWORD 'app'",
    "CREATE ROLE reporting LOGIN PASSWORD 'reporting'",
    "CREATE ROLE leeward LOGIN CREATEDB CREATEROLE PASSWORD 'operator'",
    "GRANT nexus_app, reporting TO leeward WITH ADMIN OPTION",
    "GRANT pg_read_all_data TO leeward",
    "CREATE DATABASE nexus OWNER nexus_app",
)
OBJECTS = (
    "CREATE EXTENSION amcheck",
    "CREATE EXTENSION pg_trgm",
    "CREATE SCHEMA private AUTHORIZATION nexus_app",
    "CREATE TABLE private.notes (id int PRIMARY KEY, body json, tags text[])",
    "INSERT INTO private.notes SELECT n, '{}', '{a,b}' FROM generate_series(1, 100) n",
    "ALTER TABLE private.notes OWNER TO nexus_app",
    "ALTER TABLE private.notes ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY own ON private.notes USING (false)",
    "CREATE INDEX ON projects USING gin (name gin_trgm_ops)",
    "SELECT lo_from_bytea(4242, 'a picture')",
    "ALTER LARGE OBJECT 4242 OWNER TO nexus_app",
    "GRANT SELECT ON projects TO reporting",
    "ALTER DATABASE nexus SET search_path = public, private",
    "ALTER ROLE reporting IN DATABASE nexus SET statement_timeout = '5s'",
    "REVOKE CONNECT ON DATABASE nexus FROM PUBLIC",
    "GRANT CONNECT ON DATABASE nexus TO reporting",
    "GRANT CONNECT ON DATABASE nexus TO leeward",
)
NEW = "nexus_recovery_20261122t084500z"


@pytest.fixture(scope="module")
def source() -> Iterator[RealServer]:
    """Stands for the throw-away server: the same roles, the recovered content."""
    with running_server() as server:
        server.run(*ROLES)
        create_schema(server.dsn("nexus", "nexus_app", "app"), projects=500)
        server.run(*OBJECTS, database="nexus")
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with running_server(wal_level="logical") as server:
        server.run(*ROLES)
        yield server


@pytest.fixture
def target(server: RealServer) -> Iterator[RealServer]:
    yield server
    server.run(f"DROP DATABASE IF EXISTS {NEW} WITH (FORCE)")


def recovered(source: RealServer) -> PostgresDatabases:
    return PostgresDatabases(source.dsn("nexus"), find_binaries())


def operator(target: RealServer) -> PostgresDatabases:
    return PostgresDatabases(target.dsn("nexus", "leeward", "operator"), find_binaries())


def load(source: RealServer, target: RealServer, folder: Path, run_id: str = "run-1") -> Loaded:
    return load_database(
        recovered(source),
        operator(target),
        NEW,
        run_id=run_id,
        folder=folder / "dump",
        clock=SystemClock(),
    )


def facts(server: RealServer, database: str) -> list[tuple[Any, ...]]:
    """Owners, privileges and settings: what a dump of the contents alone would lose."""
    relations = (
        "SELECT oid::regclass::text, relowner::regrole::text, relacl::text FROM pg_class"
        " WHERE relnamespace IN ('public'::regnamespace, 'private'::regnamespace)"
        " AND relkind IN ('r', 'i', 'S') ORDER BY 1"
    )
    about = (
        "SELECT datdba::regrole::text, (SELECT array_agg(a::text ORDER BY a::text)"
        " FROM unnest(datacl) a), encoding, datcollate,"
        " (SELECT array_agg(setrole::regrole::text || setconfig::text ORDER BY setrole)"
        " FROM pg_db_role_setting WHERE setdatabase = d.oid)"
        " FROM pg_database d WHERE datname = current_database()"
    )
    return server.run(relations, database=database) + server.run(about, database=database)


def test_loads_everything_and_proves_it(
    source: RealServer, target: RealServer, tmp_path: Path
) -> None:
    loaded = load(source, target, tmp_path)
    assert (loaded.database, loaded.tables, loaded.rows) == (NEW, 6, 2603)
    assert loaded.left_out == ("amcheck",)
    assert all(seconds > 0 for seconds in loaded.seconds.values())
    assert facts(target, NEW) == facts(source, "nexus")
    assert list(tmp_path.iterdir()) == []
    with target.connect(NEW, user="nexus_app", password="app") as application:
        application.execute("INSERT INTO projects (name, owner, budget_cents) VALUES ('', '', 1)")


@contextmanager
def tablespace(*servers: RealServer) -> Iterator[None]:
    """A superuser's, inside the data folder."""
    for server in servers:
        with server.connect() as connection:
            connection.execute("SET allow_in_place_tablespaces = on")
            connection.execute("CREATE TABLESPACE archive LOCATION ''")
    source = servers[0]
    source.run(
        "CREATE TABLE old TABLESPACE archive AS SELECT 1 AS n",
        "ALTER TABLE old OWNER TO nexus_app",
        database="nexus",
    )
    try:
        yield
    finally:
        source.run("DROP TABLE old", database="nexus")
        for server in servers:
            server.run("DROP TABLESPACE archive")


@pytest.mark.parametrize("is_there", [False, True])
def test_does_without_a_tablespace_that_is_gone_or_closed(
    source: RealServer, target: RealServer, tmp_path: Path, is_there: bool
) -> None:
    with tablespace(source, *([target] if is_there else [])):
        loaded = load(source, target, tmp_path)
    assert loaded.tablespaces == ("archive",)
    assert any("tablespace archive is gone" in why for _, why in tell_left_out(loaded))
    assert target.run("SELECT n FROM old", database=NEW) == [(1,)]


@contextmanager
def logical_replication(source: RealServer, target: RealServer) -> Iterator[None]:
    """The damaged database feeds a reader, and is itself fed by a publisher."""
    source.run(
        "CREATE SUBSCRIPTION from_billing CONNECTION 'dbname=billing' PUBLICATION invoices"
        " WITH (connect = false, slot_name = NONE, enabled = false)",
        database="nexus",
    )
    target.run(
        "SELECT pg_create_logical_replication_slot('to_search', 'pgoutput')", database="nexus"
    )
    target.run("SELECT pg_create_logical_replication_slot('other', 'pgoutput')")
    try:
        yield
    finally:
        target.run("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        source.run("DROP SUBSCRIPTION from_billing", database="nexus")


def test_tells_whose_replication_does_not_follow(
    source: RealServer, target: RealServer, tmp_path: Path
) -> None:
    """A reader of the old database's slot sees no error and no change, for ever."""
    with logical_replication(source, target):
        loaded = load(source, target, tmp_path)
    assert (loaded.subscriptions, loaded.slots) == (("from_billing",), ("to_search",))
    told = [what for what, _ in tell_left_out(loaded)]
    assert told[-2:] == [
        "subscription from_billing was left out",
        "logical slot to_search stays with the database from before",
    ]
    assert tell_outside(loaded) == (
        "; left out: amcheck; without subscription from_billing; unseen by logical slot to_search"
    )
    assert target.run("SELECT count(*) FROM pg_subscription") == [(0,)]


def test_repeating_it_changes_nothing(
    source: RealServer, target: RealServer, tmp_path: Path
) -> None:
    first = load(source, target, tmp_path)
    oid = target.run(f"SELECT oid FROM pg_database WHERE datname = '{NEW}'")
    target.run("DELETE FROM assets WHERE id = 1", database=NEW)
    assert load(source, target, tmp_path) == first
    assert target.run(f"SELECT oid FROM pg_database WHERE datname = '{NEW}'") == oid


class DiesAt:
    """A target whose worker dies when it reaches a program or a statement."""

    def __init__(self, databases: PostgresDatabases, word: str) -> None:
        self._databases = databases
        self._word = word

    def __getattr__(self, name: str) -> Any:
        return getattr(self._databases, name)

    def run_tool(self, name: str, *arguments: str, **more: Any) -> Any:
        if self._word in (name, *arguments):
            raise KeyboardInterrupt
        return self._databases.run_tool(name, *arguments, **more)

    def session(self, database: str = "", **more: Any) -> Any:
        if self._word == "analyze" and database == NEW and not more.get("read_only"):
            raise KeyboardInterrupt
        return self._databases.session(database, **more)


@pytest.mark.parametrize("moment", ["--list", "pg_restore", "analyze"])
def test_takes_over_from_a_worker_that_died(
    source: RealServer, target: RealServer, tmp_path: Path, moment: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_database(
            recovered(source),
            DiesAt(operator(target), moment),  # type: ignore[arg-type]
            NEW,
            run_id="run-1",
            folder=tmp_path / "dump",
            clock=SystemClock(),
        )
    assert load(source, target, tmp_path).rows == 2603


def test_takes_over_on_a_server_that_misses_a_file(source: RealServer, tmp_path: Path) -> None:
    """Such a server can make no checkpoint, and so it cannot drop a database."""
    with running_server() as damaged:
        damaged.run(*ROLES)
        damaged.run("CREATE TABLE hot (n int)", "CHECKPOINT", database="nexus")
        path = damaged.run("SELECT pg_relation_filepath('hot')", database="nexus")[0][0]
        damaged.run("INSERT INTO hot SELECT generate_series(1, 1000)", database="nexus")
        (damaged.data / path).unlink()
        with pytest.raises(KeyboardInterrupt):
            load_database(
                recovered(source),
                DiesAt(operator(damaged), "pg_restore"),  # type: ignore[arg-type]
                NEW,
                run_id="run-1",
                folder=tmp_path / "dump",
                clock=SystemClock(),
            )
        assert load(source, damaged, tmp_path).rows == 2603


def test_takes_over_what_was_created_and_not_yet_marked(
    source: RealServer, target: RealServer, tmp_path: Path
) -> None:
    target.run("SET ROLE leeward", f"CREATE DATABASE {NEW}")
    target.run(f"ALTER DATABASE {NEW} OWNER TO leeward")
    assert load(source, target, tmp_path).rows == 2603


@pytest.mark.parametrize(
    "made",
    [
        ("CREATE TABLE theirs (n int)",),
        (f"COMMENT ON DATABASE {NEW} IS 'mine'",),
        (f"COMMENT ON DATABASE {NEW} IS '{json.dumps({'leeward': {'run_id': 'run-2'}})}'",),
    ],
    ids=["filled", "commented", "another-run"],
)
def test_never_drops_what_it_did_not_make(
    source: RealServer, target: RealServer, tmp_path: Path, made: tuple[str, ...]
) -> None:
    target.run(f"CREATE DATABASE {NEW}")
    target.run(*made, database=NEW)
    oid = target.run(f"SELECT oid FROM pg_database WHERE datname = '{NEW}'")
    with pytest.raises(Refused) as raised:
        load(source, target, tmp_path)
    assert raised.value.instance_code == "database-exists"
    assert target.run(f"SELECT oid FROM pg_database WHERE datname = '{NEW}'") == oid


def test_a_difference_stops_it(source: RealServer, target: RealServer, tmp_path: Path) -> None:
    class Changed(DiesAt):
        def session(self, database: str = "", **more: Any) -> Any:
            if database == NEW and more.get("timeout_seconds") and not more.get("read_only"):
                target.run("UPDATE projects SET owner = 'x' WHERE id = 7", database=NEW)
            return self._databases.session(database, **more)

    with pytest.raises(CheckFailed) as raised:
        load_database(
            recovered(source),
            Changed(operator(target), ""),  # type: ignore[arg-type]
            NEW,
            run_id="run-1",
            folder=tmp_path / "dump",
            clock=SystemClock(),
        )
    assert raised.value.instance_code == "contents-differ"
    assert "public.projects" in raised.value.message


def test_says_what_the_operator_may_not(
    source: RealServer, target: RealServer, tmp_path: Path
) -> None:
    target.run("ALTER ROLE leeward NOCREATEDB")
    try:
        with pytest.raises(NotReady) as raised:
            load(source, target, tmp_path)
        assert raised.value.instance_code == "missing-right"
    finally:
        target.run("ALTER ROLE leeward CREATEDB")


def test_digests_agree_between_two_servers(
    source: RealServer, target: RealServer, tmp_path: Path
) -> None:
    load(source, target, tmp_path)
    target.run("ALTER SYSTEM SET timezone = 'Asia/Kolkata'", "SELECT pg_reload_conf()")
    mine, theirs = table_digests(recovered(source)), table_digests(operator(target), NEW)
    assert compare_digests(mine, theirs) == ()
    target.run("SELECT lo_unlink(4242)", database=NEW)
    [told] = compare_digests(mine, table_digests(operator(target), NEW))
    assert told.startswith("large objects: expected")


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("nexus", "nexus_recovery_x1"),
        ("nexus_recovery_w9", "nexus_recovery_x1"),
        ("ö" * 40, "ö" * 25 + "_recovery_x1"),
    ],
)
def test_names_are_short_and_do_not_grow(database: str, expected: str) -> None:
    assert recovery_name(database, "x1") == expected
