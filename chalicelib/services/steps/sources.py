"""Which location a run reads a component's backups from: chosen once, and said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.errors import LeewardError
from chalicelib.evidence.entries import decision
from chalicelib.incidents.run import Run
from chalicelib.plan.records import RecoveryTarget
from chalicelib.ports import Catalogue, Inventory, ObjectStore
from chalicelib.recover.choose_copy import choose_copy
from chalicelib.services import build
from chalicelib.services.steps.said import say

END = RecoveryTarget("end", "")


@dataclass(frozen=True)
class Source:
    """One location, opened for a component."""

    location: str
    store: ObjectStore
    catalogue: Catalogue
    known: Inventory | None = None

    def inventory(self) -> Inventory:
        """Of a database: what the choice was made by, where it was made just now; else anew."""
        return self.known or self.catalogue.inventory()


def source_of(run: Run, component: str) -> Source:
    """The one that the run has chosen before; without, the one with the most data."""
    kept = build.state().get(f"run#{run.run_id}", _sort(component))
    return _open(component, kept) if kept else choose_source(run, component, END)


def choose_source(run: Run, component: str, target: RecoveryTarget) -> Source:
    """The location to reach `target` from, for this and the later steps of the run.

    The primary one, unless it does not answer or does not lead there: only then the others are
    asked, and the choice is recorded with its reasons. A location that is lost with its site is not
    asked at all: a region that hangs would hold the run up.

    Raises:
        NotReady, Damaged: as `choose_copy`; OutsideWindow: as the primary location says when no
            other leads there either.
    """
    places, lost = build.locations(), _lost_locations(run)
    known: Inventory | None = None
    if places.primary in lost:
        item = _choose_other(run, component, target, lost)
    else:
        item, known = _choose(run, component, target, lost)
    _keep(run, component, item)
    return _open(component, item, known)


def _keep(run: Run, component: str, item: dict[str, Any]) -> None:
    """The same choice again, which is the usual one, writes nothing."""
    partition, sort = f"run#{run.run_id}", _sort(component)
    kept = build.state().get(partition, sort)
    if kept is not None and kept | {"sort": ""} == item | {"sort": ""}:
        return
    if kept is not None or not build.state().create(partition, sort, item):
        build.state().replace(partition, sort, item, expected={})


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
    choice = choose_copy(places.candidates(component, in_region=region, without=lost), target)
    others = [f"{location}: {why}" for location, why in choice.others]
    what = f"read backups from {choice.location}"
    say(run, decision(what=what, why=choice.why, alternatives=others), about=what)
    return {"location": choice.location, "quarantined": dict(choice.quarantined)}


def _open(component: str, chosen: Mapping[str, Any], known: Inventory | None = None) -> Source:
    """`quarantined`: what the primary location told, whose notes may not have been copied yet."""
    places, location = build.locations(), chosen["location"]
    catalogue = places.catalogue(location, component, quarantined=chosen.get("quarantined"))
    return Source(location, places.store(location, component), catalogue, known)


def _sort(component: str) -> str:
    return f"source#{component}"
