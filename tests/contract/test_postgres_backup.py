"""Base backups and WAL from real servers: what is stored, what is told to the server, and when."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zstandard

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.backup.base_backup import take_backup
from chalicelib.backup.wal_fetch import fetch_wal, repair_gap, slot_name
from chalicelib.errors import LeewardError, NotReady, Refused, Unavailable
from chalicelib.plan.records import DatabasePoint, DatabasePointKind, WalTick, format_lsn
from chalicelib.plan.wal import segment_name
from chalicelib.ports import ObjectStore
from tests.clouds import wait_for
from tests.clusters import fresh_cluster
from tests.fakes import FailingObjectStore, InMemoryObjectStore
from tests.fakes_state import InMemoryState, ManualClock
from tests.faults import stalling_proxy
from tests.servers import RealServer, running_server

CLOCK = SystemClock()
ROLE = "create role backup login replication password 'only-backup'"


class Backups:
    """A component's backups of one server, taken by a role that may do nothing else."""

    def __init__(self, server: RealServer) -> None:
        self.server = server
        self.store = InMemoryObjectStore()
        self.index = InMemoryState()
        self.catalogue = StoredCatalogue(self.store, "db", index=self.index)

    def source(self, **changed: str) -> PostgresSource:
        login = {"user": "backup", "password": "only-backup", **changed}
        return PostgresSource(self.server.dsn(**login))

    def take(self, kind: DatabasePointKind = "full") -> DatabasePoint:
        with self.source() as source:
            return take_backup(
                source, self.store, self.catalogue, component="db", kind=kind, clock=CLOCK
            )

    def tick(self, store: ObjectStore | None = None) -> WalTick:
        with self.source() as source:
            return fetch_wal(
                source, store or self.store, self.catalogue, component="db", clock=CLOCK
            )

    def repair(self) -> DatabasePoint:
        with self.source() as source:
            return repair_gap(source, self.store, self.catalogue, component="db", clock=CLOCK)

    def kept_from(self) -> str:
        [(lsn,)] = self.server.run("select restart_lsn::text from pg_replication_slots")
        return str(lsn)

    def keys(self, prefix: str) -> list[str]:
        return [row.key for row in self.store.list(prefix)]


class StoreBesideWrites:
    """While the first object is put, somebody writes to the database."""

    def __init__(self, store: InMemoryObjectStore, write: Callable[[], None]) -> None:
        self._store, self._writes = store, [write]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, data: bytes, **options: Any) -> Any:
        done = self._store.put(key, data, **options)
        while self._writes:
            self._writes.pop()()
        return done


class StoreBesideBackup(StoreBesideWrites):
    """While the first archive is begun, whatever was noted before it, somebody else works."""

    def put(self, key: str, data: bytes, **options: Any) -> Any:
        return self._store.put(key, data, **options)

    def open_writer(self, key: str) -> Any:
        while self._writes:
            self._writes.pop()()
        return self._store.open_writer(key)


@pytest.fixture
def backups() -> Iterator[Backups]:
    with running_server() as server:
        server.run(ROLE, "create table t as select generate_series(1, 5000) as id")
        yield Backups(server)


def write_wal(server: RealServer, megabytes: int) -> None:
    server.run(
        "create table if not exists filler (x text)",
        "insert into filler select repeat(md5(i::text), 31)"
        f" from generate_series(1, {megabytes * 1000}) i",
    )


def codes(tick: WalTick) -> list[str]:
    return [finding.code for finding in tick.findings]


def test_a_full_backup_is_what_plain_tools_read(backups: Backups) -> None:
    point = backups.take()
    prefix = f"points/{point.id}"
    assert backups.keys("points/") == [
        f"{prefix}/backup_manifest",
        f"{prefix}/base.tar.zst",
        f"{prefix}/manifest.json",
    ]
    archive = backups.store.objects[f"{prefix}/base.tar.zst"]
    tar = zstandard.ZstdDecompressor().decompressobj().decompress(archive)
    assert b"PG_VERSION" in tar
    assert b"backup_label" in tar
    assert point.kind == "full"
    assert point.start_lsn < point.end_lsn
    assert point.source_bytes > point.stored_bytes > 0
    assert backups.catalogue.inventory().points == (point,)


