"""What is noted with a copy of a user's object in another cloud: of which object it was made.

    <ETag of the source's object> <SHA-256 of the content> <16 digits of the SHA-256 of its key>

Digests in hexadecimal. The key's keeps a note from being taken for that of another object, under
whose name somebody has put this one.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

KEY_DIGITS = 16
SHA256_DIGITS = 64


class CopyNote(NamedTuple):
    """Both "" when the object is no copy of Leeward's, or its bytes are others by now."""

    etag: str
    sha256: str


NO_COPY = CopyNote("", "")


def write_note(key: str, etag: str, sha256: str) -> str:
    return f"{etag} {sha256} {_digits(key)}"


def read_note(key: str, note: str | None) -> CopyNote | None:
    """None where the store tells no notes."""
    if note is None:
        return None
    etag, _, rest = note.partition(" ")
    sha256, _, digits = rest.partition(" ")
    is_whole = etag and len(sha256) == SHA256_DIGITS and digits == _digits(key)
    return CopyNote(etag, sha256) if is_whole else NO_COPY


def _digits(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:KEY_DIGITS]
