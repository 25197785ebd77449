"""A store whose objects can be damaged behind its back, and recovery points to put into it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache

import zstandard

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.errors import LeewardError, Truncated
from chalicelib.plan.records import DatabasePoint, RecoveryPoint, StoredObject
from chalicelib.plan.wal import segment_key
from chalicelib.ports import Listed, StoredFacts
from tests.fakes import InMemoryObjectStore
from tests.fakes_state import InMemoryState

START = datetime(2026, 11, 1, tzinfo=UTC)
SEGMENT = 1 << 20


class SteppedClock:
    """Stands still until it is moved."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class Shelf(InMemoryObjectStore):
    """Remembers when and with which checksum each object was written, as S3 does.

    `checksums` False: a store that keeps none. `refuse`: key -> what reading it raises.
    """

    def __init__(self, clock: SteppedClock, *, checksums: bool = False) -> None:
        super().__init__()
        self.clock, self.checksums = clock, checksums
        self.written: dict[str, tuple[datetime, str]] = {}
        self.refuse: dict[str, LeewardError] = {}
        self.read_keys: list[str] = []
        self.largest_bytes = 0

    def get(self, key: str) -> bytes:
        data = super().get(key)
        self.largest_bytes = max(self.largest_bytes, len(data))
        return data

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        stored = super().put(key, data, if_absent=if_absent)
        self.written[key] = (self.clock.now(), stored.sha256)
        return stored

    def rot(self, key: str, data: bytes) -> None:
        """Other bytes below the same facts."""
        self.objects[key] = data

    def read(self, key: str) -> Iterator[bytes]:
        self.read_keys.append(key)
        if key in self.refuse:
            raise self.refuse[key]
        return self._pieces(key)

    def _pieces(self, key: str) -> Iterator[bytes]:
        data = super().get(key)
        for start in range(0, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    def list(self, prefix: str = "") -> Iterator[Listed]:
        for key in sorted(self.objects, key=str.encode):
            if key.startswith(prefix):
                yield Listed(key, len(self.objects[key]), self.written[key][0])

    def facts(self, key: str) -> StoredFacts:
        if key not in self.objects:
            raise Truncated(f"expected {key}, found none", code="object-missing", hint="Look.")
        written_at, sha256 = self.written[key]
        checksums = {"sha256": sha256} if self.checksums else {}
        return StoredFacts(len(self.objects[key]), written_at, checksums, f"{written_at}{sha256}")


class Keeper:
    """A component's copies in one location."""

    def __init__(
        self,
        clock: SteppedClock | None = None,
        *,
        checksums: bool = False,
        index: InMemoryState | None = None,
    ) -> None:
        self.clock, self.index = clock or SteppedClock(), index
        self.store = Shelf(self.clock, checksums=checksums)
        self.catalogue = StoredCatalogue(self.store, "db", index=index)

    def add(self, *contents: bytes, name: str = "files") -> RecoveryPoint:
        point_id = f"{self.clock.now():%Y%m%dT%H%M%SZ}-{name}"
        objects = tuple(
            self.store.put(f"points/{point_id}/part-{number}", content)
            for number, content in enumerate(contents)
        )
        point = RecoveryPoint(
            id=point_id, component="db", kind="archive", taken_at=self.clock.now(),
            finished_at=self.clock.now(), objects=objects, source_bytes=1, encryption="none",
        )  # fmt: skip
        self.catalogue.add(point)
        return point

    def add_backup(self, start_lsn: int, end_lsn: int, parent: str | None = None) -> DatabasePoint:
        kind = "incremental" if parent else "full"
        point_id = f"{self.clock.now():%Y%m%dT%H%M%SZ}-{kind[:4]}"
        base = self.store.put(f"points/{point_id}/base.tar.zst", f"base {point_id}".encode())
        point = DatabasePoint(
            id=point_id, component="db", kind=kind, taken_at=self.clock.now(),  # type: ignore[arg-type]
            finished_at=self.clock.now(), objects=(base,), source_bytes=1, encryption="none",
            system_id="1", server_version=170010, timeline=1, start_lsn=start_lsn,
            end_lsn=end_lsn, parent_id=parent, segment_bytes=SEGMENT,
        )  # fmt: skip
        self.catalogue.add(point)
        return point

    def add_wal(self, *numbers: int) -> list[str]:
        """Segments of incompressible bytes, the same for the same number."""
        keys = [segment_key(1, number * SEGMENT, SEGMENT) for number in numbers]
        for number, key in zip(numbers, keys, strict=True):
            self.store.put(key, wal_content(number))
        return keys

    def replicate(self) -> Keeper:
        """Another location with the same objects, written now, under the same index."""
        other = Keeper(self.clock, checksums=self.store.checksums, index=self.index)
        for key, data in self.store.objects.items():
            other.store.put(key, data)
        return other


@cache
def wal_content(number: int) -> bytes:
    noise = random.Random(number).randbytes(2000)
    data = noise + bytes(SEGMENT - len(noise))
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(data)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
