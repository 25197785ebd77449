"""What was restored, on the disk before anybody is told so: a power loss takes none of it back.

Every file and every folder is synced by itself, so that the disk's refusal of any one is heard.
Source: PostgreSQL, src/common/file_utils.c, fsync_pgdata and fsync_fname.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from chalicelib.errors import NotReady, Refused
from chalicelib.ports.durable import flush_drive

# Each waits for the disk, which makes one flush for several that ask together.
THREADS = 8
HANDLES_OPEN = 64


class SyncedHandles:
    """Syncs and closes what it is given, in threads."""

    def __init__(self, folder: Path, threads: Executor) -> None:
        self._folder, self._threads = folder, threads
        self._waiting: deque[Future[None]] = deque()

    def close(self, handle: int) -> None:
        """Of a file or folder that nobody changes any more. May raise for one given earlier."""
        self._waiting.append(self._threads.submit(_sync_and_close, handle, self._folder))
        if len(self._waiting) > HANDLES_OPEN:
            self._waiting.popleft().result()

    def wait(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()


@contextmanager
def syncing(folder: Path) -> Iterator[SyncedHandles]:
    """All that is closed inside is on the disk at the end.

    Raises NotReady (code "no-disk-space", "not-on-disk") naming `folder`.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        handles = SyncedHandles(folder, threads)
        yield handles
        handles.wait()
    _flush(folder.parent)


def sync_folder(folder: Path) -> None:
    """A folder that nobody writes to, with all that is below it. Raises as `syncing`."""
    with syncing(folder) as handles:
        for path in _all_in(folder):
            handles.close(_open(path, folder))


def sync_file(path: Path) -> None:
    """A file that is closed, with its name. Raises as `syncing`."""
    _sync_and_close(_open(str(path), path), path)
    sync_names(path.parent)


def sync_names(folder: Path) -> None:
    """The names of what lies directly in a folder. Raises as `syncing`."""
    _sync_and_close(_open(str(folder), folder), folder)
    _flush(folder)


@contextmanager
def named_when_whole(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, which gets its name at the end; the block syncs what it made.

    What fails is removed; what a crash leaves is `.<name>.leeward-*`.

    Raises as `syncing`, and Refused: code "folder-is-mount" before the block, "folder-taken" after
    it, when something came to lie there: then what was made is kept.
    """
    target = folder.resolve()
    require_no_mount(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.leeward-", dir=target.parent))
    try:
        yield made
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    _rename(made, target)
    sync_names(target.parent)


def _rename(made: Path, target: Path) -> None:
    try:
        os.rename(made, target)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise Refused(
            f"expected to rename {made} to {target}, found: {why}",
            code="folder-taken",
            hint="What was restored is whole, and on the disk: give it a name yourself.",
        ) from error


def require_no_mount(folder: Path) -> None:
    """Raises Refused (code "folder-is-mount")."""
    if os.path.ismount(folder):
        raise Refused(
            f"expected a folder that can be given its name at the end, {folder} is a mount point",
            code="folder-is-mount",
            hint="Name a folder below it, and move what is needed.",
        )


def _all_in(folder: Path) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise _not_on_disk(folder, error) from error

    for parent, _, files in os.walk(folder, onerror=fail):
        for name in files:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                yield path
        yield parent


def _open(path: str, folder: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _not_on_disk(folder, error) from error


def _sync_and_close(handle: int, folder: Path) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems know no fsync of a folder, as fsync_fname tells.
        if error.errno != errno.EINVAL or not stat.S_ISDIR(os.fstat(handle).st_mode):
            raise _not_on_disk(folder, error) from error
    finally:
        os.close(handle)


def _flush(folder: Path) -> None:
    """Once for all that was synced on its drive: one file takes as long as a thousand."""
    handle = _open(str(folder), folder)
    try:
        flush_drive(handle)
    except OSError as error:
        raise _not_on_disk(folder, error) from error
    finally:
        os.close(handle)


def _not_on_disk(folder: Path, error: OSError) -> NotReady:
    why = os.strerror(error.errno or 0).lower()
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return NotReady(
        f"expected {folder} on the disk, found: {why}",
        code="no-disk-space" if full else "not-on-disk",
        hint="Free space there, or restore onto a larger disk."
        if full
        else "Look at the disk and the kernel's log, and restore onto another one.",
    )
