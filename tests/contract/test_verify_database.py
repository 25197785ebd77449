"""The checks of a recovered database: each finds what it is for, on a real server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.inspect import PostgresInspector
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.plan.components import Assertion, DatabaseChecks, Freshness
from chalicelib.plan.records import CheckResult
from chalicelib.recover.database.digests import compare_digests, table_digests
from chalicelib.verify.database import verify_database, verify_pages
from chalicelib.verify.schema import Schema, read_schema
from leeward.local.damage import DAMAGES, Victim
from leeward.local.sample_app import create_schema
from tests.servers import RealServer, running_server

CLOCK = SystemClock()
CHECKS = DatabaseChecks(
    assertions=(
        Assertion(name="projects-exist", sql="SELECT count(*) FROM projects", expect="> 0"),
        Assertion(name="as-seeded", sql="SELECT count(*) FROM assets", expect="4000..4000"),
    ),
    freshness=(Freshness(table="public.assets", column="created_at", max_age=timedelta(hours=1)),),
)


@pytest.fixture
def recovered() -> Iterator[RealServer]:
    with running_server() as server:
        server.run("CREATE DATABASE nexus")
        create_schema(server.dsn("nexus"), projects=1000)
        yield server


def databases(server: RealServer) -> PostgresDatabases:
    return PostgresDatabases(server.dsn("nexus"), find_binaries())


def schema_of(server: RealServer) -> Schema:
    with databases(server).session() as session:
        return read_schema(session)


def verify(
    server: RealServer,
    checks: DatabaseChecks = CHECKS,
    *,
    schema: Schema | None,
    moment: datetime | None = None,
) -> dict[str, CheckResult]:
    inspector = PostgresInspector(server.dsn("nexus"), databases(server), may_install=True)
    results = verify_database(
        databases(server),
        inspector,
        checks,
        moment=moment or datetime.now(UTC),
        clock=CLOCK,
        schema=schema,
    )
    return {result.name: result for result in results}


def failed(results: dict[str, CheckResult]) -> set[str]:
    return {name for name, result in results.items() if not result.ok}


def injure(server: RealServer, name: str) -> None:
    DAMAGES[name](Victim(server.dsn("nexus"), server.data))


def test_a_sound_database_passes_and_stays_as_it_was(recovered: RealServer) -> None:
    schema = schema_of(recovered)
    results = verify(recovered, schema=schema)
    assert failed(results) == set()
    assert set(results) == {
        "assertion:projects-exist",
        "assertion:as-seeded",
        "freshness:public.assets.created_at",
        "tables-readable",
        "indexes-valid",
        "collations",
        "schema-digest",
        "amcheck",
    }
    assert results["assertion:as-seeded"].found == "4000 (expected 4000..4000)"
    assert all(result.seconds > 0 for result in results.values())
    assert schema_of(recovered) == schema
    assert recovered.run("SELECT count(*) FROM pg_extension", database="nexus") == [(1,)]


def test_a_failed_assertion_says_what_it_found(recovered: RealServer) -> None:
    injure(recovered, "delete-without-where")
    results = verify(recovered, schema=schema_of(recovered))
    assert failed(results) == {"assertion:as-seeded", "freshness:public.assets.created_at"}
    assert results["assertion:as-seeded"].found == "expected 4000..4000, found 0"


def test_freshness_is_measured_against_the_moment_recovered_to(recovered: RealServer) -> None:
    later = datetime.now(UTC) + timedelta(hours=2)
    results = verify(recovered, schema=schema_of(recovered), moment=later)
    assert failed(results) == {"freshness:public.assets.created_at"}


def test_rows_dated_ahead_do_not_make_the_data_fresh(recovered: RealServer) -> None:
    """One wrong clock, or one date of expiry, would answer for years."""
    recovered.run(
        "CREATE TABLE seen (at timestamptz, plain timestamp, day date)",
        "INSERT INTO seen VALUES ('2999-01-01', '2999-01-01', '2999-01-01'),"
        " ('infinity', 'infinity', 'infinity')",
        database="nexus",
    )
    rules = tuple(
        Freshness(table="seen", column=column, max_age=timedelta(hours=25))
        for column in ("at", "plain", "day")
    )
    checks = DatabaseChecks(freshness=rules, schema_digest=False, amcheck=False)
    stale = {"freshness:seen.at", "freshness:seen.plain", "freshness:seen.day"}
    assert failed(verify(recovered, checks, schema=None)) == stale
    recovered.run("INSERT INTO seen SELECT now() + '1s', now(), current_date", database="nexus")
    assert failed(verify(recovered, checks, schema=None)) == set()


NO_NUMBERS = {
    "SELECT max(id) FROM projects WHERE false": "NULL",
    "SELECT 'NaN'::float8": "nan",
    "SELECT 'NaN'::numeric": "Decimal('NaN')",
    "SELECT 't'": "'t'",
    "SELECT id FROM projects WHERE false": "no row",
    "SELECT 1 UNION ALL SELECT 1": "2 rows of 1 columns",
    "SELECT 1, 1": "1 rows of 2 columns",
}


def test_what_is_no_number_is_not_what_was_expected(recovered: RealServer) -> None:
    probes = tuple(
        Assertion(name=f"probe-{number}", sql=sql, expect="!= 0")
        for number, sql in enumerate(NO_NUMBERS)
    )
    checks = DatabaseChecks(assertions=probes, schema_digest=False, amcheck=False)
    results = verify(recovered, checks, schema=None)
    told = [results[f"assertion:{probe.name}"] for probe in probes]
    assert [it.found for it in told] == [
        f"expected one number, found {found}" for found in NO_NUMBERS.values()
    ]
    assert not any(it.ok for it in told)


def test_what_cannot_run_has_failed(recovered: RealServer) -> None:
    checks = DatabaseChecks(
        assertions=(
            Assertion(name="gone", sql="SELECT count(*) FROM no_such_table", expect="> 0"),
            Assertion(name="no-number", sql="SELECT name FROM projects LIMIT 1", expect="> 0"),
            Assertion(name="no-row", sql="SELECT id FROM projects WHERE false", expect="> 0"),
        ),
        freshness=(Freshness(table="assets", column="nothing", max_age=timedelta(hours=1)),),
    )
    assert failed(verify(recovered, checks, schema=None)) == {
        "assertion:gone",
        "assertion:no-number",
        "assertion:no-row",
        "freshness:assets.nothing",
        "schema-digest",
    }


def test_counting_reads_the_table_itself(recovered: RealServer) -> None:
    """An index-only scan would answer without the damaged page."""
    recovered.run(
        "VACUUM ANALYZE assets", "ALTER DATABASE nexus SET random_page_cost = 0.1", database="nexus"
    )
    injure(recovered, "heap-bytes")
    assert recovered.run("SELECT count(*) FROM assets", database="nexus") == [(4000,)]
    results = verify(recovered, schema=schema_of(recovered))
    assert failed(results) >= {"assertion:as-seeded", "tables-readable", "amcheck"}


def test_amcheck_names_the_index(recovered: RealServer) -> None:
    injure(recovered, "index-mismatch")
    results = verify(recovered, schema=schema_of(recovered))
    assert failed(results) == {"amcheck"}
    assert "assets_project" in results["amcheck"].found


def test_amcheck_finds_two_rows_where_one_may_be(recovered: RealServer) -> None:
    """As an index does that was built by another order of text: each row has its entry."""
    unique = "UPDATE pg_index SET indisunique = {} WHERE indexrelid = 'once_id'::regclass"
    recovered.run(
        "CREATE TABLE once AS SELECT generate_series(1, 500) AS id",
        "CREATE UNIQUE INDEX once_id ON once (id)",
        unique.format("false"),
        "INSERT INTO once VALUES (7)",
        unique.format("true"),
        database="nexus",
    )
    results = verify(recovered, DatabaseChecks(schema_digest=False), schema=None)
    assert failed(results) == {"amcheck"}
    assert "once_id" in results["amcheck"].found


def test_what_no_check_can_see_is_told() -> None:
    """Rows that no backup holds, or that are none yet; indexes that amcheck does not know."""
    with running_server(max_prepared_transactions="2") as server:
        server.run("CREATE DATABASE nexus")
        server.run(
            "CREATE UNLOGGED TABLE queue AS SELECT 1 AS id",
            "CREATE TABLE tagged AS SELECT ARRAY[1, 2] AS tags",
            "CREATE INDEX ON tagged USING gin (tags)",
            database="nexus",
        )
        with server.connect("nexus") as connection:
            connection.execute("BEGIN")
            connection.execute("INSERT INTO tagged VALUES (NULL)")
            connection.execute("PREPARE TRANSACTION 'payment-1'")
        results = verify(server, DatabaseChecks(schema_digest=False), schema=None)
    assert failed(results) == set()
    assert results["tables-readable"].found.endswith(
        "; unlogged and so empty: queue; prepared, neither committed nor rolled back: payment-1"
    )
    assert results["amcheck"].found == ("tables and indexes agree; not looked into: 1 of kind gin")


def test_a_changed_schema_names_what_differs(recovered: RealServer) -> None:
    before = schema_of(recovered)
    recovered.run(
        "ALTER TABLE projects ALTER budget_cents TYPE numeric",
        "DROP INDEX projects_owner",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        database="nexus",
    )
    result = verify(recovered, schema=before)["schema-digest"]
    assert not result.ok
    for name in ("column public.projects.budget_cents differs", "projects_owner is missing",
                 "function public.one() is new"):  # fmt: skip
        assert name in result.found


def test_an_extension_that_a_load_leaves_out_is_told_and_another_is_missed(
    recovered: RealServer,
) -> None:
    extensions = ("amcheck", "pg_trgm")
    recovered.run(*(f"CREATE EXTENSION {it}" for it in extensions), database="nexus")
    before = schema_of(recovered)
    recovered.run("DROP EXTENSION amcheck", database="nexus")
    result = verify(recovered, schema=before)["schema-digest"]
    assert result.ok
    assert result.found.endswith("; extension amcheck is missing")
    recovered.run("DROP EXTENSION pg_trgm", database="nexus")
    assert not verify(recovered, schema=before)["schema-digest"].ok


def test_an_unfinished_index_is_named_and_a_broken_constraint_fails(recovered: RealServer) -> None:
    invalid = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{}'::regclass"
    recovered.run(invalid.format("projects_owner"), database="nexus")
    result = verify(recovered, schema=None)["indexes-valid"]
    assert (result.ok, result.found) == (True, "invalid: projects_owner")
    recovered.run(invalid.format("projects_pkey"), database="nexus")
    assert not verify(recovered, schema=None)["indexes-valid"].ok


def test_page_checksums_of_a_throwaway_server(recovered: RealServer, tmp_path: Path) -> None:
    recovered.stop()
    folder = tmp_path / "data"
    shutil.copytree(recovered.data, folder)
    server = ThrowawayServer(folder)
    with server:
        server.start()
        server.wait_until("ready", timeout_seconds=20)
        sound = verify_pages(server, clock=CLOCK)
    assert sound.ok, sound.found
    heap = max((folder / "base").glob("*/[0-9]*"), key=lambda path: path.stat().st_size)
    with heap.open("r+b") as file:
        file.seek(4000)
        file.write(b"\xff" * 64)
    damaged = verify_pages(server, clock=CLOCK)
    assert not damaged.ok


def test_digests_see_every_row(recovered: RealServer) -> None:
    recovered.run(
        "CREATE TABLE notes (n int, body json)",
        "INSERT INTO notes VALUES (1, '{}'), (1, '{}'), (2, 'null')",
        database="nexus",
    )
    before = table_digests(databases(recovered))
    assert before["public.notes"].rows == 3
    recovered.run("UPDATE notes SET n = n", "VACUUM FULL notes", database="nexus")
    assert compare_digests(before, table_digests(databases(recovered))) == ()
    recovered.run(
        "DELETE FROM notes WHERE n = 1",
        "INSERT INTO notes VALUES (3, '{}'), (3, '{}')",
        "UPDATE projects SET owner = 'nobody' WHERE id = 7",
        database="nexus",
    )
    changed = compare_digests(before, table_digests(databases(recovered)))
    assert [text.split(":")[0] for text in changed] == ["public.notes", "public.projects"]
