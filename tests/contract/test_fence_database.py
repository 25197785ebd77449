"""The fence on a real server, as an operator without superuser rights."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import psycopg
import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.errors import BadInput, CheckFailed, Fenced, NotReady
from chalicelib.recover.database.fence import open_writes, read_fence, stop_writes
from chalicelib.recover.database.switch import retire_database
from tests.servers import RealServer, running_server

CLOCK = SystemClock()
ROLES = (
    "CREATE ROLE nexus_app LOGIN PASSWORD 'app'",
    "COMMENT ON ROLE nexus_app IS 'the studio''s own'",
    "CREATE ROLE leeward LOGIN CREATEROLE PASSWORD 'operator'",
    "GRANT nexus_app TO leeward WITH ADMIN OPTION",
    "CREATE ROLE other LOGIN PASSWORD 'other'",
    "CREATE DATABASE nexus OWNER nexus_app",
)


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with running_server() as server:
        server.run(*ROLES)
        yield server


@pytest.fixture
def operator(server: RealServer) -> Iterator[PostgresDatabases]:
    databases = PostgresDatabases(server.dsn("nexus", "leeward", "operator"))
    yield databases
    open_writes(databases, "nexus_app", token=2**31)


def application(server: RealServer) -> psycopg.Connection[object]:
    return server.connect("nexus", user="nexus_app", password="app")


def role_state(server: RealServer) -> tuple[object, ...]:
    sql = (
        "SELECT rolcanlogin, rolconnlimit, rolvaliduntil, rolconfig,"
        " shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'nexus_app'"
    )
    return server.run(sql)[0]


def test_ends_sessions_and_refuses_new_ones(
    server: RealServer, operator: PostgresDatabases
) -> None:
    writers = [application(server) for _ in range(3)]
    writers[0].execute("BEGIN")
    writers[0].execute("CREATE TABLE IF NOT EXISTS half_done (n int)")
    bystander = server.connect("nexus", user="other", password="other")
    stopped = stop_writes(operator, "nexus_app", token=1, run_id="run-1", clock=CLOCK)
    assert stopped.ended == 3
    assert 0 < stopped.seconds < 5
    for writer in writers:
        with pytest.raises(psycopg.OperationalError):
            writer.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        application(server)
    assert bystander.execute("SELECT 1").fetchone() == (1,)


def test_leaves_no_gap_to_an_application_that_reconnects(
    server: RealServer, operator: PostgresDatabases
) -> None:
    server.run("CREATE TABLE IF NOT EXISTS beats (n int)", database="nexus")
    server.run("GRANT INSERT ON beats TO nexus_app", database="nexus")
    stop = threading.Event()

    def reconnect() -> None:
        while not stop.is_set():
            try:
                with application(server) as connection:
                    while not stop.is_set():
                        connection.execute("INSERT INTO beats VALUES (1)")
            except psycopg.Error:
                continue

    threads = [threading.Thread(target=reconnect) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        stop_writes(operator, "nexus_app", token=1, run_id="run-1", clock=CLOCK)
        before = server.run("SELECT count(*) FROM beats", database="nexus")
        CLOCK.sleep(0.3)
        assert server.run("SELECT count(*) FROM beats", database="nexus") == before
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_opens_exactly_what_was_there(server: RealServer, operator: PostgresDatabases) -> None:
    before = role_state(server)
    stop_writes(operator, "nexus_app", token=1, run_id="run-1", clock=CLOCK)
    again = stop_writes(operator, "nexus_app", token=1, run_id="run-1", clock=CLOCK)
    assert again.ended == 0
    marker = read_fence(operator, "nexus_app")
    assert marker is not None
    assert (marker["token"], marker["run_id"]) == (1, "run-1")
    assert open_writes(operator, "nexus_app", token=1)
    assert role_state(server) == before
    assert not open_writes(operator, "nexus_app", token=1)
    application(server).close()


def test_leaves_a_role_closed_that_was_closed(
    server: RealServer, operator: PostgresDatabases
) -> None:
    server.run("ALTER ROLE nexus_app NOLOGIN")
    try:
        stop_writes(operator, "nexus_app", token=1, run_id="run-1", clock=CLOCK)
        open_writes(operator, "nexus_app", token=1)
        assert role_state(server)[0] is False
    finally:
        server.run("ALTER ROLE nexus_app LOGIN")


def test_an_older_token_changes_nothing(server: RealServer, operator: PostgresDatabases) -> None:
    stop_writes(operator, "nexus_app", token=5, run_id="run-new", clock=CLOCK)
    fenced = role_state(server)
    with pytest.raises(Fenced):
        stop_writes(operator, "nexus_app", token=4, run_id="run-old", clock=CLOCK)
    with pytest.raises(Fenced):
        open_writes(operator, "nexus_app", token=4)
    assert role_state(server) == fenced


def test_a_newer_token_takes_over_and_still_knows_the_beginning(
    server: RealServer, operator: PostgresDatabases
) -> None:
    before = role_state(server)
    stop_writes(operator, "nexus_app", token=4, run_id="run-dead", clock=CLOCK)
    stop_writes(operator, "nexus_app", token=5, run_id="run-next", clock=CLOCK)
    open_writes(operator, "nexus_app", token=5)
    assert role_state(server) == before


def test_names_prepared_transactions(server: RealServer, operator: PostgresDatabases) -> None:
    with application(server) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT pg_current_xact_id()")
        connection.execute("PREPARE TRANSACTION 'payroll'")
    with pytest.raises(CheckFailed) as raised:
        stop_writes(operator, "nexus_app", token=1, run_id="run-1", clock=CLOCK)
    assert raised.value.instance_code == "prepared-transactions-open"
    assert raised.value.context["transactions"] == ["payroll"]
    server.run("ROLLBACK PREPARED 'payroll'", database="nexus")
    assert stop_writes(operator, "nexus_app", token=1, run_id="run-1", clock=CLOCK).ended == 0


def test_works_when_the_database_itself_lets_nobody_in(
    server: RealServer, operator: PostgresDatabases
) -> None:
    writer = application(server)
    server.run("ALTER DATABASE nexus ALLOW_CONNECTIONS false")
    try:
        assert stop_writes(operator, "nexus_app", token=1, run_id="r", clock=CLOCK).ended == 1
    finally:
        server.run("ALTER DATABASE nexus ALLOW_CONNECTIONS true")
        writer.close()


def test_refuses_a_role_that_is_not_there(operator: PostgresDatabases) -> None:
    with pytest.raises(BadInput) as raised:
        stop_writes(operator, "nobody_knows", token=1, run_id="r", clock=CLOCK)
    assert raised.value.instance_code == "no-such-role"


def test_says_which_right_is_missing(server: RealServer) -> None:
    weak = PostgresDatabases(server.dsn("nexus", "other", "other"))
    with pytest.raises(NotReady) as raised:
        stop_writes(weak, "nexus_app", token=1, run_id="r", clock=CLOCK)
    assert raised.value.instance_code == "missing-right"
    assert role_state(server)[0] is True


def unfence(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from leeward.cli import main; main()", "unfence", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_person_opens_what_a_dead_run_closed(
    server: RealServer, operator: PostgresDatabases
) -> None:
    before = role_state(server)
    dsn = server.dsn("nexus", "leeward", "operator")
    stop_writes(operator, "nexus_app", token=7, run_id="run-dead", clock=CLOCK)
    retire_database(operator, "nexus", "nexus_app")
    done = unfence(dsn, "nexus_app", "--reinstate", "nexus", "--format", "json")
    assert json.loads(done.stdout) == {
        "role": "nexus_app", "opened": True, "held": {"token": 7, "run_id": "run-dead"},
    }  # fmt: skip
    assert role_state(server) == before
    application(server).close()
    again = unfence(dsn, "nexus_app")
    assert (again.returncode, again.stdout) == (0, "nexus_app was not fenced\n")
    unknown = unfence(dsn, "nobody_knows")
    assert unknown.returncode == 2
    assert "ERROR [no-such-role]" in unknown.stderr
