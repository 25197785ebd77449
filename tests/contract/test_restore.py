"""Restore and replay of real backups: to the instant, from the newest clean point, or not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import zstandard

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.postgres.files import server_processes
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.backup.base_backup import take_backup
from chalicelib.backup.wal_fetch import fetch_wal
from chalicelib.errors import (
    CheckFailed,
    Damaged,
    LeewardError,
    NotReady,
    OutsideWindow,
    Unavailable,
)
from chalicelib.plan.records import RecoveryTarget, format_time
from chalicelib.plan.wal import partial_key
from chalicelib.ports import Listed
from chalicelib.recover.database.replay import read_replayed
from chalicelib.recover.database.restore import Restored, read_restored
from chalicelib.recover.window import choose_points
from tests.restores import CLOCK, END, World
from tests.restores import history as history
from tests.restores import world as world
from tests.servers import running_server


def test_everything_before_the_bad_transaction_and_nothing_of_it(world: World) -> None:
    restored, replayed = world.recover(world.bad_transaction)
    assert len(restored.chain) == 3
    assert world.query("select count(*), min(id) from t") == [(8001, -1)]
    assert world.query("select count(*) from t where note = 'changed'") == [(800,)]
    assert world.query("select count(*), max(id) from shrinks") == [(100, 100)]
    assert world.query("select count(*) from grown") == [(1000,)]
    assert world.query("select count(*) from in_fast") == [(501,)]
    assert world.query("select to_regclass('gone')") == [(None,)]
    assert replayed.timeline == 2
    assert replayed.last_commit_at is not None
    assert replayed.last_commit_at < world.moments["after"]
    assert replayed.recovered_lsn <= world.moments["lsn"]
    assert read_replayed(world.folder) == replayed


def test_the_recovered_pages_are_whole(world: World) -> None:
    world.recover(world.bad_transaction)
    server = ThrowawayServer(world.folder)
    outcome = server.run_tool(
        "pg_checksums", "--check", "-D", str(world.folder), timeout_seconds=60
    )
    assert outcome.status == 0, outcome.output + outcome.errors


def test_to_the_end(world: World) -> None:
    _, replayed = world.recover(END)
    assert world.query("select id from t") == [(-2,)]
    assert replayed.last_commit_at is not None
    assert replayed.last_commit_at > world.moments["after"] - timedelta(seconds=5)


def test_to_a_time(world: World) -> None:
    world.recover(RecoveryTarget("time", format_time(world.moments["before"])))
    assert world.query("select count(*), min(id) from t") == [(8001, -1)]


def test_to_an_lsn(world: World) -> None:
    _, replayed = world.recover(
        RecoveryTarget("lsn", format_lsn_of(world.moments["lsn"]), world.moments["lsn"])
    )
    assert world.query("select count(*) from t") == [(0,)]
    assert replayed.recovered_lsn <= world.moments["lsn"]


def format_lsn_of(lsn: int) -> str:
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def test_the_source_is_not_written_to(world: World) -> None:
    """The restored folder holds its tablespace inside, not where the source has it."""
    world.recover(END)
    links = [path for path in world.folder.rglob("*") if path.is_symlink()]
    assert links == []
    assert list((world.folder / "pg_tblspc").iterdir())


def flip_byte(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 0xFF
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def remove(path: Path) -> None:
    path.unlink()


def change_manifest(path: Path) -> None:
    manifest = path.parent / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"timeline":1', b'"timeline":2'))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (flip_byte, ("digest-mismatch", "archive-unreadable")),
        (truncate, ("object-short", "archive-unreadable")),
        (remove, ("object-missing",)),
        (change_manifest, ("tampered",)),
    ],
)
def test_a_damaged_point_is_refused_reported_and_the_next_older_used(
    world: World, damage: Callable[[Path], None], code: tuple[str, ...]
) -> None:
    newest = world.catalogue.inventory().points[-1]
    damage(world.file(f"points/{newest.id}/base.tar.zst"))
    restored, _ = world.recover(world.bad_transaction)
    assert len(restored.chain) == 2
    [rejected] = [item for item in restored.rejected if item["point_id"] == newest.id]
    assert rejected["code"] in (*code, "quarantined")
    assert world.query("select count(*), min(id) from t") == [(8001, -1)]
    again, _ = world.recover(END)
    assert newest.id not in again.chain


def test_a_damaged_full_leaves_nothing_of_its_chain(world: World) -> None:
    oldest = world.catalogue.inventory().points[0]
    flip_byte(world.file(f"points/{oldest.id}/base.tar.zst"))
    with pytest.raises(Damaged) as caught:
        world.recover(END)
    assert caught.value.instance_code == "no-clean-point"
    assert len(caught.value.context["rejected"]) == 3
    assert list(world.folder.iterdir()) == []


def test_an_object_exchanged_together_with_its_manifest_is_tampered(
    history: World, tmp_path: Path
) -> None:
    """The index remembers the digest that the writer of the bucket cannot change."""
    from tests.fakes_state import InMemoryState

    shutil.copytree(history.root / "store", tmp_path / "store")
    store = FolderObjectStore(tmp_path / "store")
    points = StoredCatalogue(store, "db").inventory().points
    index = InMemoryState()
    for point in points:
        entry = {"digest": "0" * 64, "state": "taken"}
        index.create("catalogue#db", point.id, entry)
    inventory = StoredCatalogue(store, "db", index=index).inventory()
    assert inventory.points == ()
    assert {item.code for item in inventory.rejected} == {"tampered"}


@pytest.mark.parametrize(
    "target",
    [
        RecoveryTarget("time", "2001-01-01T00:00:00Z"),
        RecoveryTarget("time", "2999-01-01T00:00:00Z"),
        RecoveryTarget("lsn", "0/1", 1),
        RecoveryTarget("xid", "800", 1 << 60),
        RecoveryTarget("xid", "800", 0x3000000, timeline=7),
    ],
)
def test_a_moment_outside_is_refused_before_anything_is_touched(
    world: World, target: RecoveryTarget
) -> None:
    world.folder.mkdir(parents=True)
    (world.folder / "kept").write_text("as it was")
    with pytest.raises(OutsideWindow) as caught:
        world.restore(target)
    assert (world.folder / "kept").read_text() == "as it was"
    assert "timeline 1" in caught.value.message


def test_a_moment_after_the_last_commit_is_not_taken_for_reached(world: World) -> None:
    restored = world.restore(END)
    beyond = RecoveryTarget("time", format_time(world.moments["after"] + timedelta(days=1)))
    changed = Restored(**{**vars(restored), "target": beyond})
    with pytest.raises(CheckFailed) as caught:
        world.replay(changed)
    assert caught.value.instance_code == "target-not-reached"
    assert read_replayed(world.folder) is None


def flip_bit_of_a_literal(path: Path) -> None:
    """Most such bits decompress without complaint: only the frame's checksum knows."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x01
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip_byte, flip_bit_of_a_literal, truncate, remove])
def test_damaged_wal_ends_the_replay_with_its_name(
    world: World, damage: Callable[[Path], None]
) -> None:
    restored = world.restore(END)
    [first, *_] = [
        item for item in world.catalogue.inventory().wal.segments
        if item.end_lsn > restored.start_lsn
    ]  # fmt: skip
    damage(world.root / "store" / first.key)
    with pytest.raises(Damaged) as caught:
        world.replay(restored)
    assert caught.value.instance_code in ("wal-gap", "wal-unreadable", "object-missing")
    assert read_replayed(world.folder) is None


