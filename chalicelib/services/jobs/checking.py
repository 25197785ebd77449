"""The jobs that check every copy, look at what arrives, and repair what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.errors import CheckFailed, LeewardError, Unavailable
from chalicelib.evidence.text import counted
from chalicelib.plan.components import BaseComponent, Bucket, Files, Git
from chalicelib.plan.records import is_of_one_copy
from chalicelib.services import build
from chalicelib.verify.copies.arrival import check_arrival
from chalicelib.verify.copies.findings import Finding
from chalicelib.verify.copies.integrity import CheckResult
from chalicelib.verify.copies.ledger import load_ledger
from chalicelib.verify.copies.location import verify_location
from chalicelib.verify.copies.locations import LocationView, view_location
from chalicelib.verify.copies.repair import decide_repair
from chalicelib.verify.copies.repair_run import RepairResult, apply_repair
from chalicelib.verify.copies.rotation import CheckPolicy

if TYPE_CHECKING:
    from chalicelib.plan.model import Plan
    from chalicelib.ports import ObjectStore
    from chalicelib.services.locations import Locations

# Lambda ends an invocation after 15 minutes; what was not reached is told before.
CHECK_TIME = timedelta(minutes=12)
ARRIVAL_TIME = timedelta(minutes=4)
# Room for a budget that would keep the promise exactly: runs are late, and are lost.
SPARE = 1.25
SHOWN = 5
MOST_TOLD = 200
TAKEN_ON_HOSTS = (Files, Git)


def check(component: str, location: str) -> dict[str, Any]:
    """Check a component's copies in one location; what is wrong is handed to `repair`.

    Publishes `Checked.<location>` when everything was looked at, the number of findings as
    `Damaged.<location>`, and `OldestUnread.<location>` in seconds. Of a bucket, what its replica
    holds is checked besides, and a sync started where it is not what the inventory says.
    """
    until = build.clock().now() + CHECK_TIME
    result = check_location(component, location)
    if isinstance(build.plan().components[component], Bucket):
        return _check_replica(component, location, result, until)
    values = {f"Damaged.{location}": float(len(result.findings))}
    if not result.unreached:
        values[f"Checked.{location}"] = 1.0
    if result.oldest_unread_seconds is not None:
        values[f"OldestUnread.{location}"] = result.oldest_unread_seconds
    build.metrics().put(component, values)
    if result.findings:
        _start_repair(component, location, result.findings)
    return {"ok": result.ok, "found": tell_check(result)}


def _check_replica(
    component: str, location: str, points: CheckResult, until: datetime
) -> dict[str, Any]:
    from chalicelib.services.jobs.doubted import doubted_keys
    from chalicelib.services.jobs.replica_checks import check_objects, tell_objects

    policy = policy_of(build.plan(), build.plan().components[component])
    objects = check_objects(component, location, policy, until=until)
    damaged = [len(points.findings), len(objects.findings) + objects.more if objects else 0]
    values = {f"Damaged.{location}": float(sum(damaged))}
    if objects and objects.judged and not objects.unreached and not points.unreached:
        values[f"Checked.{location}"] = 1.0
    ages = [points.oldest_unread_seconds, objects.oldest_unread_seconds if objects else None]
    if known := [age for age in ages if age is not None]:
        values[f"OldestUnread.{location}"] = max(known)
    build.metrics().put(component, values)
    if points.findings:
        _start_repair(component, location, points.findings)
    if objects and objects.findings:
        where = {"component": component, "location": location}
        build.functions().start("sync", where)
        if location != build.locations().primary and (keys := doubted_keys(objects.findings)):
            build.functions().start("sync", {**where, "doubted": keys})
    told = f"{tell_check(points)}; {tell_objects(objects)}"
    return {"ok": points.ok and objects is not None and objects.ok, "found": told}


def check_location(component: str, location: str) -> CheckResult:
    """One check as the plan wants it, within the time of one invocation."""
    places, now = build.locations(), build.clock().now()
    policy = policy_at(places, location, component)
    store = places.store(location, component)
    return verify_location(
        store,
        places.indexed(location, component),
        location=location,
        component=component,
        policy=replace(policy, read_bytes=share_to_read(store, policy)),
        ledgers=build.ledgers(),
        clock=build.clock(),
        until=now + CHECK_TIME,
    )


def share_to_read(store: ObjectStore, policy: CheckPolicy) -> int:
    """How many bytes one run reads, so that the plan's promise is kept with some to spare."""
    total = sum(row.size_bytes for row in store.list())
    return int(total / policy.runs * SPARE) + 1


