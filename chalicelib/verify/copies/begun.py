"""Objects that no single check has the time to read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chalicelib.plan.records import Record
from chalicelib.ports.lasting import is_state

# Nobody waits for a result that comes after the time limit.
SPARE_SECONDS = 20.0


@dataclass(frozen=True)
class Begun(Record):
    """A long object that was put down: its first `position` bytes were read since `begun_at`, and
    `state` is that of their SHA-256. `version` as the store told it."""

    version: str
    position: int
    state: str
    begun_at: datetime

    @property
    def readable(self) -> bool:
        """Whether this process can go on with its state."""
        return is_state(self.state)
