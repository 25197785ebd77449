"""The jobs that remove what the plan no longer keeps, and that lock what it keeps longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chalicelib.backup.retention.lock_objects import LockResult, apply_locks
from chalicelib.backup.retention.locks import decide_locks
from chalicelib.backup.retention.prune import PruneResult, apply_prune
from chalicelib.backup.retention.prune_facts import decide_prune, read_facts
from chalicelib.errors import CheckFailed, LeewardError, NotReady, Refused
from chalicelib.evidence.text import counted
from chalicelib.incidents.register import list_incidents
from chalicelib.plan.components import Retention
from chalicelib.services import build

if TYPE_CHECKING:
    from chalicelib.ports import Catalogue
    from chalicelib.services.locations import Locations

SHOWN = 5


def prune(component: str) -> dict[str, Any]:
    """Remove what no rule of the plan keeps, in every location that answers.

    Publishes `Pruned` when every location was done. While any incident is open nothing goes: its
    recovery may be reading what would, of whichever component.

    Raises: what the first location said that could not be pruned, after the others were.
        PruneTooLarge: more would go than one run may remove without approval (`leeward prune`).
    """
    try:
        require_no_incident()
    except Refused as error:
        return {"found": f"nothing removed: {error.message}"}
    places, done, failed = build.locations(), [], []
    for location in places.of(component):
        if places.plan.locations[location].provider != "own":
            try:
                done.append(f"{location}: {_tell(prune_location(component, location))}")
            except LeewardError as error:
                failed.append(error)
    if failed:
        raise failed[0]
    build.metrics().put(component, {"Pruned": 1.0})
    return {"found": "; ".join(done)}


def require_no_incident() -> None:
    """Raises Refused (code "incident-open"): what a recovery may read stays."""
    for incident in list_incidents(build.state())[:1]:
        raise Refused(
            f"incident {incident.id} of {incident.component} is open",
            hint="what a recovery may read stays; run it again when the incident is over",
            code="incident-open",
        )


def prune_location(component: str, location: str, *, approved: bool = False) -> PruneResult:
    """One location, by the plan's retention and what is known there now.

    What the primary location has locked stays in every one: its lock tells what the plan promised,
    also after a slip in the plan that promises less.
    """
    places, policy = build.locations(), retention_of(component)
    store = places.store(location, component)
    catalogue = catalogue_to_prune(places, location, component)
    locks = build.locks(component)
    facts = read_facts(store, catalogue, component, locks=locks)
    now = build.clock().now()
    return apply_prune(
        decide_prune(facts, policy, now=now, time_zone=policy.time_zone),
        store,
        catalogue,
        policy,
        clock=build.clock(),
        time_zone=policy.time_zone,
        locks=locks,
        approved=approved,
    )


def catalogue_to_prune(places: Locations, location: str, component: str) -> Catalogue:
    """Of one location, with what holds and quarantines say in the primary one, whose notes come
    here with the next copy only."""
    if location == places.primary or not places.deployed:
        return places.catalogue(location, component)
    known = places.catalogue(places.primary, component).holdings().standings
    return places.catalogue(
        location,
        component,
        quarantined={it.point.id: it.quarantined for it in known if it.quarantined},
        held={it.point.id: it.held for it in known if it.held},
    )


def retention_of(component: str) -> Retention:
    """Raises NotReady (code "no-retention"): without one, nothing may be removed."""
    found = build.plan().components[component].retention
    if found is None:
        raise NotReady(
            f"expected a retention for {component} in the plan, found none",
            hint="say how long its backups are kept",
            code="no-retention",
        )
    return found


def extend_locks(component: str) -> dict[str, Any]:
    """Lock in the primary location what the plan keeps, for as long as it keeps it.

    Publishes `Locked` when the store has every lock that was asked for.

    Raises:
        CheckFailed: code "not-locked": it has not, or an object of a point is gone.
    """
    locks, policy, now = build.locks(component), retention_of(component), build.clock().now()
    store, catalogue = build.backups(component), build.catalogue(component)
    facts = read_facts(store, catalogue, component, locks=locks)
    decision = decide_prune(facts, policy, now=now, time_zone=policy.time_zone)
    wanted = decide_locks(decision.retention, policy, now=now, time_zone=policy.time_zone)
    wal = [one.wal for one in decision.wal.keep]
    result = apply_locks(wanted, locks, wal, policy, now=now)
    if not result.ok:
        raise _not_locked(result)
    build.metrics().put(component, {"Locked": 1.0})
    points = counted(len(result.points), "point")
    return {"found": f"{points} locked for longer, {counted(result.extended, 'object')} of them"}


def _not_locked(result: LockResult) -> CheckFailed:
    wrong = [f"{key}: not locked" for key in result.refused]
    wrong += [f"{key}: gone" for key in result.gone]
    return CheckFailed(
        f"expected every object to be locked, found {len(wrong)} that are not: "
        f"{'; '.join(wrong[:SHOWN])}",
        hint="look at the bucket's Object Lock and at this role's rights; verify the copies",
        code="not-locked",
    )


def _tell(result: PruneResult) -> str:
    points = counted(len(result.points), "point")
    beside = f"{result.wal_objects} WAL objects and {counted(result.indexes, 'index file')}"
    return f"{points}, {beside} removed, {result.freed_bytes} bytes"
