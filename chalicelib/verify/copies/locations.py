"""The same recovery points in several locations: are they provably the same bytes?

Every location has its own manifest of a point. Two with one digest name the same objects with the
same sizes and SHA-256, and where each object was read and agreed, the copies are equal, whatever
the provider made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from chalicelib.plan.manifest import MANIFEST, digest_of_manifest, digest_of_point, point_key
from chalicelib.plan.records import Record, RecoveryPoint, StoredObject
from chalicelib.ports import Catalogue, Clock, Listed, ObjectStore
from chalicelib.verify.copies.expected import index_rows, wal_rows
from chalicelib.verify.copies.findings import Finding
from chalicelib.verify.copies.integrity import decide_check
from chalicelib.verify.copies.ledger import Ledger, load_ledger
from chalicelib.verify.copies.rotation import CheckPolicy
from chalicelib.verify.copies.survey import Survey, survey


@dataclass(frozen=True)
class LocationView:
    """What is known of one location: its listing and manifests, what was read, what is wrong."""

    name: str
    survey: Survey
    ledger: Ledger
    findings: tuple[Finding, ...]

    @property
    def wrong_keys(self) -> frozenset[str]:
        return frozenset(item.key for item in self.findings)

    def point(self, point_id: str) -> RecoveryPoint | None:
        return next((item for item in self.survey.points if item.id == point_id), None)

    def has(self, key: str, size_bytes: int) -> bool:
        """Present, in its size, and nothing is known against it."""
        row = self.survey.rows.get(key)
        return row is not None and row.size_bytes == size_bytes and key not in self.wrong_keys

    def read_at(self, item: StoredObject) -> datetime | None:
        """When the very object that lies there was last read and had this content."""
        row, seen = self.survey.rows.get(item.key), self.ledger.seen.get(item.key)
        if row is None or seen is None or item.key in self.wrong_keys:
            return None
        return seen.read_at if seen.is_of(row) and seen.sha256 == item.sha256 else None


def view_location(
    store: ObjectStore,
    catalogue: Catalogue,
    *,
    location: str,
    component: str,
    policy: CheckPolicy,
    ledgers: ObjectStore,
    clock: Clock,
) -> LocationView:
    """List a location and read its manifests; what its checks found stands in its ledger.

    Raises:
        Unavailable, NotReady, Refused: it cannot be listed; nothing is known of it.
    """
    now = clock.now()
    found = survey(
        store, catalogue.indexed(), now=now, component=component,
        copied_within=policy.copied_within, whole=policy.whole,
    )  # fmt: skip
    ledger = load_ledger(ledgers, f"{component}/{location}")
    decision = decide_check(found, ledger, policy, now=now)
    return LocationView(
        location, found, decision.ledger, (*decision.findings, *decision.wrong.values())
    )


UNREAD = "not read since it was promised"


@dataclass(frozen=True)
class Difference(Record):
    """`code`: absent, other-manifest, wrong (a finding names it), unread, other-content, silent
    (its location did not answer, so that nothing is known)."""

    code: str
    location: str
    key: str
    found: str


@dataclass(frozen=True)
class PointCopies(Record):
    """`digest` as digest_of_point. `proven_in`: the locations in which every object of the point
    was read and agreed. `equal` only when that is every location."""

    point_id: str
    digest: str
    proven_in: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        return not self.differences


@dataclass(frozen=True)
class Comparison(Record):
    """`equal`: at least one point, each provably the same in every location, and all WAL too.
    `silent`: locations that were to be compared and did not answer; nothing is equal then."""

    locations: tuple[str, ...]
    points: tuple[PointCopies, ...]
    wal: tuple[Difference, ...]
    silent: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        known = bool(self.points) and not self.silent
        return known and not self.wal and all(point.equal for point in self.points)


def compare_locations(
    views: Sequence[LocationView],
    policy: CheckPolicy,
    *,
    now: datetime,
    silent: tuple[str, ...] = (),
) -> Comparison:
    """Pure. A point that is not everywhere is not equal, however young it is; WAL that is younger
    than `policy.copied_within` may be on its way. What was read longer ago than
    `policy.read_within` is not proven.

    Args:
        views: the first one's manifest is what others are compared with, so the primary's.
        silent: the locations that did not answer; every point differs by them.
    """
    points = {item.id: item for view in reversed(views) for item in view.survey.points}
    return Comparison(
        locations=tuple(view.name for view in views),
        points=tuple(
            _compare_point(views, policy, points[point_id], now, silent)
            for point_id in sorted(points)
            if not any(point_id in view.survey.quarantined for view in views)
        ),
        wal=tuple(_compare_wal(views, policy, now)),
        silent=silent,
    )


def _compare_point(
    views: Sequence[LocationView],
    policy: CheckPolicy,
    point: RecoveryPoint,
    now: datetime,
    silent: Sequence[str],
) -> PointCopies:
    manifest = point_key(point.id, MANIFEST)
    differences = [
        Difference("silent", name, manifest, "it did not answer: nothing is known")
        for name in silent
    ]
    proven_in = []
    for view in views:
        found = _differences(view, point, policy, now)
        differences += found
        if not found:
            proven_in.append(view.name)
    return PointCopies(point.id, digest_of_point(point), tuple(proven_in), tuple(differences))


def _differences(
    view: LocationView, truth: RecoveryPoint, policy: CheckPolicy, now: datetime
) -> list[Difference]:
    manifest, mine = point_key(truth.id, MANIFEST), view.point(truth.id)
    if mine is None:
        young = now - truth.finished_at <= policy.copied_within
        why = "not copied yet" if young else "no manifest that can be trusted"
        return [Difference("absent", view.name, manifest, why)]
    if digest_of_manifest(mine) != digest_of_manifest(truth):
        found = f"digest {digest_of_manifest(mine)}, elsewhere {digest_of_manifest(truth)}"
        return [Difference("other-manifest", view.name, manifest, found)]
    wrong = {item.key: item for item in view.findings}
    found_wrong = [
        Difference("wrong", view.name, key, f"{wrong[key].code}: {wrong[key].found}")
        for key in (manifest, *(item.key for item in mine.objects))
        if key in wrong
    ]
    unread = [
        Difference("unread", view.name, item.key, UNREAD)
        for item in mine.objects
        if item.key not in wrong and not _read_since(view, item, now - policy.read_within)
    ]
    return [*found_wrong, *unread]


def _read_since(view: LocationView, item: StoredObject, since: datetime) -> bool:
    read_at = view.read_at(item)
    return read_at is not None and read_at >= since


def _compare_wal(
    views: Sequence[LocationView], policy: CheckPolicy, now: datetime
) -> list[Difference]:
    """By name, and by what was read of it in each location; the indexes beside it too."""
    copied_by, since = now - policy.copied_within, now - policy.read_within
    stored_at: dict[str, datetime] = {}
    for row in (row for view in views for row in _beside_points(view.survey)):
        stored_at[row.key] = min(row.modified_at, stored_at.get(row.key, row.modified_at))
    differences = []
    for key in sorted(stored_at):
        digests = _digests(views, key)
        due = stored_at[key] <= copied_by
        for view in views:
            if view.name in digests and len(set(digests.values())) > 1:
                found = f"sha-256 {digests[view.name]}, elsewhere another"
                differences.append(Difference("other-content", view.name, key, found))
            elif key not in view.survey.rows and due:
                differences.append(Difference("absent", view.name, key, "no such object"))
            elif key in view.survey.rows and due and not _read_here(view, key, since):
                differences.append(Difference("unread", view.name, key, UNREAD))
    return differences


def _read_here(view: LocationView, key: str, since: datetime) -> bool:
    seen = view.ledger.seen.get(key)
    return seen is not None and seen.is_of(view.survey.rows[key]) and seen.read_at >= since


def _beside_points(survey: Survey) -> Iterator[Listed]:
    yield from wal_rows(survey)
    yield from index_rows(survey)


def _digests(views: Sequence[LocationView], key: str) -> Mapping[str, str]:
    return {view.name: view.ledger.seen[key].sha256 for view in views if key in view.ledger.seen}
