"""Which stored object was read when and what it was: the memory between two checks of a location.

One JSON object a location, `checks/<location>.json`, best kept in another place than the copies it
speaks of. It can be lost: what it knew is found again by reading everything once more. Two checks
at the same time may each forget what the other read, which is then read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.errors import Truncated
from chalicelib.plan.record import read_json
from chalicelib.plan.records import canonical_json
from chalicelib.ports import Listed, ObjectStore
from chalicelib.verify.copies.begun import Begun
from chalicelib.verify.copies.findings import Finding

FORMAT = 1
# Of an object whose reading nobody can date: its own time tells since when it may be wrong.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Seen:
    """An object as it was when all of it was read and found sound, at `read_at`.

    `modified_at` and `version` are the store's, `sha256` is of the content. `checksum` is one
    that the store keeps of the whole object, as "crc64nvme:<hex>", "" when it keeps none.
    """

    size_bytes: int
    modified_at: datetime
    read_at: datetime
    sha256: str
    version: str = ""
    checksum: str = ""

    def is_of(self, row: Listed) -> bool:
        """Whether the object was not written since."""
        return self.size_bytes == row.size_bytes and self.modified_at == row.modified_at


# A ledger is written and read on different machines.
CLOCKS_DIFFER = timedelta(minutes=5)


@dataclass(frozen=True)
class Ledger:
    """`doubted`: what reading found to be wrong, by key, until it is read and found right.
    `next_key`: where the next look begins, because the last one did not come so far. `begun`: long
    objects of which a part was read, by key."""

    seen: Mapping[str, Seen] = field(default_factory=dict)
    doubted: Mapping[str, Finding] = field(default_factory=dict)
    next_key: str = ""
    begun: Mapping[str, Begun] = field(default_factory=dict)

    def as_of(self, now: datetime) -> Ledger:
        """Without when anything was read by a clock that was ahead: it would count as read until
        that time has come. What it was read to be stays known."""
        latest = now + CLOCKS_DIFFER
        if all(item.read_at <= latest for item in self.seen.values()) and not self.begun:
            return self
        seen = {
            key: item if item.read_at <= latest else replace(item, read_at=NEVER)
            for key, item in self.seen.items()
        }
        begun = {key: item for key, item in self.begun.items() if item.begun_at <= latest}
        return replace(self, seen=seen, begun=begun)


def ledger_key(location: str) -> str:
    return f"checks/{location}.json"


def load_ledger(store: ObjectStore, location: str) -> Ledger:
    """An empty one when there is none, or none that can be read: then nothing counts as read."""
    try:
        content = store.get(ledger_key(location))
    except Truncated as error:
        if error.instance_code != "object-missing":
            raise
        return Ledger()
    return parse_ledger(content)


def save_ledger(store: ObjectStore, location: str, ledger: Ledger) -> None:
    store.put(ledger_key(location), write_ledger(ledger))


def write_ledger(ledger: Ledger) -> bytes:
    rows = {
        key: [
            item.size_bytes,
            item.modified_at.timestamp(),
            item.read_at.timestamp(),
            item.sha256,
            item.version,
            item.checksum,
        ]
        for key, item in ledger.seen.items()
    }
    doubted = [item.to_json() for item in ledger.doubted.values()]
    content = {"format": FORMAT, "next": ledger.next_key, "seen": rows, "doubted": doubted}
    content["begun"] = {key: item.to_json() for key, item in ledger.begun.items()}
    return canonical_json(content)


def parse_ledger(content: bytes) -> Ledger:
    try:
        data = read_json(content)
        if data["format"] != FORMAT:
            return Ledger()
        doubted = [Finding.from_json(item) for item in data["doubted"]]
        seen = {key: _seen(row) for key, row in data["seen"].items()}
        begun = {key: Begun.from_json(row) for key, row in data.get("begun", {}).items()}
        return Ledger(seen, {item.key: item for item in doubted}, data["next"], begun)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return Ledger()


def _seen(row: list[Any]) -> Seen:
    size_bytes, modified_at, read_at, sha256, version, checksum = row
    return Seen(size_bytes, _time(modified_at), _time(read_at), sha256, version, checksum)


def _time(seconds: float) -> datetime:
    """A float of seconds since 1970 is exact to the microsecond until the year 2255."""
    return datetime.fromtimestamp(seconds, UTC)
