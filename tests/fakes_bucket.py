"""A versioned bucket in memory behind the port Bucket: S3's rules for versions, markers and times.

Times are whole seconds of a clock that the test sets, as S3 lists them. `Enabled` versioning
alone; what would lose data raises.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.errors import LeewardError, NotReady, Truncated
from chalicelib.ports.buckets import (
    CopySource,
    Deleted,
    KeyFailure,
    ObjectFacts,
    ObjectRow,
    VersionRow,
    Written,
)

START = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")


def second(number: int) -> datetime:
    return START + timedelta(seconds=number)


@dataclass
class Entry:
    version_id: str
    at: datetime
    data: bytes | None = None
    etag: str = ""
    storage_class: str = "STANDARD"
    metadata: Mapping[str, str] = field(default_factory=dict)
    encryption: str = ""
    thawed: bool = False


class InMemoryBucket:
    """`fail(what, key)` may raise before a request; `requests` counts them by kind."""

    region = "us-east-1"

    def __init__(self, name: str = "uploads", others: dict[str, InMemoryBucket] | None = None):
        self.name = name
        self.keys: dict[str, list[Entry]] = {}
        self.now = START
        self.requests: dict[str, int] = {}
        self.refused: set[str] = set()
        self.fail: Callable[[str, str], None] = lambda what, key: None
        self.others = {} if others is None else others
        self.others[name] = self
        self._made = 0

    def write(self, key: str, data: bytes, **more: Any) -> Entry:
        entry = Entry(self._next_id(), self.now, data, hashlib.md5(data).hexdigest())
        for name, value in more.items():
            setattr(entry, name, value)
        self.keys.setdefault(key, []).insert(0, entry)
        return entry

    def remove(self, key: str) -> Entry:
        entry = Entry(self._next_id(), self.now)
        self.keys.setdefault(key, []).insert(0, entry)
        return entry

    def state(self) -> dict[str, bytes]:
        """What readers get."""
        newest = {key: entries[0] for key, entries in self.keys.items() if entries}
        return {key: one.data for key, one in newest.items() if one.data is not None}

    def version_ids(self) -> set[tuple[str, str]]:
        """Of all objects, markers aside."""
        return {
            (key, one.version_id)
            for key, entries in self.keys.items()
            for one in entries
            if one.data is not None
        }

    def rows(self) -> list[VersionRow]:
        return [
            _version_row(key, entry, number == 0)
            for key in sorted(self.keys)
            for number, entry in enumerate(self.keys[key])
        ]

    async def list(
        self, prefix: str = "", *, start_after: str = "", end_before: str = ""
    ) -> AsyncIterator[ObjectRow]:
        self._count("list", prefix)
        for row in self.rows():
            if row.is_latest and not row.is_marker and row.key.startswith(prefix):
                yield ObjectRow(row.key, row.size_bytes, row.etag, row.modified_at)

    async def list_versions(
        self, prefix: str = "", *, key_marker: str = "", version_id_marker: str = ""
    ) -> AsyncIterator[VersionRow]:
        self._count("list", prefix)
        for row in self.rows():
            if row.key.startswith(prefix):
                await asyncio.sleep(0)
                yield row

    async def head(self, key: str, *, version_id: str = "", checksums: bool = True) -> ObjectFacts:
        self._count("head", key)
        entry = self._entry(key, version_id)
        assert entry.data is not None
        return ObjectFacts(
            key=key,
            size_bytes=len(entry.data),
            etag=entry.etag,
            modified_at=entry.at,
            version_id=entry.version_id,
            metadata=entry.metadata,
            encryption=entry.encryption,
        )

    async def copy_from(
        self, source: CopySource, *, to_key: str = "", checksum: str = "SHA256"
    ) -> Written:
        self._count("copy", source.key)
        entry = self.others[source.bucket]._entry(source.key, source.version_id)
        if entry.storage_class in ARCHIVES and not entry.thawed:
            raise NotReady("expected a readable object, found it archived", code="archived")
        assert entry.data is not None
        made = self.write(
            to_key or source.key, entry.data, metadata=entry.metadata,
            storage_class=source.storage_class or "STANDARD", encryption=entry.encryption,
        )  # fmt: skip
        if entry.encryption:
            made.etag = hashlib.md5(made.version_id.encode()).hexdigest()
        return Written(source.key, made.etag, made.version_id)

    async def get(
        self, key: str, *, version_id: str = "", start: int = 0, end: int = -1, etag: str = ""
    ) -> AsyncIterator[bytes]:
        self._count("get", key)
        data = self._entry(key, version_id).data
        assert data is not None
        yield data

    async def delete(self, keys: Sequence[tuple[str, str]]) -> Deleted:
        self._count("batch", keys[0][0])
        done, failed = [], []
        for key, version_id in keys:
            assert version_id, "markers are put by put_markers"
            if key in self.refused:
                failed.append(KeyFailure(key, version_id, "AccessDenied", "no"))
                continue
            self.keys[key] = [one for one in self.keys[key] if one.version_id != version_id]
            done.append((key, version_id))
        return Deleted(tuple(done), tuple(failed))

    async def put_markers(self, keys: Sequence[str]) -> Deleted:
        self._count("batch", keys[0])
        failed = [KeyFailure(key, "", "AccessDenied", "no") for key in keys if key in self.refused]
        done = [key for key in keys if key not in self.refused]
        for key in done:
            self.remove(key)
        return Deleted(tuple((key, "") for key in done), tuple(failed))

    def _entry(self, key: str, version_id: str) -> Entry:
        for entry in self.keys.get(key, []):
            if version_id in ("", entry.version_id) and entry.data is not None:
                return entry
        raise Truncated(f"expected {key}, found none", code="object-missing")

    def _count(self, what: str, key: str) -> None:
        self.fail(what, key)
        self.requests[what] = self.requests.get(what, 0) + 1

    def _next_id(self) -> str:
        self._made += 1
        return f"{self.name}-{self._made}"


class Thawing:
    """The port BucketControl's `thaw`: what it is asked for can be copied from then on."""

    def __init__(self, bucket: InMemoryBucket) -> None:
        self.bucket = bucket
        self.asked: list[tuple[str, str]] = []

    def thaw(self, versions: Sequence[tuple[str, str]], *, days: int) -> dict[tuple[str, str], str]:
        self.asked += versions
        for key, version_id in versions:
            self.bucket._entry(key, version_id).thawed = True
        return {}


def failing_once(what: str, number: int, error: LeewardError) -> Callable[[str, str], None]:
    """A `fail` that raises at the request of that kind and number, from 1."""
    left = [number]

    def fail(kind: str, key: str) -> None:
        if kind == what:
            left[0] -= 1
            if left[0] == 0:
                raise error

    return fail


def _version_row(key: str, entry: Entry, is_latest: bool) -> VersionRow:
    if entry.data is None:
        return VersionRow(key, entry.version_id, is_latest, True, entry.at)
    return VersionRow(
        key, entry.version_id, is_latest, False, entry.at, len(entry.data), entry.etag,
        entry.storage_class,
    )  # fmt: skip
