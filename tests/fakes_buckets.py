"""Whole buckets in memory, behind the port that production uses: versions, markers, copies."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

from chalicelib.errors import DigestMismatch, NotReady, Refused, Truncated
from chalicelib.ports.buckets import (
    ChecksumName,
    CopySource,
    Deleted,
    KeyFailure,
    ObjectFacts,
    ObjectRow,
    Versioning,
    VersionRow,
    Written,
)


@dataclass
class Stored:
    """One version; a marker has no data."""

    facts: ObjectFacts
    data: bytes | None
    tags: dict[str, str] = field(default_factory=dict)


class InMemoryBuckets:
    """All buckets of one cloud. `now` is what they stamp with."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.all: dict[str, InMemoryBucket] = {}
        self.now = now

    def create(self, name: str, *, versioned: bool = False) -> InMemoryBucket:
        self.all[name] = InMemoryBucket(self, name, "Enabled" if versioned else "")
        return self.all[name]

    def bucket(self, name: str, region: str = "us-east-1") -> InMemoryBucket:
        return self.all.get(name) or InMemoryBucket(self, name, "", missing=True)


class InMemoryBucket:
    """`versions`: key -> newest first. `failing`: keys whose deletion the server refuses.
    `page_rows`: how many objects a page has."""

    region = "us-east-1"

    def __init__(
        self, world: InMemoryBuckets, name: str, status: Versioning, *, missing: bool = False
    ) -> None:
        self._world, self.name, self._status, self._missing = world, name, status, missing
        self.versions: dict[str, list[Stored]] = {}
        self.failing: set[str] = set()
        self.requests = 0
        self.page_rows = 1000
        self._numbers = count(1)

    async def list(
        self, prefix: str = "", *, start_after: str = "", end_before: str = ""
    ) -> AsyncGenerator[ObjectRow, None]:
        self._used()
        for key in sorted(self.versions):
            if end_before and key >= end_before:
                return
            top = self.versions[key][0]
            if key.startswith(prefix) and key > start_after and top.data is not None:
                facts = top.facts
                yield ObjectRow(
                    key, facts.size_bytes, facts.etag, facts.modified_at, facts.storage_class
                )

    async def pages(
        self, prefix: str = "", *, start_after: str = "", end_before: str = ""
    ) -> AsyncGenerator[Sequence[ObjectRow], None]:
        rows = self.list(prefix, start_after=start_after, end_before=end_before)
        page: list[ObjectRow] = []
        async for row in rows:
            page.append(row)
            if len(page) == self.page_rows:
                yield page
                page = []
        if page:
            yield page

    async def prefixes(
        self, prefix: str = "", *, start_after: str = "", delimiter: str = "/"
    ) -> AsyncGenerator[str, None]:
        found = start_after
        async for row in self.list(prefix):
            head, mark, _ = row.key[len(prefix) :].partition(delimiter)
            if mark and prefix + head + mark > found:
                found = prefix + head + mark
                yield found

    async def list_versions(
        self,
        prefix: str = "",
        *,
        key_marker: str = "",
        version_id_marker: str = "",
        through: str = "",
    ) -> AsyncGenerator[VersionRow, None]:
        self._used()
        for key in sorted(self.versions):
            if not key.startswith(prefix) or key < key_marker or (through and key > through):
                continue
            rows = [self._row(key, place) for place in range(len(self.versions[key]))]
            if key == key_marker:
                ids = [row.version_id for row in rows]
                rows = rows[ids.index(version_id_marker) + 1 :] if version_id_marker else []
            for row in rows:
                yield row

    async def version_level(
        self, prefix: str = "", *, delimiter: str = "/"
    ) -> AsyncGenerator[VersionRow | str, None]:
        self._used()
        found = ""
        for key in sorted(self.versions):
            head, mark, _ = key[len(prefix) :].partition(delimiter)
            if not key.startswith(prefix):
                continue
            if not mark:
                for place in range(len(self.versions[key])):
                    yield self._row(key, place)
            elif prefix + head + mark != found:
                found = prefix + head + mark
                yield found

    def complete(self, key: str, data: bytes, begun_at: datetime) -> None:
        """End an upload in parts: dated by its beginning, with an ETag of parts."""
        facts = ObjectFacts(key, 0, "", begun_at)
        self._store(key, data, facts, {})
        newest = self.versions[key][0]
        dated = replace(newest.facts, modified_at=begun_at, etag=f"{newest.facts.etag}-2")
        self.versions[key][0] = replace(newest, facts=dated)

    async def versioning(self) -> Versioning:
        self._used()
        return self._status

    async def head(self, key: str, *, version_id: str = "", checksums: bool = True) -> ObjectFacts:
        found = self._find(key, version_id)
        facts = replace(found.facts, tag_count=len(found.tags))
        return facts if checksums else replace(facts, checksums={})

    async def tags(self, key: str, *, version_id: str = "") -> dict[str, str]:
        return dict(self._find(key, version_id).tags)

    async def copy_from(
        self, source: CopySource, *, to_key: str = "", checksum: ChecksumName = "SHA256"
    ) -> Written:
        self._used()
        found = self._world.bucket(source.bucket)._find(source.key, source.version_id)
        if source.etag and source.etag != found.facts.etag:
            raise DigestMismatch(f"expected {source.etag}", code="object-changed", hint="Again.")
        if found.facts.storage_class in ("GLACIER", "DEEP_ARCHIVE"):
            raise NotReady("expected a readable object", code="archived", hint="Restore it.")
        assert found.data is not None
        return self._store(to_key or source.key, found.data, found.facts, found.tags)

    async def get(
        self, key: str, *, version_id: str = "", start: int = 0, end: int = -1, etag: str = ""
    ) -> AsyncGenerator[bytes, None]:
        found = self._find(key, version_id)
        if etag and etag != found.facts.etag:
            raise DigestMismatch(f"expected {etag}", code="object-changed", hint="Again.")
        assert found.data is not None
        data = found.data[start : end if end >= 0 else None]
        for at in range(0, len(data), 1 << 16):
            yield data[at : at + (1 << 16)]

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Written:
        self._used()
        plain = ObjectFacts(key, 0, "", self._world.now(), metadata=metadata or {})
        return self._store(key, data, replace(plain, headers=headers or {}), {})

    async def delete(self, keys: Sequence[tuple[str, str]]) -> Deleted:
        self._used()
        done, failed = [], []
        for key, version_id in keys:
            if key in self.failing:
                failed.append(KeyFailure(key, version_id, "AccessDenied"))
                continue
            self._remove(key, version_id)
            done.append((key, version_id))
        return Deleted(tuple(done), tuple(failed))

    async def put_markers(self, keys: Sequence[str]) -> Deleted:
        if self._status != "Enabled":
            raise Refused("expected versioning", code="not-versioned", hint="Turn it on.")
        return await self.delete([(key, "") for key in keys])

    def _remove(self, key: str, version_id: str) -> None:
        if version_id:
            kept = [v for v in self.versions.get(key, []) if v.facts.version_id != version_id]
            self.versions[key] = kept
        elif self._status == "Enabled":
            facts = ObjectFacts(key, 0, "", self._world.now(), version_id=self._new_id())
            self.versions.setdefault(key, []).insert(0, Stored(facts, None))
        else:
            self.versions[key] = []
        if not self.versions[key]:
            del self.versions[key]

    def _store(self, key: str, data: bytes, like: ObjectFacts, tags: Mapping[str, str]) -> Written:
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        checksums = {"SHA256": b64encode(hashlib.sha256(data).digest()).decode()}
        facts = replace(
            like, key=key, size_bytes=len(data), etag=etag, modified_at=self._world.now(),
            version_id=self._new_id(), checksums=checksums, checksum_type="FULL_OBJECT",
        )  # fmt: skip
        older = self.versions.get(key, []) if self._status == "Enabled" else []
        self.versions[key] = [Stored(facts, bytes(data), dict(tags)), *older]
        return Written(key, etag, facts.version_id, checksums)

    def _find(self, key: str, version_id: str) -> Stored:
        self._used()
        for stored in self.versions.get(key, ()):
            if version_id in ("", stored.facts.version_id):
                if stored.data is None:
                    break
                return stored
        raise Truncated(f"expected {key}, found none", code="object-missing", hint="Look again.")

    def _row(self, key: str, place: int) -> VersionRow:
        stored = self.versions[key][place]
        facts, is_marker = stored.facts, stored.data is None
        return VersionRow(
            key, facts.version_id or "null", place == 0, is_marker, facts.modified_at,
            facts.size_bytes, facts.etag, "" if is_marker else facts.storage_class,
        )  # fmt: skip

    def _new_id(self) -> str:
        return f"v{next(self._numbers)}" if self._status == "Enabled" else ""

    def _used(self) -> None:
        self.requests += 1
        if self._missing:
            raise NotReady(f"expected a bucket {self.name}", code="no-bucket", hint="Name it.")