def rewrite_the_end(world: World, change: Callable[[bytearray, int], int]) -> None:
    """Change the last segment, given where it is written up to; `change` says where it ends now."""
    inventory = world.catalogue.inventory()
    last, size = inventory.wal.segments[-1], inventory.wal.segment_bytes
    path = world.root / "store" / last.key
    segment = bytearray(zstandard.ZstdDecompressor().decompress(path.read_bytes(), size))
    end_lsn = last.start_lsn + change(segment, last.end_lsn - last.start_lsn)
    path.unlink()
    world.store.put(
        partial_key(last.timeline, end_lsn, size),
        zstandard.ZstdCompressor(write_checksum=True).compress(bytes(segment)),
    )


def test_wal_that_was_damaged_at_the_source_is_not_taken_for_its_end(world: World) -> None:
    """Not one commit may vanish unseen: PostgreSQL itself takes it for the end of the WAL."""

    def damage(segment: bytearray, written: int) -> int:
        segment[written - 200] ^= 0xFF
        return written

    rewrite_the_end(world, damage)
    restored = world.restore(END)
    with pytest.raises(CheckFailed) as caught:
        world.replay(restored)
    assert caught.value.instance_code == "replay-ended-early"
    assert read_replayed(world.folder) is None


def test_a_record_that_the_last_tick_cut_is_no_damage(world: World) -> None:
    def cut(segment: bytearray, written: int) -> int:
        segment[written - 20 :] = bytes(len(segment) - written + 20)
        return written - 20

    rewrite_the_end(world, cut)
    restored, replayed = world.recover(END)
    assert restored.window_end_lsn - 200 < replayed.recovered_lsn < restored.window_end_lsn


