"""A versioned bucket in memory whose clock, failures and pages a test sets."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.errors import LeewardError
from chalicelib.ports.buckets import (
    ChecksumName,
    CopySource,
    Deleted,
    ObjectFacts,
    VersionRow,
    Written,
)
from tests.fakes_buckets import InMemoryBucket, InMemoryBuckets, Stored

START = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
PAGE = 1000


def second(number: int) -> datetime:
    return START + timedelta(seconds=number)


class VersionedBucket(InMemoryBucket):
    """Times are whole seconds of `now`, as S3 lists them. `fail(what, key)` may raise before a
    request; `asked` counts them by kind.

    A page of versions is found by the last entry of the one before, and asked for ahead; where
    that entry is gone the listing ends early, as moto's does.
    """

    def __init__(self, name: str = "uploads", world: InMemoryBuckets | None = None) -> None:
        self.now = START
        world = world or InMemoryBuckets(lambda: self.now)
        super().__init__(world, name, "Enabled")
        self.world = world
        world.all[name] = self
        self.asked: Counter[str] = Counter()
        self.fail: Callable[[str, str], None] = lambda what, key: None

    def write(self, key: str, data: bytes, **facts: Any) -> None:
        self._store(key, data, ObjectFacts(key, 0, "", self.now), {})
        self.change(key, **facts)

    def change(self, key: str, **facts: Any) -> None:
        """Facts of the newest version."""
        stored = self.versions[key][0]
        self.versions[key][0] = Stored(replace(stored.facts, **facts), stored.data, stored.tags)

    def remove(self, key: str) -> None:
        self._remove(key, "")

    def state(self) -> dict[str, bytes]:
        """What readers get."""
        newest = {key: stored[0].data for key, stored in self.versions.items()}
        return {key: data for key, data in newest.items() if data is not None}

    def rows(self) -> list[VersionRow]:
        return [
            self._row(key, place)
            for key in sorted(self.versions)
            for place in range(len(self.versions[key]))
        ]

    def version_ids(self) -> set[tuple[str, str]]:
        """Of all objects, markers aside."""
        return {(row.key, row.version_id) for row in self.rows() if not row.is_marker}

    async def list_versions(
        self,
        prefix: str = "",
        *,
        key_marker: str = "",
        version_id_marker: str = "",
        through: str = "",
    ) -> AsyncIterator[VersionRow]:
        self._count("list", prefix)
        page = self._page(prefix, key_marker, None)
        while page:
            coming = self._page(prefix, key_marker, page[-1])
            for row in page:
                if through and row.key > through:
                    return
                yield row
            page = coming

    async def head(self, key: str, *, version_id: str = "", checksums: bool = True) -> ObjectFacts:
        self._count("head", key)
        return await super().head(key, version_id=version_id, checksums=checksums)

    async def copy_from(
        self, source: CopySource, *, to_key: str = "", checksum: ChecksumName = "SHA256"
    ) -> Written:
        self._count("copy", source.key)
        written = await super().copy_from(source, to_key=to_key, checksum=checksum)
        self.change(source.key, storage_class=source.storage_class)
        if self.versions[source.key][0].facts.encryption:
            own = hashlib.md5(written.version_id.encode()).hexdigest()
            self.change(source.key, etag=own, checksums={})
        return written

    async def delete(self, keys: Sequence[tuple[str, str]]) -> Deleted:
        self._count("batch", keys[0][0])
        return await super().delete(keys)

    def _page(self, prefix: str, after: str, last: VersionRow | None) -> list[VersionRow]:
        rows = [row for row in self.rows() if row.key.startswith(prefix) and row.key > after]
        if last is None:
            return rows[:PAGE]
        names = [row[:2] for row in rows]
        if last[:2] not in names:
            return []
        start = names.index(last[:2]) + 1
        return rows[start : start + PAGE]

    def _count(self, what: str, key: str) -> None:
        self.fail(what, key)
        self.asked[what] += 1


class Thawing:
    """The port BucketControl's `thaw`: what it is asked for can be copied from then on."""

    def __init__(self, bucket: VersionedBucket) -> None:
        self.bucket = bucket
        self.asked: list[tuple[str, str]] = []

    def thaw(self, versions: Sequence[tuple[str, str]], *, days: int) -> dict[tuple[str, str], str]:
        self.asked += versions
        for key, version_id in versions:
            for place, stored in enumerate(self.bucket.versions[key]):
                if stored.facts.version_id == version_id:
                    facts = replace(stored.facts, storage_class="STANDARD")
                    self.bucket.versions[key][place] = Stored(facts, stored.data)
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
