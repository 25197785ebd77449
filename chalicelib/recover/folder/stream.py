"""An archive of files and the list beside it, read side by side, each member as its line says.

Nothing of it is trusted: a member must have the path, kind, size, owner, times and digest that
the list has for it, both must end together, and each object must have the digest of the manifest.
What of a member is used before the end was reached is provisional.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chalicelib.errors import Damaged, DigestMismatch, Truncated
from chalicelib.plan.files import ENCODING, FORMAT, FileEntry
from chalicelib.plan.record import read_json
from chalicelib.plan.records import RecoveryPoint, StoredObject
from chalicelib.ports import ObjectStore
from chalicelib.recover.database.archive import ByteStream, decompress, read_ahead, read_verified
from chalicelib.recover.folder.safe import require_inside

HINT = "Restore from an older recovery point."
# No name on any system is longer; a line of the list holds two and little more.
LONGEST_LINE_BYTES = 1 << 20
SECONDS = re.compile(r"(-?)(\d{1,15})(?:\.(\d{1,9}))?")
TYPES = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}


@dataclass(frozen=True)
class Member:
    """`content` is read to its end before the next member is asked for; its digest is compared
    there. Empty for what is no file."""

    entry: FileEntry
    content: Iterator[bytes]


class FilesStream:
    """The members of one point. `skipped` and `totals` are known when it was read to its end."""

    def __init__(self, store: ObjectStore, point: RecoveryPoint) -> None:
        self._store, self._point = store, point
        self._archive = _object(point, "files.tar.zst")
        self._listing = _object(point, "files.jsonl.zst")
        self.skipped = 0
        self.entries = 0
        self.bytes = 0

    def __iter__(self) -> Iterator[Member]:
        entries = self._read_list()
        archive = _Archive(self._store, self._archive)
        for entry in entries:
            member = archive.next(entry)
            yield Member(entry, member)
            for _ in member:
                pass
        archive.require_end()
        if self.bytes != self._point.source_bytes:
            raise _differs(self._point.id, f"{self._point.source_bytes} bytes", str(self.bytes))

    def _read_list(self) -> Iterator[FileEntry]:
        lines = _lines(self._store, self._listing)
        if next(lines, {}).get("format") != FORMAT:
            raise _no_list(self._listing.key)
        totals: dict[str, int] | None = None
        for fields in lines:
            if totals is not None:
                raise _no_list(self._listing.key)
            if "path" in fields:
                yield self._parse(fields)
            elif "skipped" in fields:
                self.skipped += 1
            elif "totals" in fields:
                totals = fields["totals"]
            else:
                raise _no_list(self._listing.key)
        found = {"entries": self.entries, "bytes": self.bytes, "skipped": self.skipped}
        if totals != found:
            raise _differs(self._listing.key, str(totals), str(found))

    def _parse(self, fields: dict[str, Any]) -> FileEntry:
        try:
            entry = FileEntry.from_fields(fields)
            require_inside(entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _no_list(self._listing.key) from error
        self.entries += 1
        self.bytes += entry.size_bytes
        if self.bytes > self._point.source_bytes:
            raise _differs(self._point.id, f"{self._point.source_bytes} bytes", "more")
        return entry


class _Archive:
    """tar's members one after the other, as this product writes them: POSIX headers (PAX)."""

    def __init__(self, store: ObjectStore, item: StoredObject) -> None:
        self._key = item.key
        unpacked = decompress(read_verified(store, item), item.key)
        self._stream = ByteStream(read_ahead(unpacked), item.key)

    def next(self, entry: FileEntry) -> Iterator[bytes]:
        """The content of the next member, which must be that of `entry`."""
        header = self._next_header()
        if header is None:
            raise Truncated(
                f"expected {entry.path!r} in {self._key}, which ends before it",
                code="member-missing",
                hint=HINT,
                file=entry.path,
            )
        _compare(header, entry)
        return self._content(entry) if entry.type == "file" else iter(())

    def require_end(self) -> None:
        """Reads on to the end of the object: what checks the whole of it runs there."""
        extra = self._next_header()
        if extra is not None:
            raise _differs(self._key, "no more members", repr(extra.path))
        self._stream.drain()

    def _next_header(self) -> _Header | None:
        block = self._stream.take(tarfile.BLOCKSIZE)
        if not block.strip(b"\0"):
            return None
        info, more = self._parse(block), {}
        if info.type == tarfile.XHDTYPE:
            more = self._read_records(info.size)
            info = self._parse(self._stream.take(tarfile.BLOCKSIZE))
        return _header(info, more, self._key)

    def _parse(self, block: bytes) -> tarfile.TarInfo:
        try:
            return tarfile.TarInfo.frombuf(block, *ENCODING)
        except tarfile.HeaderError as error:
            raise _unreadable(self._key) from error

    def _read_records(self, size: int) -> dict[str, str]:
        """A PAX header: "<length of the record> <name>=<value>\\n", one after the other."""
        if size > LONGEST_LINE_BYTES:
            raise _unreadable(self._key)
        rest, found = self._stream.take(size), {}
        self._stream.take(-size % tarfile.BLOCKSIZE)
        while rest:
            length, _, _ = rest.partition(b" ")
            end = int(length) if length.isdigit() else 0
            name, equals, value = rest[len(length) + 1 : end - 1].partition(b"=")
            if not equals or rest[end - 1 : end] != b"\n":
                raise _unreadable(self._key)
            found[name.decode(*ENCODING)] = value.decode(*ENCODING)
            rest = rest[end:]
        return found

    def _content(self, entry: FileEntry) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for piece in self._stream.pieces(entry.size_bytes):
            digest.update(piece)
            yield piece
        self._stream.take(-entry.size_bytes % tarfile.BLOCKSIZE)
        if digest.hexdigest() != entry.sha256:
            raise DigestMismatch(
                f"expected {entry.path!r} with sha-256 {entry.sha256}, found {digest.hexdigest()}",
                hint=HINT,
                file=entry.path,
            )


