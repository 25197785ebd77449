"""Files written below one folder and nowhere else, whatever their paths say.

Every name is created relative to its folder's descriptor, and folders are entered without
following symlinks: a symlink that the archive itself brought leads nowhere, and nothing that
exists is written over.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from chalicelib.errors import Damaged, LeewardError, NotReady
from chalicelib.plan.files import ENCODING, ROOT_PATH, FileEntry
from chalicelib.plan.spelling import folded, names_alike

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PRIVATE = 0o700
# macOS takes UTF-8 alone, others no colon, or less than 255 bytes.
REFUSED_NAMES = (errno.EILSEQ, errno.EINVAL, errno.ENAMETOOLONG)


@dataclass
class _Level:
    """A folder that is being filled; its mode and times are set when it is left."""

    entry: FileEntry
    handle: int


@dataclass
class SafeFolder:
    """`with SafeFolder(path, owners=...) as folder`, then `add` each entry, a folder before what
    is in it. The root must exist; its own entry ("." ) comes first.

    owners: give every file to the user and group of that name here, or else of that number.
    close: is given the handle of each file and folder that is complete.
    """

    root: Path
    owners: bool
    close: Callable[[int], None] = os.close
    _levels: list[_Level] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._levels:
            if kind is None:
                self._leave()
            else:
                os.close(self._levels.pop().handle)

    def add(self, entry: FileEntry, content: Iterator[bytes]) -> None:
        """Raises Damaged (code "path-outside") for one that does not fit what was added before, and
        NotReady (code "names-alike", "name-refused") for what this file system cannot hold."""
        require_inside(entry)
        if entry.path == ROOT_PATH:
            self._begin_root(entry)
            return
        above, _, text = entry.path.rpartition("/")
        self._leave_until(above or ROOT_PATH, entry)
        name = text.encode(*ENCODING)
        try:
            self._create(name, entry, content)
        except FileExistsError as error:
            raise self._in_its_place(text, entry) from error
        except NotADirectoryError as error:
            raise _misplaced(entry) from error
        except OSError as error:
            if error.errno not in REFUSED_NAMES:
                raise
            raise _name_refused(entry, error.errno, self.root.parent) from error

    def _in_its_place(self, name: str, entry: FileEntry) -> LeewardError:
        """The archive has the name twice, or the file system takes another one for it."""
        there = [os.fsencode(it).decode(*ENCODING) for it in os.listdir(self._levels[-1].handle)]
        if name in there:
            return _misplaced(entry)
        other = next((it for it in there if folded(it) == folded(name)), "another name")
        above = entry.path.removesuffix(name)
        return names_alike(f"{above}{other}", entry.path, self.root.parent)

    def _begin_root(self, entry: FileEntry) -> None:
        if self._levels or entry.type != "folder":
            raise _misplaced(entry)
        self._levels.append(_Level(entry, os.open(self.root, FOLDER_FLAGS)))

    def _leave_until(self, above: str, entry: FileEntry) -> None:
        """Entries come depth first: the folder of the next one is open, or left for good."""
        while self._levels and self._levels[-1].entry.path != above:
            self._leave()
        if not self._levels:
            raise _misplaced(entry)

    def _leave(self) -> None:
        level = self._levels.pop()
        with self._closing(level.handle):
            self._finish(level.handle, level.entry)

    @contextmanager
    def _closing(self, handle: int) -> Iterator[None]:
        try:
            yield
        except BaseException:
            os.close(handle)
            raise
        self.close(handle)

    def _create(self, name: bytes, entry: FileEntry, content: Iterator[bytes]) -> None:
        folder = self._levels[-1].handle
        if entry.type == "file":
            self._write_file(folder, name, entry, content)
        elif entry.type == "folder":
            os.mkdir(name, PRIVATE, dir_fd=folder)
            self._levels.append(_Level(entry, os.open(name, FOLDER_FLAGS, dir_fd=folder)))
        elif entry.type == "symlink":
            os.symlink(entry.target.encode(*ENCODING), name, dir_fd=folder)
            self._finish_symlink(folder, name, entry)
        else:
            self._link(folder, name, entry)

    def _write_file(
        self, folder: int, name: bytes, entry: FileEntry, content: Iterator[bytes]
    ) -> None:
        handle = os.open(name, NEW_FILE_FLAGS, 0o600, dir_fd=folder)
        with self._closing(handle):
            for piece in content:
                view = memoryview(piece)
                while view:
                    view = view[os.write(handle, view) :]
            if entry.state == "superseded":
                os.unlink(name, dir_fd=folder)
            else:
                self._finish(handle, entry)

    def _link(self, folder: int, name: bytes, entry: FileEntry) -> None:
        """To a file that was written here before."""
        above, _, text = entry.target.rpartition("/")
        first = text.encode(*ENCODING)
        handle = self._open_below(above, entry)
        try:
            if not stat.S_ISREG(os.lstat(first, dir_fd=handle).st_mode):
                raise _misplaced(entry)
            os.link(first, name, src_dir_fd=handle, dst_dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError as error:
            raise _misplaced(entry) from error
        finally:
            os.close(handle)

    def _open_below(self, path: str, entry: FileEntry) -> int:
        handle = os.open(self.root, FOLDER_FLAGS)
        for name in path.split("/") if path else ():
            try:
                inner = os.open(name.encode(*ENCODING), FOLDER_FLAGS, dir_fd=handle)
            except OSError as error:
                raise _misplaced(entry) from error
            finally:
                os.close(handle)
            handle = inner
        return handle

    def _finish(self, handle: int, entry: FileEntry) -> None:
        """The owner first: changing it clears the set-user-id bits of the mode."""
        if self.owners:
            os.fchown(handle, *_ids(entry))
        os.fchmod(handle, entry.mode)
        os.utime(handle, ns=(entry.mtime_ns, entry.mtime_ns))

    def _finish_symlink(self, folder: int, name: bytes, entry: FileEntry) -> None:
        if self.owners:
            os.chown(name, *_ids(entry), dir_fd=folder, follow_symlinks=False)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)


def require_inside(entry: FileEntry) -> None:
    """Raises Damaged (code "path-outside") when a path of it is not plainly below the root."""
    for path in (entry.path, entry.target) if entry.type == "hardlink" else (entry.path,):
        plain = path == ROOT_PATH or path == str(PurePosixPath(path))
        if not plain or path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise Damaged(
                f"expected paths inside the folder, found {path!r}",
                code="path-outside",
                hint="Find out who wrote to the backups; restore from another point or location.",
                path=path,
            )


def _ids(entry: FileEntry) -> tuple[int, int]:
    return _user_id(entry.owner, entry.uid), _group_id(entry.group, entry.gid)


@cache
def _user_id(name: str, number: int) -> int:
    try:
        return pwd.getpwnam(name).pw_uid if name else number
    except KeyError:
        return number


@cache
def _group_id(name: str, number: int) -> int:
    try:
        return grp.getgrnam(name).gr_gid if name else number
    except KeyError:
        return number


def _misplaced(entry: FileEntry) -> Damaged:
    return Damaged(
        f"expected the folder of {entry.path!r} ({entry.type}) to stand before it and nothing "
        "in its place, found otherwise",
        code="path-outside",
        hint="Find out who wrote to the backups; restore from another point or location.",
        path=entry.path,
    )


def _name_refused(entry: FileEntry, number: int, folder: Path) -> NotReady:
    return NotReady(
        f"expected a file system below {folder} that takes the name {entry.path!r}, found: "
        f"{os.strerror(number).lower()}",
        code="name-refused",
        hint="Restore onto one that takes any name, as those of Linux do.",
    )
