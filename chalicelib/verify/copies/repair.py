"""What to do about findings: copy a good object back, quarantine what has none, leave the rest.

Nothing is ever deleted, and nothing that is good is written over: a copy is compared with the
digest of the manifest on its way and read back, and a manifest is only replaced by one that the
index, or most of the other locations, vouch for. Where Object Lock holds the damaged version, the
good one becomes a newer version of the same key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from chalicelib.plan.manifest import digest_of_manifest
from chalicelib.plan.records import DatabasePoint, Record, RecoveryPoint, StoredObject
from chalicelib.plan.wal import WalObject, is_index_key, parse_wal_key
from chalicelib.verify.copies.expected import segment_bytes_of
from chalicelib.verify.copies.findings import OF_CONTENT, Finding
from chalicelib.verify.copies.locations import LocationView

Do = Literal["copy", "copy-manifest", "mend", "quarantine", "leave"]
# Names are looked at here, not when they were stored.
_ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)
# What no copy can mend, and what a person can do about it.
LEFT = {
    "extra": "nothing is deleted here: find out who wrote it, then remove it by hand",
    "not-indexed": "find out who wrote it; `leeward catalogue rebuild` takes it into the index",
    "checksum": "its bytes are right: the store's own checksum is wrong; look at the store",
    "unreadable": "the store refuses it: compare its policy and its key with the role's rights",
    "unread-too-long": "raise the byte budget, or check more often",
    "nothing-to-check": "take a backup, or copy one here",
}


@dataclass(frozen=True)
class RepairAction(Record):
    """One thing to do. `location` "": in every one.

    `sources`: locations that have a good copy, the best first. `sha256`: what the copy must have
    ("copy-manifest", "mend": the digest of the manifest), "" for WAL that nobody has read yet.
    `dependants`: points that cannot be restored without this object, the point itself first.
    """

    do: Do
    location: str
    key: str
    point_id: str
    reason: str
    sources: tuple[str, ...] = ()
    sha256: str = ""
    size_bytes: int = 0
    dependants: tuple[str, ...] = ()


def decide_repair(
    views: Sequence[LocationView], *, unknown: Collection[str] = ()
) -> tuple[RepairAction, ...]:
    """An action for every finding, manifests after the objects of their point. Pure.

    Args:
        views: every location that answered.
        unknown: names of those that did not; while there are any, nothing is quarantined for
            want of a good copy.
    """
    planner = _Planner(views, tuple(unknown))
    actions: dict[tuple[Do, str, str, str], RepairAction] = {}
    for view in views:
        for finding in view.findings:
            for action in planner.plan(view, finding):
                place = (action.do, action.location, action.key, action.point_id)
                actions.setdefault(place, action)
    return tuple(sorted(actions.values(), key=lambda action: action.do == "copy-manifest"))


@dataclass(frozen=True)
class _Planner:
    views: Sequence[LocationView]
    unknown: tuple[str, ...]

    def plan(self, view: LocationView, finding: Finding) -> Iterator[RepairAction]:
        if finding.code in ("tampered", "manifest-missing"):
            yield from self._mend_manifest(view, finding)
        elif finding.code == "wal-gap":
            yield from self._fill_gap(view, finding)
        elif finding.code == "parent-missing":
            yield from self._mend_parent(finding)
        elif finding.code in OF_CONTENT and finding.point_id:
            point = view.point(finding.point_id)
            if point is not None:
                yield self._mend_object(view, finding, point)
        elif finding.code in OF_CONTENT:
            yield from self._mend_wal(view, finding)
        else:
            reason = LEFT.get(finding.code, "a person has to look at it")
            yield RepairAction("leave", view.name, finding.key, finding.point_id, reason)

    def _mend_object(
        self, view: LocationView, finding: Finding, point: RecoveryPoint
    ) -> RepairAction:
        item = next(item for item in point.objects if item.key == finding.key)
        sources = self._sources(view, item)
        needs = self._dependants(point.id)
        if not sources:
            return self._give_up(point.id, finding, needs)
        reason = f"{finding.code} here; {sources[0]} has it"
        return RepairAction(
            "copy", view.name, item.key, point.id, reason, sources, item.sha256, item.size_bytes,
            needs,
        )  # fmt: skip

    def _sources(self, view: LocationView, item: StoredObject) -> tuple[str, ...]:
        """Where nothing is known against the object; those that read it last come first.

        A location whose own manifest is wrong may have it too: the copy is compared on its way.
        """
        good = [
            other
            for other in self.views
            if other is not view and other.has(item.key, item.size_bytes)
        ]
        good.sort(key=lambda other: _age_order(other.read_at(item)))
        return tuple(other.name for other in good)

    def _give_up(self, point_id: str, finding: Finding, needs: tuple[str, ...]) -> RepairAction:
        if self.unknown:
            reason = f"no good copy where it could be looked for; {self.unknown[0]} did not answer"
            return RepairAction("leave", "", finding.key, point_id, reason, dependants=needs)
        reason = f"{finding.key} is {finding.code} and no location has a good copy"
        return RepairAction("quarantine", "", finding.key, point_id, reason, dependants=needs)

    def _dependants(self, point_id: str) -> tuple[str, ...]:
        """The point and every incremental that builds on it, in any location."""
        children: dict[str, set[str]] = {}
        for point in (point for view in self.views for point in view.survey.points):
            children.setdefault(point.parent_id or "", set()).add(point.id)
        found, waiting = [point_id], [point_id]
        while waiting:
            next_ids = sorted(children.get(waiting.pop(), set()) - set(found))
            found += next_ids
            waiting += next_ids
        return tuple(found)

    def _mend_manifest(self, view: LocationView, finding: Finding) -> Iterator[RepairAction]:
        good = self._trusted(view, finding.point_id)
        if not good:
            yield self._give_up(finding.point_id, finding, self._dependants(finding.point_id))
            return
        point, sources = good
        objects = [
            self._mend_object(view, Finding("missing", item.key, point.id, "", ""), point)
            for item in point.objects
            if not view.has(item.key, item.size_bytes)
        ]
        yield from objects
        if any(action.do != "copy" for action in objects):
            return
        reason = f"{finding.code} here; {sources[0]} has the one that is vouched for"
        digest = digest_of_manifest(point)
        yield RepairAction(
            "copy-manifest", view.name, finding.key, point.id, reason, sources, digest,
            dependants=self._dependants(point.id),
        )  # fmt: skip

    def _trusted(
        self, view: LocationView, point_id: str
    ) -> tuple[RecoveryPoint, tuple[str, ...]] | None:
        """The manifest that the index vouches for; without an index that of most others."""
        others = [
            (other.name, point)
            for other in self.views
            if other is not view and (point := other.point(point_id)) is not None
        ]
        digests = [digest_of_manifest(point) for _, point in others]
        wanted = view.survey.index.get(point_id, "")
        if not wanted:
            wanted = next((one for one in digests if 2 * digests.count(one) > len(digests)), "")
        good = [item for item, digest in zip(others, digests, strict=True) if digest == wanted]
        return (good[0][1], tuple(name for name, _ in good)) if good else None

    def _mend_parent(self, finding: Finding) -> Iterator[RepairAction]:
        has = [view.name for view in self.views if view.point(finding.expected)]
        if has:
            reason = f"the point that it builds on is in {has[0]}: the next copy brings it"
            yield RepairAction("leave", "", finding.key, finding.point_id, reason)
        else:
            yield self._give_up(finding.point_id, finding, self._dependants(finding.point_id))

    def _fill_gap(self, view: LocationView, finding: Finding) -> Iterator[RepairAction]:
        """All segments from the missing one up to the next that is here, as others have them."""
        [hole] = _segments([finding.key], view)
        here = {(item.timeline, item.start_lsn) for item in _wal(view)}
        after = [start for timeline, start in here if timeline == hole.timeline]
        end = min((start for start in after if start > hole.start_lsn), default=None)
        found = {
            item.key
            for other in self.views
            for item in _wal(other)
            if item.timeline == hole.timeline
            and item.key not in other.wrong_keys
            and item.start_lsn >= hole.start_lsn
            and (end is None or item.start_lsn < end)
        }
        for key in sorted(found):
            yield self._copy_wal(view, key, "wal-gap")
        if finding.key not in found:
            yield from self._lose_wal(finding, [finding.point_id] if finding.point_id else [])

    def _mend_wal(self, view: LocationView, finding: Finding) -> Iterator[RepairAction]:
        action = self._copy_wal(view, finding.key, finding.code)
        if action.sources:
            yield action
        elif is_index_key(finding.key):
            reason = "no location has it: a recovery works without it, and tells less"
            yield RepairAction("leave", "", finding.key, "", reason)
        else:
            yield from self._lose_wal(finding, _needing(view, finding.key))

    def _copy_wal(self, view: LocationView, key: str, code: str) -> RepairAction:
        mine = view.ledger.seen.get(key)
        good = [
            other
            for other in self.views
            if other is not view and key in other.survey.rows and key not in other.wrong_keys
        ]
        known = [other.ledger.seen[key].sha256 for other in good if key in other.ledger.seen]
        sha256 = mine.sha256 if mine else next(iter(known), "")
        # One that was read and was another has no vote.
        good = [
            other
            for other in good
            if not sha256 or key not in other.ledger.seen or other.ledger.seen[key].sha256 == sha256
        ]
        names = tuple(other.name for other in good)
        size_bytes = good[0].survey.rows[key].size_bytes if good else 0
        reason = f"{code} here; {names[0]} has it" if names else code
        return RepairAction("copy", view.name, key, "", reason, names, sha256, size_bytes)

    def _lose_wal(self, finding: Finding, point_ids: list[str]) -> Iterator[RepairAction]:
        """Points that need it cannot be restored; later ones can, and no moment in between."""
        for point_id in point_ids:
            yield self._give_up(point_id, finding, self._dependants(point_id))
        if not point_ids:
            reason = "no location has it: no recovery can pass it; take a full backup now"
            yield RepairAction("leave", "", finding.key, "", reason)


def _age_order(read_at: datetime | None) -> float:
    return -read_at.timestamp() if read_at else 0.0


def _wal(view: LocationView) -> Iterator[WalObject]:
    return _segments(view.survey.rows, view)


def _segments(keys: Iterable[str], view: LocationView) -> Iterator[WalObject]:
    segment_bytes = segment_bytes_of(view.survey.points)
    parsed = (parse_wal_key(key, _ANY_TIME, segment_bytes) for key in keys)
    return filter(None, parsed)


def _needing(view: LocationView, key: str) -> list[str]:
    """The base backups that cannot become consistent without this segment."""
    return [
        point.id
        for item in _segments([key], view)
        for point in view.survey.points
        if isinstance(point, DatabasePoint)
        and point.timeline == item.timeline
        and point.start_lsn < item.end_lsn
        and item.start_lsn < point.end_lsn
    ]
