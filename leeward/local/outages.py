"""Outages that happened, replayed: which calls of a region failed how, from when to when.

    outage = load_outage(Path("tests/outages/2025-10-20.json"))
    with replay(cloud, outage, speed=600):          its ten minutes pass in a second
        ...
    set_to(cloud, outage, at)                       or stop at one moment of it

An outage says what was known of it afterwards; where an API was slow or failed now and then, the
replay lets every call fail. Other faults of the cloud are left alone.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalicelib.errors import BadInput
from chalicelib.plan.records import parse_time
from leeward.local.faults import Fault

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

TICK_SECONDS = 0.05


@dataclass(frozen=True)
class Period:
    """One thing that failed: from the first instant to before the second."""

    fault: Fault
    from_at: datetime
    to_at: datetime
    says: str


@dataclass(frozen=True)
class Outage:
    name: str
    says: str
    periods: tuple[Period, ...]

    @property
    def begins_at(self) -> datetime:
        return min(period.from_at for period in self.periods)

    @property
    def ends_at(self) -> datetime:
        return max(period.to_at for period in self.periods)

    def faults_at(self, at: datetime) -> tuple[Fault, ...]:
        """What fails at that moment of the outage, aware UTC; nothing before and after it."""
        return tuple(it.fault for it in self.periods if it.from_at <= at < it.to_at)

    def moments(self) -> list[datetime]:
        """When something changes, in order."""
        return sorted({at for period in self.periods for at in (period.from_at, period.to_at)})


def load_outage(path: Path) -> Outage:
    """Raises BadInput (code "bad-outage")."""
    try:
        told = json.loads(path.read_text())
        periods = tuple(_period(told["region"], item) for item in told["faults"])
        return Outage(told["name"], told["says"], periods)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"expected an outage in {path.name}, found none: {type(error).__name__}: {error}",
            hint="see tests/outages/ for the form",
            code="bad-outage",
        ) from error


def _period(region: str, item: dict[str, Any]) -> Period:
    fault = Fault(region, tuple(item["services"]), tuple(item.get("operations", ())), item["how"])
    period = Period(fault, parse_time(item["from"]), parse_time(item["to"]), item["says"])
    if period.from_at >= period.to_at:
        raise ValueError(f"{period.says!r} ends before it begins")
    return period


def set_to(cloud: LocalCloud, outage: Outage, at: datetime) -> None:
    """Let fail what failed at that moment, and heal the outage's other faults."""
    own = {period.fault for period in outage.periods}
    others = [fault for fault in cloud.faults.active if fault not in own]
    cloud.faults.replace_all([*others, *outage.faults_at(at)])


@contextmanager
def replay(
    cloud: LocalCloud, outage: Outage, *, speed: float, start: datetime | None = None
) -> Iterator[None]:
    """The outage passes while the block runs, `speed` times as fast as it did; healed at its end.

    Args:
        start: the moment of the outage at which the block begins; its first by default.
    """
    began, first = time.monotonic(), start or outage.begins_at
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            passed = timedelta(seconds=(time.monotonic() - began) * speed)
            set_to(cloud, outage, first + passed)
            stopping.wait(TICK_SECONDS)

    set_to(cloud, outage, first)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        set_to(cloud, outage, outage.ends_at)
