"""Components other than databases and buckets, as they are read for a backup."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

NodeType = Literal["file", "folder", "symlink", "other", "unreadable"]


@dataclass(frozen=True)
class TreeNode:
    """One name of a folder tree as it was seen.

    path: relative to the root, which itself is "."; bytes that are not UTF-8 as surrogateescape.
    version changes whenever the file does. identity: device and inode; names of one file have the
    same. why: of "other" what it is (socket, fifo, device), of "unreadable" what the system said.
    """

    path: str
    type: NodeType
    mode: int = 0
    mtime_ns: int = 0
    uid: int = 0
    gid: int = 0
    owner: str = ""
    group: str = ""
    size_bytes: int = 0
    identity: tuple[int, int] = (0, 0)
    names: int = 1
    version: tuple[int, ...] = ()
    target: str = ""
    why: str = ""


class OpenFile(Protocol):
    """A regular file that is open for reading."""

    def facts(self) -> TreeNode:
        """As it is now."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes from where the last read ended; b"" at the end.

        Raises NotReady (code "file-unreadable") when the disk does not give them.
        """

    def rewind(self) -> None: ...


class FileTree(Protocol):
    """A folder and all that is in it. No symlink is followed, nothing is changed."""

    @property
    def name(self) -> str:
        """What the folder is called where it lies."""

    def walk(self, enter: Callable[[str], bool]) -> Iterator[TreeNode]:
        """The root, then depth first with names in byte order, a folder before what is in it.

        `enter(path)` False: neither the name nor what is in it is looked at. A folder that cannot
        be listed comes as "unreadable" after itself. A name that vanishes meanwhile is left out.

        Raises NotReady (code "no-folder") when the root is none.
        """

    def open(self, node: TreeNode) -> AbstractContextManager[OpenFile]:
        """The file of the node that `walk` gave last.

        Raises NotReady: "file-gone" when there is no file of that name any more,
        "file-unreadable" when it may not or cannot be read; `why` of its context is the system's.
        """