def test_a_gap_in_the_wal_splits_the_window(world: World) -> None:
    segments = world.catalogue.inventory().wal.segments
    (world.root / "store" / segments[-2].key).unlink()
    inventory = world.catalogue.inventory()
    assert all(window.end_lsn <= segments[-2].start_lsn for window in inventory.windows)
    with pytest.raises(OutsideWindow):
        choose_points(inventory, world.bad_transaction)


KILLED = """
import sys, threading, os, signal
from pathlib import Path
from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.plan.records import RecoveryTarget
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.replay import replay
from chalicelib.recover.database.restore import restore

root, kind = Path(sys.argv[1]), sys.argv[2]
store = FolderObjectStore(root / "store")
means = Means(store, StoredCatalogue(store, "db"), ThrowawayServer, SystemClock())
folder = root / "work" / "data"
end = RecoveryTarget("end", "")
say = lambda *_: print("now", flush=True)
if kind == "restore":
    import chalicelib.recover.database.restore as module
    unpack = module._unpack_point
    module._unpack_point = lambda *a: (unpack(*a), say(), signal.pause())
restored = restore(means, end, folder)
import chalicelib.recover.database.replay as module
wait = ThrowawayServer.wait_until
ThrowawayServer.wait_until = lambda *a, **k: (wait(*a, **k), say(), signal.pause())
replay(means, restored, folder)
"""


@pytest.mark.parametrize("step", ["restore", "replay"])
def test_a_worker_killed_in_the_middle_is_started_over(world: World, step: str) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(world.root), step], stdout=subprocess.PIPE, text=True
    )
    with worker:
        assert worker.stdout
        assert worker.stdout.readline() == "now\n"
        worker.send_signal(signal.SIGKILL)
    assert read_restored(world.folder) is None
    assert read_replayed(world.folder) is None
    world.recover(END)
    assert world.query("select id from t") == [(-2,)]


def test_a_store_that_does_not_answer_quarantines_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_answer(key: str) -> Iterator[bytes]:
        raise Unavailable("the store did not answer", hint="wait")
        yield b""

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "read", no_answer)
        patch.setattr(world.store, "get", FolderObjectStore(world.root / "store").get)
        with pytest.raises(Unavailable):
            world.restore(END)
    assert world.catalogue.inventory().rejected == ()


