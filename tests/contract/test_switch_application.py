"""The application is pointed to the recovered database and is seen to write there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import psycopg
import pytest
from moto import mock_aws
from psycopg.conninfo import conninfo_to_dict

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.secrets import SecretAddresses, with_database
from chalicelib.errors import CheckFailed, NotReady
from chalicelib.recover.database.switch import (
    count_writes,
    reinstate_database,
    retire_database,
    tell_retired,
    wait_for_application,
)
from tests.servers import RealServer, running_server

CLOCK = SystemClock()
ROLES = (
    "CREATE ROLE nexus_app LOGIN PASSWORD 'app'",
    "CREATE ROLE leeward LOGIN CREATEDB CREATEROLE PASSWORD 'operator'",
    "GRANT nexus_app TO leeward WITH ADMIN OPTION",
    "CREATE DATABASE nexus OWNER nexus_app",
    "CREATE DATABASE nexus_recovery OWNER nexus_app",
)
SECRET = "nexus/db/application"


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with running_server() as server:
        server.run(*ROLES)
        for database in ("nexus", "nexus_recovery"):
            with server.connect(database, user="nexus_app", password="app") as application:
                application.execute("CREATE TABLE events (n int)")
        yield server


@pytest.fixture
def secrets() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client(
            "secretsmanager",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )


def operator(server: RealServer) -> PostgresDatabases:
    return PostgresDatabases(server.dsn("nexus", "leeward", "operator"))


def application(server: RealServer, database: str) -> psycopg.Connection[Any]:
    return server.connect(database, user="nexus_app", password="app")


def test_a_retired_database_refuses_the_application_alone(server: RealServer) -> None:
    still_there = application(server, "nexus")
    assert retire_database(operator(server), "nexus", "nexus_app")
    assert not retire_database(operator(server), "nexus", "nexus_app")
    with pytest.raises(psycopg.OperationalError):
        still_there.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        application(server, "nexus")
    application(server, "nexus_recovery").close()
    with operator(server).session() as session:
        assert session.query("SELECT count(*) FROM pg_class WHERE relname = 'events'") == [(1,)]
    reinstate_database(operator(server), "nexus", "nexus_app")
    application(server, "nexus").close()


def test_in_a_database_that_somebody_else_made_the_application_only_reads(
    server: RealServer,
) -> None:
    """Leeward's role can take nothing away there. An attacker made it under the damaged one's name,
    and a process that still holds the old address must not write into it."""
    server.run("CREATE DATABASE theirs")
    server.run("CREATE TABLE events (n int)", "GRANT ALL ON events TO public", database="theirs")
    still_there = application(server, "theirs")
    for _ in range(2):
        assert retire_database(operator(server), "theirs", "nexus_app")
    with pytest.raises(psycopg.OperationalError):
        still_there.execute("SELECT 1")
    write = "INSERT INTO events VALUES (1)"
    with (
        application(server, "theirs") as late,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        late.execute(write)
    with application(server, "nexus_recovery") as other:
        other.execute(write)
        other.rollback()
    assert "SOMEBODY ELSE'S" in tell_retired(operator(server), "theirs")
    reinstate_database(operator(server), "theirs", "nexus_app")
    with application(server, "theirs") as again:
        again.execute(write)
        again.rollback()
    assert tell_retired(operator(server), "nowhere") == "is gone"


def test_sees_the_first_write_and_no_reading(server: RealServer) -> None:
    before = count_writes(operator(server), "nexus_recovery")
    with application(server, "nexus_recovery") as reader:
        reader.execute("SELECT count(*) FROM events")
    server.run("ANALYZE", database="nexus_recovery")
    with pytest.raises(CheckFailed) as raised:
        wait_for_application(
            operator(server), "nexus_recovery", writes_before=before, clock=CLOCK, limit_seconds=1.3
        )
    assert raised.value.instance_code == "application-silent"

    wrote_at = []

    def write() -> None:
        with application(server, "nexus_recovery") as writer:
            writer.execute("INSERT INTO events VALUES (1)")
            wrote_at.append(CLOCK.now())

    timer = threading.Timer(0.3, write)
    timer.start()
    seen_at = wait_for_application(
        operator(server), "nexus_recovery", writes_before=before, clock=CLOCK, limit_seconds=20
    )
    timer.join()
    assert -0.1 <= (seen_at - wrote_at[0]).total_seconds() < 10


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://app:p%40ss@db.example:5432/nexus?sslmode=require",
        "postgres://app@h1:1,h2:2/nexus",
        "host=h dbname=nexus user=app",
        r"host=h user=app password='it\'s'",
    ],
)
def test_only_the_name_of_the_database_changes(dsn: str) -> None:
    changed = with_database(dsn, "new one")
    before, after = conninfo_to_dict(dsn), conninfo_to_dict(changed)
    assert after == {**before, "dbname": "new one"}
    if "://" in dsn:
        assert changed == dsn.replace("/nexus", "/new%20one")


def test_rewrites_the_secret_once_and_keeps_the_old_one(secrets: Any) -> None:
    old = {"dsn": "host=h dbname=nexus user=app password=hush", "note": "kept"}
    secrets.create_secret(Name=SECRET, SecretString=json.dumps(old))
    addresses = SecretAddresses(secrets)
    assert addresses.point_to(SECRET, "nexus_recovery") == "nexus"
    version = addresses.read(SECRET).version
    assert addresses.point_to(SECRET, "nexus_recovery") == "nexus_recovery"
    now = addresses.read(SECRET)
    assert (now.database, now.version, now.content["note"]) == ("nexus_recovery", version, "kept")
    assert "hush" in now.dsn
    assert "hush" not in repr(now)
    previous = secrets.get_secret_value(SecretId=SECRET, VersionStage="AWSPREVIOUS")
    assert json.loads(previous["SecretString"]) == old


@pytest.mark.parametrize("content", ["hush", "[]", "{}", '"hush"'])
def test_a_secret_of_another_kind_is_named_and_not_shown(secrets: Any, content: str) -> None:
    secrets.create_secret(Name=SECRET, SecretString=content)
    with pytest.raises(NotReady) as raised:
        SecretAddresses(secrets).read(SECRET)
    assert raised.value.instance_code == "bad-secret"
    assert "hush" not in json.dumps(raised.value.to_json())


def test_a_bad_address_is_not_shown(secrets: Any) -> None:
    secrets.create_secret(Name=SECRET, SecretString=json.dumps({"dsn": "password=hush host"}))
    with pytest.raises(Exception, match="expected a DSN") as raised:
        SecretAddresses(secrets).point_to(SECRET, "nexus_recovery")
    assert "hush" not in str(raised.value)
