"""A folder with everything that a folder can hold, and the store that its points go to."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.tree import FolderTree
from chalicelib.backup.take_files import take_files
from chalicelib.plan.files import Selection
from chalicelib.plan.records import RecoveryPoint
from chalicelib.ports.sources import OpenFile, TreeNode
from chalicelib.recover.folder.restore import restore_files
from tests.fakes import InMemoryObjectStore

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


def killed(act: Callable[[], object]) -> None:
    """`act` in a process of its own, which it must not survive."""
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


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