def test_a_full_disk_is_one_error_and_leaves_an_empty_folder(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("chalicelib.recover.database.archive.write_all", full)
        with pytest.raises(NotReady) as caught:
            world.restore(END)
    assert caught.value.instance_code == "no-disk-space"
    assert list(world.folder.iterdir()) == []
    assert world.catalogue.inventory().rejected == ()


def test_too_little_disk_is_refused_before_anything_is_touched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.folder.mkdir(parents=True)
    (world.folder / "kept").write_text("as it was")
    little = shutil.disk_usage(world.root)._replace(free=1 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda _: little)
    with pytest.raises(NotReady) as caught:
        world.restore(END)
    assert caught.value.instance_code == "no-disk-space"
    assert (world.folder / "kept").read_text() == "as it was"


def test_a_backup_without_a_copy_of_the_wal_is_refused_as_a_point(world: World) -> None:
    for row in list(world.store.list("wal/")):
        world.store.delete(row.key)
    with pytest.raises(OutsideWindow):
        world.restore(END)


def test_errors_are_ours(world: World) -> None:
    shutil.rmtree(world.root / "store" / "points")
    with pytest.raises(LeewardError):
        world.restore(END)


def test_replay_overlaps_with_fetching_and_holds_a_few_segments(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_get = world.store.get

    def get(key: str) -> bytes:
        time.sleep(0.1)
        return slow_get(key)

    monkeypatch.setattr(world.store, "get", get)
    world.replay(world.restore(END), ahead_bytes=0)
    assert world.query("select id from t") == [(-2,)]


def test_the_server_answers_until_it_is_left_and_only_then_is_the_folder_replayed(
    world: World,
) -> None:
    with world.recovered(END) as found:
        with psycopg.connect(found.server.dsn()) as connection:
            assert connection.execute("select id from t").fetchall() == [(-2,)]
            connection.execute("insert into t values (-3, 'new')")
        assert not world.wal_folder.exists()
        assert read_replayed(world.folder) is None
    assert read_replayed(world.folder) == found.replayed
    assert server_processes(world.folder) == []
    assert world.query("select id from t order by 1") == [(-3,), (-2,)]


@pytest.fixture
def asked(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the store was asked to list."""
    found: list[str] = []
    lists = world.store.list

    def counted(prefix: str = "") -> Iterator[Listed]:
        found.append(prefix)
        return lists(prefix)

    monkeypatch.setattr(world.store, "list", counted)
    return found


def test_what_is_stored_is_asked_once(world: World, asked: list[str]) -> None:
    world.recover(END)
    assert sorted(asked) == ["points/", "wal/"]


def test_what_is_known_is_asked_again_only_after_a_damaged_point(
    world: World, asked: list[str]
) -> None:
    known = world.catalogue.inventory()
    asked.clear()
    assert world.restore(world.bad_transaction, known).point_id == known.points[-1].id
    assert asked == []
    damaged = f"points/{known.points[-1].id}"
    flip_byte(world.file(f"{damaged}/base.tar.zst"))
    assert world.restore(world.bad_transaction, known).point_id == known.points[-2].id
    # What is infected stays so: its note is looked for before one of damage is written.
    assert sorted(asked) == ["points/", f"{damaged}/quarantine.json", "wal/"]


def test_a_folder_whose_server_was_left_by_an_error_is_not_replayed(world: World) -> None:
    with pytest.raises(Unavailable), world.recovered(END):
        raise Unavailable("expected an answer, found none", hint="Try again.")
    assert read_replayed(world.folder) is None


def test_recovery_follows_a_promotion_from_a_backup_before_it(tmp_path: Path) -> None:
    """Of which nothing tells but the store: there is no index."""
    world = World(tmp_path, FolderObjectStore(tmp_path / "store"), {})

    def tick() -> None:
        with PostgresSource(server.dsn()) as source:
            fetch_wal(source, world.store, world.catalogue, component="db", clock=CLOCK)

    with running_server() as server:
        server.run("create table t as select 1 as id")
        tick()
        with PostgresSource(server.dsn()) as source:
            take_backup(
                source, world.store, world.catalogue, component="db", kind="full", clock=CLOCK
            )
        server.run("insert into t values (2)")
        tick()
        server.stop()
        (server.data / "standby.signal").touch()
        server.start()
        server.run("select pg_promote()", "insert into t values (3)", "select pg_switch_wal()")
        server.run("insert into t values (4)")
        tick()
    _, replayed = world.recover(END)
    assert replayed.timeline == 3
    assert world.query("select id from t order by 1") == [(1,), (2,), (3,), (4,)]
    world.replay(world.restore(END))
    assert world.query("select id from t order by 1") == [(1,), (2,), (3,), (4,)]
