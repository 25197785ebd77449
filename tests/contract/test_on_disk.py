"""What `leeward restore point` brought back is on the disk before it has its name."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.backup.base_backup import take_backup
from chalicelib.backup.wal_fetch import fetch_wal
from tests.clusters import fresh_cluster, other_versions
from tests.commands import ROOT, clean_environment, run

CLOCK = SystemClock()
PLAN = """
name: small
organisation: Small
document: {{ title: Plan }}
objectives: {{ rto: 4 hours, rpo: 24 hours }}
sites: {{ here: {{ provider: own, role: primary }} }}
locations:
  disk: {{ provider: own, role: local, path: {folder}/backups }}
  remote: {{ provider: aws, region: us-east-1, service: s3, bucket: b, role: remote }}
components:
  db:
    kind: postgres
    database: postgres
    operator_secret: small/operator
    application_secret: small/application
    application_role: app
    backups: [{{ kind: full, when: daily, takes: 1m, to: [disk] }}]
  uploads:
    kind: files
    paths: [{folder}/host]
    backups: [{{ kind: full, when: daily, takes: 1m, to: [disk] }}]
  code:
    kind: git
    repository: file://{folder}/repository
    backups: [{{ kind: commits, to: [disk] }}]
scenarios:
  lost:
    title: Lost
    severity: SEV2
    steps: [{{ name: look, says: Look, by: somebody }}]
roles: {{ somebody: {{ title: Somebody, may: [execute] }} }}
"""


@dataclass
class Desk:
    """A plan whose components have one point each on a local disk."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "restored"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def restore(
        self, component: str, *more: str, fault: str = "none", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        words = ("restore", "point", component, "--plan", str(self.folder / "plan.yaml"))
        where = ("--from", "disk", "--without-aws", "--format", "json")
        return self.leeward(*words, *where, *more, fault=fault, **environment)

    def leeward(
        self, *words: str, fault: str = "none", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        self.log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.synced", str(self.log), fault, *words]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=clean_environment(**environment),
            capture_output=True,
            text=True,
            timeout=120,
        )

    def told(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def beside(self) -> list[str]:
        """What a restore left beside its folder."""
        return [it.name for it in self.folder.iterdir() if it.name.startswith(".")]


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory(prefix="lw-disk-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "plan.yaml").write_text(PLAN.format(folder=folder))
        back_up_database(folder / "backups" / "db", 17)
        fill(folder)
        assert run("locations", "init", "disk", "--plan", folder / "plan.yaml").returncode == 0
        for component in ("uploads", "code"):
            words = ("--plan", folder / "plan.yaml", "--to", "disk", "--without-aws")
            done = run("take", component, *words)
            assert done.returncode == 0, done.stderr
        yield Desk(folder)


@pytest.fixture(autouse=True)
def nothing_left(desk: Desk) -> Iterator[None]:
    yield
    subprocess.run(["rm", "-rf", desk.out, *desk.folder.glob(".*")], check=True)


def back_up_database(folder: Path, major: int) -> None:
    store = FolderObjectStore(folder)
    catalogue = StoredCatalogue(store, "db")
    with (
        fresh_cluster(find_binaries(major), superuser="postgres") as server,
        PostgresSource(server.dsn()) as source,
    ):
        place = server.folder / "fast"
        place.mkdir()
        owner = server.data.stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f"create tablespace fast location '{place}'")
            connection.execute("create table t tablespace fast as select 1 as id")
        fetch_wal(source, store, catalogue, component="db", clock=CLOCK)
        take_backup(source, store, catalogue, component="db", kind="full", clock=CLOCK)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("insert into t values (2)")
        fetch_wal(source, store, catalogue, component="db", clock=CLOCK)


def fill(folder: Path) -> None:
    """A folder with what cannot be opened again, and a repository."""
    host, repository = folder / "host", folder / "repository"
    (host / "sub" / "empty").mkdir(parents=True)
    for number in range(200):
        (host / "sub" / str(number)).write_bytes(os.urandom(number))
    (host / "link").symlink_to("sub/1")
    (host / "again").hardlink_to(host / "sub" / "2")
    (host / "sub").chmod(0o300)
    (host / "sub" / "3").chmod(0o000)
    git = ("git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", "init", "-q", "-b", "main", repository], check=True)
    (repository / "app.py").write_text("print('hello')\n")
    (repository / "link").symlink_to("app.py")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "Say hello"], check=True)


@pytest.mark.parametrize("component", ["db", "uploads", "code"])
def test_every_file_and_folder_is_synced_before_it_has_its_name(desk: Desk, component: str) -> None:
    done = desk.restore(component, "--out", str(desk.out))
    assert done.returncode == 0, done.stdout + done.stderr
    told = desk.told()
    named = told.index(f"named {desk.out}")
    paths = [desk.out, *desk.out.rglob("*")]
    wanted = {f"synced {path.lstat().st_ino}" for path in paths if not path.is_symlink()}
    assert len(wanted) > 3
    assert wanted <= set(told[:named])
    assert f"synced {desk.folder.stat().st_ino}" in told[named:]
    assert desk.beside() == []