def policy_of(plan: Plan, component: BaseComponent) -> CheckPolicy:
    """How often, and in which time every byte is read; what the plan leaves open has defaults."""
    policy = CheckPolicy(
        wal_within=component.retention.logs if component.retention else None,
        copied_within=max(
            (it.copied_within for it in component.backups if it.copied_within),
            default=CheckPolicy.copied_within,
        ),
    )
    for exercise in plan.verification:
        if exercise.kind == "integrity-check" and not exercise.manual:
            every = exercise.when.longest_interval()
            within = exercise.reads_all_within or max(policy.read_within, 7 * every)
            return replace(policy, every=every, read_within=within)
    return policy


def policy_at(places: Locations, location: str, component: str) -> CheckPolicy:
    """As `policy_of`. No copy is waited for where backups are taken to: what is gone is missing."""
    found = places.component(component)
    policy = policy_of(places.plan, found)
    if location == places.primary:
        return replace(policy, copied_within=timedelta(0))
    return replace(policy, whole=not isinstance(found, Bucket))


def arrive(event: dict[str, Any]) -> dict[str, Any]:
    """Look at an object that has just been written to the backup bucket.

    Publishes `Taken.<kind>` when it completes a new point of what is taken on a host, where nobody
    else can tell that it was.

    Raises CheckFailed (code "arrived-damaged"), after `repair` was started.
    """
    key = str(event["detail"]["object"]["key"])
    component = key.partition("/")[0]
    if component not in build.plan().components:
        return {"found": f"{key} belongs to no component"}
    places = build.locations()
    name = f"{component}/{places.primary}"
    arrival = check_arrival(
        event,
        places.store(places.primary, component),
        prefix=f"{component}/",
        index=places.catalogue(places.primary, component).indexed() or {},
        ledger=load_ledger(build.ledgers(), name),
        clock=build.clock(),
        until=build.clock().now() + ARRIVAL_TIME,
    )
    if arrival.findings:
        build.metrics().put(component, {f"Damaged.{places.primary}": len(arrival.findings)})
        _start_repair(component, places.primary, arrival.findings)
        raise CheckFailed(
            "; ".join(f"{it.key}: {it.code}" for it in arrival.findings[:SHOWN]),
            hint="`leeward verify` tells more; a repair from another location has begun",
            code="arrived-damaged",
        )
    if arrival.ok and arrival.taken_at is not None:
        _note_taken(component, arrival.taken_at)
    missed = counted(len(arrival.unreached), "object")
    told = "as it should be" if arrival.ok else f"{missed} not reached: the next check looks"
    return {"found": f"{arrival.key}: {arrival.kind}, {told}"}


def _note_taken(component: str, taken_at: datetime) -> None:
    """Only of a point that this turn of its schedule asked for: an old one, whose manifest is
    copied back, is no new one."""
    found, age = build.plan().components[component], build.clock().now() - taken_at
    if isinstance(found, TAKEN_ON_HOSTS):
        due = [it.kind for it in found.backups if it.when and age <= it.when.longest_interval()]
        if due:
            build.metrics().put(component, {f"Taken.{kind}": 1.0 for kind in due})


def _start_repair(component: str, location: str, findings: tuple[Finding, ...]) -> None:
    """An event holds at most 256 KiB; the ledgers tell the repair of the others."""
    told = [finding.to_json() for finding in findings[:MOST_TOLD]]
    event = {"component": component, "location": location, "findings": told}
    build.functions().start("repair", event)


