"""Unpacked zips of functions, one folder per content, shared by the clouds of a machine.

The 6,000 files of a package take 1.5 s of processor time to unpack and half a second to remove; a
day of tests starts hundreds of clouds with the same. Packages for different plans differ in a few
of them: the libraries are a folder of their own, to which a package's links. What lies here is read
and never written, as a function's code in AWS: a folder in which a file was added, removed or
written to is made anew.

    code-<digest>        the files and links, each with the time EPOCH_SECONDS
    code-<digest>.json   how many files of how many bytes; flock: shared by who uses the folder,
                         exclusive for who makes or removes it
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

EPOCH_SECONDS = 946_684_800
KEPT_FOLDERS = 8
APPLICATION = ("chalicelib", "__pycache__")
# Unpacks a whole zip; or some of its folders; or, told where those lie, the rest and links to them.
UNPACK = f"""
import os, sys, zipfile
source, target, beside, *folders = sys.argv[1:]
with zipfile.ZipFile(source) as archive:
    archive.extractall(target, [
        name for name in archive.namelist()
        if not folders or (name.partition("/")[0] in folders) != bool(beside)
    ])
for parent, _, names in os.walk(target):
    for name in names:
        os.utime(os.path.join(parent, name), ({EPOCH_SECONDS}, {EPOCH_SECONDS}))
for folder in folders if beside else ():
    link = os.path.join(target, folder)
    os.symlink(os.path.join("..", beside, folder), link)
    os.utime(link, ({EPOCH_SECONDS}, {EPOCH_SECONDS}), follow_symlinks=False)
"""

Unpack = Callable[[Path], None]


class Held:
    """A folder of code that nobody changes until `release`, or until this process has ended."""

    def __init__(self, folder: Path, lock: IO[str]) -> None:
        self.folder = folder
        self._lock = lock

    def release(self) -> None:
        self._lock.close()


@dataclass(frozen=True)
class Libraries:
    """The folders at the top of a zip that are not the application's; `digest`: of their bytes."""

    digest: str
    folders: tuple[str, ...]


def libraries_of(code: bytes) -> Libraries:
    """Those of a package, as they are packed: equal bytes are equal files under equal names."""
    digest, folders = hashlib.sha256(), set()
    with zipfile.ZipFile(io.BytesIO(code)) as archive:
        entries = sorted(archive.infolist(), key=lambda it: it.header_offset)
        ends = [*(it.header_offset for it in entries[1:]), archive.start_dir]
    for entry, end in zip(entries, ends, strict=True):
        top, below, _ = entry.filename.partition("/")
        if below and top not in APPLICATION:
            digest.update(code[entry.header_offset : end])
            folders.add(top)
    return Libraries(digest.hexdigest()[:24], tuple(sorted(folders)))


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