@pytest.mark.parametrize(
    ("component", "fault", "code"),
    [
        ("db", "EIO", "not-on-disk"),
        ("uploads", "ENOSPC", "no-disk-space"),
        ("code", "EIO", "not-on-disk"),
    ],
)
def test_a_disk_that_does_not_take_it_is_one_error(
    desk: Desk, component: str, fault: str, code: str
) -> None:
    done = desk.restore(component, "--out", str(desk.out), fault=fault)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["error"]["code"] == code
    assert not desk.out.exists()
    assert desk.beside() == []


@pytest.mark.parametrize("component", ["db", "uploads", "code"])
def test_what_is_killed_has_not_the_name_of_what_was_restored(desk: Desk, component: str) -> None:
    desk.out.mkdir()
    temporary = desk.folder / f"temporary-{component}"
    temporary.mkdir()
    done = desk.restore(component, "--out", str(desk.out), fault="kill", TMPDIR=str(temporary))
    assert done.returncode == -signal.SIGKILL
    assert list(desk.out.iterdir()) == []
    assert list(temporary.glob("leeward-plan-*")) == []
    again = desk.restore(component, "--out", str(desk.out))
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.parametrize("component", ["db", "uploads", "code"])
def test_what_is_only_tried_pays_for_no_sync(desk: Desk, component: str) -> None:
    done = desk.restore(component, "--prove")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in desk.told() if line.startswith("synced")] == []


def test_the_time_line_tells_of_the_sync(desk: Desk) -> None:
    words = ("restore", "point", "db", "--plan", desk.folder / "plan.yaml", "--from", "disk")
    done = run(*words, "--without-aws", "--out", desk.out)
    assert done.returncode == 0, done.stderr
    verified, synced = done.stderr.splitlines()[-2:]
    assert (verified.split()[0], synced.split()[0]) == ("verify", "sync")


def test_a_file_in_the_way_is_refused_before_anything_is_fetched(desk: Desk) -> None:
    desk.out.write_text("mine")
    done = desk.restore("db", "--out", str(desk.out))
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "folder-not-empty"
    assert desk.out.read_text() == "mine"


def test_a_new_offline_key_is_on_the_disk_with_its_name(tmp_path: Path) -> None:
    """What is sealed for a key that was lost is lost."""
    desk, out = Desk(tmp_path), tmp_path / "pair"
    out.mkdir()
    (tmp_path / "passphrase").write_text("a passphrase that is long enough")
    done = desk.leeward(
        "keys", "create", "--out", str(out), "--passphrase-file", str(tmp_path / "passphrase")
    )
    assert done.returncode == 0, done.stderr
    *files, folder = [f"synced {it.stat().st_ino}" for it in (*out.iterdir(), out)]
    told = desk.told()
    assert len(files) == 2
    assert max(map(told.index, files)) < len(told) - 1 - told[::-1].index(folder)


def test_a_folder_as_a_store_keeps_the_names_of_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, synced = os.fsync, set[int]()

    def watched_sync(handle: int) -> None:
        sync(handle)
        synced.add(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", watched_sync)
    store = FolderObjectStore(tmp_path / "records" / "here")
    store.put("inc-1/records/1.json", b"{}")
    inside = tmp_path / "records" / "here" / "inc-1" / "records" / "1.json"
    paths = [it for it in (inside, *inside.parents) if it.is_relative_to(tmp_path)]
    assert len(paths) == 6
    assert {it.stat().st_ino for it in paths} <= synced


@pytest.mark.parametrize("major", [17, *(it.major for it in other_versions())], ids=str)
def test_the_folder_starts_under_its_name_whatever_the_version(
    desk: Desk, tmp_path: Path, major: int
) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.format(folder=tmp_path))
    back_up_database(tmp_path / "backups" / "db", major)
    other = Desk(tmp_path)
    done = other.restore("db", "--out", str(other.out))
    assert done.returncode == 0, done.stdout + done.stderr
    with ThrowawayServer(other.out) as server:
        assert server.control_data()["Database cluster state"] == "shut down"
        server.start()
        server.wait_until("ready", timeout_seconds=30)
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("select id from t order by id").fetchall() == [(1,), (2,)]


@pytest.mark.skipif(os.getuid() != 0, reason="nobody but root gives folders away")
@pytest.mark.parametrize("owner", ["daemon", "postgres"])
def test_root_s_data_folder_belongs_to_whose_it_was_or_to_postgres(desk: Desk, owner: str) -> None:
    if owner == "daemon":
        desk.out.mkdir()
        shutil.chown(desk.out, owner, owner)
    elif not has_account(owner):
        owner = "nobody"
    done = desk.restore("db", "--out", str(desk.out))
    assert done.returncode == 0, done.stderr
    assert {it.owner() for it in (desk.out, *desk.out.rglob("*"))} == {owner}
    assert f"as {owner}: pg_ctl" in json.loads(done.stdout)["next_step"]


def has_account(name: str) -> bool:
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False
