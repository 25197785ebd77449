"""What is told to be on the disk was written out of the drive's own memory, where macOS has one."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.errors import NotReady
from chalicelib.recover.on_disk import named_when_whole, sync_folder, syncing

F_FULLFSYNC = 51
"""Source: macOS, <sys/fcntl.h>."""


class Drive:
    """As macOS sees one: what was synced, and flushes. `fails`: what it answers a flush with."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.fails = 0
        self._sync, self._rename = os.fsync, os.rename
        patch.setattr(os, "fsync", self.sync)
        patch.setattr(os, "rename", self.rename)
        patch.setattr(fcntl, "F_FULLFSYNC", F_FULLFSYNC, raising=False)
        patch.setattr(fcntl, "fcntl", self.flush)

    def sync(self, handle: int) -> None:
        self._sync(handle)
        self.done.append("sync")

    def rename(self, old: Path, new: Path) -> None:
        self._rename(old, new)
        self.done.append("name")

    def flush(self, handle: int, command: int) -> int:
        os.fstat(handle)
        assert command == F_FULLFSYNC
        if self.fails:
            raise OSError(self.fails, os.strerror(self.fails))
        self.done.append("flush")
        return 0


@pytest.fixture
def drive() -> Iterator[Drive]:
    with pytest.MonkeyPatch.context() as patch:
        yield Drive(patch)


def restore(folder: Path) -> None:
    with named_when_whole(folder) as made:
        for name in "abc":
            (made / name).write_text(name)
        sync_folder(made)


def test_the_drive_is_flushed_before_and_after_a_name_is_given(
    drive: Drive, tmp_path: Path
) -> None:
    restore(tmp_path / "restored")
    assert drive.done == ["sync"] * 4 + ["flush", "name", "sync", "flush"]


def test_an_object_is_flushed_with_its_name(drive: Drive, tmp_path: Path) -> None:
    store = FolderObjectStore(tmp_path)
    store.put("first", b"makes the folder")
    drive.done.clear()
    store.put("key", b"content")
    assert drive.done == ["sync", "flush"] * 2


def test_a_drive_that_fails_is_heard(drive: Drive, tmp_path: Path) -> None:
    drive.fails = errno.EIO
    with pytest.raises(NotReady) as caught:
        restore(tmp_path / "restored")
    assert caught.value.instance_code == "not-on-disk"
    assert not (tmp_path / "restored").exists()


def test_a_file_system_that_knows_no_drive_was_synced(drive: Drive, tmp_path: Path) -> None:
    drive.fails = errno.ENOTSUP
    restore(tmp_path / "restored")
    assert (tmp_path / "restored" / "a").read_text() == "a"


def test_elsewhere_no_drive_is_asked(drive: Drive, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(fcntl, "F_FULLFSYNC")
        with syncing(tmp_path) as handles:
            handles.close(os.open(tmp_path, os.O_RDONLY))
    assert drive.done == ["sync"]
