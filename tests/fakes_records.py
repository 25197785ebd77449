"""Evidence without a cloud: records in memory, and stores that fail as real ones do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.errors import Refused, Truncated, Unavailable
from chalicelib.evidence.records import StoredRecords
from chalicelib.plan.records import StoredObject
from chalicelib.ports import Listed

START = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)


class SteppingClock:
    """Every look at it is `step` later than the one before; sleeping costs no time."""

    def __init__(self, start: datetime = START, step: timedelta = timedelta(seconds=1)) -> None:
        self.at = start
        self.step = step

    def now(self) -> datetime:
        now, self.at = self.at, self.at + self.step
        return now

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class InMemoryObjects:
    """An object store in a dict, whose conditional writes are atomic."""

    encryption = "none"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        with self._lock:
            if if_absent and key in self.objects:
                raise Refused(f"{key} exists", code="exists")
            self.objects[key] = bytes(data)
        return StoredObject(key, len(data), hashlib.sha256(data).hexdigest())

    def open_writer(self, key: str) -> Any:
        raise NotImplementedError

    def get(self, key: str) -> bytes:
        try:
            return self.objects[key]
        except KeyError as error:
            raise Truncated(f"{key} is missing", code="object-missing") from error

    def read(self, key: str) -> Iterator[bytes]:
        data = self.get(key)
        for start in range(0, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    def list(self, prefix: str = "") -> Iterator[Listed]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield Listed(key, len(self.objects[key]), START)

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)


class LosesAnswers(InMemoryObjects):
    """Each write arrives, and the first `losses` of them are answered with an error."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses = losses

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        stored = super().put(key, data, if_absent=if_absent)
        if self.losses:
            self.losses -= 1
            raise Unavailable("the connection broke after the request was sent")
        return stored


class InMemoryRecords(StoredRecords):
    """The `Records` port, with `objects` to look at and to tamper with."""

    def __init__(self, clock: SteppingClock | None = None) -> None:
        self.store = InMemoryObjects()
        super().__init__(self.store, clock or SteppingClock())

    @property
    def objects(self) -> dict[str, bytes]:
        return self.store.objects
