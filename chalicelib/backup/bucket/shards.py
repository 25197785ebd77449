"""A sync of very many objects, carried out shard by shard anywhere, and counted at last.

Each shard is done by the code of a small sync and may be repeated: a second attempt looks first at
what the one before it has done. A shard counts as done by its own result alone: whoever ran it may
have died, or been ended, and been called a success all the same.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from chalicelib.backup.bucket.replicas import Replica, look
from chalicelib.backup.bucket.shard_plan import Line, find_object, read_lines
from chalicelib.backup.bucket.sync import NAMED, Decided, SyncFailure, SyncResult, sync_decided
from chalicelib.backup.bucket.sync_decision import KeyDecision, SyncPolicy, decide_key
from chalicelib.plan.records import canonical_json
from chalicelib.plan.shards import SHARDS, FailedKey, Shard, ShardPlan, ShardResult, result_key
from chalicelib.ports import Clock, ObjectStore
from chalicelib.ports.buckets import Bucket, ObjectRow

RECHECKED_AT_ONCE = 128
READ_AT_ONCE = 16


async def do_shard(
    source: Bucket,
    replica: Replica,
    policy: SyncPolicy,
    store: ObjectStore,
    run: str,
    shard: Shard,
    *,
    clock: Clock,
    recheck: bool,
) -> ShardResult:
    """Copy, or delete, the objects of one shard, and write its result.

    Keys that fail are named in the result; the others are done all the same.

    Args:
        recheck: somebody may have done a part of it: look at each object first.
    Raises:
        Tampered: code "shard-changed": these are not the lines that were planned.
        NotReady, Unavailable, CheckFailed: as sync_buckets; no result is written.
    """
    if recheck:
        known = await asyncio.to_thread(_find_result, store, run, shard)
        if known is not None and known.failed == 0:
            return known
    lines = await asyncio.to_thread(read_lines, store, run, shard)
    seen = _Seen()
    if shard.does == "delete":
        decided = _deletions(replica, lines, seen, recheck=recheck)
    else:
        decided = _copies(source, replica, policy, lines, seen, recheck=recheck)
    # Whether deletions are mirrored, and how many, was decided with the plan.
    done = await sync_decided(source, replica, policy, decided, clock=clock)
    result = _result(shard, done, seen)
    content = canonical_json(result.to_json())
    await asyncio.to_thread(store.put, result_key(run, shard.name), content)
    return result


def count_results(plan: ShardPlan, store: ObjectStore, *, finished_at: datetime) -> SyncResult:
    """The whole sync as its shards' results tell it. A shard without a good one is a failure."""
    with ThreadPoolExecutor(READ_AT_ONCE) as threads:
        found = threads.map(lambda it: _find_result(store, plan.run, it), plan.shards)
        pairs = list(zip(plan.shards, found, strict=True))
    return sum_results(plan, pairs, finished_at=finished_at)


def sum_results(
    plan: ShardPlan, pairs: Iterable[tuple[Shard, ShardResult | None]], *, finished_at: datetime
) -> SyncResult:
    """Pure. `failed` counts keys, and of a shard that is not accounted for all its objects."""
    failures: list[SyncFailure] = []
    sums: Counter[str] = Counter()
    for shard, result in pairs:
        if result is None or result.accounted != shard.objects:
            failures.append(_lost(shard, result))
            sums["failed"] += shard.objects
            continue
        failures += [SyncFailure(it.key, it.code, it.message) for it in result.failures]
        for name in ("copied", "copied_bytes", "deleted", "vanished", "failed"):
            sums[name] += getattr(result, name)
    return SyncResult(
        source=plan.source,
        replica=plan.replica,
        started_at=plan.planned_at,
        finished_at=finished_at,
        dry_run=False,
        source_objects=plan.source_objects,
        replica_objects=plan.replica_objects,
        reasons=plan.reasons,
        copied=sums["copied"],
        copied_bytes=sums["copied_bytes"],
        deleted=sums["deleted"],
        vanished=sums["vanished"],
        missed=plan.missed,
        missed_keys=plan.missed_keys,
        removed=plan.removed,
        erased=plan.erased,
        failed=sums["failed"],
        failures=tuple(failures[:NAMED]),
    )


