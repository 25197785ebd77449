"""The jobs that keep the plan's buckets in step with their replicas.

An event brings one object at once; the nightly sync brings what no event told of and writes down,
as a recovery point, what the replica then holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from chalicelib.backup.bucket.in_parts import load_compared, save_compared
from chalicelib.backup.bucket.replicas import BucketReplica, Replica, StoreReplica
from chalicelib.backup.bucket.replicate import Replicated, replicate_object
from chalicelib.backup.bucket.sync import SyncProgress, SyncResult, sync_buckets
from chalicelib.backup.bucket.sync_decision import MISSED_AFTER, SyncPolicy
from chalicelib.backup.long_copies import PUT_DOWN, LongPlace
from chalicelib.errors import BadInput, LeewardError, Unavailable
from chalicelib.evidence.text import counted
from chalicelib.plan.components import Bucket
from chalicelib.plan.records import RecoveryPoint
from chalicelib.services import build, environment
from chalicelib.verify.ransomware import note_events
from chalicelib.verify.signs.events import bucket_of, read_event

if TYPE_CHECKING:
    from chalicelib.adapters.s3.bucket import S3Bucket, S3Buckets
    from chalicelib.adapters.s3.copy_turns import CopyTurns
    from chalicelib.backup.bucket.take_inventory import InventoryTaken

# Lambda ends an invocation after 15 minutes; a first sync goes on where the last one was ended.
SYNC_SECONDS = 13 * 60.0
PUT_DOWN_AFTER = timedelta(minutes=12)
SHOWN = 5
# By how much a machine's clock may be ahead: S3 answers none that is more (RequestTimeTooSkewed).
OWN_CLOCK = timedelta(minutes=15)


@dataclass(frozen=True)
class Synced:
    """`point`: the inventory of the replica after a sync that left nothing behind."""

    result: SyncResult
    point: RecoveryPoint | None = None


def replicate(event: dict[str, Any]) -> dict[str, Any]:
    """Note an event of S3 for the watch, and bring its object to where the plan wants it at once.

    Publishes of each component that is that bucket `ReplicationLag` in seconds when a replica was
    changed, and `ReplicationFailures`.

    Raises:
        BadInput: code "not-an-s3-event"; "unknown-bucket" when no component is that bucket.
    """
    bucket = bucket_of(event)
    components = components_of(bucket)
    note_events(bucket, [read_event(event)], build.state())
    told: list[str] = []
    failed: list[LeewardError] = []
    for component in components:
        try:
            told.append(_bring(component, event))
        except LeewardError as error:
            failed.append(error)
    for one in failed:
        if one.instance_code != PUT_DOWN:
            raise one
    if failed:
        build.functions().start("replicate", event)
        told.append(f"{failed[0].message}: gone on with at once")
    return {"found": "; ".join(told)}


def _bring(component: str, event: dict[str, Any]) -> str:
    try:
        done = asyncio.run(_replicate(component, event))
    except LeewardError as error:
        if error.instance_code != PUT_DOWN:
            build.metrics().put(component, {"ReplicationFailures": 1.0})
        raise
    lags = [it.lag_seconds for it in done.values() if it.lag_seconds is not None]
    if lags:
        build.metrics().put(component, {"ReplicationLag": max(lags)})
    return "; ".join(f"{where}: {_tell(it)}" for where, it in done.items())


def sync(component: str, location: str = "", seconds: float = SYNC_SECONDS) -> dict[str, Any]:
    """Make a replica what the bucket is; of the one in AWS, write down what it holds.

    Publishes `Synced.<location>` when nothing was left behind, `SyncFailures.<location>`, and
    `MissedEvents.<location>`: changes that the events should have brought. What somebody wrote over
    in another cloud is copied again, and told as `Damaged.<location>` as a check does. What does
    not fit into one invocation goes on in shards, whose machine publishes the same at its end.

    Raises:
        Refused: code "too-many-deletions": nothing was deleted (`leeward sync --approve`).
        Unavailable: code "sync-incomplete"; the next run goes on from there.
    """
    where = location or build.locations().primary
    try:
        synced = sync_now(component, where, seconds=seconds)
    except LeewardError as error:
        if error.instance_code == "sync-unfinished":
            return _go_on_in_shards(component, where)
        build.metrics().put(component, {f"SyncFailures.{where}": 1.0})
        raise
    result = synced.result
    if result.put_down:
        return _go_on_in_shards(component, where)
    values = {f"SyncFailures.{where}": float(result.failed)}
    values |= missed_values(component, where, result)
    build.metrics().put(component, values | ({f"Synced.{where}": 1.0} if result.ok else {}))
    if not result.ok:
        raise incomplete(where, result)
    return {"point": synced.point and synced.point.id, "found": tell_sync(where, synced)}


def _go_on_in_shards(component: str, where: str) -> dict[str, Any]:
    """By the run of today that is at work, or by another: one that has ended brings nothing."""
    day = f"{where}-{build.clock().now():%Y%m%d}"
    names = (f"{day}-{number}" if number else day for number in count())
    machine, workflows = sync_machine(component), build.workflows()
    run = next(it for it in names if workflows.status(machine, it) in ("", "RUNNING"))
    start_shards(component, where, run)
    return {"point": None, "found": f"{where}: goes on in shards, as {run}"}


def sync_now(
    component: str,
    location: str,
    *,
    dry_run: bool = False,
    approved: bool = False,
    progress: Callable[[SyncProgress], None] = lambda _: None,
    seconds: float | None = None,
) -> Synced:
    """One sync as the plan wants it; see `sync`.

    Args:
        seconds: after these it is ended. None: however long it takes.
    """
    build.require_live(component, bucket_component(component))
    started_at = build.clock().now()
    try:
        result, taken = asyncio.run(
            asyncio.wait_for(
                _sync(component, location, dry_run=dry_run, approved=approved, progress=progress),
                seconds,
            )
        )
    except TimeoutError as error:
        raise Unavailable(
            f"expected the sync of {component} to end within {seconds:.0f} s, it did not",
            hint="what was copied stays: the next run goes on from there, or run `leeward sync`",
            code="sync-unfinished",
        ) from error
    return Synced(result, enter_point(component, taken, started_at) if taken else None)


def start_shards(component: str, location: str, run: str, *, approved: bool = False) -> str:
    """Start the state machine that syncs very many objects; a run of that name is not started
    twice."""
    bucket_component(component)
    job = {"location": location, "approved": approved}
    build.workflows().start(sync_machine(component), run, job)
    return run


def sync_machine(component: str) -> str:
    """Behind the prefix of the plan's machines (leeward/packaging/many.py)."""
    return f"sync-{component}"


