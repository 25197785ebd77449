"""What a check of stored copies can find, each with a stable code.

    missing             an object of a manifest, or an index beside the WAL, is not there
    truncated           it is shorter than its manifest says, or cannot be read to its end
    damaged             its bytes are not those of its manifest, or not those that were read before
    swapped             its bytes are those of another object
    overwritten         somebody wrote over it, and the bytes are others now
    checksum            the checksum that the store keeps is not that of the expected bytes
    unreadable          the store refuses to give it
    extra               an object that belongs to nothing
    tampered            a manifest contradicts itself or the index
    manifest-missing    the index names a point of which there is no manifest
    not-indexed         a manifest of which the index knows nothing
    parent-missing      an incremental without the point that it builds on
    wal-gap             WAL that recovery needs is not there
    unread-too-long     bytes that were not read for longer than promised
    nothing-to-check    there is no recovery point at all

What could not be looked at is no finding: it stands among the unreached, and is never green.
"""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.errors import Damaged, LeewardError, Refused, Truncated
from chalicelib.plan.records import Record

# Those that a good copy of the same object mends.
OF_CONTENT = frozenset({"missing", "truncated", "damaged", "swapped", "overwritten"})


@dataclass(frozen=True)
class Finding(Record):
    """`point_id` is "" for WAL and for what belongs to no point; `key` "" for a whole location."""

    code: str
    key: str
    point_id: str
    expected: str
    found: str


@dataclass(frozen=True)
class Unreached(Record):
    """An object, a manifest or a listing of which nothing can be said. `code` as in errors.py, or
    "deadline"."""

    key: str
    code: str
    found: str


DEADLINE = "deadline"


def in_bytes(size_bytes: int) -> str:
    """A sealed store gives a negative size to what cannot be one of its objects."""
    return f"{size_bytes} bytes" if size_bytes >= 0 else "something that was never sealed"


# The store's own words for the codes of errors that say something of one object.
_OF_ERROR = {
    "object-missing": "missing",
    "object-short": "truncated",
    "object-changed": "overwritten",
}


def judge_error(key: str, point_id: str, error: LeewardError) -> Finding | Unreached:
    """What a failed look or read says of the object: only what is certain is a finding."""
    code = _OF_ERROR.get(error.instance_code, "")
    if not code and isinstance(error, Damaged):
        code = "truncated" if isinstance(error, Truncated) else "damaged"
    if not code and isinstance(error, Refused):
        code = "unreadable"
    if code:
        return Finding(code, key, point_id, "the object, whole", error.message)
    return Unreached(key, error.instance_code, error.message)
