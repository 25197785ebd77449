"""The recovery points of a component."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from chalicelib.plan.records import RecoveryPoint, Window
from chalicelib.plan.wal import WalInventory


@dataclass(frozen=True)
class RejectedPoint:
    """A recovery point that no restore may use, and why. `code` as in chalicelib.errors."""

    point_id: str
    code: str
    reason: str


@dataclass(frozen=True)
class Inventory:
    """Everything a component can be restored from, as its store says now."""

    points: tuple[RecoveryPoint, ...]
    rejected: tuple[RejectedPoint, ...]
    wal: WalInventory
    windows: tuple[Window, ...]


class Catalogue(Protocol):
    """The recovery points of one component. The manifests in the store are the truth; an index
    may stand beside them, and what contradicts it is Tampered."""

    def inventory(self) -> Inventory:
        """Points oldest first. A manifest that is damaged or contradicts the index is listed as
        rejected, as are quarantined points."""

    def add(self, point: RecoveryPoint) -> None:
        """Make a point count: all of its objects are durable. Raises Refused (code "exists")."""

    def quarantine(self, point_id: str, *, code: str, reason: str, at: datetime) -> None:
        """From now on every restore refuses it. Repeatable."""

    def wal_progress(self) -> dict[str, Any]:
        """What the last WAL tick noted; {} when there was none."""

    def note_wal_progress(self, progress: dict[str, Any]) -> None: ...