@dataclass(frozen=True)
class _Header:
    """What a member's header says, in the words of FileEntry."""

    type: str
    path: str
    size_bytes: int
    target: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int


def _header(info: tarfile.TarInfo, more: dict[str, str], key: str) -> _Header:
    try:
        return _Header(
            TYPES[info.type],
            more.get("path", info.name).rstrip("/"),
            int(more.get("size", info.size)),
            more.get("linkpath", info.linkname),
            info.mode,
            int(more.get("uid", info.uid)),
            int(more.get("gid", info.gid)),
            _nanoseconds(more["mtime"]) if "mtime" in more else int(info.mtime) * 10**9,
        )
    except (KeyError, ValueError) as error:
        raise _unreadable(key) from error


def _nanoseconds(seconds: str) -> int:
    """ "1.5" -> 1500000000; a float would lose the last three digits."""
    found = SECONDS.fullmatch(seconds)
    if found is None:
        raise ValueError(seconds)
    sign, whole, part = found.groups(default="")
    return int(f"{sign}{whole}{part:0<9}")


def _lines(store: ObjectStore, item: StoredObject) -> Iterator[dict[str, Any]]:
    rest = b""
    for piece in decompress(read_verified(store, item), item.key):
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > LONGEST_LINE_BYTES:
            raise _no_list(item.key)
        yield from (_parse_line(line, item.key) for line in whole)
    if rest:
        raise _no_list(item.key)


def _parse_line(line: bytes, key: str) -> dict[str, Any]:
    try:
        fields = read_json(line)
    except ValueError as error:
        raise _no_list(key) from error
    if not isinstance(fields, dict):
        raise _no_list(key)
    return fields


def _compare(found: _Header, entry: FileEntry) -> None:
    expected = _Header(
        entry.type, entry.path, entry.size_bytes, entry.target,
        entry.mode, entry.uid, entry.gid, entry.mtime_ns,
    )  # fmt: skip
    if found != expected:
        raise _differs(repr(entry.path), str(expected), str(found))


def _object(point: RecoveryPoint, name: str) -> StoredObject:
    found = [item for item in point.objects if item.key.endswith(f"/{name}")]
    if len(found) != 1:
        raise _differs(point.id, f"one object {name}", str(len(found)))
    return found[0]


def _differs(what: str, expected: str, found: str) -> Damaged:
    return Damaged(
        f"expected {what} to have {expected}, found {found}", code="list-differs", hint=HINT
    )


def _no_list(key: str) -> Damaged:
    return Damaged(
        f"expected a list of files, {key} is none", code="list-unreadable", hint=HINT, key=key
    )


def _unreadable(key: str) -> Damaged:
    return Damaged(
        f"expected an archive that can be unpacked, {key} is none",
        code="archive-unreadable",
        hint=HINT,
        key=key,
    )
