"""A bucket with versions in memory, the events it sends, and the port that samples it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from chalicelib.plan.signs import BucketEvent
from chalicelib.ports.samples import Sample, SampledWrite, SampleReader, Settings

SOUND: dict[str, Any] = {
    "versioning": {"Status": "Enabled"},
    "lifecycle": None,
    "policy": None,
    "encryption": None,
    "lock": None,
    "replication": None,
    "logging": None,
    "ownership": None,
    "public-access": None,
    "notification": {"EventBridgeConfiguration": {}},
}


class InMemoryBucket(SampleReader):
    """`write` and `delete` return the event that S3 would send. None in a key's list: a marker."""

    def __init__(self, name: str = "files", sample_bytes: int = 65536) -> None:
        self.name = name
        self.versions: dict[str, list[Sample | None]] = {}
        self.parts = dict(SOUND)
        self.unknown: dict[str, str] = {}
        self._number = 0
        self._sample_bytes = sample_bytes
        self.read = 0

    def write(self, key: str, data: bytes, at: datetime, **sample: Any) -> BucketEvent:
        self._number += 1
        version = f"v{self._number}"
        kept = data[: self._sample_bytes]
        stored = replace(Sample(key, version, kept, len(data)), **sample)
        self.versions.setdefault(key, []).append(stored)
        return BucketEvent(
            f"{self._number:016X}", at, "created", key, version, len(data), reason="PutObject"
        )

    def delete(self, key: str, at: datetime, reason: str = "DeleteObject") -> BucketEvent:
        self._number += 1
        self.versions[key].append(None)
        return BucketEvent(
            f"{self._number:016X}", at, "deleted", key, f"v{self._number}", reason=reason
        )

    def read_writes(
        self, writes: Sequence[tuple[str, str]], sample_bytes: int
    ) -> Iterator[SampledWrite]:
        self.read += len(writes)
        for key, version_id in writes:
            found = [it for it in self.versions.get(key, []) if it is not None]
            place = next((n for n, it in enumerate(found) if it.version_id == version_id), -1)
            if place < 0:
                yield SampledWrite(Sample(key, version_id, problem="gone"))
            else:
                yield SampledWrite(found[place], found[place - 1] if place else None)

    def read_object(self, key: str) -> Sample:
        newest = (self.versions.get(key) or [None])[-1]
        return newest or Sample(key, "", problem="gone")

    def settings(self, taken_at: datetime) -> Settings:
        return Settings(self.name, taken_at, dict(self.parts), dict(self.unknown))