def remove_old(store: ObjectStore, before: datetime) -> int:
    """Remove what runs left that were planned before; how many objects."""
    old = [row.key for row in store.list(SHARDS) if row.modified_at < before]
    for key in old:
        store.delete(key)
    return len(old)


@dataclass
class _Seen:
    """What a second look found: nothing to do any more, or nothing there."""

    left: int = 0
    vanished: int = 0


async def _copies(
    source: Bucket,
    replica: Replica,
    policy: SyncPolicy,
    lines: list[bytes],
    seen: _Seen,
    *,
    recheck: bool,
) -> AsyncGenerator[tuple[KeyDecision, ObjectRow | None], None]:
    for some in _in_batches(lines):
        planned = [Line.from_bytes(line) for line in some]
        for line in planned if not recheck else await _due(source, replica, policy, planned, seen):
            row = line.row
            yield KeyDecision(row.key, "copy", line.reason, row.size_bytes), row


async def _due(
    source: Bucket, replica: Replica, policy: SyncPolicy, planned: list[Line], seen: _Seen
) -> list[Line]:
    """Those that are not copied yet, as the source has them now.

    A copy is one of what was planned only when the source is still that: the times alone do not
    tell whether it was written while it was copied.
    """

    async def check(line: Line) -> Line | None:
        now = await look(source, line.row.key)
        target = await replica.look(line.row.key)
        if now is None:
            seen.vanished += 1
            return None
        same = (now.etag, now.size_bytes) == (line.row.etag, line.row.size_bytes)
        # Whose copy may be of another version has times that look right before it was copied, too.
        timed = same and line.reason not in ("may-be-older", "went-back")
        if timed and target and decide_key(now, target, policy).action == "leave":
            seen.left += 1
            return None
        return replace(line, row=now)

    return [line for line in await asyncio.gather(*map(check, planned)) if line]


async def _deletions(
    replica: Replica, lines: list[bytes], seen: _Seen, *, recheck: bool
) -> Decided:
    """A key that is gone is left: another deletion would put a second marker."""
    for some in _in_batches(lines):
        keys = [json.loads(line) for line in some]
        if recheck:
            there = await asyncio.gather(*map(replica.look, keys))
            seen.left += there.count(None)
            keys = [key for key, row in zip(keys, there, strict=True) if row]
        for key in keys:
            yield KeyDecision(key, "delete", "not-in-source", 0), None


def _in_batches(lines: list[bytes]) -> Iterator[list[bytes]]:
    rest = iter(lines)
    while some := list(islice(rest, RECHECKED_AT_ONCE)):
        yield some


def _result(shard: Shard, done: SyncResult, seen: _Seen) -> ShardResult:
    vanished = seen.vanished + done.vanished
    if shard.does == "delete":
        vanished = shard.objects - done.deleted - done.failed - seen.left
    return ShardResult(
        shard=shard.name,
        sha256=shard.sha256,
        copied=done.copied,
        copied_bytes=done.copied_bytes,
        deleted=done.deleted,
        left=seen.left,
        vanished=vanished,
        failed=done.failed,
        failures=tuple(FailedKey(it.key, it.code, it.message) for it in done.failures),
    )


def _lost(shard: Shard, result: ShardResult | None) -> SyncFailure:
    found = "none" if result is None else f"one of {result.accounted}"
    return SyncFailure(
        f"shard {shard.name}",
        "shard-without-result",
        f"expected a result of {shard.objects} objects, found {found}",
    )


def _find_result(store: ObjectStore, run: str, shard: Shard) -> ShardResult | None:
    """None too when it is of other lines than the shard's."""
    content = find_object(store, result_key(run, shard.name))
    if content is None:
        return None
    found = ShardResult.from_json(json.loads(content))
    return found if found.sha256 == shard.sha256 else None