def test_an_incremental_holds_what_changed(backups: Backups) -> None:
    full = backups.take()
    backups.server.run("update t set id = id + 1 where id < 10")
    incremental = backups.take("incremental")
    assert incremental.kind == "incremental"
    assert incremental.parent_id == full.id
    assert incremental.stored_bytes < full.stored_bytes / 3
    again = backups.take("incremental")
    assert again.parent_id == incremental.id


def lose_summaries(server: RealServer) -> None:
    """Remove what the server has summarized, once it looks no longer at that WAL."""
    write_wal(server, 20)
    [(written,)] = server.run("checkpoint", "select pg_current_wal_lsn() - '0/0'")
    deadline = time.monotonic() + 20
    while summarized_until(server) < written - (1 << 20) and time.monotonic() < deadline:
        server.run("checkpoint")
    for summary in (server.data / "pg_wal" / "summaries").iterdir():
        summary.unlink()


def summarized_until(server: RealServer) -> int:
    [(lsn,)] = server.run("select summarized_lsn - '0/0' from pg_get_wal_summarizer_state()")
    return int(lsn)


@pytest.mark.parametrize("why", ["no-parent", "no-summaries", "summaries-gone", "parent-changed"])
def test_an_incremental_that_cannot_be_had_becomes_full_and_says_why(
    backups: Backups, why: str
) -> None:
    if why != "no-parent":
        backups.take()
    if why == "no-summaries":
        backups.server.run("alter system set summarize_wal = off", "select pg_reload_conf()")
    if why == "summaries-gone":
        lose_summaries(backups.server)
    if why == "parent-changed":
        [key] = [key for key in backups.store.objects if key.endswith("backup_manifest")]
        backups.store.objects[key] += b" "
    point = backups.take("incremental")
    assert point.kind == "full"
    assert point.note


def test_bad_pages_are_named_and_the_point_is_not_clean(backups: Backups) -> None:
    clean = backups.take()
    [(path,)] = backups.server.run("checkpoint", "select pg_relation_filepath('t')")
    with (backups.server.data / path).open("r+b") as file:
        file.seek(2 * 8192 + 4000)
        file.write(b"\xde\xad\xbe\xef" * 4)
    point = backups.take()
    assert any(path in failure for failure in point.checksum_failures)
    assert any("block 2" in failure for failure in point.checksum_failures)
    incremental = backups.take("incremental")
    assert incremental.parent_id == clean.id


def test_wal_is_stored_byte_for_byte(backups: Backups) -> None:
    backups.tick()
    write_wal(backups.server, 40)
    tick = backups.tick()
    assert tick.segments >= 2
    assert not tick.findings
    wal_folder = backups.server.data / "pg_wal"
    compared = 0
    for key in backups.keys("wal/"):
        name = key.split("/")[2][:24]
        stored = zstandard.ZstdDecompressor().decompress(backups.store.objects[key])
        assert len(stored) == 16 << 20
        if key.endswith(".partial.zst"):
            used = tick.end_lsn % (16 << 20)
            assert stored[:used] == (wal_folder / name).read_bytes()[:used]
        elif (wal_folder / name).exists():
            assert stored == (wal_folder / name).read_bytes()
            compared += 1
    assert compared


def test_segment_names_are_postgresqls_own(backups: Backups) -> None:
    for lsn in (0x1000028, 0xFFFFFFFF, 0x1_00000028, 0x7A_FE123456):
        [(name,)] = backups.server.run(f"select pg_walfile_name('{format_lsn(lsn)}')")
        assert segment_name(1, lsn) == name


def test_each_tick_reaches_what_was_committed_before_it(backups: Backups) -> None:
    backups.tick()
    for _ in range(3):
        [(committed,)] = backups.server.run(
            "insert into t values (0)", "select pg_current_wal_lsn() - '0/0'"
        )
        assert backups.tick().end_lsn >= int(committed)
    assert len(backups.keys("wal/")) == 1 + backups.tick().segments


