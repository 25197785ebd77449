"""The state of a replica at a recovery point: one JSON object a line, in byte order of the key.

    {"key": "a/b.jpg", "size": 4096, "etag": "...", "version": "...", "modified_at": "...",
     "checksums": {"SHA256": "<base64>"}, "checksum_type": "FULL_OBJECT", "sha256": "<hex>",
     "source": {"version": "...", "modified_at": "...", "size": 4096, "etag": "..."}}

Empty fields are left out. `source` is the version that the user's bucket itself had at the moment:
a later look tells from it whether somebody has removed that version since. The lines are cut into
objects `points/<id>/inventory-<n>.jsonl.zst`, which together, in the order of their names, are the
inventory.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chalicelib.errors import Tampered
from chalicelib.plan.record import read_json
from chalicelib.plan.records import format_time, parse_time

INVENTORY_ENDING = ".jsonl.zst"


@dataclass(frozen=True)
class SourceVersion:
    """The current version of a key in the user's bucket. Times are whole seconds."""

    version: str
    modified_at: datetime
    size_bytes: int
    etag: str

    def to_json(self) -> dict[str, Any]:
        at = format_time(self.modified_at)
        return {"version": self.version, "modified_at": at, "size": self.size_bytes,
                "etag": self.etag}  # fmt: skip

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> SourceVersion:
        """Raises ValueError or KeyError when it is none."""
        at = parse_time(fields["modified_at"])
        return cls(fields["version"], at, int(fields["size"]), fields["etag"])


@dataclass(frozen=True)
class InventoryEntry:
    """One object of the replica. `version` is the replica's own, "" without versions.

    `source`: None where the user's bucket had no such object, or was not asked.
    `checksums`: as its server stored them, base64 by algorithm. `sha256`: of the whole content in
    hex, "" when nobody computed it.
    """

    key: str
    size_bytes: int
    modified_at: datetime
    etag: str = ""
    version: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)
    checksum_type: str = ""
    sha256: str = ""
    source: SourceVersion | None = None

    def to_line(self) -> bytes:
        fields: dict[str, Any] = {
            "key": self.key,
            "size": self.size_bytes,
            "etag": self.etag,
            "version": self.version,
            "modified_at": format_time(self.modified_at),
            "checksums": dict(self.checksums),
            "checksum_type": self.checksum_type,
            "sha256": self.sha256,
            "source": self.source.to_json() if self.source else None,
        }
        kept = {name: value for name, value in fields.items() if value or name == "size"}
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> InventoryEntry:
        """Raises ValueError or KeyError when it is no entry."""
        fields = read_json(line)
        source = fields.get("source")
        return cls(
            key=fields["key"],
            size_bytes=int(fields["size"]),
            modified_at=parse_time(fields["modified_at"]),
            etag=fields.get("etag", ""),
            version=fields.get("version", ""),
            checksums=fields.get("checksums", {}),
            checksum_type=fields.get("checksum_type", ""),
            sha256=fields.get("sha256", ""),
            source=SourceVersion.from_json(source) if source else None,
        )


def inventory_name(number: int) -> str:
    """`number` from 1; the names sort in the order of the inventory."""
    return f"inventory-{number:06d}{INVENTORY_ENDING}"


def sha256_of_checksums(checksums: Mapping[str, str], checksum_type: str) -> str:
    """The SHA-256 of the content in hex, "" when the server's is one of parts."""
    found = checksums.get("SHA256", "")
    if not found or "-" in found or checksum_type == "COMPOSITE":
        return ""
    return b64decode(found).hex()


def read_lines(chunks: Iterable[bytes]) -> Iterator[InventoryEntry]:
    """The entries of unpacked inventory objects, in constant memory.

    Raises:
        Tampered: a line is no entry, or the keys are not in order.
    """
    rest, last = b"", ""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            entry = _entry(line)
            if last and entry.key <= last:
                raise _damaged(f"{entry.key!r} after {last!r}")
            last = entry.key
            yield entry
    if rest:
        raise _damaged(f"half a line, {rest[:60]!r}")


def _entry(line: bytes) -> InventoryEntry:
    try:
        return InventoryEntry.from_line(line)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(repr(line[:60])) from error


def _damaged(found: str) -> Tampered:
    return Tampered(
        f"expected the lines of an inventory in byte order, found {found}",
        code="inventory-unreadable",
        hint="Use another recovery point or location; find out who wrote to this one.",
    )
