"""In-memory object store, and one that fails on demand, behind the port that production uses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from chalicelib.errors import DigestMismatch, LeewardError, Refused, Truncated
from chalicelib.plan.records import StoredObject
from chalicelib.ports import Listed, ObjectStore, ObjectWriter, StoredFacts


class InMemoryObjectStore:
    encryption = "none (memory)"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        if if_absent and key in self.objects:
            raise Refused(f"expected no object {key}, found one", code="exists", hint="Read it.")
        self.objects[key] = bytes(data)
        return StoredObject(key, len(data), hashlib.sha256(data).hexdigest())

    @contextmanager
    def open_writer(self, key: str) -> Iterator[_MemoryWriter]:
        yield _MemoryWriter(self, key)

    def get(self, key: str) -> bytes:
        if key not in self.objects:
            raise Truncated(f"expected {key}, found none", code="object-missing", hint="Look.")
        return self.objects[key]

    def read(self, key: str) -> Iterator[bytes]:
        data = self.get(key)
        for start in range(0, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    def read_on(self, key: str, start: int, *, version: str) -> Iterator[bytes]:
        data = self.get(key)
        if hashlib.sha256(data).hexdigest() != version:
            raise DigestMismatch(f"{key} was replaced", code="object-changed", hint="Look.")
        for at in range(start, len(data), 1 << 20):
            yield data[at : at + (1 << 20)]

    def list(self, prefix: str = "") -> Iterator[Listed]:
        for key in sorted(self.objects, key=str.encode):
            if key.startswith(prefix):
                yield Listed(key, len(self.objects[key]), datetime.now(UTC))

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def facts(self, key: str) -> StoredFacts:
        data = self.get(key)
        digest = hashlib.sha256(data).hexdigest()
        return StoredFacts(len(data), datetime.now(UTC), {"sha256": digest}, version=digest)


class _MemoryWriter:
    def __init__(self, store: InMemoryObjectStore, key: str) -> None:
        self._store, self._key, self._buffer = store, key, bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._buffer += data

    def commit(self) -> StoredObject:
        return self._store.put(self._key, bytes(self._buffer))


class FailingObjectStore:
    """Any store whose writing call number `fail_at` (from 1) raises `error`, once."""

    def __init__(self, inner: ObjectStore, error: LeewardError, *, fail_at: int) -> None:
        self._inner, self._error, self._left = inner, error, fail_at

    @property
    def encryption(self) -> str:
        return self._inner.encryption

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise self._error

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        self._count()
        return self._inner.put(key, data, if_absent=if_absent)

    @contextmanager
    def open_writer(self, key: str) -> Iterator[ObjectWriter]:
        with self._inner.open_writer(key) as writer:
            self._count()
            yield writer

    def get(self, key: str) -> bytes:
        return self._inner.get(key)

    def read(self, key: str) -> Iterator[bytes]:
        return self._inner.read(key)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        self._count()
        self._inner.delete(key)

    def facts(self, key: str) -> StoredFacts:
        return self._inner.facts(key)
