"""What only the database at home has, found on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.recover.sites.failback import find_only_here
from tests.servers import RealServer, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with running_server() as server:
        server.run("CREATE ROLE leeward LOGIN PASSWORD 'operator'")
        server.run("GRANT pg_read_all_data TO leeward", "CREATE DATABASE nexus")
        server.run(
            "CREATE TABLE projects (id int PRIMARY KEY, name text)",
            'CREATE TABLE "Odd name" (id int)',
            "CREATE TABLE quiet AS SELECT generate_series(1, 100) AS id",
            "INSERT INTO projects SELECT i, 'p' || i FROM generate_series(1, 100) i",
            "VACUUM FREEZE quiet",
            database="nexus",
        )
        yield server


def operator(server: RealServer) -> PostgresDatabases:
    return PostgresDatabases(server.dsn("nexus", "leeward", "operator"))


def last_commit(server: RealServer) -> datetime:
    [(at,)] = server.run("SELECT timestamp FROM pg_last_committed_xact()", database="nexus")
    assert isinstance(at, datetime)
    return at.astimezone(UTC)


def test_what_was_committed_after_the_moment_is_found_and_nothing_else(server: RealServer) -> None:
    since = last_commit(server)
    assert find_only_here(operator(server), since).total == 0
    server.run("INSERT INTO projects VALUES (101, 'new; 100% \"odd\"')", database="nexus")
    server.run("UPDATE projects SET name = 'changed' WHERE id = 7", database="nexus")
    server.run('INSERT INTO "Odd name" VALUES (1)', database="nexus")
    found = find_only_here(operator(server), since)
    assert found.counts == {'public."Odd name"': 1, "public.projects": 2}
    assert found.total == 3
    assert {row["row"] for row in found.rows} == {
        '{"id":1}',
        '{"id":7,"name":"changed"}',
        '{"id":101,"name":"new; 100% \\"odd\\""}',
    }
    assert find_only_here(operator(server), last_commit(server)).total == 0


def test_without_a_moment_nobody_can_tell(server: RealServer) -> None:
    assert find_only_here(operator(server), None).total is None


def test_without_commit_timestamps_nobody_can_tell() -> None:
    with running_server(track_commit_timestamp="off") as server:
        server.run("CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)")
        found = find_only_here(PostgresDatabases(server.dsn("postgres")), datetime.now(UTC))
        assert found.total is None