def components_of(bucket: str) -> tuple[str, ...]:
    """Those that have a replica of it, if any has. Raises BadInput (code "unknown-bucket")."""
    live = build.plan().live.items()
    found = {name: it for name, it in live if isinstance(it, Bucket) and it.bucket == bucket}
    in_step = tuple(name for name, it in found.items() if it.is_in_step)
    if found:
        return in_step or tuple(found)
    raise BadInput(
        f"expected an event of a bucket of the plan, found one of {bucket}",
        hint="narrow the rule to the buckets that the plan names, or add this one to the plan",
        code="unknown-bucket",
    )


def bucket_component(component: str) -> Bucket:
    """Raises BadInput (code "unknown-component")."""
    found = build.plan().components.get(component)
    if isinstance(found, Bucket):
        return found
    names = [name for name, it in build.plan().components.items() if isinstance(it, Bucket)]
    raise BadInput(
        f"the plan has no bucket {component!r}",
        hint=f"one of: {', '.join(names)}",
        code="unknown-component",
    )


def missed(result: SyncResult) -> int:
    """Into an empty replica everything is new, and no event was missed."""
    return result.missed if result.replica_objects else 0


def missed_values(component: str, location: str, result: SyncResult) -> dict[str, float]:
    """As metrics: what events should have brought, where they bring anything, and what somebody
    wrote over, which no check will see any more."""
    over = _written_over(result)
    values = {f"Damaged.{location}": float(over)} if over else {}
    if location in _at_once(component):
        values[f"MissedEvents.{location}"] = float(missed(result))
    return values


