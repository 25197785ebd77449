"""The recovery points of one component: manifests in its object store, an index beside them.

The manifests are the truth; the index makes a manifest that was rewritten in place visible and
holds the small facts of the last WAL tick. It can be lost: what it knew is found again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from chalicelib.errors import Damaged, LeewardError, Quarantined, Tampered, Truncated
from chalicelib.plan.records import RecoveryPoint, canonical_json, digest_of, format_time
from chalicelib.plan.wal import (
    SEGMENT_BYTES,
    WalInventory,
    best_segments,
    find_windows,
    parse_history,
    parse_history_key,
    parse_wal_key,
)
from chalicelib.ports import Inventory, ObjectStore, RejectedPoint, StateStore

READ_THREADS = 8
WAL_PROGRESS = "wal"


class StoredCatalogue:
    """The port Catalogue over the component's object store, with or without an index."""

    def __init__(
        self, store: ObjectStore, component: str, *, index: StateStore | None = None
    ) -> None:
        self._store = store
        self._partition = f"catalogue#{component}"
        self._index = index

    def inventory(self) -> Inventory:
        points, rejected = self._read_points()
        wal = self._read_wal(points)
        return Inventory(
            points=tuple(sorted(points, key=lambda point: (point.taken_at, point.id))),
            rejected=tuple(sorted(rejected, key=lambda item: item.point_id)),
            wal=wal,
            windows=tuple(find_windows(wal, points)),
        )

    def add(self, point: RecoveryPoint) -> None:
        content = point.to_json()
        manifest = {"point": content, "digest": digest_of(content)}
        key = f"points/{point.id}/manifest.json"
        self._store.put(key, canonical_json(manifest), if_absent=True)
        if self._index is not None:
            entry = {"digest": manifest["digest"], "state": "taken"}
            self._index.create(self._partition, point.id, entry)

    def quarantine(self, point_id: str, *, code: str, reason: str, at: datetime) -> None:
        note = {"code": code, "reason": reason, "quarantined_at": format_time(at)}
        self._store.put(f"points/{point_id}/quarantine.json", canonical_json(note))
        if self._index is not None:
            self._set(point_id, {"state": "quarantined", "reason": reason})

    def wal_progress(self) -> dict[str, Any]:
        found = self._index.get(self._partition, WAL_PROGRESS) if self._index else None
        return {name: value for name, value in (found or {}).items() if name != "sort"}

    def note_wal_progress(self, progress: dict[str, Any]) -> None:
        if self._index is not None:
            self._set(WAL_PROGRESS, progress)

    def _set(self, sort: str, changes: dict[str, Any]) -> None:
        """Write over what is there. A lost race is tried again: the last writer is right."""
        assert self._index is not None
        while True:
            found = self._index.get(self._partition, sort)
            if found is None:
                done = self._index.create(self._partition, sort, changes)
            else:
                kept = {name: value for name, value in found.items() if name != "sort"}
                done = self._index.replace(
                    self._partition, sort, {**kept, **changes}, expected=kept
                )
            if done:
                return

    def _read_points(self) -> tuple[list[RecoveryPoint], list[RejectedPoint]]:
        rows = {row.key for row in self._store.list("points/")}
        ids = [key.split("/")[1] for key in sorted(rows) if key.endswith("/manifest.json")]
        digests = self._indexed_digests()
        points: list[RecoveryPoint] = []
        rejected: list[RejectedPoint] = []
        with ThreadPoolExecutor(READ_THREADS) as threads:
            for point_id, read in [
                (point_id, threads.submit(self._read_point, point_id, rows, digests))
                for point_id in ids
            ]:
                try:
                    points.append(read.result())
                except (Damaged, Quarantined) as error:
                    rejected.append(_rejected(point_id, error))
        for point_id in digests.keys() - set(ids):
            rejected.append(_rejected(point_id, _missing(point_id)))
        return points, rejected

    def _indexed_digests(self) -> dict[str, dict[str, Any]]:
        """Point id -> index entry; empty without an index."""
        if self._index is None:
            return {}
        return {
            item["sort"]: item
            for item in self._index.query(self._partition)
            if item["sort"] != WAL_PROGRESS
        }

    def _read_point(
        self, point_id: str, keys: set[str], index: dict[str, dict[str, Any]]
    ) -> RecoveryPoint:
        """Raises Tampered, Truncated or Quarantined."""
        quarantine = f"points/{point_id}/quarantine.json"
        entry = index.get(point_id, {})
        if quarantine in keys or entry.get("state") == "quarantined":
            raise _quarantined(point_id, self._reason(quarantine, keys, entry))
        point = _parse_manifest(point_id, self._store.get(f"points/{point_id}/manifest.json"))
        if entry and entry.get("digest") not in (None, digest_of(point.to_json())):
            raise _tampered(point_id, "the digest that the index recorded")
        missing = [item.key for item in point.objects if item.key not in keys]
        if missing:
            raise Truncated(
                f"expected {missing[0]} of recovery point {point_id}, found none",
                code="object-missing",
                hint="Copy the object back from another location, or use an older point.",
            )
        return point

    def _reason(self, key: str, keys: set[str], entry: dict[str, Any]) -> str:
        if key not in keys:
            return str(entry.get("reason", ""))
        try:
            return str(json.loads(self._store.get(key))["reason"])
        except (ValueError, KeyError, TypeError):
            return "its quarantine note cannot be read"

    def _read_wal(self, points: Iterable[RecoveryPoint]) -> WalInventory:
        segment_bytes = max((point.segment_bytes for point in points), default=SEGMENT_BYTES)
        rows = list(self._store.list("wal/"))
        histories = {
            timeline: parse_history(self._store.get(row.key))
            for row in rows
            if (timeline := parse_history_key(row.key)) is not None
        }
        segments = [
            item
            for row in rows
            if (item := parse_wal_key(row.key, row.modified_at, segment_bytes)) is not None
        ]
        return WalInventory(best_segments(segments), histories, segment_bytes)


def _parse_manifest(point_id: str, content: bytes) -> RecoveryPoint:
    """Raises Tampered when the manifest is not what Leeward wrote for this id."""
    try:
        manifest = json.loads(content)
        point = RecoveryPoint.from_json(manifest["point"])
        recorded = manifest["digest"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _tampered(point_id, "a manifest that can be read") from error
    if recorded != digest_of(manifest["point"]) or point.id != point_id:
        raise _tampered(point_id, "the digest in it")
    return point


def _tampered(point_id: str, expected: str) -> Tampered:
    return Tampered(
        f"expected the manifest of {point_id} to match {expected}, it does not",
        hint="Find out who wrote to the backups; restore from another point or location.",
        point_id=point_id,
    )


def _quarantined(point_id: str, reason: str) -> Quarantined:
    return Quarantined(
        f"recovery point {point_id} is quarantined: {reason}",
        hint="Use another recovery point.",
        point_id=point_id,
    )


def _missing(point_id: str) -> Truncated:
    return Truncated(
        f"expected the manifest of {point_id}, which the index names, found none",
        code="object-missing",
        hint="Copy it back from another location, or use another recovery point.",
        point_id=point_id,
    )


def _rejected(point_id: str, error: LeewardError) -> RejectedPoint:
    return RejectedPoint(point_id, error.instance_code, error.message)