@pytest.mark.parametrize("failing_call", [1, 2])
def test_the_slot_is_never_ahead_of_what_is_durable(backups: Backups, failing_call: int) -> None:
    backups.tick()
    before = backups.kept_from()
    write_wal(backups.server, 20)
    broken = FailingObjectStore(backups.store, Unavailable("no", hint="wait"), fail_at=failing_call)
    with pytest.raises(Unavailable):
        backups.tick(broken)
    if failing_call == 1:
        assert backups.kept_from() == before
    write_wal(backups.server, 20)
    assert backups.tick().findings == ()
    backups.take()
    backups.tick()
    assert len(backups.catalogue.inventory().windows) == 1
    assert_no_gap(backups)


def assert_no_gap(backups: Backups) -> None:
    segments = backups.catalogue.inventory().wal.segments
    for one, next_one in zip(segments, segments[1:], strict=False):
        assert one.end_lsn == next_one.start_lsn


def test_a_lost_index_is_found_again_in_the_store(backups: Backups) -> None:
    backups.take()
    backups.tick()
    backups.catalogue = StoredCatalogue(backups.store, "db", index=InMemoryState())
    write_wal(backups.server, 20)
    assert backups.tick().findings == ()
    assert_no_gap(backups)


def test_two_workers_at_once_do_not_mix_their_streams(backups: Backups) -> None:
    backups.tick()
    write_wal(backups.server, 60)
    outcomes: list[str] = []

    def run() -> None:
        try:
            backups.tick()
            outcomes.append("done")
        except Unavailable as error:
            outcomes.append(error.instance_code)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "done" in outcomes
    assert set(outcomes) <= {"done", "slot-in-use"}
    assert backups.tick().findings == ()
    assert_no_gap(backups)


def test_a_lost_slot_is_a_gap_and_a_new_full_backup_repairs_it(backups: Backups) -> None:
    backups.take()
    backups.tick()
    backups.server.run(
        "alter system set max_slot_wal_keep_size = '1MB'",
        "alter system set wal_keep_size = 0",
        "alter system set min_wal_size = '32MB'",
        "alter system set max_wal_size = '32MB'",
        "select pg_reload_conf()",
    )
    write_wal(backups.server, 80)
    backups.server.run("checkpoint")
    tick = backups.tick()
    assert codes(tick) == ["slot-lost"]
    assert tick.gap
    backups.server.run("alter system reset max_slot_wal_keep_size", "select pg_reload_conf()")
    point = backups.repair()
    assert backups.tick().findings == ()
    newest = backups.catalogue.inventory().windows[-1]
    assert newest.start_lsn == point.end_lsn


def test_a_server_that_writes_faster_than_its_wal_is_stored_is_told(backups: Backups) -> None:
    """Its disk fills meanwhile, and a slot with a limit would be lost next."""
    backups.take()
    assert not backups.tick().behind
    backups.server.run(
        "alter system set wal_keep_size = 0",
        "alter system set min_wal_size = '32MB'",
        "alter system set max_wal_size = '32MB'",
        "select pg_reload_conf()",
    )
    slow = StoreBesideWrites(backups.store, lambda: write_wal(backups.server, 80))
    assert backups.tick(slow).behind
    assert not backups.tick().behind


def test_the_page_s_limit_is_one_and_what_it_tells_takes_the_slot_away(backups: Backups) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operator-role.md").read_text()
    _, slot_part = page.split("## The slot")
    limit, removal = re.findall(r"```sql\n(.*?)```", slot_part, re.DOTALL)
    assert backups.tick().safe_bytes is None
    backups.server.run(*(line for line in limit.splitlines()))
    assert wait_for(lambda: backups.tick().safe_bytes, "the server reads its configuration again")
    backups.server.run(removal.replace("leeward_nexus_db", slot_name("db")))
    assert backups.server.run("select count(*) from pg_replication_slots") == [(0,)]


def test_wal_missing_at_the_source_is_a_gap(backups: Backups) -> None:
    backups.take()
    backups.tick()
    write_wal(backups.server, 40)
    [(name,)] = backups.server.run("select pg_walfile_name(pg_current_wal_lsn())")
    backups.tick()
    backups.server.run("select pg_switch_wal()")
    write_wal(backups.server, 40)
    (backups.server.data / "pg_wal" / name).unlink()
    tick = backups.tick()
    assert codes(tick) == ["wal-gap"]
    backups.repair()
    assert backups.tick().findings == ()
    assert len(backups.catalogue.inventory().windows) == 2


