"""A folder brought back from its newest whole point: complete under its name, or not at all.

It is put together beside the target, every file compared with the digest in the list and on the
disk, and gets its name at the end. What a crash leaves is a folder `.<name>.leeward-*` beside it.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chalicelib.errors import Damaged, NotReady, Refused
from chalicelib.plan.records import CheckResult, Record, RecoveryPoint
from chalicelib.ports import Catalogue, Clock, ObjectStore
from chalicelib.recover.folder.safe import SafeFolder
from chalicelib.recover.folder.stream import FilesStream
from chalicelib.recover.on_disk import require_no_mount, sync_names, syncing
from chalicelib.recover.points import use_newest

# Names, half-filled blocks and the tables of the file system.
SPARE_BYTES = 64 << 20
NAMED = 5
Progress = Callable[[int], None]


@dataclass(frozen=True)
class RestoredFiles(Record):
    """What lies in `folder` now. `torn`: files that changed while they were backed up, the first
    few by name. `owners_kept` is False when the account may not give files away.
    `before`: where what lay there is now, "" when nothing did. `damaged`: newer points that were
    found damaged and left aside."""

    point_id: str
    taken_at: datetime
    folder: str
    entries: int
    bytes: int
    torn_files: int
    torn: tuple[str, ...]
    skipped: int
    owners_kept: bool
    before: str
    damaged: tuple[str, ...]
    seconds: float


def restore_files(
    store: ObjectStore,
    catalogue: Catalogue,
    folder: Path,
    *,
    clock: Clock,
    point_id: str = "",
    before: datetime | None = None,
    replace: bool = False,
    progress: Progress = lambda _: None,
) -> RestoredFiles:
    """Bring a folder back from the named point, or the newest whole one (of `before` or older).

    `replace`: what lies in the folder is moved to `<folder>.before-<time>`, and stays there.

    Raises:
        Refused: code "folder-not-empty", "folder-is-mount".
        NotReady: code "no-disk-space", "no-permission", "not-on-disk", "names-alike",
            "name-refused"; nothing is left then.
        Damaged, OutsideWindow, Quarantined, BadInput: as `use_newest`.
    """
    started_at = clock.now()
    _require_target(folder, replace=replace)
    owners = os.geteuid() == 0

    def unpack(point: RecoveryPoint) -> tuple[RecoveryPoint, _Unpacked]:
        return point, _unpack(store, point, folder, owners=owners, progress=progress)

    (point, unpacked), damaged = use_newest(
        catalogue, "archive", unpack, clock=clock, point_id=point_id, before=before
    )
    aside = _give_name(unpacked.folder, folder, clock)
    return RestoredFiles(
        point.id, point.taken_at, str(folder), unpacked.entries, unpacked.bytes,
        len(unpacked.torn), tuple(unpacked.torn[:NAMED]), unpacked.skipped, owners, aside, damaged,
        (clock.now() - started_at).total_seconds(),
    )  # fmt: skip


def verify_files(
    store: ObjectStore, point: RecoveryPoint, *, clock: Clock, progress: Progress = lambda _: None
) -> CheckResult:
    """Read all of a point and compare every file with the list, writing nothing.

    A point of folders alone is not ok: of a disk that was not mounted nothing else is left.

    Raises Unavailable when the store does not answer: that says nothing about the point.
    """
    started_at = clock.now()
    stream, torn, folders = FilesStream(store, point), 0, 0
    try:
        for member in stream:
            for piece in member.content:
                progress(len(piece))
            torn += member.entry.state == "torn"
            folders += member.entry.type == "folder"
    except Damaged as error:
        return CheckResult("files-whole", False, error.message, _since(started_at, clock))
    found = f"{stream.entries} entries, {stream.bytes} bytes, {torn} changed while they were read"
    if stream.entries == folders:
        found += "; no file is in it"
    return CheckResult("files-whole", stream.entries > folders, found, _since(started_at, clock))


@dataclass
class _Unpacked:
    folder: Path
    torn: list[str]
    entries: int = 0
    bytes: int = 0
    skipped: int = 0


def _unpack(
    store: ObjectStore, point: RecoveryPoint, folder: Path, *, owners: bool, progress: Progress
) -> _Unpacked:
    """Into a new folder beside the target, which is gone again when it fails."""
    require_space(folder, point)
    with _mapped(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.leeward-", dir=folder.parent))
    try:
        with _mapped(folder):
            return _fill(store, point, made, owners=owners, progress=progress)
    except BaseException:
        _remove(made)
        raise


def _fill(
    store: ObjectStore, point: RecoveryPoint, made: Path, *, owners: bool, progress: Progress
) -> _Unpacked:
    unpacked = _Unpacked(made, [])
    stream = FilesStream(store, point)
    with (
        syncing(made) as disk,
        SafeFolder(made, owners=owners, close=disk.close) as target,
    ):
        for member in stream:
            target.add(member.entry, member.content)
            progress(member.entry.size_bytes)
            if member.entry.state == "torn":
                unpacked.torn.append(member.entry.path)
    unpacked.entries, unpacked.bytes = stream.entries, stream.bytes
    unpacked.skipped = stream.skipped
    return unpacked


def _require_target(folder: Path, *, replace: bool) -> None:
    require_no_mount(folder)
    if not os.path.lexists(folder) or replace:
        return
    if folder.is_symlink() or not folder.is_dir() or any(os.scandir(folder)):
        raise Refused(
            f"expected no folder {folder} or an empty one, found something in it",
            code="folder-not-empty",
            hint="Name another folder, or say that what is there is to be moved aside.",
        )


def require_space(folder: Path, point: RecoveryPoint) -> None:
    """Raises NotReady (code "no-disk-space")."""
    existing = next(path for path in folder.absolute().parents if path.exists())
    needed, free = point.source_bytes + SPARE_BYTES, shutil.disk_usage(existing).free
    if free < needed:
        raise _no_space(f"expected {needed} bytes of free disk for {folder}, found {free}")


def _give_name(made: Path, folder: Path, clock: Clock) -> str:
    """Returns where what had the name is now, "" when nothing had it.

    A crash between the two renames leaves both folders whole beside each other.
    """
    aside = ""
    with _mapped(folder):
        if os.path.lexists(folder) and (not folder.is_dir() or any(os.scandir(folder))):
            aside = f"{folder}.before-{clock.now():%Y%m%dT%H%M%S%fZ}"
            os.rename(folder, aside)
        os.rename(made, folder)
    sync_names(folder.parent)
    return aside


def _remove(made: Path) -> None:
    """Folders that may not be entered are opened up first."""
    for parent, folders, _ in os.walk(made):
        for name in folders:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _mapped(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(f"expected room for {folder}, the disk is full") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise NotReady(
                f"expected to write {folder}, found {os.strerror(error.errno).lower()}",
                code="no-permission",
                hint="Name a folder that this account may write, or use another account.",
            ) from error
        raise


def _no_space(message: str) -> NotReady:
    return NotReady(
        message, code="no-disk-space", hint="Free space there, or name a folder on a larger disk."
    )


def _since(started_at: datetime, clock: Clock) -> float:
    return (clock.now() - started_at).total_seconds()
