"""The local production database is a source that Leeward can back up, fence and load into."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from leeward.local.cloud import LocalCloud
from leeward.local.production import APPLICATION, OPERATOR, SUPERUSER, Production, store_secrets
from leeward.local.reaper import Reaper


@pytest.fixture(scope="module")
def production() -> Iterator[Production]:
    reaper = Reaper()
    reaper.start()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with Production(Path(folder) / "production", reaper) as started:
            yield started
        reaper.stop()


def test_it_keeps_what_recovery_needs(production: Production) -> None:
    with psycopg.connect(production.dsn(OPERATOR)) as connection:
        for name, expected in {
            "data_checksums": "on",
            "wal_level": "replica",
            "summarize_wal": "on",
            "track_commit_timestamp": "on",
            "fsync": "on",
        }.items():
            row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
            assert row == (expected,), name


def test_the_operator_is_no_superuser_and_can_back_up_fence_and_load(
    production: Production,
) -> None:
    with psycopg.connect(production.dsn(APPLICATION)) as application:
        application.execute("CREATE TABLE paintings (id int PRIMARY KEY)")
        application.commit()
        with psycopg.connect(production.dsn(OPERATOR), autocommit=True) as operator:
            role = "SELECT rolsuper, rolreplication FROM pg_roles WHERE rolname = current_user"
            assert operator.execute(role).fetchone() == (False, True)
            assert operator.execute("SELECT count(*) FROM paintings").fetchone() == (0,)
            operator.execute("SELECT bt_index_check('paintings_pkey')")
            operator.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(APPLICATION)))
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
            assert operator.execute(ended, (APPLICATION,)).fetchone() == (True,)
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(production.dsn(APPLICATION))
            operator.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(APPLICATION)))
            operator.execute("CREATE DATABASE recovered OWNER nexus_app")
    psycopg.connect(production.dsn(OPERATOR) + " replication=true").close()


def test_a_wrong_password_is_refused(production: Production) -> None:
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(production.dsn(SUPERUSER).rpartition("=")[0] + "=guess")


def test_it_stops_and_resumes_where_it_was(production: Production) -> None:
    address = production.address()
    production.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(production.dsn(OPERATOR))
    production.resume()
    assert production.address() == address
    psycopg.connect(production.dsn(OPERATOR)).close()


def test_both_logins_are_kept_as_secrets(production: Production) -> None:
    with LocalCloud() as cloud:
        client = cloud.client("secretsmanager")
        store_secrets(client, production, operator="db/operator", application="db/application")
        for name in ("db/operator", "db/application"):
            text = client.get_secret_value(SecretId=name)["SecretString"]
            psycopg.connect(json.loads(text)["dsn"]).close()
