"""A store whose objects are sealed before they leave: the port ObjectStore over another one.

Same keys, plaintext in, plaintext out, sealed bytes inside (envelope.py). Sizes and digests are
the plaintext's everywhere: the digest of an object is the same in every location. Notes are sealed,
too (notes.py). `keys/` belongs to the key sets and is hidden.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

from chalicelib.adapters.sealing.envelope import (
    FRAME_BYTES,
    HEADER_BYTES,
    MAGIC,
    VERSION,
    DataKey,
    Sealer,
    first_bytes,
    frame_at,
    plain_size,
    seal,
    unseal,
)
from chalicelib.adapters.sealing.key_names import KeyNames
from chalicelib.adapters.sealing.key_ring import KEYS, KeyRing
from chalicelib.adapters.sealing.notes import NoteReader, seal_note
from chalicelib.adapters.sealing.writer import Checkpoint, LastingSealingWriter, SealingWriter
from chalicelib.errors import BadInput, NotReady
from chalicelib.plan.records import StoredObject
from chalicelib.ports import KeepsUploads, Listed, ObjectStore, ReadsOn, StoredFacts, notes_of

NAMES = KeyNames()
NO_SIZE = -1
"""Size of what no sealed object can be: cut short, or put there unsealed. No manifest has it."""


class SealedStore:
    """`inner`: the prefix that `keys` was made for."""

    def __init__(self, inner: ObjectStore, keys: KeyRing) -> None:
        self._inner, self._keys = inner, keys
        self._used: set[str] = set()
        self._note: Callable[[], str] = str

    @property
    def encryption(self) -> str:
        """Names the data keys that this store has sealed with so far."""
        form = f"AES-256-GCM before it is sent ({(MAGIC + VERSION).decode()})"
        return f"{form}, data key {', '.join(sorted(self._used))}" if self._used else form

    @property
    def keys(self) -> KeyRing:
        return self._keys

    @property
    def keeps_notes(self) -> bool:
        return notes_of(self._inner) is not None

    def noting(self, note: Callable[[], str]) -> SealedStore:
        noting = copy.copy(self)
        noting._note = note
        return noting

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        data_key = self._sealing_key(key)
        sealed = seal(data, data_key, key)
        self._noted(key, data_key).put(key, sealed, if_absent=if_absent)
        return StoredObject(key, len(data), hashlib.sha256(data).hexdigest())

    @contextmanager
    def open_writer(self, key: str) -> Iterator[SealingWriter]:
        data_key = self._sealing_key(key)
        with self._noted(key, data_key).open_writer(key) as writer:
            yield SealingWriter(key, writer, Sealer(data_key, key))

    @contextmanager
    def open_lasting(self, key: str, checkpoint: bytes = b"") -> Iterator[LastingSealingWriter]:
        """Raises NotReady (code "uploads-end") over a store that keeps no uploads."""
        begun = Checkpoint.read(checkpoint) if checkpoint else None
        data_key = self._keys.opening_key(begun.key_id) if begun else self._sealing_key(key)
        self._used.add(data_key.id)
        sealer = Sealer(data_key, _checked(key), salt=begun.salt if begun else None)
        inner = _keeping(self._noted(key, data_key))
        with inner.open_lasting(key, begun.inner if begun else b"") as writer:
            yield LastingSealingWriter(key, writer, sealer, data_key.id, begun)

    def abandon(self, key: str, checkpoint: bytes) -> None:
        _keeping(self._inner).abandon(key, Checkpoint.read(checkpoint).inner)

    def get(self, key: str) -> bytes:
        sealed = self._inner.get(_checked(key))
        return b"".join(unseal([sealed], self._keys.opening_key, key))

    def read(self, key: str) -> Iterator[bytes]:
        """Each chunk is authentic; whether any is missing is known at the end.

        Raises Tampered as `unseal`, and what `KeyRing.opening_key` raises.
        """
        return unseal(self._inner.read(_checked(key)), self._keys.opening_key, key)

    def read_on(self, key: str, start: int, *, version: str) -> Iterator[bytes]:
        """The header is read first, then the frames from that of `start` on."""
        inner = self._inner
        if not isinstance(inner, ReadsOn):
            raise _ends("ranges", "read")
        header = first_bytes(inner.read_on(_checked(key), 0, version=version), HEADER_BYTES)
        number, at = frame_at(start)
        sealed = chain([header], inner.read_on(key, at, version=version))
        skipped = start % FRAME_BYTES
        for frame in unseal(sealed, self._keys.opening_key, key, number=number):
            yield frame[skipped:]
            skipped = 0

    def list(self, prefix: str = "") -> Iterator[Listed]:
        """`size_bytes` is -1 for what cannot be a sealed object."""
        return self._opened(self._inner.list(prefix))

    def list_noted(self, prefix: str = "") -> Iterator[Listed]:
        inner = notes_of(self._inner)
        assert inner is not None, "as keeps_notes tells"
        return self._opened(inner.list_noted(prefix))

    def _opened(self, rows: Iterator[Listed]) -> Iterator[Listed]:
        notes = NoteReader(self._keys)
        for row in rows:
            if not row.key.startswith(KEYS):
                note = notes.read(row.key, row.note)
                yield replace(row, size_bytes=_plain_size(row.size_bytes), note=note)

    def delete(self, key: str) -> None:
        self._inner.delete(_checked(key))

    def facts(self, key: str) -> StoredFacts:
        """The checksums are of the sealed bytes and say so: "sealed-sha256", "sealed-crc32c", ...

        They change whenever the object is written; compare them with those of the same version.
        """
        facts = self._inner.facts(_checked(key))
        note = NoteReader(self._keys).read(key, facts.note)
        size_bytes = _plain_size(facts.size_bytes)
        checksums, noted_as = _of_sealed(facts.checksums), _of_sealed(facts.noted_as)
        return replace(
            facts, size_bytes=size_bytes, checksums=checksums, noted_as=noted_as, note=note
        )

    def _noted(self, key: str, data_key: DataKey) -> ObjectStore:
        """Where an object is written: what its writer notes is sealed when it is asked for."""
        inner = notes_of(self._inner)
        if inner is None:
            return self._inner

        def sealed() -> str:
            note = self._note()
            return seal_note(data_key, key, note) if note else ""

        return inner.noting(sealed)

    def _sealing_key(self, key: str) -> DataKey:
        _checked(key)
        data_key = self._keys.sealing_key()
        self._used.add(data_key.id)
        return data_key


def _keeping(inner: ObjectStore) -> KeepsUploads:
    if not isinstance(inner, KeepsUploads):
        raise _ends("uploads", "written")
    return inner


def _ends(what: str, done: str) -> NotReady:
    return NotReady(
        f"expected a store that keeps {what}, found one in which an object is {done} at once",
        code="uploads-end",
        hint="Copy it with `leeward copy`, which has no time limit.",
    )


def _of_sealed(checksums: Mapping[str, str]) -> dict[str, str]:
    return {f"sealed-{name}": value for name, value in checksums.items()}


def _plain_size(sealed_bytes: int) -> int:
    size_bytes = plain_size(sealed_bytes)
    return NO_SIZE if size_bytes is None else size_bytes


def _checked(key: str) -> str:
    """Raises BadInput: "reserved-name", and as KeyNames for what no store can hold."""
    NAMES.name(key)
    if key.startswith(KEYS):
        raise BadInput(
            f"expected a key outside {KEYS}, found {key!r}",
            code="reserved-name",
            hint="Key sets lie there; store the object under another name.",
            key=key,
        )
    return key
