"""The plan of a sync of very many objects: what is to be done, cut into shards and written down."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from datetime import datetime

from chalicelib.backup.bucket.in_parts import Compared
from chalicelib.backup.bucket.key_spool import KeySpool
from chalicelib.backup.bucket.removed_versions import NO_REMOVALS, Removals, check_went_back
from chalicelib.backup.bucket.replicas import Replica
from chalicelib.backup.bucket.sync import NAMED
from chalicelib.backup.bucket.sync_decision import (
    KeyDecision,
    Reason,
    SyncPolicy,
    check_deletions,
    is_missed,
)
from chalicelib.backup.bucket.sync_walk import Walk
from chalicelib.errors import Tampered, Truncated
from chalicelib.plan.records import canonical_json, format_time, parse_time
from chalicelib.plan.shards import Deed, Shard, ShardPlan, compared_key, folder_of, lines_key
from chalicelib.ports import Clock, ObjectStore
from chalicelib.ports.buckets import Bucket, ObjectRow

# A shard must be done within one invocation (900 s), by a replica in another cloud too, into which
# every byte passes through the machine.
SHARD_OBJECTS = 10_000
SHARD_BYTES = 32 << 30
# A HEAD of each at some 1,000 a second: a part of the inventory takes a minute or two.
PART_OBJECTS = 50_000
# Walkers see keys in several streams: one key of so many is remembered for each part's cut.
SAMPLES_PER_PART = 50


@dataclass(frozen=True)
class Limits:
    """How large a shard may be; an object larger than `bytes` has one of its own. `part_objects`:
    about as many keys are in one part of the inventory."""

    objects: int = SHARD_OBJECTS
    bytes: int = SHARD_BYTES
    part_objects: int = PART_OBJECTS

    @property
    def sampled(self) -> int:
        """One key of so many is remembered."""
        return max(1, self.part_objects // SAMPLES_PER_PART)


@dataclass(frozen=True)
class Line:
    """One object to be copied, as the source's listing told of it."""

    row: ObjectRow
    reason: Reason

    def to_bytes(self) -> bytes:
        row = self.row
        fields = [
            row.key, row.size_bytes, row.etag, format_time(row.modified_at), row.storage_class,
            self.reason,
        ]  # fmt: skip
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def from_bytes(cls, line: bytes) -> Line:
        key, size, etag, modified_at, storage_class, reason = json.loads(line)
        return cls(ObjectRow(key, size, etag, parse_time(modified_at), storage_class), reason)


async def plan_shards(
    source: Bucket,
    replica: Replica,
    policy: SyncPolicy,
    store: ObjectStore,
    run: str,
    *,
    clock: Clock,
    approved: bool = False,
    batch_above: int | None = None,
    limits: Limits | None = None,
    compared: Compared | None = None,
    removals: Removals = NO_REMOVALS,
) -> ShardPlan:
    """List both sides and write down what is to be done; a plan that is there already is kept.

    Args:
        run: names the folder; the same run gets the same plan.
        approved: a person agreed to more deletions than the policy allows.
        batch_above: from so many copies on S3 Batch Operations copies first; None: never.
        compared: what the last good sync has compared; see in_parts.py.
        removals: what the source has lost for good since an inventory; see removed_versions.py.
    Raises:
        Refused: code "too-many-deletions" or "too-many-removed"; nothing was copied or deleted.
        NotReady, Unavailable: a bucket cannot be listed.
    """
    if (known := await asyncio.to_thread(find_plan, store, run)) is not None:
        return known
    if not approved:
        check_went_back(len(removals.went_back), removals.seen, policy)
    compared = compared or Compared()
    planner = _Planner(policy, store, run, limits or Limits(), clock.now())
    with planner.deletions:
        await Walk(
            source, replica, policy, planner.take, compared=compared, went_back=removals.went_back
        ).run()
        if not approved:
            check_deletions(len(planner.deletions), planner.replica_objects, policy)
        await planner.finish()
    plan = replace(
        planner.plan(source.name, replica.name, batch_above),
        removed=removals.removed, erased=removals.erased,
    )  # fmt: skip
    shards = [shard.to_json() for shard in plan.shards]
    await asyncio.to_thread(store.put, f"{folder_of(run)}map.json", json.dumps(shards).encode())
    await asyncio.to_thread(store.put, compared_key(run), compared.to_bytes())
    await asyncio.to_thread(store.put, _plan_key(run), canonical_json(plan.to_json()))
    return plan


