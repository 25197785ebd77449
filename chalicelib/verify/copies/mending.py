"""Copies that were quarantined as damaged, and what another location has of them.

No check looks at such a copy. A repair reads all of it, copies back what is wrong, and then its
quarantine ends. One of which nothing is wrong stays quarantined: what a restore found damaged in
it is in what was stored, and only a person can judge that. So does one of a point that is
quarantined for its content, wherever it lies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from chalicelib.plan.manifest import MANIFEST, digest_of_manifest, point_key
from chalicelib.plan.records import RecoveryPoint
from chalicelib.verify.copies.locations import LocationView
from chalicelib.verify.copies.repair import RepairAction


def decide_mending(
    views: Sequence[LocationView], damaged: Mapping[str, Collection[str]]
) -> tuple[RepairAction, ...]:
    """One action a copy. Pure.

    Args:
        views: every location that answered.
        damaged: location -> ids of points whose copy there is quarantined as damaged, and that
            nothing is known against elsewhere.
    """
    return tuple(
        _mend(view, point, views)
        for view in views
        for point in view.survey.set_aside
        if point.id in damaged.get(view.name, ())
    )


def _mend(view: LocationView, point: RecoveryPoint, views: Sequence[LocationView]) -> RepairAction:
    digest, key = digest_of_manifest(point), point_key(point.id, MANIFEST)
    others = [other for other in views if other is not view]
    free = [it.name for it in others if _is_among(it.survey.points, digest)]
    aside = [it.name for it in others if _is_among(it.survey.set_aside, digest)]
    sources = (*free, *aside)
    if not sources:
        reason = "its copy is quarantined as damaged, and no other location has the point"
        return RepairAction("leave", view.name, key, point.id, reason)
    reason = f"its copy is quarantined as damaged; {sources[0]} has the point"
    return RepairAction("mend", view.name, key, point.id, reason, sources, digest)


def _is_among(points: Iterable[RecoveryPoint], digest: str) -> bool:
    return any(digest_of_manifest(point) == digest for point in points)
