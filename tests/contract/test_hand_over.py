"""A recovered data folder given to a host: the page's commands bring up the same database there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.postgres.binaries import find_binaries, reachable_binaries, server_account
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.adapters.postgres.server import ThrowawayServer, end_processes
from chalicelib.adapters.s3.store import S3ObjectStore, connect_s3
from chalicelib.backup.base_backup import take_backup
from chalicelib.backup.wal_fetch import fetch_wal
from chalicelib.errors import CheckFailed, Refused, Tampered, Unavailable
from chalicelib.plan.records import RecoveryTarget, StoredObject, parse_lsn
from chalicelib.ports import ObjectWriter
from chalicelib.recover.database.digests import TableDigest, compare_digests, table_digests
from chalicelib.recover.database.hand_over import (
    HandOver,
    hand_over,
    host_commands,
    read_hand_over,
    tar_pieces,
)
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.replay import Replayed, replay
from chalicelib.recover.database.restore import restore
from tests.servers import free_port, running_server

PAGE = Path(__file__).parents[2] / "docs" / "hand-over.md"
TOOLS = Path(sys.executable).parent
CLOCK = SystemClock()
AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
# For hosts without the `zstd` program: the way in which the commands call it.
ZSTD = f"""#!{sys.executable}
import sys, zstandard
zstandard.ZstdDecompressor().copy_stream(sys.stdin.buffer, sys.stdout.buffer)
"""
# What is asked to be on the disk, in that order, before the real program is.
LOGGED = '#!/bin/sh\necho "$(basename "$0") $*" >> "{log}"\nexec "{program}" "$@"\n'
ON_DISK = ["initdb --sync-only -D data", "sync -f data"]
# Where the tests run as root: the commands' last one becomes the account that a host would have.
PG_CTL = """#!{python}
import os, sys
for parent, folders, files in os.walk("."):
    for name in (".", *folders, *files):
        os.chown(os.path.join(parent, name), {uid}, {gid}, follow_symlinks=False)
os.setgroups([])
os.setgid({gid})
os.setuid({uid})
os.execv("{program}", ["{program}", *sys.argv[1:]])
"""


@dataclass
class World:
    """A store, and a folder that was recovered from it to the instant before a deletion."""

    store: S3ObjectStore
    data: Path
    replayed: Replayed
    digests: dict[str, TableDigest]
    environment: dict[str, str]

    def hand_over(self, run_id: str, store: Any = None, **changes: Any) -> HandOver:
        return hand_over(
            store or self.store,
            ThrowawayServer(self.data),
            replace(self.replayed, **changes),
            component="db",
            run_id=run_id,
            clock=CLOCK,
        )


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = AWS | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    with (
        tempfile.TemporaryDirectory(prefix="lw-over-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        client = connect_s3("us-east-1")
        client.create_bucket(Bucket="backups")
        Path(folder).chmod(0o755)
        yield recover(S3ObjectStore(client, "backups", "db/"), Path(folder), environment)
    server.stop()


def recover(store: S3ObjectStore, folder: Path, environment: dict[str, str]) -> World:
    catalogue = StoredCatalogue(store, "db")
    with running_server() as server, PostgresSource(server.dsn()) as source:
        place = server.folder / "fast"
        place.mkdir()
        owner = server.data.stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        server.run(
            f"create tablespace fast location '{place}'",
            "create table t tablespace fast as select n as id, n::text as v"
            " from generate_series(1, 1000) n",
            "create index on t (id)",
        )
        fetch_wal(source, store, catalogue, component="db", clock=CLOCK)
        take_backup(source, store, catalogue, component="db", kind="full", clock=CLOCK)
        server.run("insert into t select n, 'later' from generate_series(1, 500) n")
        for _ in range(3):
            server.run("create table filler as select 1", "drop table filler")
            server.run("select pg_switch_wal()")
        with server.connect() as connection, connection.transaction():
            [xid] = connection.execute("select pg_current_xact_id()::text").fetchone()
            connection.execute("delete from t")
        [(lsn,)] = server.run("select pg_current_wal_lsn()::text")
        fetch_wal(source, store, catalogue, component="db", clock=CLOCK)
    target = RecoveryTarget("xid", xid, lsn=parse_lsn(lsn))
    means = Means(store, catalogue, ThrowawayServer, CLOCK)
    restored = restore(means, target, folder / "data")
    replayed = replay(means, restored, folder / "data")
    with ThrowawayServer(folder / "data") as throwaway:
        throwaway.start()
        throwaway.wait_until("ready", timeout_seconds=30)
        digests = table_digests(PostgresDatabases(throwaway.dsn(), find_binaries(17)))
    return World(store, folder / "data", replayed, digests, environment)


@dataclass
class Host:
    """Another machine, as far as a folder can be one. `port` is its server's."""

    folder: Path
    port: int
    environment: dict[str, str]

    def run(self, shell: str, script: str, **known: str) -> None:
        said = self.folder.parent / "said"
        with said.open("wb") as output:
            done = subprocess.run(
                [shell, "-c", script], cwd=self.folder, env=self.environment | known, timeout=60,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        assert done.returncode == 0, said.read_text() + self.log()

    def synced(self) -> list[str]:
        """Of what was done before a server was started."""
        return (self.folder.parent / "synced").read_text().splitlines()

    def log(self) -> str:
        log = self.folder / "server.log"
        return log.read_text() if log.exists() else ""

    @property
    def databases(self) -> PostgresDatabases:
        return PostgresDatabases(
            f"host=127.0.0.1 port={self.port} dbname=postgres user=postgres password=secret",
            find_binaries(17),
        )

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self.databases.session() as session:
            return session.query(sql)


@pytest.fixture
def host(world: World) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="lw-host-") as name:
        top, folder, tools = Path(name), Path(name) / "pg", Path(name) / "tools"
        top.chmod(0o755)
        folder.mkdir()
        tools.mkdir()
        account = server_account(folder)
        programs = reachable_binaries(find_binaries(17), account)
        if not shutil.which("zstd"):
            add_tool(tools / "zstd", ZSTD)
        if os.geteuid() == 0:
            facts = {"uid": account.uid, "gid": account.gid, "program": programs.tool("pg_ctl")}
            add_tool(tools / "pg_ctl", PG_CTL.format(python=sys.executable, **facts))
        synced = {"initdb": str(programs.tool("initdb")), "sync": shutil.which("sync")}
        for name, program in synced.items():
            add_tool(tools / name, LOGGED.format(log=top / "synced", program=program))
        path = [str(tools), str(TOOLS), str(programs.bin_dir), os.defpath]
        environment = {**world.environment, "PATH": os.pathsep.join(path), "LC_ALL": "C"}
        port = free_port()
        # PGPORT: postgresql.conf names none, and the port of the configuration is the source's.
        yield Host(folder, port, environment | {"PGPORT": str(port)})
        end_processes(folder / "data")


