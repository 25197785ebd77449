"""The list of a folder's files that lies beside their archive: one JSON object a line.

    {"format": "leeward-files-1", "root": ..., "include": [...], "exclude": [...]}     first
    {"path": ..., "type": "file", "size": ..., "mode": "0644", "sha256": ..., ...}     in the
    {"skipped": "run/app.sock", "why": "socket"}                                       tree's order
    {"totals": {"entries": ..., "bytes": ..., "skipped": ...}}                         last

There is one line with a path for each member of the archive, in the same order, so that both can
be read side by side in constant memory. A name that is not UTF-8 has its bytes 0x80 to 0xff as
the characters U+DC80 to U+DCFF (Python's surrogateescape), in JSON as backslash escapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import Any, Literal, Self

FORMAT = "leeward-files-1"
ROOT_PATH = "."
ENCODING = ("utf-8", "surrogateescape")

EntryType = Literal["file", "folder", "symlink", "hardlink"]
EntryState = Literal["whole", "grew", "torn", "superseded"]


@dataclass(frozen=True)
class FileEntry:
    """One member of the archive. `path` is relative to the root, which itself is ".".

    mode: permission bits. mtime_ns: since 1970, UTC. target: of a symlink as it stands in it, of
    a hard link the path of the member with the content.
    state: "grew": the file was appended to while it was read; what is stored is what it held
    before. "torn": it changed at every attempt; what is stored may never have existed.
    "superseded": changed while it was read; a later member of the same path holds it whole.
    """

    path: str
    type: EntryType
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    owner: str = ""
    group: str = ""
    size_bytes: int = 0
    sha256: str = ""
    target: str = ""
    state: EntryState = "whole"

    def to_line(self) -> bytes:
        fields: dict[str, Any] = {
            "path": self.path,
            "type": self.type,
            "mode": f"{self.mode:04o}",
            "mtime_ns": self.mtime_ns,
            "uid": self.uid,
            "gid": self.gid,
            "owner": self.owner,
            "group": self.group,
        }
        if self.type == "file":
            fields |= {"size": self.size_bytes, "sha256": self.sha256, "state": self.state}
        elif self.target:
            fields["target"] = self.target
        return to_line(fields)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError when it is no entry."""
        known = {"path", "type", "mtime_ns", "uid", "gid", "owner", "group", "sha256"}
        known |= {"target", "state"}
        values = {name: fields[name] for name in known & fields.keys()}
        size = int(fields.get("size", 0))
        return cls(mode=int(fields["mode"], 8), size_bytes=size, **values)


def to_line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True)
class Selection:
    """Which names of a tree belong to a point.

    A pattern is matched against the path below the root: `*` and `?` do not cross a slash, `**`
    does; without a slash it is matched against the name alone, at any depth. A folder that
    matches stands for all that is in it. An empty `include` means everything; `exclude` wins.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def leaves_out(self, path: str) -> bool:
        return _matches(self.exclude, path)

    def enters(self, path: str) -> bool:
        """Whether anything below a folder can be taken: one that only neighbours what is
        included is not walked through, however large it is."""
        if self.leaves_out(path):
            return False
        return self.takes(path) or any(_may_lie_below(path, it) for it in self.include)

    def takes(self, path: str) -> bool:
        """False for a folder that only leads to what is taken."""
        return not self.include or any(_matches(self.include, part) for part in _upwards(path))


def _may_lie_below(folder: str, pattern: str) -> bool:
    """Judged by the pattern's steps before its first wildcard; without a slash it is anywhere."""
    if "/" not in pattern:
        return True
    steps = pattern.strip("/").split("/")
    fixed = list(takewhile(lambda step: not set(step) & {"*", "?"}, steps))
    above = folder.split("/")
    shared = min(len(fixed), len(above))
    return fixed[:shared] == above[:shared]


def _upwards(path: str) -> Iterable[str]:
    """ "a/b/c" -> "a", "a/b", "a/b/c"."""
    parts = path.split("/")
    return ("/".join(parts[: count + 1]) for count in range(len(parts)))


def _matches(patterns: tuple[str, ...], path: str) -> bool:
    name = path.rpartition("/")[2]
    return any(
        _compile(pattern).fullmatch(path if "/" in pattern else name) is not None
        for pattern in patterns
    )


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/"))
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(wild.get(part, re.escape(part)) for part in parts), re.DOTALL)