def find_plan(store: ObjectStore, run: str) -> ShardPlan | None:
    content = find_object(store, _plan_key(run))
    return None if content is None else ShardPlan.from_json(json.loads(content))


def read_lines(store: ObjectStore, run: str, shard: Shard) -> list[bytes]:
    """Raises Tampered (code "shard-changed"), Truncated (code "object-missing")."""
    content = store.get(lines_key(run, shard.name))
    digest = hashlib.sha256(content).hexdigest()
    if digest != shard.sha256:
        raise Tampered(
            f"expected the lines of shard {shard.name} with SHA-256 {shard.sha256}, found {digest}",
            code="shard-changed",
            hint="Start a new run; find out who wrote to the folder of this one.",
        )
    return content.splitlines()


def find_object(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except Truncated as error:
        if error.instance_code != "object-missing":
            raise
        return None


@dataclass
class _Planner:
    policy: SyncPolicy
    store: ObjectStore
    run: str
    limits: Limits
    planned_at: datetime
    source_objects: int = 0
    replica_objects: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    missed_keys: list[str] = field(default_factory=list)
    shards: list[Shard] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deletions = KeySpool()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._number = 0
        self._sample: list[str] = []

    def take(self, decision: KeyDecision, row: ObjectRow | None) -> Awaitable[None] | None:
        self._count(decision, row)
        if decision.action == "delete":
            self.deletions.add(decision.key)
        elif decision.action == "copy":
            assert row is not None
            return self._add(row, decision.reason)
        return None

    async def finish(self) -> None:
        await self._write("copy")
        for keys in self.deletions.batches(self.limits.objects):
            self._lines = [json.dumps(key).encode() + b"\n" for key in keys]
            await self._write("delete")

    def plan(self, source: str, replica: str, batch_above: int | None) -> ShardPlan:
        made = ShardPlan(
            run=self.run,
            source=source,
            replica=replica,
            planned_at=self.planned_at,
            batch=False,
            source_objects=self.source_objects,
            replica_objects=self.replica_objects,
            reasons=dict(sorted(self.reasons.items())),
            missed=self.missed,
            missed_keys=tuple(self.missed_keys),
            shards=tuple(sorted(self.shards, key=lambda shard: shard.name)),
            cuts=self._cuts(),
        )
        return replace(made, batch=batch_above is not None and made.to_copy >= batch_above)

    def _cuts(self) -> tuple[str, ...]:
        """The end of the last part is open: a sample that ends with one closes none."""
        every = self.limits.part_objects // self.limits.sampled
        return tuple(sorted(self._sample)[every - 1 :: every])

    def _count(self, decision: KeyDecision, row: ObjectRow | None) -> None:
        self.source_objects += row is not None
        if row is not None and self.source_objects % self.limits.sampled == 0:
            self._sample.append(row.key)
        self.replica_objects += decision.reason != "new"
        self.reasons[f"{decision.action} {decision.reason}"] += 1
        if is_missed(decision, row, self.policy, started_at=self.planned_at):
            self.missed += 1
            if len(self.missed_keys) < NAMED:
                self.missed_keys.append(decision.key)

    async def _add(self, row: ObjectRow, reason: Reason) -> None:
        if self._lines and self._bytes + row.size_bytes > self.limits.bytes:
            await self._write("copy")
        self._lines.append(Line(row, reason).to_bytes())
        self._bytes += row.size_bytes
        if len(self._lines) >= self.limits.objects:
            await self._write("copy")

    async def _write(self, does: Deed) -> None:
        """Several walkers add: what is written is taken away before anything is waited for."""
        lines, self._lines = self._lines, []
        size, self._bytes = self._bytes, 0
        if not lines:
            return
        self._number += 1
        name, content = f"{does}-{self._number:06d}", b"".join(lines)
        digest = hashlib.sha256(content).hexdigest()
        await asyncio.to_thread(self.store.put, lines_key(self.run, name), content)
        self.shards.append(Shard(name, does, len(lines), size, digest))


def _plan_key(run: str) -> str:
    return f"{folder_of(run)}plan.json"