def add_tool(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def url(made: HandOver) -> str:
    return f"s3://backups/db/{made.archive.key}"


def follow_the_page(host: Host, made: HandOver, **known: str) -> None:
    script = "\n".join(["set -e", *re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)])
    facts = {"ARCHIVE": url(made), "SHA256": made.archive.sha256, "OPTIONS": ""}
    host.run("sh", script, **facts | known)


def test_the_page_brings_up_the_same_database(world: World, host: Host) -> None:
    follow_the_page(host, world.hand_over("run-page"))
    assert host.ask("select count(*) from t") == [(1500,)]
    assert compare_digests(world.digests, table_digests(host.databases)) == ()
    assert host.ask("show data_checksums") == [("on",)]
    assert [path.is_symlink() for path in (host.folder / "data" / "pg_tblspc").iterdir()] == [True]
    assert "recovery" not in host.log()
    assert host.synced() == ON_DISK


def test_it_stays_what_it_is_on_a_durable_server(world: World, host: Host) -> None:
    follow_the_page(host, world.hand_over("run-durable"), OPTIONS="-c fsync=on")
    assert host.ask("show fsync") == [("on",)]
    with host.databases.session() as session:
        session.execute("insert into t values (0, 'written on the host')")
    host.run("sh", "pg_ctl -D data -m immediate stop && pg_ctl -D data -l server.log start")
    assert host.ask("select count(*) from t") == [(1501,)]
    host.run("sh", "pg_ctl -D data stop && pg_checksums --check -D data")


def test_the_line_of_the_record_does_the_same(world: World, host: Host) -> None:
    host.run("bash", host_commands(url(world.hand_over("run-line"))))
    assert host.synced() == ON_DISK
    assert compare_digests(world.digests, table_digests(host.databases)) == ()


def test_nothing_of_the_throw_away_server_goes_along(world: World, host: Host) -> None:
    made = world.hand_over("run-clean")
    fetch = f"aws s3 cp --no-progress {shlex.quote(url(made))} - | zstd -d | tar -x"
    host.run("bash", f"set -o pipefail; {fetch}")
    names = {path.name for path in host.folder.iterdir()}
    assert not [name for name in names if name.startswith(("leeward", "postmaster"))]
    assert {"PG_VERSION", "postgresql.conf", "pg_hba.conf", "base", "pg_tblspc"} <= names
    segments = [path for path in (host.folder / "pg_wal").iterdir() if len(path.name) == 24]
    there = [path for path in (world.data / "pg_wal").iterdir() if len(path.name) == 24]
    assert 1 <= len(segments) <= 2 < len(there)
    modes = {path.stat().st_mode & 0o077 for path in host.folder.rglob("*")}
    assert modes == {0}


