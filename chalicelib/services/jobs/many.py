"""A bucket with very many objects: its sync as a state machine over shards (leeward/template_many).

plan_shards -> (S3 Batch Operations) -> copy_shard for each shard -> finish_shards, which alone says
whether the replica is in step: it counts the shards' own results. Then it writes the inventory,
a part an invocation, and enters it as a recovery point when all parts are there.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from chalicelib.backup.bucket import inventory_parts, shard_plan, shards
from chalicelib.backup.bucket.in_parts import load_compared, save_compared
from chalicelib.backup.bucket.replicas import BucketReplica
from chalicelib.backup.bucket.sync import SyncResult
from chalicelib.backup.bucket.take_inventory import check_inventory
from chalicelib.backup.long_copies import PUT_DOWN
from chalicelib.errors import CheckFailed, Truncated
from chalicelib.evidence.text import counted
from chalicelib.plan.manifest import MANIFEST, point_key
from chalicelib.plan.shards import (
    InventoryPart,
    Shard,
    ShardPlan,
    compared_key,
    folder_of,
    parts_key,
)
from chalicelib.services import build
from chalicelib.services.jobs.buckets import (
    SHOWN,
    Synced,
    enter_point,
    missed_values,
    policy_at,
    policy_of,
    replica_at,
    replica_of,
    source_of,
    tell_sync,
)
from chalicelib.services.jobs.removals import look_for_removed

if TYPE_CHECKING:
    from chalicelib.adapters.s3.batch import BatchProgress
    from chalicelib.plan.shards import PartTaken

# S3 Batch Operations is never the cheaper way ($0.25 a job and $1.00 per million objects, against
# about $0.07 per million of this code's own time); it paces itself and holds no Lambda meanwhile.
# From here on the shards alone would hold theirs for most of an hour. docs/buckets.md has the sums.
BATCH_ABOVE = 10_000_000
# MaxConcurrency shards at once share what S3 takes of one prefix: 3,500 copies a second.
SHARD_IN_FLIGHT = 64
# A failed execution can be taken up again for so long. Source: Step Functions, "Redriving".
KEPT = timedelta(days=14)

Event = dict[str, Any]


def plan_shards(event: Event) -> dict[str, Any]:
    """{"component", "run", "job": {"location", "approved", "shard_objects", "batch_above"}}.

    `job` may be empty.

    Raises:
        Refused: code "too-many-deletions": nothing was copied or deleted.
    """
    component, run = event["component"], event["run"]
    plan = asyncio.run(_plan(component, run, event["job"]))
    large = " by S3 Batch Operations" if plan.batch else ""
    return {
        "bucket": build.environment().backup_bucket,
        "key": f"{component}/{folder_of(run)}map.json",
        "batch": plan.batch,
        "found": f"{counted(plan.source_objects, 'object')} compared, {plan.to_copy} to copy"
        f"{large} in {counted(len(plan.shards), 'shard')}",
    }


def copy_shard(event: Event) -> dict[str, Any]:
    """{"component", "run", "job", "shard", "again", "attempt"}: one shard, and its result.

    `again`: S3 Batch Operations, or this shard, copied before; `attempt`: from 1 on, somebody may
    have begun. "done" is false when a long object was put down: ask again.
    """
    shard = Shard.from_json(event["shard"])
    recheck = bool(event["again"]) or int(event["attempt"]) > 0
    result = asyncio.run(
        _do(event["component"], event["run"], event["job"], shard, recheck=recheck)
    )
    put_down = [it for it in result.failures if it.code == PUT_DOWN]
    return {
        "done": not 0 < len(put_down) == result.failed,
        "found": f"{shard.name}: {result.copied} copied, {result.deleted} deleted, "
        f"{result.left} done before, {result.failed} failed",
    }


def finish_shards(event: Event) -> dict[str, Any]:
    """Count the results, cut the inventory into parts; {"component", "run", "job"}.

    Instead, with "failure", what Step Functions says of a state that failed, that is recorded; with
    "part", one of the inventory, that is written; with "enter" the inventory becomes a point.
    Publishes what a small sync does: `Synced`, `SyncFailures` and `MissedEvents` of its location.

    Raises:
        CheckFailed: code "sync-incomplete": a key failed, or a shard has no result;
            "inventory-short": the replica does not hold what was compared.
        Truncated: code "inventory-part-missing".
    """
    component, run = event["component"], event["run"]
    if "failure" in event:
        build.metrics().put(component, {f"SyncFailures.{_location(event['job'])}": 1.0})
        failure = json.dumps(event["failure"]).encode()
        build.backups(component).put(f"{folder_of(run)}failure.json", failure)
        return {"found": "recorded what failed"}
    if "part" in event:
        return _write_part(component, run, InventoryPart.from_json(event["part"]))
    if "enter" in event:
        return _enter(component, run, _location(event["job"]))
    return _count(component, run, _location(event["job"]))


def _count(component: str, run: str, where: str) -> dict[str, Any]:
    store = build.backups(component)
    plan = _known_plan(component, run)
    result = shards.count_results(plan, store, finished_at=build.clock().now())
    store.put(_done_key(run), json.dumps(result.to_json()).encode())
    build.metrics().put(component, missed_values(component, where, result))
    if not result.ok:
        raise _incomplete(where, result)
    parts = _cut(component, run, where, plan)
    return {
        "bucket": build.environment().backup_bucket,
        "key": f"{component}/{parts_key(run)}",
        "inventory": bool(parts),
        "found": f"{tell_sync(where, Synced(result))}; an inventory in {counted(parts, 'part')}",
    }


def _cut(component: str, run: str, where: str, plan: ShardPlan) -> int:
    """How many parts; none of a replica that is no bucket of ours."""
    from chalicelib.backup.point_objects import free_point_id

    if where != build.locations().primary:
        return 0
    store = build.backups(component)
    point_id = free_point_id(store, build.clock(), "objects")
    return len(inventory_parts.cut_parts(store, run, point_id, plan.cuts))


def _write_part(component: str, run: str, part: InventoryPart) -> dict[str, Any]:
    async def take() -> PartTaken:
        async with build.buckets() as buckets:
            return await inventory_parts.take_part(
                replica_of(buckets, component), build.backups(component), run, part,
                source=source_of(buckets, component),
            )  # fmt: skip

    taken = asyncio.run(take())
    return {"found": f"part {taken.number}: {counted(taken.entries, 'object')} written down"}


def _enter(component: str, run: str, where: str) -> dict[str, Any]:
    """A second attempt leaves the manifest of the first. Raises as check_inventory."""
    store, plan = build.backups(component), _known_plan(component, run)
    found = f"{where} is what the bucket is"
    if parts := inventory_parts.find_parts(store, run):
        point_id = parts[0].point_id
        if not any(store.list(point_key(point_id, MANIFEST))):
            taken = inventory_parts.join_parts(store, run, parts)
            counted_then = SyncResult.from_json(json.loads(store.get(_done_key(run))))
            check_inventory(counted_then, taken, policy_of(component))
            enter_point(component, taken, plan.planned_at)
        found = f"{found}; {point_id}"
    if compared := shard_plan.find_object(store, compared_key(run)):
        save_compared(store, where, compared)
    build.metrics().put(component, {f"SyncFailures.{where}": 0.0, f"Synced.{where}": 1.0})
    shards.remove_old(store, build.clock().now() - KEPT)
    return {"found": found}


def batch_copy(event: Event) -> dict[str, Any]:
    """{"component", "run"} makes the jobs, {"jobs"} besides follows them; what they are at.

    One that was just made is not asked for: S3 may not know it yet.

    What a job could not copy is no failure: the shards look at every object afterwards.

    Raises:
        CheckFailed: code "batch-job-failed".
    """
    if "jobs" not in event:
        made = _start_batch(event["component"], event["run"])
        found = f"{counted(len(made), 'job')} made" if made else "nothing for a job"
        return {"jobs": made, "done": not made, "found": found}
    jobs = event["jobs"]
    at = {storage_class: build.batch_jobs().follow(job) for storage_class, job in jobs.items()}
    done = all(progress.complete for progress in at.values())
    told = [
        f"{name}: {it.status}, {it.succeeded} of {it.total}, {it.failed} failed"
        for name, it in at.items()
    ]
    if done:
        told += _failures(event["component"], event["run"], at)
    return {"jobs": jobs, "done": done, "found": "; ".join(told)}


async def _plan(component: str, run: str, job: Event) -> ShardPlan:
    limits = shard_plan.Limits(
        objects=int(job.get("shard_objects", shard_plan.SHARD_OBJECTS)),
        part_objects=int(job.get("part_objects", shard_plan.PART_OBJECTS)),
    )
    async with build.buckets() as buckets:
        source = source_of(buckets, component)
        replica = replica_at(buckets, component, _location(job))
        in_aws = isinstance(replica, BucketReplica)
        store = build.backups(component)
        compared = load_compared(store, _location(job))
        removals = await look_for_removed(component, _location(job), source)
        return await shard_plan.plan_shards(
            source, replica, policy_at(component, _location(job)), store, run,
            clock=build.clock(), approved=bool(job.get("approved")), limits=limits,
            compared=compared, removals=removals,
            batch_above=int(job.get("batch_above", BATCH_ABOVE)) if in_aws else None,
        )  # fmt: skip


async def _do(component: str, run: str, job: Event, shard: Shard, *, recheck: bool) -> Any:
    policy = replace(policy_at(component, _location(job)), in_flight=SHARD_IN_FLIGHT)
    async with build.buckets() as buckets:
        source = source_of(buckets, component)
        replica = replica_at(buckets, component, _location(job))
        return await shards.do_shard(
            source, replica, policy, build.backups(component), run, shard,
            clock=build.clock(), recheck=recheck,
        )  # fmt: skip


def _start_batch(component: str, run: str) -> dict[str, str]:
    from chalicelib.adapters.s3 import batch as s3_batch
    from chalicelib.backup.bucket.batch_manifests import manifest_key, write_manifests

    here, store = build.environment(), build.backups(component)
    plan = _known_plan(component, run)
    written = write_manifests(
        store,
        build.job_manifests(component),
        plan,
        s3_batch.manifest_line,
        classes=s3_batch.BATCH_CLASSES,
        largest_bytes=s3_batch.BATCH_LARGEST_BYTES,
    )
    jobs = build.batch_jobs()
    return {
        storage_class: jobs.start(
            s3_batch.BatchCopy(
                token=f"{component}/{run}/{storage_class}",
                bucket=here.backup_bucket,
                manifest=f"{component}/{manifest_key(run, storage_class)}",
                report=_report(component, run),
                replica=plan.replica,
                storage_class=storage_class,
            )
        )
        for storage_class in written
    }


def _failures(component: str, run: str, found: dict[str, BatchProgress]) -> list[str]:
    """The first failures that S3 reports of jobs that are complete."""
    bucket, told = build.environment().backup_bucket, []
    for progress in found.values():
        if progress.failed:
            named = build.batch_jobs().failures(bucket, _report(component, run), progress.job)
            told += [f"{it.key!r}: {it.code} {it.message}" for it in islice(named, SHOWN)]
    return told


def _report(component: str, run: str) -> str:
    return f"{component}/{folder_of(run)}report"


def _done_key(run: str) -> str:
    return f"{folder_of(run)}done.json"


def _location(job: Event) -> str:
    return str(job.get("location") or build.locations().primary)


def _known_plan(component: str, run: str) -> ShardPlan:
    plan = shard_plan.find_plan(build.backups(component), run)
    if plan is None:
        raise Truncated(
            f"expected the plan of run {run} in {folder_of(run)}, found none",
            hint="start the sync again: it plans anew",
            code="no-shard-plan",
        )
    return plan


def _incomplete(location: str, result: SyncResult) -> CheckFailed:
    named = "; ".join(f"{it.key}: {it.message}" for it in result.failures[:SHOWN])
    return CheckFailed(
        f"expected every object in {location}, {counted(result.failed, 'object')} could not be "
        f"copied: {named}",
        hint="look at what the errors of the objects name; the next run goes on from there",
        code="sync-incomplete",
        location=location,
        copied=result.copied,
    )
