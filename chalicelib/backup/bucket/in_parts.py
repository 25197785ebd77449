"""Objects that were uploaded in parts: S3 dates them by the beginning of their upload.

    begun at 1:00            the object's date, and all that a listing tells
        copied at 2:00       what was there before, of the same size perhaps
    completed at 3:00        from here on it is the object, and the copy looks younger

Its event tells when it came (replicate.py). A sync without one goes by what the last good sync has
compared, which is kept: an object whose key and ETag are among that was there then, so that its
copy is of it, or of what came later. Of any other the bucket's versions tell whether the copy can
be of another one.
Source: "Uploading and copying objects using multipart upload", S3 user guide.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from bisect import bisect_left
from contextlib import aclosing

from chalicelib.errors import Truncated
from chalicelib.ports import ObjectStore
from chalicelib.ports.buckets import Bucket, ObjectRow

FORMAT = b"leeward compared 1\n"
DIGEST_BYTES = 8
NOT_VERSIONED = ("", "null")


class Compared:
    """The objects that time does not tell, as digests of key and ETag; 8 bytes each.

    `before`: those of the last good sync, ascending. `add` collects those of this one.
    """

    def __init__(self, before: array[int] | None = None) -> None:
        self._before = array("Q") if before is None else before
        self._now = array("Q")

    def knows(self, row: ObjectRow) -> bool:
        digest = _digest(row)
        at = bisect_left(self._before, digest)
        return at < len(self._before) and self._before[at] == digest

    def add(self, row: ObjectRow) -> None:
        self._now.append(_digest(row))

    def to_bytes(self) -> bytes:
        """What this sync has seen, for the next one."""
        return FORMAT + _swapped(array("Q", sorted(self._now))).tobytes()

    @classmethod
    def from_bytes(cls, note: bytes) -> Compared:
        """Nothing of what it does not understand: then every such object is asked for."""
        digests = note[len(FORMAT) :]
        if not note.startswith(FORMAT) or len(digests) % DIGEST_BYTES:
            return cls()
        return cls(_swapped(array("Q", digests)))


def is_in_parts(etag: str) -> bool:
    return "-" in etag


async def may_be_older(source: Bucket, row: ObjectRow, copied: ObjectRow) -> bool:
    """Whether `copied`, of the same size, can be of another version than `row`.

    A version that was removed for good since is not seen; without versions nothing tells.
    """
    async with aclosing(source.list_versions(row.key, through=row.key)) as versions:
        async for one in versions:
            if one.is_latest and one.version_id in NOT_VERSIONED:
                return True
            same = not one.is_marker and one.size_bytes == row.size_bytes
            if same and not one.is_latest and one.modified_at <= copied.modified_at:
                return True
    return False


def load_compared(notes: ObjectStore, location: str) -> Compared:
    """Of no note: nothing was compared yet."""
    try:
        return Compared.from_bytes(notes.get(_note(location)))
    except Truncated as error:
        if error.instance_code != "object-missing":
            raise
        return Compared()


def save_compared(notes: ObjectStore, location: str, compared: bytes) -> None:
    """Only after a sync of everything that left nothing behind."""
    notes.put(_note(location), compared)


def _note(location: str) -> str:
    # No location has such a name: what is on its way to one lies beside it.
    return f"copying/compared={location}"


def _digest(row: ObjectRow) -> int:
    named = f"{row.etag} {row.key}".encode()
    return int.from_bytes(hashlib.blake2b(named, digest_size=DIGEST_BYTES).digest(), "big")


def _swapped(digests: array[int]) -> array[int]:
    """Between this machine's order of bytes and the note's, which is little-endian."""
    if sys.byteorder == "big":
        digests.byteswap()
    return digests