def test_what_the_disk_does_not_take_is_not_started(world: World, host: Host) -> None:
    made = world.hand_over("run-unsynced")
    add_tool(host.folder.parent / "tools" / "initdb", "#!/bin/sh\nexit 1\n")
    with pytest.raises(AssertionError, match="not on the disk"):
        follow_the_page(host, made)
    assert host.log() == ""
    shutil.rmtree(host.folder / "data")
    with pytest.raises(AssertionError):
        host.run("bash", host_commands(url(made)))
    assert host.log() == ""


@pytest.mark.parametrize("place", ["middle", "end"])
def test_a_damaged_archive_is_not_started(world: World, host: Host, place: str) -> None:
    made = world.hand_over(f"run-damaged-{place}")
    whole = bytearray(world.store.get(made.archive.key))
    whole[len(whole) // 2 if place == "middle" else -1] ^= 1
    world.store.put(made.archive.key, bytes(whole))
    with pytest.raises(AssertionError):
        follow_the_page(host, made)
    assert host.log() == ""
    shutil.rmtree(host.folder / "data")
    with pytest.raises(AssertionError):
        host.run("bash", host_commands(url(made)))
    assert host.log() == ""


class DyingStore:
    """Ends like a worker that is killed: while an archive is written, or after it."""

    def __init__(self, store: S3ObjectStore, *, at: str) -> None:
        self._store, self._at = store, at

    def get(self, key: str) -> bytes:
        return self._store.get(key)

    def put(self, key: str, data: bytes) -> StoredObject:
        raise Unavailable("the worker is gone", hint="")

    @contextmanager
    def open_writer(self, key: str) -> Iterator[ObjectWriter]:
        with self._store.open_writer(key) as writer:
            yield writer if self._at == "manifest" else DyingWriter(writer)


class DyingWriter:
    def __init__(self, writer: ObjectWriter) -> None:
        self._writer, self._pieces = writer, 0

    def write(self, data: bytes) -> None:
        self._writer.write(data)
        self._pieces += 1
        if self._pieces == 20:
            raise Unavailable("the worker is gone", hint="")


@pytest.mark.parametrize("at", ["archive", "manifest"])
def test_a_death_leaves_nothing_that_looks_complete(world: World, at: str) -> None:
    run_id = f"run-dies-at-{at}"
    with pytest.raises(Unavailable):
        world.hand_over(run_id, DyingStore(world.store, at=at))
    assert read_hand_over(world.store, run_id) is None
    keys = [item.key for item in world.store.list(f"handover/{run_id}/")]
    assert keys == ([] if at == "archive" else [f"handover/{run_id}/base.tar.zst"])
    made = world.hand_over(run_id)
    assert read_hand_over(world.store, run_id) == made


def test_again_is_the_same_and_another_moment_is_refused(world: World) -> None:
    first = world.hand_over("run-again")
    assert world.hand_over("run-again") == first
    with pytest.raises(Refused) as caught:
        world.hand_over("run-again", target=RecoveryTarget("end", ""))
    assert caught.value.instance_code == "handed-over-otherwise"


def test_a_manifest_that_was_altered_is_refused(world: World) -> None:
    made = world.hand_over("run-altered")
    key = "handover/run-altered/manifest.json"
    altered = world.store.get(key).replace(made.archive.sha256.encode(), b"0" * 64)
    world.store.put(key, altered)
    with pytest.raises(Tampered):
        world.hand_over("run-altered")


def test_the_manifest_says_what_it_is(world: World) -> None:
    made = world.hand_over("run-said")
    assert made.archive.size_bytes == len(world.store.get(made.archive.key))
    assert (made.component, made.run_id, made.postgres_major) == ("db", "run-said", 17)
    assert made.recovered_lsn == world.replayed.recovered_lsn > 0
    assert made.timeline == world.replayed.timeline == 2
    assert made.last_commit_at == world.replayed.last_commit_at is not None


def test_a_server_that_runs_or_was_killed_is_refused(world: World) -> None:
    server = ThrowawayServer(world.data)
    server.start()
    server.wait_until("ready", timeout_seconds=30)
    server.stop("immediate")
    with pytest.raises(CheckFailed) as caught:
        world.hand_over("run-early")
    assert caught.value.instance_code == "not-shut-down"
    assert list(world.store.list("handover/run-early/")) == []
    with server:
        server.start()
        server.wait_until("ready", timeout_seconds=30)


def test_memory_does_not_grow_with_the_folder(tmp_path: Path) -> None:
    with (tmp_path / "16384").open("wb") as file:
        file.truncate(256 << 20)
    tracemalloc.start()
    total = sum(len(piece) for piece in tar_pieces(tmp_path, lambda name: True))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 256 << 20
    assert peak < 8 << 20
