"""Throw-away servers on real data folders: they start fast, stay private and leave nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from chalicelib.adapters.postgres.binaries import (
    Account,
    find_binaries,
    reachable_binaries,
    server_account,
)
from chalicelib.adapters.postgres.files import server_processes, superuser_names
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.errors import CheckFailed, Damaged, NotReady
from tests.servers import running_server


@pytest.fixture(scope="module")
def stopped_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a source that was hostile to whoever would start it as it is."""
    folder = tmp_path_factory.mktemp("source") / "data"
    with running_server() as source:
        source.run(
            "create role boss superuser login",
            "create table kept as select generate_series(1, 1000) as id",
            "alter system set shared_preload_libraries = 'nosuchlib'",
            "alter system set archive_command = 'touch /tmp/leeward-archive-command-ran'",
        )
        source.stop()
        shutil.copytree(source.data, folder)
    return folder


@pytest.fixture
def folder(stopped_folder: Path, tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "data"
    shutil.copytree(stopped_folder, copy)
    yield copy
    assert server_processes(copy) == []


def count_rows(server: ThrowawayServer) -> int:
    with psycopg.connect(server.dsn()) as connection:
        found = connection.execute("select count(*) from kept").fetchone()
    assert found
    return int(found[0])


def wait_for_end(folder: Path, seconds: float = 10) -> list[int]:
    deadline = time.monotonic() + seconds
    while server_processes(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    return server_processes(folder)


def wait_until_gone(path: Path, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not path.exists()


def test_starts_a_folder_whose_own_configuration_would_not_start(folder: Path) -> None:
    with ThrowawayServer(folder) as server:
        server.start()
        server.wait_until("ready", timeout_seconds=20)
        assert count_rows(server) == 1000
        assert server_processes(folder)


def test_finds_the_superuser_whatever_it_is_called(folder: Path) -> None:
    with ThrowawayServer(folder) as server:
        server.start()
        server.wait_until("ready", timeout_seconds=20)
        with psycopg.connect(server.dsn(), user="boss", autocommit=True) as connection:
            connection.execute("alter role postgres rename to root_of_all")
            connection.execute("checkpoint")
        server.stop()
        assert "root_of_all" in superuser_names(folder)
        reopened = ThrowawayServer(folder)
        with reopened:
            reopened.start()
            reopened.wait_until("ready", timeout_seconds=20)
            assert "user=root_of_all" in reopened.dsn()


def test_listens_nowhere_but_on_its_private_socket(folder: Path) -> None:
    with ThrowawayServer(folder) as server:
        server.start()
        server.wait_until("ready", timeout_seconds=20)
        with psycopg.connect(server.dsn()) as connection:
            shown = connection.execute("show listen_addresses").fetchone()
        assert shown == ("",)


def test_stops_what_a_dead_worker_left_running(folder: Path) -> None:
    first = ThrowawayServer(folder)
    first.start()
    first.wait_until("ready", timeout_seconds=20)
    left = set(server_processes(folder))
    with ThrowawayServer(folder) as second:
        second.start()
        second.wait_until("ready", timeout_seconds=20)
        assert count_rows(second) == 1000
        assert not left & set(server_processes(folder))
    first.stop()


CRASHING_PARENT = """
import os, sys, threading
from pathlib import Path
from chalicelib.adapters.postgres.server import ThrowawayServer

server = ThrowawayServer(Path(sys.argv[1]))
starter = threading.Thread(target=server.start)
starter.start()
starter.join()
server.wait_until("ready", timeout_seconds=20)
print("ready", server.dsn().partition("host=")[2].split()[0], flush=True)
sys.stdin.read()
"""


def test_ends_with_the_process_that_started_it(folder: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", CRASHING_PARENT, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with parent:
        assert parent.stdout
        said, run_dir = parent.stdout.readline().split()
        assert said == "ready"
        assert server_processes(folder)
        assert Path(run_dir).is_dir()
        parent.send_signal(signal.SIGKILL)
    assert wait_for_end(folder) == []
    assert wait_until_gone(Path(run_dir))


def test_a_server_that_ends_by_itself_shows_its_log(folder: Path) -> None:
    for segment in (folder / "pg_wal").glob("0*"):
        segment.unlink()
    with ThrowawayServer(folder) as server:
        server.start()
        with pytest.raises(CheckFailed) as caught:
            server.wait_until("ready", timeout_seconds=20)
    assert caught.value.instance_code == "server-ended"
    assert "checkpoint" in caught.value.context["log"]
    assert "it ended with status 1" in caught.value.message


def test_page_checksums_are_checked_on_the_stopped_folder(folder: Path) -> None:
    with ThrowawayServer(folder) as server:
        server.start()
        server.wait_until("ready", timeout_seconds=20)
        with psycopg.connect(server.dsn()) as connection:
            found = connection.execute("select pg_relation_filepath('kept')").fetchone()
        server.stop()
        check = ("--check", "-D", str(folder))
        assert server.run_tool("pg_checksums", *check, timeout_seconds=60).status == 0
        assert found
        with (folder / found[0]).open("r+b") as table:
            table.seek(4000)
            table.write(b"\xde\xad\xbe\xef")
        assert server.run_tool("pg_checksums", *check, timeout_seconds=60).status == 1


def test_a_folder_without_a_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(Damaged) as caught:
        ThrowawayServer(tmp_path)
    assert caught.value.instance_code == "not-a-data-folder"


def test_a_missing_version_names_each_folder_looked_at() -> None:
    with pytest.raises(NotReady) as caught:
        find_binaries(9)
    assert caught.value.instance_code == "no-postgres-binaries"
    assert f"{find_binaries(17).bin_dir} (17)" in caught.value.message


def test_a_named_folder_is_the_only_one_looked_at(tmp_path: Path) -> None:
    with pytest.raises(NotReady) as caught:
        find_binaries(17, named=str(tmp_path))
    assert str(tmp_path) in caught.value.message


def test_the_environment_of_the_programs_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "production.example")
    assert "PGHOST" not in find_binaries(17).environment()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands programs to another account")
def test_programs_under_roots_home_are_copied_to_where_the_server_can_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "pg" / "bin").mkdir(parents=True)
    home.chmod(0o700)
    shutil.copy(find_binaries(17).tool("postgres"), home / "pg" / "bin" / "postgres")
    (tmp_path / "temp").mkdir(mode=0o755)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    named = find_binaries(named=str(home / "pg" / "bin"))
    nobody = server_account(Path("/"))
    usable = reachable_binaries(named, nobody)
    assert str(usable.bin_dir).startswith(str(tmp_path / "temp"))
    assert usable.tool("postgres").is_file()
    assert reachable_binaries(named, nobody) == usable
    assert reachable_binaries(named, Account(0, 0)) == named


def test_what_is_unpacked_before_a_server_starts_waits_for_no_library_of_its_answers() -> None:
    code = (
        "import sys, chalicelib.adapters.postgres.server, chalicelib.recover.database.recovered\n"
        "print([name for name in ('psycopg', 'boto3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
