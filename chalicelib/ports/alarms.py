"""Alarms that are raised."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from chalicelib.plan.records import Record


@dataclass(frozen=True)
class Alarm(Record):
    """`raised_at`: when it went to ALARM. `own`: it watches Leeward's own metrics or state
    machines, and is nobody else's to tell."""

    name: str
    description: str
    reason: str
    raised_at: datetime
    own: bool


class Alarms(Protocol):
    """The alarms of this region."""

    def raised(self) -> list[Alarm]:
        """All that are in the state ALARM now. Raises Unavailable, NotReady."""
