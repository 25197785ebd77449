"""An archive of files and the list beside it, read side by side, each member as its line says.

Nothing of it is trusted: a member must have the path, kind, size, owner, times and digest that
the list has for it, both must end together, and each object must have the digest of the manifest.
What of a member is used before the end was reached is provisional.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, Any, cast

from chalicelib.errors import Damaged, DigestMismatch, Truncated
from chalicelib.plan.files import ENCODING, FORMAT, FileEntry
from chalicelib.plan.records import RecoveryPoint, StoredObject
from chalicelib.ports import ObjectStore
from chalicelib.recover.archive import decompress, read_ahead, read_verified
from chalicelib.recover.safe_folder import require_inside

HINT = "Restore from an older recovery point."
COPY_BYTES = 1 << 20
# No name on any system is longer; a line of the list holds two and little more.
LONGEST_LINE_BYTES = 1 << 20
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
            else:
                totals = fields.get("totals")
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
    """tar's members one after the other. tarfile would keep a record of each of them."""

    def __init__(self, store: ObjectStore, item: StoredObject) -> None:
        self._key = item.key
        self._stream = _File(read_ahead(decompress(read_verified(store, item), item.key)))
        self._tar: tarfile.TarFile | None = None

    def next(self, entry: FileEntry) -> Iterator[bytes]:
        """The content of the next member, which must be that of `entry`."""
        info = self._next_info()
        if info is None:
            raise Truncated(
                f"expected {entry.path!r} in {self._key}, which ends before it",
                code="member-missing",
                hint=HINT,
                file=entry.path,
            )
        _compare(info, entry)
        return self._content(info, entry) if entry.type == "file" else iter(())

    def require_end(self) -> None:
        """Reads on to the end of the object: what checks the whole of it runs there."""
        extra = self._next_info()
        if extra is not None:
            raise _differs(self._key, "no more members", repr(extra.name))
        self._stream.drain()

    def _next_info(self) -> tarfile.TarInfo | None:
        try:
            if self._tar is None:
                self._tar = tarfile.TarFile.open(
                    fileobj=cast(IO[bytes], self._stream), mode="r|", bufsize=COPY_BYTES,
                    encoding=ENCODING[0], errors=ENCODING[1],
                )  # fmt: skip
            self._tar.members = []  # type: ignore[attr-defined]
            return self._tar.next()
        except (tarfile.TarError, ValueError) as error:
            raise _unreadable(self._key) from error

    def _content(self, info: tarfile.TarInfo, entry: FileEntry) -> Iterator[bytes]:
        assert self._tar is not None
        file = self._tar.extractfile(info)
        assert file is not None
        digest = hashlib.sha256()
        try:
            while piece := file.read(COPY_BYTES):
                digest.update(piece)
                yield piece
        except tarfile.TarError as error:
            raise _unreadable(self._key) from error
        if digest.hexdigest() != entry.sha256:
            raise DigestMismatch(
                f"expected {entry.path!r} with sha-256 {entry.sha256}, found {digest.hexdigest()}",
                hint=HINT,
                file=entry.path,
            )


class _File:
    """An iterator of pieces as the file that tarfile reads from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing:
            if not self._rest:
                self._rest = next(self._pieces, b"")
                if not self._rest:
                    break
            part, self._rest = self._rest[:missing], self._rest[missing:]
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def drain(self) -> None:
        self._rest = b""
        for _ in self._pieces:
            pass


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
        fields = json.loads(line)
    except ValueError as error:
        raise _no_list(key) from error
    if not isinstance(fields, dict):
        raise _no_list(key)
    return fields


def _compare(info: tarfile.TarInfo, entry: FileEntry) -> None:
    found = (
        TYPES.get(info.type), info.name, info.size if info.isfile() else 0, info.linkname,
        info.mode, info.uid, info.gid, _nanoseconds(info),
    )  # fmt: skip
    expected = (
        entry.type, entry.path, entry.size_bytes, entry.target,
        entry.mode, entry.uid, entry.gid, entry.mtime_ns,
    )  # fmt: skip
    if found != expected:
        raise _differs(repr(entry.path), str(expected), str(found))


def _nanoseconds(info: tarfile.TarInfo) -> int:
    """A float would lose the last three digits."""
    seconds = info.pax_headers.get("mtime")
    return int(Decimal(seconds) * 10**9) if seconds else int(info.mtime) * 10**9


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