def test_a_slot_that_was_dropped_is_made_again_without_a_gap(backups: Backups) -> None:
    backups.take()
    backups.tick()
    backups.server.run(f"select pg_drop_replication_slot('{slot_name('db')}')")
    tick = backups.tick()
    assert codes(tick) == ["slot-missing"]
    assert not tick.gap
    assert_no_gap(backups)


def test_a_promotion_is_followed_onto_the_new_timeline(backups: Backups) -> None:
    backups.take()
    backups.tick()
    backups.server.stop()
    (backups.server.data / "standby.signal").touch()
    backups.server.start()
    backups.server.run("select pg_promote()")
    write_wal(backups.server, 20)
    tick = backups.tick()
    assert codes(tick) == ["timeline-switch"]
    assert tick.timeline == 2
    assert "wal/00000002.history" in backups.store.objects
    windows = {window.timeline: window for window in backups.catalogue.inventory().windows}
    assert windows[2].end_lsn == tick.end_lsn
    assert windows[2].start_lsn == windows[1].start_lsn
    assert backups.tick().findings == ()


def test_another_cluster_behind_the_address_overwrites_nothing(backups: Backups) -> None:
    backups.take()
    backups.tick()
    before = dict(backups.store.objects)
    with fresh_cluster() as other:
        other.run(ROLE)
        backups.server, mine = other, backups.server
        assert codes(backups.tick()) == ["other-system"]
        for act in (backups.take, backups.repair):
            with pytest.raises(Refused) as caught:
                act()
            assert caught.value.instance_code == "other-system"
        backups.server = mine
    assert backups.store.objects == before


def test_a_server_that_was_set_back_overwrites_nothing(backups: Backups, tmp_path: Path) -> None:
    """A snapshot of its disk brought back: what it writes from now on has the old names."""
    data, snapshot = backups.server.data, tmp_path / "snapshot"
    backups.take()
    backups.tick()
    backups.server.stop()
    shutil.copytree(data, snapshot)
    backups.server.start()
    write_wal(backups.server, 3)
    backups.tick()
    backups.server.stop()
    owner = _owner(data)
    shutil.rmtree(data)
    shutil.copytree(snapshot, data)
    for path in (data, *data.rglob("*")):
        os.chown(path, *owner)
    backups.server.start()
    before = dict(backups.store.objects)
    tick = backups.tick()
    assert codes(tick) == ["other-history"]
    assert tick.gap
    for act in (backups.take, backups.repair):
        with pytest.raises(Refused) as caught:
            act()
        assert caught.value.instance_code == "other-history"
    assert backups.store.objects == before


def test_the_relation_map_names_dropped_tables_and_is_stored_when_it_changes(
    backups: Backups,
) -> None:
    backups.tick()
    backups.tick()
    assert len(backups.keys("relations/")) == 1
    [(number,)] = backups.server.run(
        "create table soon_gone as select 1 as x", "select pg_relation_filenode('soon_gone')"
    )
    backups.tick()
    # A database whose DROP was interrupted is no reason to look at none.
    backups.server.run(
        "drop table soon_gone",
        "create database half_dropped",
        "update pg_database set datconnlimit = -2 where datname = 'half_dropped'",
    )
    assert codes(backups.tick()) == []
    newest_but_one = backups.keys("relations/")[-2]
    assert (
        f'"{number}":{{"kind":"r","name":"public.soon_gone"'.encode()
        in (backups.store.objects[newest_but_one])
    )


def test_a_backup_that_broke_off_leaves_no_point_and_no_objects(backups: Backups) -> None:
    broken = FailingObjectStore(backups.store, Unavailable("no", hint="wait"), fail_at=2)
    with backups.source() as source, pytest.raises(Unavailable):
        take_backup(source, broken, backups.catalogue, component="db", kind="full", clock=CLOCK)
    assert backups.keys("points/") == []
    assert backups.take().kind == "full"