def _written_over(result: SyncResult) -> int:
    return result.reasons.get("copy overwritten", 0)


def tell_sync(location: str, synced: Synced) -> str:
    """One line for a person."""
    from chalicelib.services.jobs.removals import tell_removed

    result = synced.result
    copied = f"{counted(result.copied, 'object')} copied ({result.copied_bytes / 1e6:.1f} MB)"
    late = f", {missed(result)} of them missed by the events" if missed(result) else ""
    over = f", {_written_over(result)} WRITTEN OVER" if _written_over(result) else ""
    point = f"; {synced.point.id}" if synced.point else ""
    compared = counted(result.source_objects, "object")
    gone = tell_removed(result.removed, result.erased, result.removed_versions)
    done = f"{copied}{late}{over}, {result.deleted} deleted{gone}"
    return f"{location}: {compared} compared, {done}{point}"


async def _replicate(component: str, event: dict[str, Any]) -> dict[str, Replicated]:
    """One location after the other: what failed is delivered again, what was done is seen."""
    policy, done = policy_of(component), {}
    async with build.buckets() as buckets:
        source = source_of(buckets, component)
        for location in _at_once(component):
            replica = replica_at(buckets, component, location)
            done[location] = await replicate_object(
                event, source, replica, policy, clock=build.clock()
            )
    return done


async def _sync(
    component: str, location: str, *, dry_run: bool, **how: Any
) -> tuple[SyncResult, InventoryTaken | None]:
    from chalicelib.services.jobs.removals import look_for_removed, save_looked

    async with build.buckets() as buckets:
        source, replica = source_of(buckets, component), replica_at(buckets, component, location)
        if isinstance(replica, BucketReplica) and not dry_run:
            await replica_of(buckets, component, turns=True).give_up_copies()
        removals = await look_for_removed(component, location, source, quietly=dry_run)
        notes = build.backups(component)
        compared = load_compared(notes, location)
        result = await sync_buckets(
            source, replica, policy_at(component, location), clock=build.clock(), dry_run=dry_run,
            compared=compared, removals=removals, **how,
        )  # fmt: skip
        if result.ok and not dry_run:
            save_compared(notes, location, compared.to_bytes())
            save_looked(component, location, removals)
        if dry_run or not result.ok or not isinstance(replica, BucketReplica):
            return result, None
        from chalicelib.backup.bucket.take_inventory import check_inventory

        taken = await write_inventory(component, replica, source)
        check_inventory(result, taken, policy_of(component))
        return result, taken


async def write_inventory(
    component: str, replica: BucketReplica, source: S3Bucket
) -> InventoryTaken:
    """What the replica holds, and of which version of the bucket, below a new point's id; it is
    no point until it is entered."""
    from chalicelib.backup.bucket.take_inventory import bucket_entries, take_inventory
    from chalicelib.backup.point_objects import free_point_id

    store = build.backups(component)
    point_id = free_point_id(store, build.clock(), "objects")
    return await take_inventory(bucket_entries(replica.bucket, source=source), store, point_id)


def enter_point(component: str, taken: InventoryTaken, started_at: datetime) -> RecoveryPoint:
    """Into the catalogue: from here on the inventory is a recovery point."""
    absent = f"{counted(taken.absent, 'object')} went while they were written down"
    point = RecoveryPoint(
        id=taken.objects[0].key.split("/")[1],
        component=component,
        kind="objects",
        taken_at=started_at,
        finished_at=build.clock().now(),
        objects=taken.objects,
        source_bytes=taken.bytes,
        encryption=build.backups(component).encryption,
        note=absent if taken.absent else "",
    )
    build.catalogue(component).add(point)
    return point


