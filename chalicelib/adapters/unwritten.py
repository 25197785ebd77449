"""A store for a dry run: what is written to it is counted and hashed, and kept nowhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from chalicelib.plan.records import StoredObject
from chalicelib.ports import Listed, ObjectStore, StoredFacts


class UnwrittenStore:
    """The port ObjectStore over another one, which is asked and never changed.

    Nothing that was written is found again. Whether the other one would take it is not known.
    """

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner

    @property
    def encryption(self) -> str:
        return self._inner.encryption

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        return StoredObject(key, len(data), hashlib.sha256(data).hexdigest())

    @contextmanager
    def open_writer(self, key: str) -> Iterator[_UnwrittenObject]:
        yield _UnwrittenObject(key)

    def get(self, key: str) -> bytes:
        return self._inner.get(key)

    def read(self, key: str) -> Iterator[bytes]:
        return self._inner.read(key)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        """Nothing: what was written is not there."""

    def facts(self, key: str) -> StoredFacts:
        return self._inner.facts(key)


class _UnwrittenObject:
    """The port ObjectWriter."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._digest.update(data)
        self._size_bytes += len(data)

    def commit(self) -> StoredObject:
        return StoredObject(self._key, self._size_bytes, self._digest.hexdigest())
