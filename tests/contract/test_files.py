"""Folders taken into a store and brought back: real files, odd names, damage, hostile archives."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import socket
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.folder.tree import FolderTree
from chalicelib.backup.take_files import take_files
from chalicelib.backup.tar_header import tar_header
from chalicelib.errors import (
    BadInput,
    CheckFailed,
    Damaged,
    LeewardError,
    NotReady,
    OutsideWindow,
    Quarantined,
    Refused,
    Unavailable,
)
from chalicelib.plan.files import FileEntry, Selection, to_line
from chalicelib.plan.records import RecoveryPoint, StoredObject
from chalicelib.ports import Holdings
from chalicelib.ports.sources import OpenFile, TreeNode
from chalicelib.recover.folder.restore import restore_files, verify_files
from tests.fakes import FailingObjectStore, InMemoryObjectStore

CLOCK = SystemClock()
BIG = os.urandom(1 << 16) * 48  # 3 MiB: more than one read


class Shelf:
    """One component of files: its store, its catalogue, and the folder it is taken from."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        self.source.mkdir()
        self.store = InMemoryObjectStore()
        self.catalogue = StoredCatalogue(self.store, "uploads")

    def take(
        self, *, exclude: tuple[str, ...] = (), include: tuple[str, ...] = ()
    ) -> RecoveryPoint:
        return take_files(
            FolderTree(self.source), self.store, self.catalogue, component="uploads",
            clock=CLOCK, selection=Selection(include, exclude),
        )  # fmt: skip

    def restore(self, folder: Path, **options: object) -> object:
        return restore_files(self.store, self.catalogue, folder, clock=CLOCK, **options)  # type: ignore[arg-type]

    def listed(self, point: RecoveryPoint) -> list[dict[str, object]]:
        packed = self.store.get(f"points/{point.id}/files.jsonl.zst")
        text = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def snapshot(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything of a tree that is to be kept, by the bytes of its path."""
    seen: dict[bytes, tuple[object, ...]] = {}
    links: dict[int, bytes] = {}
    base = os.fsencode(root)
    for parent, folders, files in os.walk(base):
        folders.sort()
        for name in [b"", *sorted(folders + files)]:
            path = os.path.join(parent, name) if name else parent
            if not name and parent != base:
                continue
            facts = os.lstat(path)
            if stat.S_ISSOCK(facts.st_mode) or stat.S_ISFIFO(facts.st_mode):
                continue
            content: object = None
            if stat.S_ISLNK(facts.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(facts.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            relative = os.path.relpath(path, base)
            first = links.setdefault(facts.st_ino, relative)
            seen[relative] = (
                facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns, content, first,
            )  # fmt: skip
    return seen


def fill(root: Path) -> None:
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "sub" / "large").write_bytes(BIG)
    (root / "nothing").write_bytes(b"")
    (root / "secret.env").write_text("KEY=1\n")
    (root / "secret.env").chmod(0o600)
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o4755)
    (root / "sub" / "again").hardlink_to(root / "tool")
    (root / "link").symlink_to("sub/large")
    (root / "dangling").symlink_to("/nowhere/at/all")
    for name in (b"new\nline", b"\xff\xfe not utf-8", "naïve ☃".encode(), b"-rf", b" ", b"x" * 255):
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            file.write(name)
    deep = root
    for _ in range(30):
        deep = deep / ("d" * 20)
        deep.mkdir()
    (deep / "leaf").write_text("leaf")
    (root / "sub" / "shut").mkdir(mode=0o500)
    os.utime(root / "secret.env", ns=(1, 1_700_000_000_123_456_789))
    os.utime(root / "nothing", ns=(-5, -1_500_000_001))
    os.utime(root / "sub", ns=(0, 1_600_000_000_000_000_000))
    os.utime(root / "link", ns=(0, 1_650_000_000_000_000_007), follow_symlinks=False)
    if os.geteuid() == 0:
        os.chown(root / "secret.env", 12345, 54321)
        os.lchown(root / "link", 23456, 1)


def test_a_folder_comes_back_as_it_was(shelf: Shelf, tmp_path: Path) -> None:
    fill(shelf.source)
    before = snapshot(shelf.source)
    point = shelf.take()
    assert (point.kind, point.note) == ("archive", "")
    assert verify_files(shelf.store, point, clock=CLOCK).ok
    found = shelf.restore(tmp_path / "back")
    assert snapshot(tmp_path / "back") == before
    assert (found.entries, found.torn_files, found.before) == (len(before), 0, "")
    assert sorted(it.name for it in tmp_path.iterdir()) == ["back", "source"]


def test_every_digest_is_listed(shelf: Shelf) -> None:
    (shelf.source / "a").write_bytes(b"content")
    entry = next(it for it in shelf.listed(shelf.take()) if it.get("path") == "a")
    assert entry["sha256"] == hashlib.sha256(b"content").hexdigest()
    assert (entry["size"], entry["mode"], entry["state"]) == (7, "0644", "whole")


def test_it_works_through_a_store_on_disk(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.store = FolderObjectStore(tmp_path / "store")  # type: ignore[assignment]
    shelf.catalogue = StoredCatalogue(shelf.store, "uploads")
    fill(shelf.source)
    shelf.take()
    shelf.restore(tmp_path / "back")
    assert snapshot(tmp_path / "back") == snapshot(shelf.source)


NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda it: b"/" not in it and b"\0" not in it and it not in (b".", b"..")
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(NAMES, st.one_of(st.binary(max_size=2000), NAMES), max_size=8))
def test_any_name_and_any_content(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[bytes, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    shelf = Shelf(folder)
    for name, content in tree.items():
        path = os.path.join(os.fsencode(shelf.source), name)
        if len(content) % 3 == 1:
            os.symlink(content.replace(b"\0", b"0") or b"x", path)
        else:
            os.mkdir(path + b"d"[: len(content) % 2])
            with open(os.path.join(path + b"d"[: len(content) % 2], name), "wb") as file:
                file.write(content)
    shelf.take()
    shelf.restore(folder / "back")
    assert snapshot(folder / "back") == snapshot(shelf.source)


def test_sockets_and_fifos_are_left_out_and_counted(shelf: Shelf, tmp_path: Path) -> None:
    os.mkfifo(shelf.source / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(shelf.source, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/s")
        os.close(folder)
        point = shelf.take()
    assert "2 sockets, fifos or devices left out" in point.note
    skipped = [(it["skipped"], it["why"]) for it in shelf.listed(point) if "skipped" in it]
    assert skipped == [("pipe", "fifo"), ("s", "socket")]
    found = shelf.restore(tmp_path / "back")
    assert found.skipped == 2
    assert list((tmp_path / "back").iterdir()) == []


def test_patterns_choose(shelf: Shelf, tmp_path: Path) -> None:
    for name in ("a.log", "a.txt", "cache/x", "cache/y.txt", "deep/er/b.txt", "deep/er/c.bin"):
        path = shelf.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    shelf.take(include=("**/*.txt", "deep/er/c.bin"), exclude=("cache",))
    shelf.restore(tmp_path / "back")
    kept = sorted(str(it.relative_to(tmp_path / "back")) for it in (tmp_path / "back").rglob("*"))
    assert kept == ["a.txt", "deep", "deep/er", "deep/er/b.txt", "deep/er/c.bin"]


class Meddling(FolderTree):
    """A real folder in which `act` happens each time after a file's first piece was read."""

    def __init__(self, root: Path, act: object) -> None:
        super().__init__(root)
        self.act = act

    @contextmanager
    def open(self, node: TreeNode) -> Iterator[OpenFile]:  # type: ignore[override]
        with super().open(node) as file:
            yield _Meddled(file, self.act)


class _Meddled:
    def __init__(self, inner: OpenFile, act: object) -> None:
        self.inner, self.act = inner, act
        self.facts, self.rewind = inner.facts, inner.rewind

    def read(self, size: int) -> bytes:
        data = self.inner.read(size)
        self.act()  # type: ignore[operator]
        return data


def take_meddled(shelf: Shelf, act: object) -> RecoveryPoint:
    return take_files(
        Meddling(shelf.source, act), shelf.store, shelf.catalogue, component="uploads", clock=CLOCK
    )


@pytest.mark.parametrize("size", [4096, len(BIG)])
def test_a_file_that_never_holds_still_is_named(shelf: Shelf, tmp_path: Path, size: int) -> None:
    path = shelf.source / "busy"
    path.write_bytes(BIG[:size])

    def scribble() -> None:
        with path.open("r+b") as file:
            file.write(os.urandom(16))

    point = take_meddled(shelf, scribble)
    assert "1 files changed while they were read: 'busy'" in point.note
    found = shelf.restore(tmp_path / "back")
    assert (found.torn_files, found.torn) == (1, ("busy",))
    assert (tmp_path / "back" / "busy").stat().st_size == size
    assert "1 changed" in verify_files(shelf.store, point, clock=CLOCK).found


@pytest.mark.parametrize("size", [4096, len(BIG)])
def test_a_file_that_holds_still_at_the_second_look_is_whole(
    shelf: Shelf, tmp_path: Path, size: int
) -> None:
    path = shelf.source / "busy"
    path.write_bytes(BIG[:size])
    left = [b"once"]

    def scribble() -> None:
        if left:
            with path.open("r+b") as file:
                file.write(left.pop())

    assert take_meddled(shelf, scribble).note == ""
    shelf.restore(tmp_path / "back")
    assert (tmp_path / "back" / "busy").read_bytes() == b"once" + BIG[4:size]


@pytest.mark.parametrize("size", [4096, len(BIG)])
def test_a_log_that_grows_is_kept_as_it_was(shelf: Shelf, tmp_path: Path, size: int) -> None:
    path = shelf.source / "app.log"
    path.write_bytes(BIG[:size])

    def append() -> None:
        with path.open("ab") as file:
            file.write(b"more\n")

    point = take_meddled(shelf, append)
    assert point.note == ""
    assert [it["state"] for it in shelf.listed(point) if it.get("path") == "app.log"] == ["grew"]
    shelf.restore(tmp_path / "back")
    assert (tmp_path / "back" / "app.log").read_bytes() == BIG[:size]


@pytest.mark.parametrize("size", [4096, len(BIG)])
def test_a_file_that_grows_and_is_written_over_is_torn(shelf: Shelf, size: int) -> None:
    path = shelf.source / "busy"
    path.write_bytes(BIG[:size])

    def rewrite() -> None:
        with path.open("r+b") as file:
            file.write(os.urandom(16))
            file.seek(0, os.SEEK_END)
            file.write(b"more")

    assert "'busy'" in take_meddled(shelf, rewrite).note


@pytest.mark.parametrize("size", [4096, len(BIG)])
def test_a_file_that_shrinks_is_torn_and_the_rest_is_whole(
    shelf: Shelf, tmp_path: Path, size: int
) -> None:
    (shelf.source / "a").write_bytes(BIG[:size])
    (shelf.source / "b").write_bytes(b"after")
    sizes = iter([size // 2, size // 3, size // 4, *range(100, 0, -1)])

    def shrink() -> None:
        os.truncate(shelf.source / "a", next(sizes))

    point = take_meddled(shelf, shrink)
    assert "'a'" in point.note
    shelf.restore(tmp_path / "back")
    assert "'b'" in point.note or (tmp_path / "back" / "b").read_bytes() == b"after"


def test_a_file_removed_meanwhile_is_counted(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.source / "a").write_text("a")
    (shelf.source / "b").write_text("b")
    point = take_meddled(shelf, lambda: (shelf.source / "b").unlink(missing_ok=True))
    assert point.note in ("", "1 files were removed meanwhile")
    shelf.restore(tmp_path / "back")
    assert [it.name for it in (tmp_path / "back").iterdir()] == ["a"]


class Forbidding(FolderTree):
    """Root reads everything: refuse what a lesser account could not."""

    def open(self, node: TreeNode):  # type: ignore[no-untyped-def]
        if node.path.startswith("no"):
            raise NotReady("no", code="file-unreadable", hint="Ask.", why="permission denied")
        return super().open(node)


def test_what_cannot_be_read_is_named_and_there_is_no_point(shelf: Shelf) -> None:
    for name in ("no1", "yes", "no2"):
        (shelf.source / name).write_text(name)

    def take(selection: Selection) -> RecoveryPoint:
        return take_files(
            Forbidding(shelf.source), shelf.store, shelf.catalogue, component="uploads",
            clock=CLOCK, selection=selection,
        )  # fmt: skip

    with pytest.raises(CheckFailed) as caught:
        take(Selection())
    assert caught.value.instance_code == "files-unreadable"
    assert "could not read 2" in caught.value.message
    assert "no1" in caught.value.message
    assert "no2" in caught.value.message
    assert shelf.store.objects == {}
    assert take(Selection(exclude=("no1", "no2"))).note == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_lesser_account_names_what_it_may_not_read(shelf: Shelf) -> None:
    shelf.source.parent.chmod(0o755)
    (shelf.source / "shut").mkdir(mode=0o700)
    (shelf.source / "mine").write_text("x")
    (shelf.source / "mine").chmod(0o600)
    found = in_another_account(shelf)
    assert found == "files-unreadable 'mine' (permission denied), 'shut' (permission denied)"


def in_another_account(shelf: Shelf) -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        for parent in shelf.source.parents:
            if parent.stat().st_mode & 0o005 != 0o005:
                parent.chmod(parent.stat().st_mode | 0o055)
        os.setgid(65534)
        os.setuid(65534)
        said = ""
        try:
            shelf.take()
        except LeewardError as error:
            said = f"{error.instance_code} {error.message.partition(': ')[2]}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as file:
        return file.read()


def test_a_folder_that_is_none(shelf: Shelf, tmp_path: Path) -> None:
    shelf.source.rmdir()
    with pytest.raises(NotReady) as caught:
        shelf.take()
    assert caught.value.instance_code == "no-folder"
    assert shelf.store.objects == {}


@pytest.mark.parametrize("fail_at", range(1, 6))
def test_a_store_that_fails_leaves_no_point(shelf: Shelf, fail_at: int) -> None:
    (shelf.source / "a").write_text("a")
    failing = FailingObjectStore(shelf.store, Unavailable("gone", hint="Wait."), fail_at=fail_at)
    try:
        take_files(
            FolderTree(shelf.source), failing, StoredCatalogue(failing, "uploads"),
            component="uploads", clock=CLOCK,
        )  # fmt: skip
    except Unavailable:
        assert shelf.catalogue.holdings().standings == ()
    else:
        assert len(shelf.catalogue.holdings().standings) == 1


def killed(act: Callable[[], object]) -> None:
    """`act` in a process of its own, which it must not survive."""
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_a_worker_that_is_killed_leaves_no_point_and_no_folder(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    (tmp_path / "store").mkdir()
    shelf.store = FolderObjectStore(tmp_path / "store")  # type: ignore[assignment]
    shelf.catalogue = StoredCatalogue(shelf.store, "uploads")
    for number in range(5):
        (shelf.source / f"{number}").write_bytes(BIG)

    def end() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    killed(lambda: take_meddled(shelf, end))
    assert shelf.catalogue.holdings() == Holdings((), ())
    shelf.take()
    killed(lambda: shelf.restore(tmp_path / "back", progress=lambda size: size and end()))
    assert not (tmp_path / "back").exists()
    shelf.restore(tmp_path / "back")
    assert snapshot(tmp_path / "back") == snapshot(shelf.source)


def damage(shelf: Shelf, key: str, how: str) -> None:
    data = shelf.store.objects[key]
    middle = len(data) // 2
    flipped = bytes([data[middle] ^ 1])
    shelf.store.objects[key] = {
        "flipped": data[:middle] + flipped + data[middle + 1 :],
        "last": data[:-1] + bytes([data[-1] ^ 1]),
        "short": data[:middle],
        "empty": b"",
        "longer": data + b"more",
    }[how]


@pytest.mark.parametrize("name", ["files.tar.zst", "files.jsonl.zst"])
@pytest.mark.parametrize("how", ["flipped", "last", "short", "empty", "longer"])
def test_damage_is_found_and_nothing_is_left(
    shelf: Shelf, tmp_path: Path, name: str, how: str
) -> None:
    fill(shelf.source)
    point = shelf.take()
    damage(shelf, f"points/{point.id}/{name}", how)
    check = verify_files(shelf.store, point, clock=CLOCK)
    assert not check.ok
    assert name in check.found or "sha-256" in check.found
    with pytest.raises(Damaged):
        shelf.restore(tmp_path / "back")
    assert [it.name for it in tmp_path.iterdir()] == ["source"]
    with pytest.raises(Quarantined):
        shelf.restore(tmp_path / "back")


def test_a_missing_object_is_no_point(shelf: Shelf, tmp_path: Path) -> None:
    point = shelf.take()
    shelf.store.delete(f"points/{point.id}/files.jsonl.zst")
    with pytest.raises(OutsideWindow):
        shelf.restore(tmp_path / "back")
    with pytest.raises(Damaged, match="files.jsonl.zst"):
        shelf.restore(tmp_path / "back", point_id=point.id)


def test_the_older_point_is_taken_when_the_newer_is_damaged(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.source / "a").write_text("older")
    older = shelf.take()
    (shelf.source / "a").write_text("newer")
    newer = shelf.take()
    damage(shelf, f"points/{newer.id}/files.tar.zst", "flipped")
    found = shelf.restore(tmp_path / "back")
    assert (found.point_id, found.damaged) == (older.id, (newer.id,))
    assert (tmp_path / "back" / "a").read_text() == "older"


def test_a_named_point_and_one_of_before(shelf: Shelf, tmp_path: Path) -> None:
    (shelf.source / "a").write_text("older")
    older = shelf.take()
    (shelf.source / "a").write_text("newer")
    shelf.take()
    shelf.restore(tmp_path / "named", point_id=older.id)
    shelf.restore(tmp_path / "before", before=older.finished_at)
    assert (tmp_path / "named" / "a").read_text() == "older"
    assert (tmp_path / "before" / "a").read_text() == "older"
    with pytest.raises(BadInput, match="unknown"):
        shelf.restore(tmp_path / "x", point_id="unknown")
    with pytest.raises(OutsideWindow):
        shelf.restore(tmp_path / "x", before=older.taken_at.replace(year=2001))


def test_a_folder_that_holds_something_is_refused_or_moved_aside(
    shelf: Shelf, tmp_path: Path
) -> None:
    (shelf.source / "a").write_text("a")
    shelf.take()
    target = tmp_path / "back"
    target.mkdir()
    shelf.restore(target)
    (target / "mine").write_text("mine")
    with pytest.raises(Refused) as caught:
        shelf.restore(target)
    assert caught.value.instance_code == "folder-not-empty"
    found = shelf.restore(target, replace=True)
    assert [it.name for it in target.iterdir()] == ["a"]
    assert sorted(it.name for it in Path(found.before).iterdir()) == ["a", "mine"]


def test_a_mount_point_is_refused(shelf: Shelf) -> None:
    shelf.take()
    with pytest.raises(Refused) as caught:
        shelf.restore(Path("/proc"), replace=True)
    assert caught.value.instance_code == "folder-is-mount"


def test_a_disk_without_room(shelf: Shelf, tmp_path: Path) -> None:
    point = shelf.take()
    huge = replace(point, id="20261122T084500Z-archive", source_bytes=1 << 60)
    shelf.store.delete(f"points/{point.id}/manifest.json")
    shelf.catalogue.add(huge)
    with pytest.raises(NotReady) as caught:
        shelf.restore(tmp_path / "back")
    assert caught.value.instance_code == "no-disk-space"
    assert not (tmp_path / "back").exists()


def hostile(shelf: Shelf, *members: tuple[FileEntry, bytes]) -> None:
    """A point whose archive, list and manifest agree with each other, made by an attacker."""
    archive = b"".join(
        tar_header(entry) + content + bytes(-len(content) % 512) for entry, content in members
    )
    size = sum(len(content) for _, content in members)
    lines = [to_line({"format": "leeward-files-1"}), *(entry.to_line() for entry, _ in members)]
    totals = {"entries": len(members), "bytes": size, "skipped": 0}
    listing = b"".join([*lines, to_line({"totals": totals})])
    stored: list[StoredObject] = []
    for name, data in (("files.tar.zst", archive + bytes(10240)), ("files.jsonl.zst", listing)):
        packed = zstandard.ZstdCompressor().compress(data)
        stored.append(shelf.store.put(f"points/evil/{name}", packed))
    now = CLOCK.now()
    shelf.catalogue.add(
        RecoveryPoint(
            id="evil", component="uploads", kind="archive", taken_at=now, finished_at=now,
            objects=tuple(stored), source_bytes=size, encryption="none",
        )
    )  # fmt: skip


def entry(path: str, kind: str, content: bytes = b"", target: str = "") -> tuple[FileEntry, bytes]:
    digest = hashlib.sha256(content).hexdigest() if kind == "file" else ""
    made = FileEntry(
        path,
        kind,
        0o777,
        0,
        0,
        0,
        size_bytes=len(content),
        sha256=digest,
        target=target,  # type: ignore[arg-type]
    )
    return made, content


ROOT = entry(".", "folder")
EVIL = b"evil"


@pytest.mark.parametrize(
    "members",
    [
        [ROOT, entry("../out", "file", EVIL)],
        [ROOT, entry("/tmp/F-out", "file", EVIL)],
        [ROOT, entry("a/../../out", "file", EVIL)],
        [ROOT, entry("a", "symlink", target=".."), entry("a/out", "file", EVIL)],
        [ROOT, entry("a", "symlink", target="/tmp"), entry("a", "file", EVIL)],
        [ROOT, entry("a", "symlink", target="../victim"), entry("b", "hardlink", target="a")],
        [ROOT, entry("b", "hardlink", target="../victim")],
        [ROOT, entry("s", "symlink", target=".."), entry("b", "hardlink", target="s/victim")],
        [ROOT, entry("a", "file", EVIL), entry("a", "file", EVIL)],
        [ROOT, entry("a", "folder"), entry("b", "file", EVIL), entry("a/c", "file", EVIL)],
        [ROOT, entry(".", "symlink", target="/tmp")],
        [entry("a", "file", EVIL)],
    ],
    ids=lambda members: " ".join(f"{it.path}>{it.target}" for it, _ in members),
)
def test_an_archive_that_would_write_elsewhere(
    shelf: Shelf, tmp_path: Path, members: list[tuple[FileEntry, bytes]]
) -> None:
    (tmp_path / "victim").write_text("untouched")
    hostile(shelf, *members)
    with pytest.raises(Damaged) as caught:
        shelf.restore(tmp_path / "back")
    assert caught.value.instance_code == "path-outside"
    assert sorted(it.name for it in tmp_path.iterdir()) == ["source", "victim"]
    assert (tmp_path / "victim").read_text() == "untouched"
    assert (tmp_path / "victim").stat().st_nlink == 1


def test_the_hostile_archive_of_these_tests_would_be_restored_if_it_were_not(
    shelf: Shelf, tmp_path: Path
) -> None:
    hostile(shelf, ROOT, entry("a", "file", EVIL), entry("b", "hardlink", target="a"))
    shelf.restore(tmp_path / "back")
    assert (tmp_path / "back" / "b").read_bytes() == EVIL


def other_archive(shelf: Shelf, point: RecoveryPoint, change: object) -> RecoveryPoint:
    """The point with its archive rewritten member by member, and a manifest that agrees."""
    key = f"points/{point.id}/files.tar.zst"
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(shelf.store.get(key))
    output = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(plain)) as old,
        tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in old:
            file = old.extractfile(member) if member.isfile() else None
            change(new, member, file.read() if file else b"")  # type: ignore[operator]
    stored = shelf.store.put(key, zstandard.ZstdCompressor().compress(output.getvalue()))
    return replace(point, objects=(stored, *point.objects[1:]))


def test_an_archive_that_is_not_what_the_list_says(shelf: Shelf) -> None:
    (shelf.source / "a").write_bytes(b"content")
    (shelf.source / "b").write_bytes(b"other")
    point = shelf.take()

    def copy(new: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        new.addfile(member, io.BytesIO(content))

    def swap(new: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        copy(new, member, b"CONTENT" if member.name == "a" else content)

    def leave_out(new: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        if member.name != "b":
            copy(new, member, content)

    def add(new: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        copy(new, member, content)
        if member.name == "b":
            copy(new, tarfile.TarInfo("extra"), b"")

    def open_up(new: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
        member.mode |= 0o4002
        copy(new, member, content)

    original = shelf.store.get(f"points/{point.id}/files.tar.zst")
    for change, named in ((swap, "'a'"), (leave_out, "'b'"), (add, "'extra'"), (open_up, "'.'")):
        shelf.store.objects[f"points/{point.id}/files.tar.zst"] = original
        check = verify_files(shelf.store, other_archive(shelf, point, change), clock=CLOCK)
        assert not check.ok
        assert named in check.found
    shelf.store.objects[f"points/{point.id}/files.tar.zst"] = original
    assert verify_files(shelf.store, other_archive(shelf, point, copy), clock=CLOCK).ok


def test_a_list_that_is_not_whole(shelf: Shelf) -> None:
    """With an archive and a manifest that agree with what is left of it."""
    (shelf.source / "a").write_bytes(b"content")
    point = shelf.take()
    key = f"points/{point.id}/files.jsonl.zst"
    packed = shelf.store.get(key)
    lines = zstandard.ZstdDecompressor().decompressobj().decompress(packed).splitlines(True)
    wrong = lines[-1].replace(b'"entries":2', b'"entries":3')
    for other in (
        lines[:-1], [*lines[:-1], wrong], lines[1:], [*lines, lines[-2]], [*lines[:-1], b"[]\n"],
        [*lines, b"{"], [lines[0], lines[0], *lines[1:]],
    ):  # fmt: skip
        stored = shelf.store.put(key, zstandard.ZstdCompressor().compress(b"".join(other)))
        forged = replace(point, objects=(point.objects[0], stored))
        assert not verify_files(shelf.store, forged, clock=CLOCK).ok
    stored = shelf.store.put(key, zstandard.ZstdCompressor().compress(b"".join(lines)))
    forged = replace(point, objects=(point.objects[0], stored))
    assert verify_files(shelf.store, forged, clock=CLOCK).ok


def test_a_real_writer_beside_the_backup(shelf: Shelf, tmp_path: Path) -> None:
    """Whatever it does: what the list calls whole has the digest that the list has for it."""
    for number in range(20):
        (shelf.source / f"f{number}").write_bytes(os.urandom(200_000))
    done = threading.Event()

    def scribble() -> None:
        number = 0
        while not done.is_set():
            number += 1
            with (shelf.source / f"f{number % 20}").open("r+b") as file:
                file.write(os.urandom(200_000))

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        point = shelf.take()
    finally:
        done.set()
        writer.join()
    shelf.restore(tmp_path / "back")
    assert verify_files(shelf.store, point, clock=CLOCK).ok
