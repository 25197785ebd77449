"""Remove what retention lets go, so that a crash at any line leaves only what is whole.

Order: incrementals before what they build on; of each point its catalogue entry and manifest, then
its other objects; then leftovers of earlier crashes; WAL and the indexes beside it last, when no
point needs them any longer. A set without a manifest is no point, so none is ever half valid, and
the next run removes the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.backup.retention.prune_facts import (
    Leftover,
    PruneDecision,
    PruneFacts,
    decide_indexes,
    decide_prune,
    decide_stored_wal,
    read_facts,
)
from chalicelib.errors import PruneTooLarge
from chalicelib.plan.components import Retention
from chalicelib.plan.manifest import HOLD, MANIFEST, QUARANTINE, point_key
from chalicelib.plan.records import PointStanding, Record
from chalicelib.plan.units import format_share
from chalicelib.ports import Catalogue, Clock, ObjectStore
from chalicelib.ports.locks import ObjectLocks

# What one run may remove without a person's word, as a share of a component's points or bytes.
MAX_SHARE = 0.5
DELETE_THREADS = 8
# Below this a share says nothing: one point of two is half of them.
FEW_POINTS = 4


@dataclass(frozen=True)
class RemovedPoint(Record):
    """`reason` says why nothing kept it."""

    point_id: str
    objects: int
    size_bytes: int
    reason: str


@dataclass(frozen=True)
class PruneResult(Record):
    """What one run did. `spared`: (point id, why) that were to go, and were held or needed when
    their turn came. Bytes are those of current versions: in a bucket with versions they are freed
    when its own rule expires the noncurrent ones."""

    component: str
    started_at: datetime
    ended_at: datetime
    points: tuple[RemovedPoint, ...]
    leftovers: tuple[str, ...]
    wal_objects: int
    freed_bytes: int
    spared: tuple[tuple[str, str], ...]
    indexes: int = 0

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"spared": [list(one) for one in self.spared]}


def check_share(decision: PruneDecision, *, max_share: float = MAX_SHARE) -> None:
    """Leftovers count as points: whoever removes manifests must not make the pruner do the rest.

    Raises:
        PruneTooLarge: more than that share of the component's points or bytes would go.
    """
    gone = len(decision.retention.prune) + len(decision.leftovers)
    total = gone + len(decision.retention.keep)
    if total <= FEW_POINTS:
        return
    all_bytes = decision.freed_bytes + decision.kept_bytes
    if gone > max_share * total or decision.freed_bytes > max_share * all_bytes:
        raise PruneTooLarge(
            f"expected at most {format_share(max_share)} of {decision.component} to go in one run, "
            f"found {gone} of {total} points and {decision.freed_bytes} of {all_bytes} bytes",
            hint="look at the dry run; if it is what the plan means, approve this run.",
            points=gone,
            of_points=total,
            freed_bytes=decision.freed_bytes,
            of_bytes=all_bytes,
        )


def apply_prune(
    decision: PruneDecision,
    store: ObjectStore,
    catalogue: Catalogue,
    policy: Retention,
    *,
    clock: Clock,
    time_zone: str = "UTC",
    locks: ObjectLocks | None = None,
    approved: bool = False,
    max_share: float = MAX_SHARE,
    progress: Callable[[int], None] = lambda _: None,
) -> PruneResult:
    """Remove what was decided and still is to go: the facts are read again before anything is
    touched, and each point's own notes again just before its manifest.

    Safe to repeat. An error leaves what is done done; the next run goes on.

    Args:
        progress: is told the bytes of each thing removed.
    Raises:
        PruneTooLarge: without `approved`; nothing was removed.
        Unavailable, Throttled: the store did not answer; what remains is whole.
    """
    started_at = clock.now()
    if not approved:
        check_share(decision, max_share=max_share)
    facts = read_facts(store, catalogue, decision.component, locks=locks)
    fresh = decide_prune(facts, policy, now=started_at, time_zone=time_zone)
    if not approved:
        check_share(fresh, max_share=max_share)
    chosen = _still_to_go(decision, fresh)
    run = _Run(store, catalogue, fresh, progress)
    for standing in _dependants_first(chosen):
        run.remove_point(standing)
    run.remove_leftovers(decision.leftovers)
    left = [one for one in facts.standings if one.point.id not in run.removed_ids]
    run.remove_wal(_wal_to_go(decision, facts, left, policy, started_at))
    run.remove_indexes(set(decision.indexes) & set(decide_indexes(facts, left)))
    wanted = {standing.point.id for standing in decision.retention.prune}
    return run.result(started_at, clock.now(), wanted)


def _still_to_go(decision: PruneDecision, fresh: PruneDecision) -> list[PointStanding]:
    """In both decisions, and nothing that stays builds on it."""
    decided = {standing.point.id for standing in decision.retention.prune}
    chosen = {one.point.id: one for one in fresh.retention.prune if one.point.id in decided}
    others = [kept.standing for kept in fresh.retention.keep]
    others += [one for one in fresh.retention.prune if one.point.id not in decided]
    parents = {one.point.id: one.point.parent_id for one in (*others, *chosen.values())}
    for one in others:
        parent = one.point.parent_id
        while parent is not None and chosen.pop(parent, None) is not None:
            parent = parents.get(parent)
    return list(chosen.values())


def _dependants_first(standings: Iterable[PointStanding]) -> list[PointStanding]:
    chosen = {one.point.id: one for one in standings}

    def depth(standing: PointStanding) -> int:
        steps, parent = 0, standing.point.parent_id
        while parent in chosen and steps <= len(chosen):
            steps, parent = steps + 1, chosen[parent].point.parent_id
        return steps

    newest_first = sorted(chosen.values(), key=lambda one: one.point.taken_at, reverse=True)
    return sorted(newest_first, key=depth, reverse=True)


def _wal_to_go(
    decision: PruneDecision,
    facts: PruneFacts,
    left: list[PointStanding],
    policy: Retention,
    now: datetime,
) -> list[str]:
    """Judged by the points that are left, whatever was to become of them."""
    fresh = decide_stored_wal(facts, left, policy, now=now)
    decided = {one.wal.key for one in decision.wal.prune}
    return [one.wal.key for one in fresh.prune if one.wal.key in decided]


class _Run:
    def __init__(
        self,
        store: ObjectStore,
        catalogue: Catalogue,
        decision: PruneDecision,
        progress: Callable[[int], None],
    ) -> None:
        self._store, self._catalogue, self._progress = store, catalogue, progress
        self._decision = decision
        self._points: list[RemovedPoint] = []
        self._leftovers: list[str] = []
        self._wal_objects = 0
        self._indexes = 0
        self._freed_bytes = 0
        self._late: dict[str, str] = {}

    @property
    def removed_ids(self) -> set[str]:
        return {one.point_id for one in self._points}

    def remove_point(self, standing: PointStanding) -> None:
        point_id = standing.point.id
        rows = {row.key: row.size_bytes for row in self._store.list(f"points/{point_id}/")}
        for name, why in ((HOLD, "held meanwhile"), (QUARANTINE, "quarantined meanwhile")):
            if point_key(point_id, name) in rows:
                self._late[point_id] = why
        parents = {self._parent_of(spared) for spared in self._late}
        if point_id in parents:
            self._late.setdefault(point_id, "needed by a point that was spared")
        if point_id in self._late:
            return
        self._catalogue.forget(point_id)
        # In a bucket with versions, deleting it once more would leave a second marker.
        freed = self._count(rows.pop(point_key(point_id, MANIFEST), 0)) + self._delete(rows)
        reason = self._decision.retention.why_pruned(standing).words
        self._points.append(RemovedPoint(point_id, 1 + len(rows), freed, reason))

    def _parent_of(self, point_id: str) -> str | None:
        standings = {one.point.id: one for one in self._decision.retention.prune}
        return standings[point_id].point.parent_id if point_id in standings else None

    def remove_leftovers(self, decided: Iterable[Leftover]) -> None:
        expected = {one.point_id for one in decided}
        for one in self._decision.leftovers:
            if one.point_id in expected:
                self._delete({key: self._decision.sizes.get(key, 0) for key in one.keys})
                self._leftovers.append(one.point_id)

    def remove_wal(self, keys: list[str]) -> None:
        self._delete({key: self._decision.sizes.get(key, 0) for key in keys})
        self._wal_objects += len(keys)

    def remove_indexes(self, keys: Iterable[str]) -> None:
        rows = {key: self._decision.sizes.get(key, 0) for key in sorted(keys)}
        self._delete(rows)
        self._indexes += len(rows)

    def _delete(self, rows: Mapping[str, int]) -> int:
        with ThreadPoolExecutor(DELETE_THREADS) as threads:
            for size_bytes, _ in zip(
                rows.values(), threads.map(self._store.delete, rows), strict=True
            ):
                self._count(size_bytes)
        return sum(rows.values())

    def _count(self, size_bytes: int) -> int:
        self._freed_bytes += size_bytes
        self._progress(size_bytes)
        return size_bytes

    def result(self, started_at: datetime, ended_at: datetime, wanted: set[str]) -> PruneResult:
        spared = {
            point_id: self._late.get(point_id, "something keeps it now")
            for point_id in sorted(wanted - self.removed_ids)
        }
        return PruneResult(
            component=self._decision.component,
            started_at=started_at,
            ended_at=ended_at,
            points=tuple(self._points),
            leftovers=tuple(self._leftovers),
            wal_objects=self._wal_objects,
            freed_bytes=self._freed_bytes,
            spared=tuple(spared.items()),
            indexes=self._indexes,
        )
