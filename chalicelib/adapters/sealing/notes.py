"""Notes of sealed objects: told by the cloud that holds them, and read by whoever has the key.

    note     <id of the data key>.<base64, for URLs, of nonce and ciphertext>
    cipher   AES-256-GCM, a random nonce of 12 bytes, under HKDF of the data key ("leeward note 1")

It is bound to its place, location and name, as the frames of the object are. An ETag or a SHA-256
in the clear would tell the cloud which known content lies there.
"""

from __future__ import annotations

import os
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chalicelib.adapters.sealing.envelope import SECRET_BYTES, DataKey, derive
from chalicelib.adapters.sealing.key_ring import KeyRing
from chalicelib.adapters.sealing.key_sets import KEY_ID
from chalicelib.errors import Damaged, NotReady, Unavailable

NOTE_INFO = b"leeward note 1"
NONCE_BYTES = 12
# Each object of a stranger can name another data key: of so many that are not there each is asked
# for, as it may be of this moment, and of those beyond the ones that are listed.
MOST_STRANGE = 100


def seal_note(key: DataKey, name: str, note: str) -> str:
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + _cipher(key).encrypt(nonce, note.encode(), _place(key, name))
    return f"{key.id}.{urlsafe_b64encode(sealed).decode()}"


class NoteReader:
    """Reads notes of one listing; each data key is asked for once."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._strange = 0
        self._found: dict[str, tuple[DataKey, AESGCM] | str | None] = {}

    def read(self, name: str, sealed: str | None) -> str | None:
        """None when it is not told or its data key cannot be had now, so that nobody knows what it
        says; "" for what nobody with a data key of this location has noted."""
        if sealed is None:
            return None
        key_id, _, rest = sealed.partition(".")
        if not KEY_ID.fullmatch(key_id):
            return ""
        if key_id not in self._found:
            if self._strange >= MOST_STRANGE and key_id not in self._listed:
                return ""
            self._found[key_id] = self._find(key_id)
        found = self._found[key_id]
        return _open(*found, name, rest) if isinstance(found, tuple) else found

    @cached_property
    def _listed(self) -> frozenset[str]:
        return frozenset(self._keys.key_ids())

    def _find(self, key_id: str) -> tuple[DataKey, AESGCM] | str | None:
        try:
            key = self._keys.opening_key(key_id)
            return key, _cipher(key)
        except Damaged:
            self._strange += 1
            return ""
        except (NotReady, Unavailable):
            return None


def _open(key: DataKey, cipher: AESGCM, name: str, sealed: str) -> str:
    try:
        data = urlsafe_b64decode(sealed)
        nonce, rest = data[:NONCE_BYTES], data[NONCE_BYTES:]
        return cipher.decrypt(nonce, rest, _place(key, name)).decode()
    except (ValueError, InvalidTag):
        return ""


def _cipher(key: DataKey) -> AESGCM:
    return AESGCM(derive(key.secret, salt=b"", info=NOTE_INFO, length=SECRET_BYTES))


def _place(key: DataKey, name: str) -> bytes:
    place = (key.location.encode(), name.encode())
    return b"".join(struct.pack(">I", len(it)) + it for it in place)
