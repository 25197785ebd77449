"""Unpacked zips of functions, one folder per content, shared by the clouds of a machine.

The 6,000 files of a package take 1.5 s of processor time to unpack and half a second to remove; a
day of tests starts hundreds of clouds with the same. What lies here is read and never written, as a
function's code in AWS: a folder in which a file was added, removed or written to is made anew.

    code-<digest>        the files, each with the time EPOCH_SECONDS
    code-<digest>.json   how many files of how many bytes; flock: shared by who uses the folder,
                         exclusive for who makes or removes it
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

EPOCH_SECONDS = 946_684_800
KEPT_FOLDERS = 4
UNPACK = f"""
import os, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as archive:
    archive.extractall(sys.argv[2])
for parent, _, names in os.walk(sys.argv[2]):
    for name in names:
        os.utime(os.path.join(parent, name), ({EPOCH_SECONDS}, {EPOCH_SECONDS}))
"""

Unpack = Callable[[Path], None]


class Held:
    """A folder of code that nobody changes until `release`, or until this process has ended."""

    def __init__(self, folder: Path, lock: IO[str]) -> None:
        self.folder = folder
        self._lock = lock

    def release(self) -> None:
        self._lock.close()


def hold(cache: Path, digest: str, unpack: Unpack) -> Held | None:
    """The folder of this content, made with `unpack` where there is none that is whole.

    None when somebody uses one that is not whole: it cannot be made anew beneath them.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"code-{digest}"
    lock = folder.with_suffix(".json").open("a+")
    fcntl.flock(lock, fcntl.LOCK_SH)
    if not _is_whole(folder, lock) and not _make(folder, lock, unpack):
        lock.close()
        return None
    os.utime(lock.fileno())
    return Held(folder, lock)


def remove_old(cache: Path) -> None:
    """Of the folders that nobody uses, all but the newest."""
    found = sorted(cache.glob("code-*.json"), key=lambda it: it.stat().st_mtime, reverse=True)
    for path in found[KEPT_FOLDERS:]:
        with path.open("a+") as lock:
            if path.with_suffix("").exists() and _locked_alone(lock):
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)


def _make(folder: Path, lock: IO[str], unpack: Unpack) -> bool:
    if not _locked_alone(lock):
        return False
    part = folder.with_suffix(".part")
    for old in (folder, part):
        shutil.rmtree(old, ignore_errors=True)
    part.mkdir()
    unpack(part)
    part.rename(folder)
    lock.truncate(0)
    lock.write(json.dumps(_measure(folder)))
    lock.flush()
    fcntl.flock(lock, fcntl.LOCK_SH)
    return _is_whole(folder, lock)


def _locked_alone(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_whole(folder: Path, lock: IO[str]) -> bool:
    lock.seek(0)
    told = lock.read()
    return bool(told) and folder.is_dir() and json.loads(told) == _measure(folder)


def _measure(folder: Path) -> list[int]:
    """[files, bytes, files that were written to]."""
    found = list(_files(str(folder)))
    changed = sum(it.st_mtime != EPOCH_SECONDS for it in found)
    return [len(found), sum(it.st_size for it in found), changed]


def _files(folder: str) -> Iterator[os.stat_result]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                yield entry.stat(follow_symlinks=False)
