"""Under which key of an ObjectStore the object of a user's bucket lies.

`objects/<key>`, the key unchanged: the stores themselves keep odd keys from being normalised and
list in byte order, so a replica can be compared with its bucket by two listings read side by side.
(Percent-encoding here would break that order.) A key that no store could name any longer lies under
`objects-long/<SHA-256 of the key>`; its true key is in the inventory.
"""

from __future__ import annotations

import hashlib

NAMES = "objects/"
LONG_NAMES = "objects-long/"
# A store may write a key as hexadecimal digits, twice its length, below a prefix of its own, and
# has 1,024 bytes for all of it.
LONGEST_KEY_BYTES = 400


def name_of_key(key: str) -> str:
    if is_long(key):
        return LONG_NAMES + hashlib.sha256(key.encode()).hexdigest()
    return NAMES + key


def key_of_name(name: str) -> str:
    """Raises ValueError for a long name, which only the inventory can turn back."""
    if not name.startswith(NAMES):
        raise ValueError(f"{name!r} does not begin with {NAMES}")
    return name[len(NAMES) :]


def is_long(key: str) -> bool:
    return len(key.encode()) > LONGEST_KEY_BYTES
