"""In-memory stand-ins for small shared state, workflows and time."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any


class InMemoryState:
    def __init__(self) -> None:
        self._items: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def get(self, partition: str, sort: str) -> dict[str, Any] | None:
        with self._lock:
            found = self._items.get((partition, sort))
        return None if found is None else copy.deepcopy(found) | {"sort": sort}

    def create(self, partition: str, sort: str, item: dict[str, Any]) -> bool:
        with self._lock:
            if (partition, sort) in self._items:
                return False
            self._items[partition, sort] = _body(item)
            return True

    def replace(
        self, partition: str, sort: str, item: dict[str, Any], *, expected: dict[str, Any]
    ) -> bool:
        with self._lock:
            if not self._holds(partition, sort, expected):
                return False
            self._items[partition, sort] = _body(item)
            return True

    def remove(self, partition: str, sort: str, *, expected: dict[str, Any]) -> bool:
        with self._lock:
            if not self._holds(partition, sort, expected):
                return False
            del self._items[partition, sort]
            return True

    def query(self, partition: str, prefix: str = "") -> Iterator[dict[str, Any]]:
        with self._lock:
            keys = sorted(k for k in self._items if k[0] == partition and k[1].startswith(prefix))
        for key in keys:
            yield copy.deepcopy(self._items[key]) | {"sort": key[1]}

    def _holds(self, partition: str, sort: str, expected: dict[str, Any]) -> bool:
        found = self._items.get((partition, sort))
        return found is not None and all(found.get(k) == v for k, v in expected.items())


def _body(item: dict[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in item.items() if name != "sort"}


class InMemoryWorkflows:
    def __init__(self) -> None:
        self.started: dict[str, tuple[str, dict[str, Any]]] = {}
        self.stopped: set[str] = set()

    def start(self, scenario: str, run_id: str, payload: dict[str, Any]) -> None:
        self.started.setdefault(run_id, (scenario, payload))

    def is_running(self, scenario: str, run_id: str) -> bool:
        return run_id in self.started and run_id not in self.stopped


class ManualClock:
    def __init__(self, at: datetime = datetime(2026, 3, 1, tzinfo=UTC)) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
