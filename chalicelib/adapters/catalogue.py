"""The recovery points of one component: manifests in its object store, an index beside them.

The manifests are the truth; the index makes a manifest that was rewritten in place visible and
holds the small facts of the last WAL tick. A point that it does not know may be anybody's, and is
quarantined. It can be lost: whoever makes it again from the manifests says that they are right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from chalicelib.adapters.catalogue_notes import ended_in, reason_in, time_in
from chalicelib.errors import BadInput, Damaged, LeewardError, Quarantined, Truncated, Unavailable
from chalicelib.plan.manifest import (
    HOLD,
    LARGEST_BYTES,
    MANIFEST,
    PROOF,
    QUARANTINE,
    READ,
    UNQUARANTINED,
    digest_of_manifest,
    manifest_missing,
    parse_manifest,
    point_key,
    require_small,
    tampered,
    without_beginning,
    write_manifest,
)
from chalicelib.plan.record import read_json
from chalicelib.plan.records import (
    INFECTED_POINT,
    UNKNOWN_POINT,
    DatabasePoint,
    PointStanding,
    Proof,
    RecoveryPoint,
    canonical_json,
    format_time,
    is_of_one_copy,
    parse_time,
)
from chalicelib.plan.wal import (
    COPIED,
    SEGMENT_BYTES,
    WalEnd,
    WalInventory,
    best_segments,
    bound_window,
    find_windows,
    parse_history,
    parse_history_key,
    parse_wal_key,
)
from chalicelib.ports import Holdings, Inventory, Listed, ObjectStore, RejectedPoint, StateStore

Histories = Mapping[int, tuple[tuple[int, int], ...]]

READ_THREADS = 8
WAL_PROGRESS = "wal"
UNKNOWN = "nobody entered it into the index (`leeward catalogue rebuild` does)"


class StoredCatalogue:
    """The port Catalogue over the component's object store, with or without an index.

    Beside a point's manifest lie, when there is something to say, `quarantine.json`,
    `unquarantined.json`, `proof.json`, `read.json` and `hold.json`.

    Args:
        quarantined, held: point id -> why, points of which no note has come here yet.
    """

    def __init__(
        self,
        store: ObjectStore,
        component: str,
        *,
        index: StateStore | None = None,
        quarantined: Mapping[str, str] | None = None,
        held: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._quarantined, self._held = quarantined or {}, held or {}
        self._component = component
        self._partition = f"catalogue#{component}"
        self._index = index

    def holdings(self) -> Holdings:
        keys = {row.key: row.size_bytes for row in self._store.list("points/")}
        ids = sorted(key.split("/")[1] for key in keys if key.endswith("/manifest.json"))
        index = self._index_entries()
        standings: list[PointStanding] = []
        rejected = [_rejected(it, manifest_missing(it)) for it in index.keys() - set(ids)]
        with ThreadPoolExecutor(READ_THREADS) as threads:
            for found in threads.map(lambda point_id: self._stand(point_id, keys, index), ids):
                if isinstance(found, PointStanding):
                    standings.append(found)
                else:
                    rejected.append(found)
        endless = without_beginning({it.point.id: it.point.parent_id for it in standings})
        if endless:
            rejected += (_rejected(it, tampered(it, "a chain with a beginning")) for it in endless)
            standings = [it for it in standings if it.point.id not in endless]
        return Holdings(
            tuple(sorted(standings, key=lambda item: (item.point.taken_at, item.point.id))),
            tuple(sorted(rejected, key=lambda item: item.point_id)),
        )

    def inventory(self) -> Inventory:
        # The WAL beside the points: one after the other they are five answers to wait for, at each
        # look. WAL that is stored meanwhile makes a window shorter than it is, never longer.
        with ThreadPoolExecutor(1) as beside:
            found = beside.submit(self._look_at_wal)
            held = self.holdings()
        rows, histories, ends = found.result()
        points = [
            item.point
            for item in held.standings
            if isinstance(item.point, DatabasePoint) and not item.quarantined
        ]
        quarantined = [
            RejectedPoint(item.point.id, Quarantined.code, f"quarantined: {item.quarantined}")
            for item in held.standings
            if item.quarantined
        ]
        rejected = sorted((*held.rejected, *quarantined), key=lambda item: item.point_id)
        wal = _wal_of(rows, histories, points)
        windows = find_windows(wal, points)
        if ends is not None:
            windows = [bound_window(window, ends) for window in windows]
        return Inventory(tuple(points), tuple(rejected), wal, tuple(windows), held)

    def add(self, point: RecoveryPoint) -> None:
        self._store.put(point_key(point.id, MANIFEST), write_manifest(point), if_absent=True)
        if self._index is not None:
            entry = {"digest": digest_of_manifest(point), "state": "taken"}
            self._index.create(self._partition, point.id, entry)

    def forget(self, point_id: str) -> None:
        if self._index is not None:
            while (found := self._index.get(self._partition, point_id)) is not None:
                entry = {name: value for name, value in found.items() if name != "sort"}
                self._index.remove(self._partition, point_id, expected=entry)
        self._store.delete(point_key(point_id, MANIFEST))

    def quarantine(self, point_id: str, *, code: str, reason: str, at: datetime) -> None:
        why, known = self.quarantine_of(point_id)
        if why and is_of_one_copy(code) and known in ("", INFECTED_POINT):
            return
        note = {"code": code, "reason": reason, "quarantined_at": format_time(at)}
        self._note(point_id, QUARANTINE, note)
        if self._index is not None:
            self._set(point_id, {"state": "quarantined", "reason": reason, "code": code})

    def quarantine_of(self, point_id: str) -> tuple[str, str]:
        rows = self._store.list(point_key(point_id, QUARANTINE))
        entry = self._index.get(self._partition, point_id) if self._index else None
        return self._quarantine_of(point_id, {it.key: it.size_bytes for it in rows}, entry or {})

    def unquarantine(self, point_id: str, *, by: str, reason: str, at: datetime) -> None:
        note = {"by": by, "reason": reason, "unquarantined_at": format_time(at)}
        self._note(point_id, UNQUARANTINED, note)
        self._store.delete(point_key(point_id, QUARANTINE))
        while self._index is not None:
            found = self._index.get(self._partition, point_id) or {}
            if found.get("state") != "quarantined":
                return
            kept = {name: value for name, value in found.items() if name != "sort"}
            free = {k: v for k, v in kept.items() if k not in ("reason", "code")}
            if self._index.replace(
                self._partition, point_id, free | {"state": "taken"}, expected=kept
            ):
                return

    def note_proof(self, point_id: str, proof: Proof) -> None:
        if not proof.ok:
            raise BadInput(
                f"expected a proof of {point_id} whose checks all passed, found one that failed",
                hint="Quarantine the point, or find out why its check failed.",
                code="not-a-proof",
            )
        self._note(point_id, PROOF, proof.to_json())

    def note_read(self, point_id: str, at: datetime) -> None:
        self._note(point_id, READ, {"read_at": format_time(at)})

    def hold(self, point_id: str, *, reason: str, at: datetime) -> None:
        self._note(point_id, HOLD, {"reason": reason, "held_at": format_time(at)})

    def release(self, point_id: str) -> None:
        self._store.delete(point_key(point_id, HOLD))

    def indexed(self) -> dict[str, str] | None:
        if self._index is None:
            return None
        return {
            point_id: str(entry["digest"])
            for point_id, entry in self._index_entries().items()
            if "digest" in entry
        }

    def recorded(self, point_id: str) -> str | None:
        found = self._index.get(self._partition, point_id) if self._index else None
        return str(found["digest"]) if found and "digest" in found else None

    def index_from(
        self, holdings: Holdings, *, only: Collection[str] = (), dry_run: bool = False
    ) -> dict[str, list[str] | dict[str, str]]:
        """Make the index again from the manifests of any one location.

        Entries that contradict it stay: somebody may have deleted, or written, what should not be.

        Args:
            holdings: read without an index.
            only: ids of what is entered; (): all.
        Returns:
            {"added": ids, "without_manifest": ids of entries that no manifest stands behind,
            "differing": ids of which the index recorded another manifest, "unreadable": {id: why}}.
        """
        assert self._index is not None
        known = self._index_entries()
        points = {item.point.id: item for item in holdings.standings}
        digests = {name: digest_of_manifest(item.point) for name, item in points.items()}
        recorded = {name: str(item["digest"]) for name, item in known.items() if "digest" in item}
        added = sorted((points.keys() & (set(only) or points.keys())) - recorded.keys())
        for point_id in () if dry_run else added:
            quarantined = points[point_id].quarantined or known.get(point_id, {}).get("reason", "")
            entry = {"digest": digests[point_id], "state": "taken"}
            if quarantined:
                entry |= {"state": "quarantined", "reason": quarantined}
            self._set(point_id, entry)
        rejected = {item.point_id: item.reason for item in holdings.rejected}
        return {
            "added": added,
            "without_manifest": sorted(known.keys() - points.keys() - rejected.keys()),
            "differing": sorted(
                name for name in points.keys() & recorded.keys() if recorded[name] != digests[name]
            ),
            "unreadable": rejected,
        }

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

    def _note(self, point_id: str, name: str, note: dict[str, Any]) -> None:
        self._store.put(point_key(point_id, name), canonical_json(note))

    def _index_entries(self) -> dict[str, dict[str, Any]]:
        """Point id -> index entry; empty without an index."""
        if self._index is None:
            return {}
        return {
            item["sort"]: item
            for item in self._index.query(self._partition)
            if item["sort"] != WAL_PROGRESS
        }

    def _stand(
        self, point_id: str, keys: Mapping[str, int], index: dict[str, dict[str, Any]]
    ) -> PointStanding | RejectedPoint:
        entry = index.get(point_id, {})
        try:
            point = self._read_point(point_id, keys, entry)
        except Damaged as error:
            return _rejected(point_id, error)
        quarantined, code = self._quarantine_of(point_id, keys, entry)
        return PointStanding(
            point=point,
            proven_at=time_in(self._read_note(point_id, PROOF, keys), "proven_at"),
            read_at=time_in(self._read_note(point_id, READ, keys), "read_at"),
            held=reason_in(self._read_note(point_id, HOLD, keys)) or self._held.get(point_id, ""),
            quarantined=quarantined,
            quarantine_code=code,
            unquarantined=ended_in(self._read_note(point_id, UNQUARANTINED, keys)),
        )

    def _read_point(
        self, point_id: str, keys: Mapping[str, int], entry: dict[str, Any]
    ) -> RecoveryPoint:
        """Raises Tampered or Truncated."""
        key = point_key(point_id, MANIFEST)
        require_small(point_id, keys.get(key, 0))
        content = self._store.get(key)
        point = parse_manifest(point_id, content, component=self._component)
        if entry and entry.get("digest") not in (None, digest_of_manifest(point)):
            raise tampered(point_id, "the digest that the index recorded")
        missing = [item.key for item in point.objects if item.key not in keys]
        if missing:
            raise Truncated(
                f"expected {missing[0]} of recovery point {point_id}, found none",
                code="object-missing",
                hint="Copy the object back from another location, or use an older point.",
                point_id=point_id,
            )
        return point

    def _quarantine_of(
        self, point_id: str, keys: Mapping[str, int], entry: dict[str, Any]
    ) -> tuple[str, str]:
        """Why, and the code. The note, the index, or what was told of another location: each is
        enough."""
        note = self._read_note(point_id, QUARANTINE, keys)
        if note is not None:
            return reason_in(note), str(note.get("code", ""))
        if entry.get("state") == "quarantined":
            reason = str(entry.get("reason", "")) or "its index entry says so"
            return reason, str(entry.get("code", ""))
        if self._index is not None and "digest" not in entry:
            return UNKNOWN, UNKNOWN_POINT
        told = self._quarantined.get(point_id, "")
        return told, INFECTED_POINT if told else ""

    def _read_note(
        self, point_id: str, name: str, keys: Mapping[str, int]
    ) -> dict[str, Any] | None:
        """None when there is none; {} when it cannot be read, which proves nothing.

        One note that nobody can open, or that somebody wrote over, costs what it says alone: the
        point and its location stay of use.
        """
        key = point_key(point_id, name)
        if key not in keys:
            return None
        if keys[key] > LARGEST_BYTES:
            return {}
        try:
            note = read_json(self._store.get(key))
        except Unavailable:
            raise
        except (ValueError, LeewardError):
            return {}
        return note if isinstance(note, dict) else {}

    def _read_ends(self) -> list[WalEnd] | None:
        """None where the WAL was stored first; nothing is known when a copy's cannot be read."""
        try:
            told = self._store.get(COPIED)
        except Truncated as error:
            if error.instance_code == "object-missing":
                return None
            raise
        try:
            rows = read_json(told)["ends"]
            return [WalEnd(int(tli), int(lsn), parse_time(at)) for tli, lsn, at in rows]
        except (ValueError, KeyError, TypeError):
            return []

    def _look_at_wal(self) -> tuple[list[Listed], Histories, list[WalEnd] | None]:
        rows = list(self._store.list("wal/"))
        histories = {
            timeline: parse_history(self._store.get(row.key))
            for row in rows
            if (timeline := parse_history_key(row.key)) is not None
        }
        return rows, histories, self._read_ends()


def _wal_of(
    rows: Iterable[Listed], histories: Histories, points: Iterable[DatabasePoint]
) -> WalInventory:
    segment_bytes = max((point.segment_bytes for point in points), default=SEGMENT_BYTES)
    segments = [
        item
        for row in rows
        if (item := parse_wal_key(row.key, row.modified_at, segment_bytes)) is not None
    ]
    return WalInventory(best_segments(segments), histories, segment_bytes)


def _rejected(point_id: str, error: LeewardError) -> RejectedPoint:
    return RejectedPoint(point_id, error.instance_code, error.message)
