"""A restore of files that is thrown away: every file written, and read again from the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from chalicelib.errors import Damaged
from chalicelib.plan.files import ENCODING, FileEntry
from chalicelib.plan.records import CheckResult, RecoveryPoint
from chalicelib.ports import Clock, ObjectStore
from chalicelib.recover.folder.restore import require_space
from chalicelib.recover.folder.safe import SafeFolder
from chalicelib.recover.folder.stream import FilesStream

NAMED = 3


def rehearse_files(
    store: ObjectStore, point: RecoveryPoint, folder: Path, *, clock: Clock
) -> tuple[CheckResult, ...]:
    """Restore a point of files into an empty folder, and compare what lies there with its list.

    Owners are left: who restores a rehearsal gives nothing away.

    Raises NotReady (code "no-disk-space", "names-alike", "name-refused"), Unavailable: neither
    says anything about the point.
    """
    require_space(folder, point)
    started_at = clock.now()
    stream = FilesStream(store, point)
    try:
        with SafeFolder(folder, owners=False) as target:
            entries = list(_placed(stream, target))
    except Damaged as error:
        seconds = (clock.now() - started_at).total_seconds()
        return (CheckResult("files-restored", False, error.message, seconds),)
    found = f"{stream.entries} entries, {stream.bytes} bytes"
    seconds = (clock.now() - started_at).total_seconds()
    return CheckResult("files-restored", True, found, seconds), _compare(entries, folder, clock)


def _placed(stream: FilesStream, target: SafeFolder) -> Iterator[FileEntry]:
    for member in stream:
        target.add(member.entry, member.content)
        yield member.entry


def _compare(entries: list[FileEntry], folder: Path, clock: Clock) -> CheckResult:
    """Of a path that was taken twice the last member is what lies there."""
    started_at = clock.now()
    _open_up(entries, folder)
    files = {entry.path: entry for entry in entries if entry.type == "file"}
    wrong = [path for path, entry in files.items() if not _is_there(folder, entry)]
    told = f"{len(files)} files read from the disk"
    if wrong:
        told += f"; {len(wrong)} differ: {', '.join(repr(path) for path in wrong[:NAMED])}"
    seconds = (clock.now() - started_at).total_seconds()
    return CheckResult("files-as-listed", not wrong and bool(files), told, seconds)


def _open_up(entries: list[FileEntry], folder: Path) -> None:
    """What was restored with modes that keep its owner out must be read, and removed, all the
    same; folders stand before what is in them."""
    for entry in entries:
        if entry.type == "folder" and entry.mode & 0o700 != 0o700:
            os.chmod(_path_of(folder, entry), entry.mode | 0o700)
        if entry.type == "file" and not entry.mode & 0o400 and entry.state != "superseded":
            os.chmod(_path_of(folder, entry), 0o600)


def _is_there(folder: Path, entry: FileEntry) -> bool:
    try:
        with open(_path_of(folder, entry), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
    except OSError:
        return False


def _path_of(folder: Path, entry: FileEntry) -> bytes:
    return os.path.join(os.fsencode(folder), entry.path.encode(*ENCODING))
