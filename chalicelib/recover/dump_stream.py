"""The stream of a dump, read back as keys: every command as the dump's facts say, or damaged.

What was read before the end was reached is provisional: the digests of the whole are compared
there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from chalicelib.errors import Damaged, DigestMismatch
from chalicelib.plan.dumps import FACTS_NAME, STREAM_NAME, DumpFacts
from chalicelib.plan.record import read_json
from chalicelib.plan.records import RecoveryPoint, StoredObject
from chalicelib.ports import ObjectStore
from chalicelib.ports.sources import StoredKey
from chalicelib.recover.database.archive import decompress, read_verified

HINT = "Restore from an older recovery point."
# No command of a stream has more words.
MOST_WORDS = 6
LONGEST_LINE_BYTES = 32
# The server's own limit of a value, and so of a payload but for its overhead.
LONGEST_WORD_BYTES = 1 << 30


@dataclass(frozen=True)
class Functions:
    """What FUNCTION RESTORE takes."""

    payload: bytes


def read_facts(store: ObjectStore, point: RecoveryPoint) -> DumpFacts:
    """Raises Damaged when the description is not what was stored, or is none."""
    item = _object(point, FACTS_NAME)
    content = b"".join(read_verified(store, item))
    try:
        return DumpFacts.from_json(read_json(content))
    except (ValueError, TypeError, AttributeError) as error:
        raise _unreadable(item.key) from error


def read_dump(
    store: ObjectStore, point: RecoveryPoint, facts: DumpFacts
) -> Iterator[StoredKey | Functions]:
    """All that a point holds, in its order."""
    item = _object(point, STREAM_NAME)
    pieces = _Digested(decompress(read_verified(store, item), item.key))
    database = -1
    counts: dict[str, int] = {}
    for command in _Commands(iter(pieces), item.key):
        if command[0] == b"SELECT" and len(command) == 2:
            database = _number(command[1], item.key)
            counts[str(database)] = 0
        elif database >= 0 and command[0] == b"RESTORE" and command[4:] == [b"ABSTTL", b"REPLACE"]:
            counts[str(database)] += 1
            expiry = _number(command[2], item.key)
            yield StoredKey(database, command[1], command[3], expiry or None)
        elif command[:2] == [b"FUNCTION", b"RESTORE"] and command[3:] == [b"REPLACE"]:
            yield Functions(command[2])
        else:
            raise _unreadable(item.key)
    found = pieces.digest.hexdigest()
    if counts != facts.keys or found != facts.sha256:
        raise DigestMismatch(
            f"expected {item.key} to hold keys {facts.keys} (sha-256 {facts.sha256}), found "
            f"{counts} ({found})",
            hint=HINT,
            key=item.key,
        )


class _Commands:
    """RESP arrays of bulk strings, one after the other; in memory is one of them."""

    def __init__(self, pieces: Iterator[bytes], key: str) -> None:
        self._pieces, self._key = pieces, key
        self._buffer, self._at = b"", 0

    def __iter__(self) -> Iterator[list[bytes]]:
        while self._fill(1):
            count = self._number(b"*", MOST_WORDS)
            yield [self._word() for _ in range(count)]

    def _word(self) -> bytes:
        size = self._number(b"$", LONGEST_WORD_BYTES)
        word = self._take(size)
        if self._take(2) != b"\r\n":
            raise _unreadable(self._key)
        return word

    def _number(self, mark: bytes, most: int) -> int:
        """ "$12" CR LF -> 12."""
        end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            self._fill(LONGEST_LINE_BYTES)
            end = self._buffer.find(b"\r\n", self._at)
        line = self._buffer[self._at : max(end, self._at)]
        if end < 0 or line[:1] != mark or not line[1:].isdigit() or int(line[1:]) > most:
            raise _unreadable(self._key)
        self._at = end + 2
        return int(line[1:])

    def _take(self, size: int) -> bytes:
        if not self._fill(size):
            raise _unreadable(self._key)
        part = self._buffer[self._at : self._at + size]
        self._at += size
        return part

    def _fill(self, size: int) -> bool:
        """Whether there are `size` bytes more."""
        if len(self._buffer) - self._at >= size:
            return True
        parts = [self._buffer[self._at :]]
        found = len(parts[0])
        while found < size and (piece := next(self._pieces, b"")):
            parts.append(piece)
            found += len(piece)
        self._buffer, self._at = b"".join(parts), 0
        return found >= size


class _Digested:
    """Pieces on their way, and the SHA-256 of those that went by."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self.digest = pieces, hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.digest.update(piece)
            yield piece


def _number(word: bytes, key: str) -> int:
    if not word.isdigit():
        raise _unreadable(key)
    return int(word)


def _object(point: RecoveryPoint, name: str) -> StoredObject:
    found = [item for item in point.objects if item.key.endswith(f"/{name}")]
    if len(found) != 1:
        raise Damaged(
            f"expected one object {name} in {point.id}, found {len(found)}",
            code="list-differs",
            hint=HINT,
        )
    return found[0]


def _unreadable(key: str) -> Damaged:
    return Damaged(
        f"expected a dump that can be read, {key} is none",
        code="dump-unreadable",
        hint=HINT,
        key=key,
    )
