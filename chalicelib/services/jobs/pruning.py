"""The jobs that remove what the plan no longer keeps, and that lock what it keeps longer."""

from __future__ import annotations

from typing import Any

from chalicelib.backup.retention.lock_objects import LockResult, apply_locks
from chalicelib.backup.retention.locks import decide_locks
from chalicelib.backup.retention.prune import PruneResult, apply_prune
from chalicelib.backup.retention.prune_facts import decide_prune, read_facts
from chalicelib.errors import CheckFailed, NotReady
from chalicelib.evidence.text import counted
from chalicelib.incidents.incident import is_open
from chalicelib.plan.components import Retention
from chalicelib.services import build

SHOWN = 5


def prune(component: str) -> dict[str, Any]:
    """Remove what no rule of the plan keeps, in every location that answers.

    Publishes `Pruned` when every location was done. While an incident of the component is open
    nothing goes: a recovery may be reading what would.

    Raises:
        PruneTooLarge: more would go than one run may remove without approval (`leeward prune`).
    """
    places, done = build.locations(), []
    if is_open(component, build.state()):
        return {"found": f"nothing removed: an incident of {component} is open"}
    for location in places.of(component):
        if places.plan.locations[location].provider != "own":
            done.append(f"{location}: {_tell(prune_location(component, location))}")
    build.metrics().put(component, {"Pruned": 1.0})
    return {"found": "; ".join(done)}


def prune_location(component: str, location: str, *, approved: bool = False) -> PruneResult:
    """One location, by the plan's retention and what is known there now.

    What the primary location has locked stays in every one: its lock tells what the plan promised,
    also after a slip in the plan that promises less.
    """
    places, policy = build.locations(), retention_of(component)
    store, catalogue = places.store(location, component), places.catalogue(location, component)
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