def policy_of(component: str) -> SyncPolicy:
    """The replica in AWS is encrypted with a KMS key, so that no ETag of its tells the content."""
    found = bucket_component(component)
    promised = [it.copied_within for it in found.backups if it.copied_within is not None]
    return SyncPolicy(
        mirror=found.mirror,
        max_delete_share=found.deletes_at_most,
        opaque_etags=True,
        missed_after=min(promised, default=MISSED_AFTER),
    )


def policy_at(component: str, location: str) -> SyncPolicy:
    """As `policy_of`; where no event brings anything, none is missed. A folder dates its copies by
    the clock of a machine, and one that is ahead hides changes of the time to come."""
    policy = policy_of(component)
    if build.locations().location(location).provider == "own":
        policy = replace(policy, margin=OWN_CLOCK)
    return policy if location in _at_once(component) else replace(policy, missed_after=None)


def _at_once(component: str) -> tuple[str, ...]:
    """The locations that the plan replicates to: the primary one always, there lies the replica."""
    found, places = bucket_component(component), build.locations()
    named = {to for it in found.backups if it.kind == "replication" for to in it.to}
    return tuple(name for name in places.of(component) if name in named | {places.primary})


def source_of(buckets: S3Buckets, component: str, *, turns: bool = False) -> S3Bucket:
    """The user's own bucket. `turns`: a copy into it may be put down, and gone on with."""
    name = bucket_component(component).bucket
    return bucket_at(buckets, name, turns=copy_turns(component, name) if turns else None)


def replica_at(buckets: S3Buckets, component: str, location: str) -> Replica:
    """Where its copies are: in the primary location a bucket of Leeward's, elsewhere a store."""
    places = build.locations()
    if location == places.primary:
        return BucketReplica(replica_of(buckets, component, turns=True))
    store, now = places.store(location, component), build.clock().now()
    place = LongPlace(build.backups(component), location, build.clock(), now + PUT_DOWN_AFTER)
    return StoreReplica(store, location, long=place)


def replica_of(buckets: S3Buckets, component: str, *, turns: bool = False) -> S3Bucket:
    """The replica in AWS; `turns` as in `source_of`. Raises NotReady (code "no-replica")."""
    name = environment.replica_bucket(component)
    return bucket_at(buckets, name, turns=copy_turns(component, name) if turns else None)


def copy_turns(component: str, bucket: str) -> CopyTurns:
    from chalicelib.adapters.s3.copy_turns import CopyTurns

    now = build.clock().now()
    return CopyTurns(build.backups(component), bucket, build.clock(), now + PUT_DOWN_AFTER)


def bucket_at(buckets: S3Buckets, name: str, *, turns: CopyTurns | None = None) -> S3Bucket:
    """S3 itself corrects the region of a bucket that is in another one."""
    here = build.environment()
    places = build.locations()
    region = places.plan.locations[places.primary].region or "us-east-1"
    return buckets.bucket(name, region, endpoint_url=here.endpoint_url, turns=turns)


def incomplete(location: str, result: SyncResult) -> Unavailable:
    """What is said of a sync that left objects behind."""
    named = "; ".join(f"{it.key}: {it.message}" for it in result.failures[:SHOWN])
    return Unavailable(
        f"expected every object in {location}, {counted(result.failed, 'object')} could not be "
        f"copied: {named}",
        hint="it is tried again; look at what the errors of the objects name",
        code="sync-incomplete",
        location=location,
        copied=result.copied,
    )


def _tell(done: Replicated) -> str:
    lag = "" if done.lag_seconds is None else f", {done.lag_seconds:.1f} s after the event"
    return f"{done.key} {done.action}{lag}"
