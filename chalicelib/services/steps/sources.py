"""Which location a run reads a component's backups from: chosen once, and said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from chalicelib.errors import Damaged, LeewardError
from chalicelib.evidence.entries import decision, rejected_point
from chalicelib.incidents.run import Run
from chalicelib.plan.records import PointKind, RecoveryPoint, RecoveryTarget
from chalicelib.ports import Catalogue, Holdings, Inventory, ObjectStore
from chalicelib.recover.choose_copy import Candidate, choose_copy
from chalicelib.recover.points import choose_points, newer_damaged, without_damaged
from chalicelib.services import build
from chalicelib.services.steps.said import say

END = RecoveryTarget("end", "")
Result = TypeVar("Result")
# Location -> point id -> what is wrong with the copy there.
DamagedCopies = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Source:
    """One location, opened for a component. `damaged`: copies that this run found so there."""

    location: str
    store: ObjectStore
    catalogue: Catalogue
    known: Inventory | None = None
    damaged: Mapping[str, str] = field(default_factory=dict)

    def inventory(self) -> Inventory:
        """Of a database: what the choice was made by, where it was made just now; else anew."""
        return self.known or self.catalogue.inventory()

    def holdings(self) -> Holdings:
        """As the catalogue says, and without the copies that this run found damaged."""
        return without_damaged(self.catalogue.holdings(), self.damaged)


def source_of(run: Run, component: str) -> Source:
    """The one that the run has chosen before; without, the one with the most data."""
    kept = _kept(run, component)
    return _open(component, kept) if "location" in kept else choose_source(run, component, END)


def best_source(run: Run, component: str) -> Source:
    """As `source_of`, of what has no WAL: where newer points are damaged in that location, the one
    that has the most whole. An older point would lose data for nothing.

    Raises: as `choose_copy`.
    """
    source = source_of(run, component)
    if not newer_damaged(source.holdings()):
        return source
    item = _choose_other(run, component, END, _lost_locations(run))
    _keep(run, component, item)
    return _open(component, _kept(run, component))


def use_best(
    run: Run, component: str, kind: PointKind, use: Callable[[Source, RecoveryPoint], Result]
) -> tuple[Source, RecoveryPoint, Result]:
    """`use` the newest clean point, from the next best location where a copy turns out damaged.

    What is infected is refused in every location, as it is the point; what is damaged is the copy,
    and is whole elsewhere. Each that was tried is recorded with its location.

    Raises:
        Damaged: as `use` of the last, when no other is left.
        NotReady, Damaged, Quarantined, OutsideWindow: as `choose_copy` and `choose_points`.
    """
    last: Damaged | None = None
    while True:
        try:
            source = best_source(run, component)
            point = choose_points(source.holdings(), kind)[0]
        except LeewardError as none_left:
            if last is None:
                raise
            raise last from none_left
        try:
            return source, point, use(source, point)
        except Damaged as error:
            last = error
            _set_aside(run, component, source, point, error)


def damaged_copies(run: Run, component: str) -> DamagedCopies:
    """What this run found damaged so far."""
    return dict(_kept(run, component).get("damaged", {}))


def _set_aside(
    run: Run, component: str, source: Source, point: RecoveryPoint, error: Damaged
) -> None:
    """Noted in the run first, which a death survives. Only the primary location's is quarantined:
    elsewhere a run may not write, and what is not quarantined is checked and mended there."""
    found = {name: dict(copies) for name, copies in damaged_copies(run, component).items()}
    found.setdefault(source.location, {})[point.id] = error.message
    _keep(run, component, {**_kept(run, component), "damaged": found})
    if source.location == build.locations().primary:
        source.catalogue.quarantine(
            point.id, code=error.instance_code, reason=error.message, at=build.clock().now()
        )
    say_rejected(run, source.location, point.id, error.message)


def say_rejected(run: Run, location: str, point_id: str, reason: str) -> None:
    entry = rejected_point(point=point_id, reason=f"in {location}: {reason}")
    say(run, entry, about=f"{location}/{point_id}")


def choose_source(run: Run, component: str, target: RecoveryTarget) -> Source:
    """The location to reach `target` from, for this and the later steps of the run.

    The primary one, unless it does not answer or does not lead there: only then the others are
    asked, and the choice is recorded with its reasons. A location that is lost with its site is not
    asked at all: a region that hangs would hold the run up.

    Raises:
        NotReady, Damaged: as `choose_copy`; OutsideWindow: as the primary location says when no
            other leads there either.
    """
    places = build.locations()
    lost = _lost_locations(run) | _kept(run, component).get("left", {}).keys()
    known: Inventory | None = None
    if places.primary in lost:
        item = _choose_other(run, component, target, lost)
    else:
        item, known = _choose(run, component, target, lost)
    _keep(run, component, item)
    return _open(component, item, known)


def choose_again(
    run: Run,
    component: str,
    target: RecoveryTarget,
    source: Source,
    error: LeewardError,
    *,
    leave: bool = False,
) -> Source:
    """Of all locations the one that leads farthest now, as points of `source` turned out damaged.

    Args:
        leave: it is not `source`, as the WAL there is damaged.
    Raises:
        `error`, which is what was found, where none leads there.
    """
    kept = _kept(run, component)
    left = kept.get("left", {}) | ({source.location: error.message} if leave else {})
    why = f"{source.location}: {error.message}"
    say(run, decision(what=f"ask every location for {component} again", why=why), about=why)
    try:
        item = _choose_other(run, component, target, _lost_locations(run) | left.keys())
    except LeewardError as none_left:
        raise error from none_left
    _keep(run, component, {**item, "left": left})
    return _open(component, item)


def _keep(run: Run, component: str, item: dict[str, Any]) -> None:
    """The same choice again, which is the usual one, writes nothing. What was found damaged, and
    which locations were left for it, is not forgotten."""
    partition, sort, kept = f"run#{run.run_id}", _sort(component), _kept(run, component)
    item = {name: kept[name] for name in ("damaged", "left") if name in kept} | item
    if kept == item:
        return
    if kept or not build.state().create(partition, sort, item):
        build.state().replace(partition, sort, item, expected={})


def _kept(run: Run, component: str) -> dict[str, Any]:
    """{} before anything was chosen."""
    found = build.state().get(f"run#{run.run_id}", _sort(component)) or {}
    return {name: value for name, value in found.items() if name != "sort"}


def _lost_locations(run: Run) -> frozenset[str]:
    plan = build.plan()
    return build.locations().lost_with(plan.scenarios[run.scenario].loses)


def _choose(
    run: Run, component: str, target: RecoveryTarget, lost: frozenset[str]
) -> tuple[dict[str, Any], Inventory | None]:
    """And what the primary location holds, where it is the one."""
    places = build.locations()
    try:
        asked = places.ask(places.primary, component)
        choose_copy((asked,), target)
        return {"location": places.primary}, asked.inventory
    except LeewardError as error:
        try:
            return _choose_other(run, component, target, lost), None
        except LeewardError as no_other:
            # What the primary location says names its windows, which is what helps a person.
            raise error from no_other


def _choose_other(
    run: Run, component: str, target: RecoveryTarget, lost: frozenset[str]
) -> dict[str, Any]:
    places, region = build.locations(), build.environment().region
    damaged = damaged_copies(run, component)
    asked = places.candidates(component, in_region=region, without=lost)
    choice = choose_copy(tuple(_as_found(it, damaged) for it in asked), target)
    others = [f"{location}: {why}" for location, why in choice.others]
    what = f"read backups from {choice.location}"
    say(run, decision(what=what, why=choice.why, alternatives=others), about=what)
    return {"location": choice.location, "quarantined": dict(choice.quarantined)}


def _as_found(candidate: Candidate, damaged: DamagedCopies) -> Candidate:
    """A database's own are quarantined where they lie."""
    found = damaged.get(candidate.location)
    if not found or candidate.holdings is None:
        return candidate
    return replace(candidate, holdings=without_damaged(candidate.holdings, found))


def _open(component: str, chosen: Mapping[str, Any], known: Inventory | None = None) -> Source:
    """`quarantined`: what the primary location told, whose notes may not have been copied yet."""
    places, location = build.locations(), chosen["location"]
    catalogue = places.catalogue(location, component, quarantined=chosen.get("quarantined"))
    damaged = chosen.get("damaged", {}).get(location, {})
    return Source(location, places.store(location, component), catalogue, known, damaged)


def _sort(component: str) -> str:
    return f"source#{component}"
