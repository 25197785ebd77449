"""A folder on this machine (or mounted on it), read for a backup.

Everything is opened relative to the folder that it was seen in and without following symlinks, so
that nobody who may write there can lead the reader elsewhere.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from chalicelib.errors import NotReady
from chalicelib.plan.files import ENCODING, ROOT_PATH
from chalicelib.ports.sources import NodeType, TreeNode

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a name that has become a FIFO would be waited for.
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
OTHERS = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


class FolderTree:
    """The port FileTree on a local path."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = -1

    @property
    def name(self) -> str:
        return str(self._root)

    def walk(self, enter: Callable[[str], bool]) -> Iterator[TreeNode]:
        levels = [_Level(self._open_root(), ROOT_PATH)]
        try:
            yield _describe(ROOT_PATH, os.fstat(levels[0].folder), levels[0].folder, b".")
            while levels:
                yield from self._step(levels, enter)
        finally:
            for level in levels:
                os.close(level.folder)

    @contextmanager
    def open(self, node: TreeNode) -> Iterator[_LocalFile]:
        name = node.path.rpartition("/")[2].encode(*ENCODING)
        try:
            handle = os.open(name, FILE_FLAGS, dir_fd=self._folder)
        except FileNotFoundError as error:
            raise _gone(node.path) from error
        except OSError as error:
            raise _unreadable(node.path, error) from error
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise _gone(node.path)
            yield _LocalFile(node.path, handle)
        finally:
            os.close(handle)

    def _open_root(self) -> int:
        try:
            return os.open(self._root, FOLDER_FLAGS & ~os.O_NOFOLLOW)
        except OSError as error:
            raise NotReady(
                f"expected a folder {self._root} to read, found {os.strerror(error.errno or 0)}",
                code="no-folder",
                hint="Look whether it is mounted and may be read, or correct the component's path.",
            ) from error

    def _step(self, levels: list[_Level], enter: Callable[[str], bool]) -> Iterator[TreeNode]:
        """The next name of the innermost folder; a stack, as recursion ends at some hundred."""
        level = levels[-1]
        if level.names is None:
            try:
                level.names = sorted(os.fsencode(it) for it in os.listdir(level.folder))[::-1]
            except OSError as error:
                level.names = []
                yield TreeNode(level.path, "unreadable", why=_said(error))
        elif not level.names:
            os.close(levels.pop().folder)
        else:
            name = level.names.pop()
            path = level.path_of(name)
            if enter(path):
                yield from self._visit(levels, name, path)

    def _visit(self, levels: list[_Level], name: bytes, path: str) -> Iterator[TreeNode]:
        self._folder = folder = levels[-1].folder
        try:
            node = _describe(path, os.lstat(name, dir_fd=folder), folder, name)
            yield node
            if node.type == "folder":
                levels.append(_Level(os.open(name, FOLDER_FLAGS, dir_fd=folder), path))
        except FileNotFoundError:
            return
        except OSError as error:
            yield TreeNode(path, "unreadable", why=_said(error))


@dataclass
class _Level:
    """A folder that is being read. `names` are those that are left, the next one last."""

    folder: int
    path: str
    names: list[bytes] | None = None

    def path_of(self, name: bytes) -> str:
        text = name.decode(*ENCODING)
        return text if self.path == ROOT_PATH else f"{self.path}/{text}"


class _LocalFile:
    def __init__(self, path: str, handle: int) -> None:
        self._path, self._handle = path, handle

    def facts(self) -> TreeNode:
        return _describe(self._path, os.fstat(self._handle), -1, b"")

    def read(self, size: int) -> bytes:
        try:
            return os.read(self._handle, size)
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def rewind(self) -> None:
        os.lseek(self._handle, 0, os.SEEK_SET)


def _describe(path: str, facts: os.stat_result, folder: int, name: bytes) -> TreeNode:
    kind = _type_of(facts.st_mode)
    return TreeNode(
        path,
        kind,
        mode=stat.S_IMODE(facts.st_mode),
        mtime_ns=facts.st_mtime_ns,
        uid=facts.st_uid,
        gid=facts.st_gid,
        owner=_user_name(facts.st_uid),
        group=_group_name(facts.st_gid),
        size_bytes=facts.st_size if kind == "file" else 0,
        identity=(facts.st_dev, facts.st_ino),
        names=facts.st_nlink,
        version=(facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns),
        target=os.readlink(name, dir_fd=folder).decode(*ENCODING) if kind == "symlink" else "",
        why=OTHERS.get(stat.S_IFMT(facts.st_mode), ""),
    )


def _type_of(mode: int) -> NodeType:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "symlink" if stat.S_ISLNK(mode) else "other"


@cache
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


@cache
def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def _said(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


def _gone(path: str) -> NotReady:
    return NotReady(
        f"expected a file {path!r}, found none any more",
        code="file-gone",
        hint="It was removed while the folder was read; the next backup does without it.",
    )


def _unreadable(path: str, error: OSError) -> NotReady:
    return NotReady(
        f"expected to read {path!r}, found {_said(error)}",
        code="file-unreadable",
        hint="Give the backup's account the right to read it, or exclude it by name.",
        why=_said(error),
    )
