"""Components other than databases and buckets, as they are read for a backup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from chalicelib.plan.bundles import RepositoryFacts

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


@dataclass(frozen=True)
class KeyValueFacts:
    """What a key-value server says it is. server: its name and version, such as "valkey 9.1.2".
    keys: number of keys it counts in each database that has any; `is_replica`: it takes no
    writes."""

    server: str
    keys: dict[int, int]
    is_replica: bool


@dataclass(frozen=True)
class StoredKey:
    """A key with its whole value as the server's DUMP gives it, and when it expires
    (milliseconds since 1970, UTC), None when never."""

    database: int
    name: bytes
    payload: bytes
    expires_at_ms: int | None


class KeyValueSource(Protocol):
    """A running Redis or Valkey, read with ordinary commands; nothing on it is changed.

    Raises Unavailable when it does not answer, NotReady: "credentials-refused", "no-permission",
    "command-refused"; Refused: "cluster-mode", as one node holds a part of the keys alone,
    "replica-behind", when it lost its primary.
    """

    @property
    def name(self) -> str:
        """Host and port; no password."""

    def facts(self) -> KeyValueFacts: ...

    def dump(self, database: int) -> Iterator[StoredKey | None]:
        """Each key once or, when the server moves its tables meanwhile, more often; None for one
        that vanished after it was seen. A key's value and expiry are of one instant."""

    def functions(self) -> bytes:
        """What FUNCTION RESTORE takes; b"" where the server knows no functions or has none."""


class KeyValueTarget(KeyValueSource, Protocol):
    """A Redis or Valkey that is written to. Raises also NotReady (code "target-full"), Refused
    (code "target-is-replica")."""

    def payload_version(self) -> int:
        """Of its own payloads; found with a key of a random name that lives for a moment."""

    def databases(self, number: int) -> bool:
        """Whether there is a database of that number."""

    def clear(self) -> None:
        """Removes all keys of all databases, and the functions."""

    def restore_functions(self, payload: bytes) -> None: ...

    def restore(self, keys: Sequence[StoredKey]) -> None:
        """Write each key over what has its name. One whose time has passed is not there then.

        Raises Damaged (code "payload-refused") for one that the server cannot read.
        """

    def expiries(self, database: int, names: Sequence[bytes]) -> list[tuple[bool, int | None]]:
        """For each name: whether the key is there, and when it expires."""

    def now_ms(self) -> int:
        """The server's clock, by which keys expire."""


class KeyValueServers(Protocol):
    """Starts an empty throw-away server, reachable from this machine alone, gone afterwards."""

    def __call__(self, *, payload_version: int) -> AbstractContextManager[KeyValueTarget]:
        """One that reads such payloads. Raises NotReady (code "no-redis-server")."""


class RepositoryMirror(Protocol):
    """All refs of a git repository and all that they lead to, as they were at one instant."""

    def facts(self) -> RepositoryFacts: ...

    def bundle(self) -> Iterator[bytes]:
        """The bytes of a `git bundle` of every ref."""


class Repository(Protocol):
    """A git repository somewhere, read only.

    Raises NotReady: "no-git", "credentials-needed", "credentials-refused",
    "repository-unreadable", "repository-empty"; Unavailable when it does not answer.
    """

    @property
    def name(self) -> str:
        """Its url without a password."""

    def mirror(self) -> AbstractContextManager[RepositoryMirror]:
        """Needs as much room on the local disk as the repository's packs."""


class BundleTools(Protocol):
    """git's own programs on a bundle in a file.

    Raises NotReady: "no-git", and "names-alike" where the file system takes two names for one.
    """

    def heads(self, bundle: Path) -> dict[str, str]:
        """Ref -> object id. Raises Damaged (code "bundle-unreadable")."""

    def prove(self, bundle: Path, refs: Mapping[str, str]) -> str:
        """Clone it whole and have every object checked. What there is to say of it.

        Raises Damaged: "bundle-unreadable", "refs-differ", "objects-missing".
        """

    def clone(self, bundle: Path, folder: Path, facts: RepositoryFacts, revision: str) -> str:
        """A working copy in a folder that does not exist yet; its commit.

        Raises BadInput (code "unknown-revision"), Damaged as `prove`, NotReady (code
        "not-checked-out") when the disk does not take the files.
        """

    def mirror(self, bundle: Path, folder: Path, facts: RepositoryFacts) -> None:
        """A bare repository with every ref, from which all can be pushed elsewhere."""
