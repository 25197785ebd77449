"""Folders taken into a store and brought back: real files, odd names, what cannot be read."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.folder.tree import FolderTree
from chalicelib.backup.take_files import take_files
from chalicelib.errors import CheckFailed, LeewardError, NotReady, Unavailable
from chalicelib.plan.components import Files
from chalicelib.plan.files import Selection
from chalicelib.plan.records import RecoveryPoint
from chalicelib.ports import Holdings
from chalicelib.ports.sources import TreeNode
from chalicelib.recover.folder.restore import verify_files
from chalicelib.recover.folder.stream import FilesStream
from chalicelib.services.jobs.taking import take_point
from tests.fakes import FailingObjectStore, InMemoryObjectStore
from tests.shelves import BIG, CLOCK, Shelf, fill, killed, snapshot, take_meddled
from tests.shelves import shelf as shelf


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


def test_sockets_and_fifos_are_left_out_and_counted(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(shelf.source / "pipe")
    monkeypatch.chdir(shelf.source)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
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


def test_a_link_is_enough_where_what_it_leads_to_is_taken_besides(tmp_path: Path) -> None:
    (tmp_path / "releases/2").mkdir(parents=True)
    (tmp_path / "releases/2/app").write_text("x")
    (tmp_path / "current").symlink_to("releases/2")
    component = Files(kind="files", paths=(f"{tmp_path}/current", f"{tmp_path}/releases"))
    store = InMemoryObjectStore()
    point = take_point(
        "code", component, store, StoredCatalogue(store, "code"), clock=CLOCK, secret=lambda _: {}
    )
    listed = FilesStream(store, point)
    assert [member.entry.path for member in listed][1:] == [
        "current", "releases", "releases/2", "releases/2/app",
    ]  # fmt: skip


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
