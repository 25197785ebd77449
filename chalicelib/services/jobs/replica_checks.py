"""The check of a bucket's replicas: are the objects that the newest inventory names still there?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from chalicelib.backup.bucket.replicas import look
from chalicelib.errors import Damaged
from chalicelib.evidence.text import counted
from chalicelib.plan.records import RecoveryPoint
from chalicelib.ports.buckets import Bucket
from chalicelib.services import build
from chalicelib.services.jobs.buckets import replica_of
from chalicelib.verify.copies.check_run import CheckProgress
from chalicelib.verify.copies.findings import Finding
from chalicelib.verify.copies.replica import (
    MOST_FINDINGS,
    ReplicaResult,
    check_replica,
)
from chalicelib.verify.copies.replica_contents import (
    BucketContents,
    ReplicaContents,
    StoreContents,
    inventory_entries,
)
from chalicelib.verify.copies.rotation import CheckPolicy
from chalicelib.verify.copies.slots import Slots, load_slots, save_slots
from chalicelib.verify.copies.strangers import find_overwritten

# Room for a budget that would keep the promise exactly: runs are late, and are lost.
SPARE = 1.25
SHOWN = 5


def check_objects(
    component: str,
    location: str,
    policy: CheckPolicy,
    *,
    until: datetime | None,
    read_all: bool = False,
    tell: Callable[[CheckProgress], None] = lambda _: None,
) -> ReplicaResult | None:
    """Hold a replica against the newest inventory, and read its share of this run, or all of it.

    The inventory itself is held against older ones: what a stranger wrote into the replica in AWS
    would be in it.

    Returns: None when there is no inventory that can be used, so that nothing is known.
    """
    points = usable_inventories(component)
    if not points:
        return None
    point = points[-1]
    name = f"{component}/{location}"
    budget = None if read_all else int(point.source_bytes / policy.runs * SPARE) + 1
    slots = load_slots(build.ledgers(), name, policy)
    result, after = asyncio.run(
        _check(component, location, point, slots, replace(policy, read_bytes=budget), until, tell)
    )
    save_slots(build.ledgers(), name, after)
    if location != build.locations().primary:
        return result
    strange = _overwritten(component, points)
    shown = strange[: max(0, MOST_FINDINGS - len(result.findings))]
    more = result.more + len(strange) - len(shown)
    return replace(result, findings=(*result.findings, *shown), more=more)


def _overwritten(component: str, points: Sequence[RecoveryPoint]) -> list[Finding]:
    """Against the inventory before, and against the oldest, which still tells it when all between
    have the stranger's content. That one of these is damaged is told by its own check."""
    store, newest = build.backups(component), points[-1]
    found: dict[str, Finding] = {}
    for older in {it.id: it for it in (points[0], *points[-2:-1]) if it is not newest}.values():
        before, now = (inventory_entries(store, it) for it in (older, newest))
        with suppress(Damaged):
            for finding in find_overwritten(before, now, point_id=newest.id):
                found.setdefault(finding.key, finding)
    return [found[key] for key in sorted(found)]


def tell_objects(result: ReplicaResult | None) -> str:
    """One line for a person."""
    if result is None:
        return "no inventory to hold the replica against"
    read = f"{result.read} read whole ({result.read_bytes / 1e6:.1f} MB)"
    compared = f"{counted(result.objects, 'object')} of {result.point_id} compared, {read}"
    wrong = [f"{it.key!r}: {it.code}" for it in result.findings[:SHOWN]]
    more = len(result.findings) - len(wrong) + result.more
    found = f"; WRONG: {', '.join(wrong)}" + (f" and {more} more" if more else "")
    missed = f"; {counted(len(result.unreached), 'object')} not reached" if result.unreached else ""
    return compared + missed + (found if wrong else "")


async def _check(
    component: str,
    location: str,
    point: RecoveryPoint,
    slots: Slots,
    policy: CheckPolicy,
    until: datetime | None,
    tell: Callable[[CheckProgress], None],
) -> tuple[ReplicaResult, Slots]:
    places, entries = build.locations(), inventory_entries(build.backups(component), point)
    async with build.buckets() as buckets:
        replica = replica_of(buckets, component)
        contents: ReplicaContents = BucketContents(replica)
        if location != places.primary:
            contents = StoreContents(places.store(location, component))
        result, after = await check_replica(
            entries, contents, slots, policy,
            point=point, location=location, component=component, clock=build.clock(), until=until,
            tell=tell,
        )  # fmt: skip
        if contents.keeps_versions:
            return result, after
        return replace(result, findings=await _without_deleted(result.findings, replica)), after


async def _without_deleted(findings: Sequence[Finding], replica: Bucket) -> tuple[Finding, ...]:
    """What the replica in AWS no longer has either was deleted since the inventory."""
    kept = []
    for finding in findings:
        if finding.code != "missing" or await look(replica, finding.key) is not None:
            kept.append(finding)
    return tuple(kept)


def newest_inventory(component: str) -> RecoveryPoint | None:
    """The newest point of a bucket that may be used; None when there is none."""
    return next(reversed(usable_inventories(component)), None)


def usable_inventories(component: str) -> list[RecoveryPoint]:
    """Oldest first."""
    standings = build.catalogue(component).holdings().standings
    points = [it.point for it in standings if it.point.kind == "objects" and not it.quarantined]
    return sorted(points, key=lambda point: point.taken_at)
