"""Doubles that a unique index let in, on servers of every version at hand: amcheck sees them from
PostgreSQL 17 on, and SQL does before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalicelib.adapters.postgres.binaries import Binaries, find_binaries
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.errors import CheckFailed
from chalicelib.verify.unique import amcheck_looks, check_unique
from tests.clusters import fresh_cluster, other_versions
from tests.servers import RealServer

VERSIONS = [find_binaries(17), *other_versions()]
TABLE = """
CREATE TABLE people (
  id int, name text COLLATE "C", email text, born date, mood mood, deleted_at timestamptz,
  pair int4range, nullable int)
"""
DOUBLED = {
    "plain": ("(id)", "7, 'x'"),
    "two_columns": ("(name, born)", "NULL, 'name 7', NULL, '2000-01-08'"),
    "of_built_ins": ("(lower(email))", "NULL, NULL, 'E7@EXAMPLE.ORG'"),
    "partial": (
        "(email) WHERE deleted_at IS NULL AND mood = 'good'",
        "NULL, NULL, 'e7@example.org', NULL, 'good'",
    ),
    "by_pattern": ("(name text_pattern_ops)", "NULL, 'name 7'"),
    "with_more": ("(id) INCLUDE (name)", "7, 'another'"),
    "nulls_too": ("(nullable) NULLS NOT DISTINCT", "1000"),
    "ranges": ("(pair)", "NULL, NULL, NULL, NULL, NULL, NULL, '[7,8)'"),
}


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda it: str(it.major))
def server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    binaries: Binaries = request.param
    with fresh_cluster(binaries) as server:
        yield server


@pytest.fixture
def people(server: RealServer) -> Iterator[RealServer]:
    """Each row another, and a row of nothing but NULL beside a twin, which are no doubles."""
    server.run(
        "CREATE TYPE mood AS ENUM ('good', 'bad')",
        TABLE,
        "INSERT INTO people SELECT n, 'name ' || n, 'e' || n || '@example.org',"
        " '2000-01-01'::date + n, 'good', NULL, int4range(n, n + 1), n"
        " FROM generate_series(1, 500) n",
        "INSERT INTO people SELECT",
    )
    yield server
    server.run("DROP TABLE people", "DROP TYPE mood CASCADE", "DROP FUNCTION IF EXISTS own")


def databases(server: RealServer) -> PostgresDatabases:
    return PostgresDatabases(server.dsn())


def let_in(server: RealServer, index: str, values: str) -> None:
    """As an index does that was damaged, or built by another order of text."""
    flag = "UPDATE pg_index SET indisunique = {} WHERE indexrelid = 'it'::regclass"
    server.run(
        f"CREATE UNIQUE INDEX it ON people {index}",
        flag.format("false"),
        f"INSERT INTO people VALUES ({values})",
        flag.format("true"),
    )


@pytest.mark.parametrize("kind", DOUBLED)
def test_doubles_are_found_and_their_index_is_named(people: RealServer, kind: str) -> None:
    let_in(people, *DOUBLED[kind])
    with pytest.raises(CheckFailed, match="^it: 1 keys are in several rows$"):
        check_unique(databases(people))


def test_what_is_sound_passes(people: RealServer) -> None:
    people.run("INSERT INTO people SELECT")
    for number, (index, _) in enumerate(DOUBLED.values()):
        if "NULLS NOT DISTINCT" not in index:
            people.run(f"CREATE UNIQUE INDEX it_{number} ON people {index}")
    told = check_unique(databases(people))
    assert told.endswith("unique indexes have no doubles"), "catalogs are looked into too"


def test_code_of_a_user_is_not_called(people: RealServer) -> None:
    """A throw-away server's superuser would run it."""
    people.run(
        "CREATE FUNCTION own(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
        " $$ BEGIN IF current_setting('application_name') = 'leeward' THEN"
        " RAISE 'called'; END IF; RETURN $1; END $$",
        "CREATE UNIQUE INDEX by_own ON people (own(id))",
        "CREATE UNIQUE INDEX where_own ON people (id) WHERE own(id) > 3",
    )
    told = check_unique(databases(people))
    assert told.endswith("; not looked into for doubles: by_own, where_own")


def test_amcheck_looks_from_17_on(server: RealServer) -> None:
    [(number,)] = server.run("SELECT current_setting('server_version_num')::int")
    offered = server.run("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'")
    assert amcheck_looks(databases(server)) == bool(offered and number >= 170000)


@pytest.mark.parametrize("server", VERSIONS[:1], indirect=True, ids=["17"])
def test_an_older_amcheck_on_a_newer_server_does_not(server: RealServer) -> None:
    server.run("CREATE EXTENSION amcheck VERSION '1.3'")
    try:
        assert not amcheck_looks(databases(server))
    finally:
        server.run("DROP EXTENSION amcheck")
