"""The recovery points of a component."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from chalicelib.plan.records import DatabasePoint, PointStanding, Proof, RecoveryPoint, Window
from chalicelib.plan.wal import WalInventory


@dataclass(frozen=True)
class RejectedPoint:
    """A recovery point that no restore may use, and why. `code` as in chalicelib.errors."""

    point_id: str
    code: str
    reason: str


@dataclass(frozen=True)
class Holdings:
    """The recovery points of a component of any kind, oldest first, as its store says now.

    `standings`: every point whose manifest can be read and whose objects are all there,
    quarantined ones among them. `rejected`: what claims to be a point and is none.
    """

    standings: tuple[PointStanding, ...]
    rejected: tuple[RejectedPoint, ...]


@dataclass(frozen=True)
class Inventory:
    """Everything a database can be restored from, as its store says now.

    `points` are those that a restore may use; `rejected` the others, quarantined ones among them.
    `holdings`: what both were told from.
    """

    points: tuple[DatabasePoint, ...]
    rejected: tuple[RejectedPoint, ...]
    wal: WalInventory
    windows: tuple[Window, ...]
    holdings: Holdings = Holdings((), ())


class Catalogue(Protocol):
    """The recovery points of one component. The manifests in the store are the truth; an index
    may stand beside them, and what contradicts it is Tampered."""

    def holdings(self) -> Holdings:
        """A manifest that is damaged, contradicts the index or misses an object is rejected."""

    def inventory(self) -> Inventory:
        """Of a database: its points oldest first, and its WAL."""

    def add(self, point: RecoveryPoint) -> None:
        """Make a point count: all of its objects are durable. Raises Refused (code "exists")."""

    def forget(self, point_id: str) -> None:
        """Make a point count no longer, before its objects are deleted. Repeatable."""

    def quarantine(self, point_id: str, *, code: str, reason: str, at: datetime) -> None:
        """From now on every restore refuses it. Repeatable. What is quarantined for its content
        stays so, whatever is found of a copy of it."""

    def quarantine_of(self, point_id: str) -> tuple[str, str]:
        """Why no restore may use it, and the code as in PointStanding; "" and "" when one may."""

    def unquarantine(self, point_id: str, *, by: str, reason: str, at: datetime) -> None:
        """From now on a restore may use it; who said so stays noted. Repeatable."""

    def note_proof(self, point_id: str, proof: Proof) -> None:
        """The point was restored and found sound. Raises BadInput when the proof is not ok."""

    def note_read(self, point_id: str, at: datetime) -> None:
        """All bytes of the point were read and agree with its manifest."""

    def hold(self, point_id: str, *, reason: str, at: datetime) -> None:
        """From now on nothing deletes it, until `release`. Repeatable."""

    def release(self, point_id: str) -> None:
        """No error when nobody held it."""

    def indexed(self) -> dict[str, str] | None:
        """Point id -> digest of its manifest, as the index recorded it; None without an index.
        One that knows nothing, beside manifests, was lost or wiped."""

    def recorded(self, point_id: str) -> str | None:
        """Of one point, as `indexed`; None when the index knows nothing of it, or there is none."""

    def wal_progress(self) -> dict[str, Any]:
        """What the last WAL tick noted; {} when there was none."""

    def note_wal_progress(self, progress: dict[str, Any]) -> None: ...
