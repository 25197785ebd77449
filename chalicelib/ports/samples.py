"""What the watch for ransomware reads of a bucket: beginnings of objects, and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from chalicelib.plan.records import Record

Problem = Literal["", "gone", "archived", "sse-c", "denied"]


@dataclass(frozen=True)
class Sample:
    """The beginning of one version of an object.

    `problem` is "" when it was read; "gone": deleted since; "archived": in a class that is not
    read at once; "sse-c": under a key that only its writer has; "denied": may not be read, or not
    decrypted. `encryption` is S3's word:
    "AES256", "aws:kms", "SSE-C" or "".
    """

    key: str
    version_id: str
    data: bytes = b""
    size_bytes: int = 0
    problem: Problem = ""
    encryption: str = ""
    kms_key_id: str = ""


@dataclass(frozen=True)
class SampledWrite:
    """A version and the one before it; `before` is None when the key was new."""

    now: Sample
    before: Sample | None = None


@dataclass(frozen=True)
class Settings(Record):
    """The settings of a bucket at one moment, part by part.

    `parts`: versioning, lifecycle, policy, encryption, lock, replication, logging, ownership,
    public-access, notification -> what S3 answers, None where nothing is set. `unknown`: part ->
    why it could not be read; what `parts` then says of it, if anything, is older.
    """

    bucket: str
    taken_at: datetime
    parts: dict[str, Any]
    unknown: dict[str, str] = field(default_factory=dict)


class SampleReader(Protocol):
    """Reads one bucket, several objects at a time."""

    def read_writes(
        self, writes: Sequence[tuple[str, str]], sample_bytes: int
    ) -> Iterator[SampledWrite]:
        """For each (key, version_id), in order. An empty version_id means the current one."""

    def read_object(self, key: str) -> Sample:
        """The whole current object; meant for canaries, which are small."""

    def settings(self, taken_at: datetime) -> Settings:
        """Every part, also those that may not be read."""