def test_a_schedule_that_is_delivered_twice_in_one_second_makes_two_points(
    backups: Backups,
) -> None:
    at = CLOCK.now()

    def take(store: Any) -> DatabasePoint:
        clock = ManualClock(at)
        with backups.source() as source:
            return take_backup(
                source, store, backups.catalogue, component="db", kind="full", clock=clock
            )

    second: list[DatabasePoint] = []
    first = take(StoreBesideBackup(backups.store, lambda: second.append(take(backups.store))))
    assert first.id != second[0].id
    assert {it.point.id for it in backups.catalogue.holdings().standings} == {
        first.id,
        second[0].id,
    }
    for stored in (*first.objects, *second[0].objects):
        assert hashlib.sha256(backups.store.get(stored.key)).hexdigest() == stored.sha256
    assert not [key for key in backups.keys("points/") if key.endswith("begun.json")]


REFUSALS = {
    "no-replication-right": ("alter role backup noreplication", {}),
    "wrong-password": ("", {"password": "another"}),
    "no-wal-sender": ("", {"max_wal_senders": "0"}),
    "wal-level-too-low": ("", {"wal_level": "minimal", "max_wal_senders": "0"}),
    "no-free-slot": ("", {"max_replication_slots": "0"}),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_each_missing_right_or_setting_has_its_own_error(code: str) -> None:
    statement, changed = REFUSALS[code]
    login = {key: value for key, value in changed.items() if key == "password"}
    settings = {key: value for key, value in changed.items() if key != "password"}
    if "wal_level" in settings:
        settings["summarize_wal"] = "off"
    with running_server(**settings) as server:
        server.run(ROLE, *([statement] if statement else []))
        source = Backups(server).source(**login)
        with closing(source), pytest.raises(NotReady) as caught:
            source.check_ready(slots_needed=1)
    assert caught.value.instance_code == code
    assert caught.value.hint
    assert "only-backup" not in str(caught.value.to_json())


def test_a_server_that_is_not_running_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        source = PostgresSource(f"host=127.0.0.1 port={port} user=u password=hidden-word")
        for act in (source.check_ready, source.facts):
            with pytest.raises(Unavailable) as caught:
                act()
            assert caught.value.instance_code == "no-connection"
            assert "hidden-word" not in str(caught.value.to_json())


@pytest.mark.parametrize("after_bytes", [0, 100_000])
def test_a_server_that_falls_silent_ends_the_wait(
    backups: Backups, after_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.adapters.postgres.protocol.SILENCE_SECONDS", 1.0)
    monkeypatch.setattr("chalicelib.adapters.postgres.protocol.CONNECT_SECONDS", 2)
    with stalling_proxy(backups.server.port, after_bytes=after_bytes) as port:
        source = PostgresSource(
            f"host=127.0.0.1 port={port} user=backup password=only-backup dbname=postgres"
        )
        monkeypatch.setattr(source, "check_ready", lambda: None)
        with pytest.raises(Unavailable):
            take_backup(
                source, backups.store, backups.catalogue, component="db", kind="full", clock=CLOCK
            )
        source.close()
    assert backups.keys("points/") == []


def test_every_error_is_one_of_ours(backups: Backups) -> None:
    source = backups.source()
    backups.server.stop()
    with pytest.raises(LeewardError), closing(source):
        source.facts()


def test_tablespaces_are_archives_of_their_own(backups: Backups, tmp_path: Path) -> None:
    place = backups.server.folder / "fast"
    place.mkdir()
    shutil.chown(place, *_owner(backups.server.data))
    backups.server.run(
        f"create tablespace fast location '{place}'",
        "create table in_fast tablespace fast as select generate_series(1, 100) as id",
    )
    point = backups.take()
    [(oid,)] = backups.server.run("select oid from pg_tablespace where spcname = 'fast'")
    assert f"points/{point.id}/{oid}.tar.zst" in [item.key for item in point.objects]


def test_a_new_tablespace_asks_for_a_new_backup(backups: Backups) -> None:
    backups.take()
    assert backups.tick().findings == ()
    place = backups.server.folder / "later"
    place.mkdir()
    shutil.chown(place, *_owner(backups.server.data))
    backups.server.run(f"create tablespace later location '{place}'")
    tick = backups.tick()
    assert codes(tick) == ["tablespace-created"]
    assert tick.gap
    backups.repair()
    assert backups.tick().findings == ()


def _owner(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_uid, facts.st_gid
