"""`leeward prove` as its user runs it, on real servers of every version at hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.plan.records import RecoveryTarget
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.restore import restore
from tests.clusters import fresh_cluster, other_versions
from tests.faults import stalling_proxy
from tests.servers import RealServer, running_server

ROLE = "create role backup login replication password 'only-backup'"
# What an interrupted DROP DATABASE leaves (pg_database.h).
INVALID = "update pg_database set datconnlimit = -2 where datname = 'half_dropped'"
# Where doubles under unique indexes are looked for, with and without amcheck.
LOOKS = ("shop: amcheck", "shop: unique-indexes")
LEEWARD = Path(sys.executable).with_name("leeward")


@pytest.fixture
def temp() -> Iterator[Path]:
    """TMPDIR of the command; empty again when it has ended in order."""
    with tempfile.TemporaryDirectory(prefix="lw-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def server() -> Iterator[RealServer]:
    with running_server() as running:
        running.run(ROLE, "create table t as select generate_series(1, 5000) as id")
        yield running


def start(dsn: str, temp: Path, *options: str) -> subprocess.Popen[str]:
    environment = {"PATH": os.defpath, "TMPDIR": str(temp), "LC_ALL": "C.UTF-8"}
    return subprocess.Popen(
        [LEEWARD, "prove", dsn, "--format", "json", *options],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=temp,
    )  # fmt: skip


def prove(dsn: str, temp: Path, *options: str) -> tuple[int, dict[str, Any]]:
    process = start(dsn, temp, *options)
    output, errors = process.communicate(timeout=120)
    assert output, errors
    return process.returncode, json.loads(output.splitlines()[-1])


def as_backup(server: RealServer, password: str = "only-backup") -> str:
    return server.dsn(user="backup", password=password)


def assert_nothing_left(server: RealServer, temp: Path) -> None:
    assert server.run("select slot_name from pg_replication_slots") == []
    assert [path.name for path in temp.iterdir()] == []


@pytest.mark.parametrize("major", [17, *(binaries.major for binaries in other_versions())], ids=str)
def test_each_version_is_proven(major: int, temp: Path) -> None:
    with fresh_cluster(find_binaries(major), superuser="owner_of_all") as server:
        with_role = server.dsn(user="owner_of_all")
        import psycopg

        with psycopg.connect(with_role, autocommit=True) as connection:
            connection.execute(ROLE)
            connection.execute("create database shop")
            connection.execute("create database archived with allow_connections false")
            connection.execute("create database half_dropped")
            connection.execute(INVALID)
        with psycopg.connect(server.dsn("shop", user="owner_of_all")) as connection:
            connection.execute("create table orders as select generate_series(1, 1000) as id")
        status, found = prove(as_backup(server), temp)
        assert status == 0
        assert found["ok"] is True
        assert found["databases"] == ["postgres", "shop", "template1"]
        # What could not be looked into is never silently part of what is proven.
        assert "database archived: nobody may connect to it" in found["not_checked"]
        assert "database half_dropped: a DROP of it was interrupted" in found["not_checked"]
        names = [check["name"] for check in found["proof"]["checks"]]
        assert "shop: tables-readable" in names
        assert "page-checksums" in names or found["not_checked"]
        looked = [it["found"] for it in found["proof"]["checks"] if it["name"] in LOOKS]
        assert major == 17 or any("unique indexes have no doubles" in it for it in looked)
        assert set(found["proof"]["seconds"]) == {
            "look", "back up", "fetch WAL", "restore", "replay", "verify",
        }  # fmt: skip
        with psycopg.connect(with_role) as connection:
            slots = connection.execute("select count(*) from pg_replication_slots").fetchone()
        assert slots == (0,)
    assert list(temp.iterdir()) == []


def test_a_person_sees_the_steps_and_the_verdict(server: RealServer, temp: Path) -> None:
    done = subprocess.run(
        [LEEWARD, "prove", as_backup(server)],
        capture_output=True, text=True, cwd=temp,
        env={"PATH": os.defpath, "TMPDIR": str(temp), "COLUMNS": "100"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "PROVEN" in done.stdout
    assert "tables-readable" in done.stdout
    for step in ("look", "back up", "fetch WAL", "restore", "replay", "verify"):
        assert step in done.stderr
    assert "only-backup" not in done.stdout + done.stderr


def test_the_backup_can_be_kept_and_restored_again(server: RealServer, temp: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="lw-kept-") as kept:
        status, found = prove(as_backup(server), temp, "--keep-backup", kept)
        assert status == 0
        store = FolderObjectStore(Path(kept))
        means = Means(store, StoredCatalogue(store, "proof"), ThrowawayServer, SystemClock())
        restored = restore(means, RecoveryTarget("end", ""), temp / "data")
        assert restored.point_id == found["point"]["id"]


def test_a_bad_page_fails_the_proof_and_is_named(server: RealServer, temp: Path) -> None:
    [(path,)] = server.run("checkpoint", "select pg_relation_filepath('t')")
    with (server.data / path).open("r+b") as file:
        file.seek(8192 + 4000)
        file.write(b"\xde\xad\xbe\xef")
    status, found = prove(as_backup(server), temp)
    assert status == 1
    assert found["error"]["code"] == "bad-pages"
    assert path in found["error"]["message"]
    assert_nothing_left(server, temp)


def test_an_index_that_disagrees_fails_the_proof(server: RealServer, temp: Path) -> None:
    server.run(
        "create index t_id on t (id)",
        "update pg_index set indisready = false, indisvalid = false, indislive = true"
        " where indexrelid = 't_id'::regclass",
        "insert into t values (424242)",
        "update pg_index set indisready = true, indisvalid = true"
        " where indexrelid = 't_id'::regclass",
    )
    status, found = prove(as_backup(server), temp)
    assert status == 1
    assert found["ok"] is False
    [failed] = [check for check in found["proof"]["checks"] if not check["ok"]]
    assert failed["name"] == "postgres: amcheck"
    assert_nothing_left(server, temp)


@pytest.mark.parametrize(
    ("code", "statement"),
    [
        ("no-replication-right", "alter role backup noreplication"),
        ("wrong-password", "alter role backup password 'changed'"),
        ("login-refused", "alter role backup nologin"),
    ],
)
def test_each_refusal_has_its_code_and_hint(
    server: RealServer, temp: Path, code: str, statement: str
) -> None:
    server.run(statement)
    status, found = prove(as_backup(server), temp)
    assert status == 1
    assert found["error"]["code"] in (code, "wrong-password")
    assert found["error"]["hint"]
    assert "only-backup" not in json.dumps(found)
    assert_nothing_left(server, temp)


@pytest.mark.parametrize(
    ("code", "settings"),
    [
        ("wal-level-too-low", {"wal_level": "minimal", "max_wal_senders": "0"}),
        ("no-wal-sender", {"max_wal_senders": "0"}),
        ("no-free-slot", {"max_replication_slots": "0"}),
    ],
)
def test_each_missing_setting_has_its_code_and_hint(
    temp: Path, code: str, settings: dict[str, str]
) -> None:
    with running_server(**{"summarize_wal": "off", **settings}) as server:
        server.run(ROLE)
        status, found = prove(as_backup(server), temp)
        assert status == 1
        assert found["error"]["code"] == code
        assert found["error"]["hint"]
        assert_nothing_left(server, temp)


def test_programs_of_another_version_are_refused(server: RealServer, temp: Path) -> None:
    others = other_versions()
    folder = others[0].bin_dir if others else temp
    status, found = prove(as_backup(server), temp, "--binaries", str(folder))
    assert status == 1
    assert found["error"]["code"] == "no-postgres-binaries"
    assert_nothing_left(server, temp)


def test_icu_databases_need_programs_with_icu(server: RealServer, temp: Path) -> None:
    server.run("update pg_database set datlocprovider = 'i' where datname = 'template1'")
    status, found = prove(as_backup(server), temp)
    assert status == 1
    assert found["error"]["code"] == "no-icu"
    server.run("update pg_database set datlocprovider = 'c' where datname = 'template1'")
    assert_nothing_left(server, temp)


def test_a_locale_that_this_machine_lacks_is_named(server: RealServer, temp: Path) -> None:
    server.run("update pg_database set datcollate = 'tlh_KX.utf8' where datname = 'template1'")
    status, found = prove(as_backup(server), temp)
    assert status == 1
    assert found["error"]["code"] == "no-locale"
    assert "tlh_KX.utf8" in found["error"]["message"]


def test_a_server_that_is_not_running(server: RealServer, temp: Path) -> None:
    server.stop()
    status, found = prove(as_backup(server), temp)
    assert status == 1
    assert found["error"]["code"] == "no-connection"
    assert list(temp.iterdir()) == []


def test_text_that_is_no_dsn(temp: Path) -> None:
    status, found = prove("host=x nonsense", temp)
    assert status == 2
    assert found["error"]["code"] == "bad-dsn"


FULL_DISK = """
import shutil, sys
little = shutil.disk_usage("/")._replace(free=1 << 20)
shutil.disk_usage = lambda _: little
from leeward.cli import main
main(["prove", sys.argv[1], "--format", "json"])
"""


def test_too_little_disk_in_the_temp_folder(server: RealServer, temp: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, as_backup(server)],
        env={"PATH": os.defpath, "TMPDIR": str(temp)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "no-disk-space"
    assert_nothing_left(server, temp)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_is_ended_in_the_middle(
    server: RealServer, temp: Path, how: signal.Signals
) -> None:
    """The source falls silent in the middle of the backup; then somebody ends the command."""
    with stalling_proxy(server.port, after_bytes=300_000) as port:
        process = start(as_backup(server).replace(str(server.port), str(port)), temp)
        wait_until(lambda: server.run("select count(*) from pg_replication_slots") == [(1,)])
        wait_until(lambda: any(temp.glob("leeward-prove-*/backup/.incoming/*")))
        process.send_signal(how)
        process.communicate(timeout=30)
    assert process.returncode != 0
    wait_until(lambda: server.run("select slot_name from pg_replication_slots") == [])
    if how is not signal.SIGKILL:
        assert list(temp.iterdir()) == []


def wait_until(holds: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