def repair(
    component: str, location: str = "", findings: tuple[Finding, ...] = ()
) -> dict[str, Any]:
    """Copy back what another location has sound; quarantine a point that none has.

    Publishes `Unrepaired`: how much of what is wrong a person must look at.

    Args:
        findings: what has just been found wrong in `location`, besides what its checks know.
    """
    result = repair_now(component, location, findings)
    left = [item for item in result.repaired if item.outcome not in ("copied", "already-sound")]
    build.metrics().put(component, {"Unrepaired": float(len(left))})
    found = "; ".join(f"{it.action.key}: {it.outcome}, {it.found}" for it in result.repaired)
    return {"ok": result.ok, "found": found or "nothing is wrong"}


def repair_now(
    component: str, location: str = "", findings: tuple[Finding, ...] = ()
) -> RepairResult:
    """Decide and do it; see `repair`.

    Raises Unavailable (code "location-silent"): what was found there cannot be looked at now.
    """
    places = build.locations()
    views, unknown = look_at_all(places, component, ledgers=build.ledgers())
    if location in unknown:
        raise Unavailable(
            f"expected {location} to answer, so that what is wrong with {component} there can be "
            "repaired; it did not",
            hint="the next check begins the repair again; look whether the location answers",
            code="location-silent",
        )
    views = [
        replace(view, findings=tuple(dict.fromkeys((*view.findings, *findings))))
        if view.name == location
        else view
        for view in views
    ]
    return apply_repair(
        decide_repair(views, unknown=unknown),
        {view.name: places.store(view.name, component) for view in views},
        {view.name: places.indexed(view.name, component) for view in views},
        clock=build.clock(),
    )


def look_at_all(
    places: Locations, component: str, *, ledgers: ObjectStore
) -> tuple[list[LocationView], list[str]]:
    """Every location that answers, and the names of those that do not."""
    views, unknown = [], []
    for location in places.of(component):
        try:
            views.append(
                view_location(
                    places.store(location, component),
                    places.indexed(location, component),
                    location=location,
                    component=component,
                    policy=policy_at(places, location, component),
                    ledgers=ledgers,
                    clock=build.clock(),
                )
            )
        except LeewardError:
            unknown.append(location)
    return views, unknown


def damaged_copies(
    places: Locations, component: str, views: Sequence[LocationView]
) -> dict[str, frozenset[str]]:
    """Location -> ids of points whose copy there is quarantined as damaged; none that is anywhere
    quarantined for its content, and none while the primary location does not answer."""
    if not places.deployed or places.primary not in {view.name for view in views}:
        return {}
    ids = sorted({point_id for view in views for point_id in view.survey.quarantined})
    found: dict[str, frozenset[str]] = {}
    of_content: set[str] = set()
    for view in views:
        catalogue = places.catalogue(view.name, component)
        known = {point_id: catalogue.quarantine_of(point_id) for point_id in ids}
        told = {point_id: code for point_id, (why, code) in known.items() if why}
        found[view.name] = frozenset(it for it, code in told.items() if is_of_one_copy(code))
        of_content |= told.keys() - found[view.name]
    return {name: damaged - of_content for name, damaged in found.items()}


def tell_check(result: CheckResult) -> str:
    """One line for a person."""
    looked = f"{result.looked} of {counted(result.objects, 'object')} looked at"
    read = f"{result.read_bytes / 1e6:.1f} MB read"
    wrong = [f"{it.key}: {it.code}" for it in result.findings]
    missed = f"; {counted(len(result.unreached), 'object')} not reached" if result.unreached else ""
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    found = f"; WRONG: {', '.join(wrong[:SHOWN])}{more}" if wrong else ""
    part = f", {', '.join(result.part_read)} in part" if result.part_read else ""
    return f"{result.location}: {looked}, {read}{part}{missed}{found}"
