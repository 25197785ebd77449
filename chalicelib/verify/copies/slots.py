"""Which objects of a replica are read in a run: all keys are dealt into slots, read in turn.

What is remembered is one time a slot, not one a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from chalicelib.errors import Truncated
from chalicelib.plan.record import read_json
from chalicelib.plan.records import canonical_json, format_time, parse_time
from chalicelib.ports import ObjectStore
from chalicelib.verify.copies.begun import Begun
from chalicelib.verify.copies.ledger import CLOCKS_DIFFER
from chalicelib.verify.copies.rotation import CheckPolicy


@dataclass(frozen=True)
class Slots:
    """`read_at`: for each slot when all of it was last read, None: never. `average_bytes`: of a
    slot, as the last run saw it, 0 when unknown. `begun`: long objects that were read in part."""

    read_at: tuple[datetime | None, ...]
    average_bytes: int = 0
    begun: Mapping[str, Begun] = field(default_factory=dict)

    def as_of(self, now: datetime) -> Slots:
        """Without what was read by a clock that was ahead: it would count as read until then."""
        latest = now + CLOCKS_DIFFER
        return Slots(
            tuple(at if at and at <= latest else None for at in self.read_at),
            self.average_bytes,
            {key: item for key, item in self.begun.items() if item.begun_at <= latest},
        )

    def due(self, policy: CheckPolicy) -> frozenset[int]:
        """Those to read now, the longest unread first: what the budget holds, at least one."""
        if policy.read_bytes == 0:
            return frozenset()
        count = len(self.read_at)
        if policy.read_bytes is not None:
            count = min(count, max(1, policy.read_bytes // max(1, self.average_bytes)))
            count = count if self.average_bytes else 1
        order = sorted(range(len(self.read_at)), key=self._age)
        return frozenset(order[:count])

    def _age(self, slot: int) -> tuple[float, int]:
        at = self.read_at[slot]
        return (at.timestamp() if at else 0.0, slot)


def slot_of(key: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % count


def load_slots(store: ObjectStore, name: str, policy: CheckPolicy) -> Slots:
    """Fresh ones when there are none, or were of another rotation: then nothing counts as read."""
    fresh = Slots((None,) * policy.runs)
    try:
        data = read_json(store.get(_slots_key(name)))
        read_at = tuple(parse_time(at) if at else None for at in data["read_at"])
        begun = {key: Begun.from_json(row) for key, row in data.get("begun", {}).items()}
        found = Slots(read_at, int(data["average_bytes"]), begun)
    except (ValueError, KeyError, TypeError, AttributeError):
        return fresh
    except Truncated as error:
        if error.instance_code != "object-missing":
            raise
        return fresh
    return found if len(found.read_at) == policy.runs else fresh


def save_slots(store: ObjectStore, name: str, slots: Slots) -> None:
    read_at = [format_time(at) if at else "" for at in slots.read_at]
    begun = {key: it.to_json() for key, it in slots.begun.items()}
    content = {"read_at": read_at, "average_bytes": slots.average_bytes, "begun": begun}
    store.put(_slots_key(name), canonical_json(content))


def _slots_key(name: str) -> str:
    return f"checks/{name}-objects.json"
