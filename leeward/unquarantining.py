"""The end of a quarantine: a person decides that recovery points may be restored again.

Refused while a watch still judges infected, and for a copy that is not what was stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from chalicelib.errors import BadInput, Damaged, Refused
from chalicelib.plan.components import Bucket
from chalicelib.plan.records import PointStanding, Record

if TYPE_CHECKING:
    from chalicelib.plan.model import Plan
    from chalicelib.ports import Catalogue, Holdings, ObjectStore, StateStore


@dataclass(frozen=True)
class Unquarantine(Record):
    """`points`: ids of those whose quarantine ends, oldest first; `free`: of those that have none.
    `stay`: point id -> why, of what builds on them and stays quarantined. `below`: point id -> what
    it builds on and is quarantined still, so that no restore can use it."""

    points: tuple[str, ...]
    free: tuple[str, ...]
    stay: dict[str, str]
    below: dict[str, str]


def decide_unquarantine(holdings: Holdings, named: Collection[str]) -> Unquarantine:
    """Pure.

    Raises:
        BadInput: code "unknown-point"; "not-indexed": its quarantine ends by its entry.
        Refused: code "copy-not-whole": an object or the manifest is not there.
    """
    standings = {it.point.id: it for it in holdings.standings}
    for point_id in named:
        _require_known(point_id, standings.get(point_id), holdings)
    held = [it for it in holdings.standings if it.quarantined and it.point.id not in named]
    chosen = [it for it in holdings.standings if it.point.id in named]
    quarantined = {it.point.id for it in held}
    return Unquarantine(
        points=tuple(it.point.id for it in chosen if it.quarantined),
        free=tuple(it.point.id for it in chosen if not it.quarantined),
        stay={
            it.point.id: it.quarantined
            for it in held
            if not set(named).isdisjoint(_below(it, standings))
        },
        below={
            it.point.id: one for it in chosen for one in _below(it, standings) if one in quarantined
        },
    )


def require_calm(plan: Plan, component: str, state: StateStore) -> None:
    """Of what is no bucket any of the plan's may be what infects it.

    Raises Refused: code "still-infected".
    """
    from chalicelib.verify.ransomware import last_judgement

    buckets = {name: it.bucket for name, it in plan.components.items() if isinstance(it, Bucket)}
    for name in [component] if component in buckets else buckets:
        judged = last_judgement(buckets[name], state=state)
        if judged is not None and judged.infected:
            raise Refused(
                f"the watch judges {name} infected: {judged.why}",
                hint=f"deal with it and say so with `leeward signs clear {name}` first",
                code="still-infected",
            )


def apply_unquarantine(
    decision: Unquarantine,
    catalogue: Catalogue,
    store: ObjectStore,
    standings: Sequence[PointStanding],
    *,
    by: str,
    reason: str,
    at: datetime,
    dry_run: bool,
) -> None:
    """Read each copy that was quarantined as damaged, then free all; with `dry_run` only the first.

    Raises Refused: code "copy-not-whole", before any is freed.
    """
    damaged = [it for it in standings if it.point.id in decision.points and it.is_damaged]
    for standing in damaged:
        _require_whole(standing, store)
    if dry_run:
        return
    for point_id in decision.points:
        catalogue.unquarantine(point_id, by=by, reason=reason, at=at)


def tell_unquarantine(decision: Unquarantine, *, dry_run: bool) -> Iterator[str]:
    """A line for each point that is named, and for each that hangs on one."""
    word = "would not be" if dry_run else "is not"
    yield from (f"{it} {word} quarantined any more" for it in decision.points)
    yield from (f"{it} is not quarantined" for it in decision.free)
    for point_id, below in decision.below.items():
        yield f"{point_id} builds on {below}, which stays quarantined: no restore can use it"
    for point_id, why in decision.stay.items():
        yield f"{point_id} builds on it and stays quarantined: {why}"


def _require_known(point_id: str, standing: PointStanding | None, holdings: Holdings) -> None:
    if standing is None:
        known = [it for it in holdings.rejected if it.point_id == point_id]
        if known:
            raise _not_whole(point_id, known[0].reason)
        raise BadInput(
            f"expected a recovery point, found none named {point_id}",
            hint="`leeward catalogue list` has all",
            code="unknown-point",
        )
    if standing.is_unknown:
        raise BadInput(
            f"{point_id} is unknown: {standing.quarantined}",
            hint="look who wrote it; `leeward catalogue rebuild --point` enters it",
            code="not-indexed",
        )


def _below(standing: PointStanding, standings: dict[str, PointStanding]) -> Iterator[str]:
    """What it builds on, the nearest first. No chain here is a circle: `Catalogue.holdings`."""
    parent = standing.point.parent_id
    while parent is not None and parent in standings:
        yield parent
        parent = standings[parent].point.parent_id


def _require_whole(standing: PointStanding, store: ObjectStore) -> None:
    from chalicelib.verify.copies.repair_run import require_stored

    try:
        for item in standing.point.objects:
            require_stored(store, item.key, item.sha256)
    except Damaged as error:
        raise _not_whole(standing.point.id, error.message) from error


def _not_whole(point_id: str, found: str) -> Refused:
    return Refused(
        f"expected {point_id} to be what was stored, in every byte: {found}",
        hint="`leeward verify --repair` copies it back from a location that has it sound",
        code="copy-not-whole",
    )
