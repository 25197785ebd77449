"""A user's bucket and its replica made equal, from two listings; whatever is there is left.

A sync keeps no state of its own: killed at any point, the next one goes on where it was, because
a copy is either whole or not there. Failures of single keys are collected, named and tried once
more; the result is ok only when there are none left. Nothing is deleted before every key was
looked at and the number of deletions is known to be allowed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from chalicelib.backup.bucket.in_parts import Compared, is_in_parts
from chalicelib.backup.bucket.key_spool import KeySpool
from chalicelib.backup.bucket.removed_versions import NO_REMOVALS, Removals, check_went_back
from chalicelib.backup.bucket.replicas import Copied, Replica, look
from chalicelib.backup.bucket.sync_decision import (
    Action,
    KeyDecision,
    Reason,
    SyncPolicy,
    check_deletions,
    is_missed,
    shows_later_changes,
    tells_content,
)
from chalicelib.backup.bucket.sync_walk import SPLIT_AFTER, Walk
from chalicelib.backup.long_copies import PUT_DOWN
from chalicelib.errors import CheckFailed, DigestMismatch, LeewardError, NotReady, Truncated
from chalicelib.plan.record import Record
from chalicelib.ports import Clock
from chalicelib.ports.buckets import Bucket, ObjectRow

if TYPE_CHECKING:
    from chalicelib.plan.signs import RemovedVersion

# What concerns every key alike ends the sync instead of failing key by key.
GENERAL = frozenset(
    {"no-bucket", "no-credentials", "credentials-rejected", "clock-skewed", "wrong-region"}
)
MOST_FAILURES = 1000
NAMED = 100
# How often an object that changes while it is copied is copied again.
COPY_ATTEMPTS = 4
DELETE_BATCH = 1000

Decided = AsyncGenerator[tuple[KeyDecision, ObjectRow | None], None]


@dataclass(frozen=True)
class SyncFailure(Record):
    key: str
    code: str
    message: str


@dataclass
class SyncProgress:
    """Counts as they are now; a progress bar reads them. `to_copy` grows while listing goes on."""

    source_objects: int = 0
    replica_objects: int = 0
    to_copy: int = 0
    to_copy_bytes: int = 0
    copied: int = 0
    copied_bytes: int = 0
    deleted: int = 0


@dataclass(frozen=True)
class SyncResult(Record):
    """What a sync found and did. Of a dry run: what it would have done, `copied` is 0.

    reasons: decisions by "<action> <reason>". missed: changes older than the policy's
    `missed_after`, which the events should have brought; the first of them are named.
    vanished: deleted from the source between its listing and its copy. looked_for, removed,
    went_back, erased: versions, counted as in Removals; the first that were removed are named.
    """

    source: str
    replica: str
    started_at: datetime
    finished_at: datetime
    dry_run: bool
    source_objects: int
    replica_objects: int
    reasons: dict[str, int]
    copied: int
    copied_bytes: int
    deleted: int
    vanished: int
    missed: int
    missed_keys: tuple[str, ...]
    failed: int
    failures: tuple[SyncFailure, ...]
    looked_for: int = 0
    removed: int = 0
    went_back: int = 0
    erased: int = 0
    removed_versions: tuple[RemovedVersion, ...] = ()

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "failures":
            return tuple(SyncFailure.from_json(item) for item in value)
        if name == "removed_versions":
            from chalicelib.plan.signs import RemovedVersion

            return tuple(RemovedVersion.from_json(item) for item in value)
        return super()._revive(name, value)

    @property
    def ok(self) -> bool:
        return self.failed == 0

    @property
    def put_down(self) -> bool:
        """Nothing is wrong: long objects are on their way, and the next run goes on with them."""
        told = [it for it in self.failures if it.code == PUT_DOWN]
        return 0 < len(told) == self.failed


async def sync_buckets(
    source: Bucket,
    replica: Replica,
    policy: SyncPolicy,
    *,
    clock: Clock,
    dry_run: bool = False,
    approved: bool = False,
    on_decision: Callable[[KeyDecision], None] = lambda _: None,
    progress: Callable[[SyncProgress], None] = lambda _: None,
    compared: Compared | None = None,
    removals: Removals = NO_REMOVALS,
    split_after: int = SPLIT_AFTER,
) -> SyncResult:
    """Bring the replica to what the source is, or say what that would take.

    Args:
        approved: a person agreed to more deletions than `policy.max_delete_share`.
        on_decision: told every decision, also in a dry run; in no order.
        progress: told after each copy and now and then while listing.
        compared: what the last good sync has compared; see in_parts.py.
        removals: what the source has lost for good since an inventory; see removed_versions.py.
    Raises:
        Refused: code "too-many-deletions"; nothing was deleted, what was missing is copied. Code
            "too-many-removed"; nothing was done.
        CheckFailed: code "too-many-failures", after MOST_FAILURES keys.
        NotReady, Unavailable: a bucket cannot be listed or written at all.
    """
    if not approved and not dry_run:
        check_went_back(len(removals.went_back), removals.seen, policy)
    job = _Job(source, replica, policy, clock, dry_run, on_decision, progress)
    walk = Walk(
        source, replica, policy, job.take, compared=compared, went_back=removals.went_back,
        split_after=split_after,
    )  # fmt: skip
    with job.deletions:
        await job.copy_all(walk.run())
        await job.delete_extra(approved=approved)
    return replace(job.result(), removed_versions=removals.named, **removals.counts)


async def sync_decided(
    source: Bucket, replica: Replica, policy: SyncPolicy, decided: Decided, *, clock: Clock
) -> SyncResult:
    """Do what was decided before, by a walk whose deletions were counted and allowed then.

    Raises as `sync_buckets`, but for "too-many-deletions".
    """
    job = _Job(source, replica, policy, clock)

    async def take_each() -> None:
        async with aclosing(decided):
            async for decision, row in decided:
                if (taken := job.take(decision, row)) is not None:
                    await taken

    with job.deletions:
        await job.copy_all(take_each())
        await job.delete_extra(approved=True)
    return job.result()


@dataclass
class _Job:
    source: Bucket
    replica: Replica
    policy: SyncPolicy
    clock: Clock
    dry_run: bool = False
    on_decision: Callable[[KeyDecision], None] = lambda _: None
    progress: Callable[[SyncProgress], None] = lambda _: None
    counts: SyncProgress = field(default_factory=SyncProgress)
    reasons: Counter[tuple[Action, Reason]] = field(default_factory=Counter)
    failed: dict[str, LeewardError] = field(default_factory=dict)
    missed: int = 0
    missed_keys: list[str] = field(default_factory=list)
    vanished: int = 0

    def __post_init__(self) -> None:
        self.started_at = self.clock.now()
        self.gate = asyncio.Semaphore(min(self.policy.in_flight, self.replica.in_flight))
        self.copying: set[asyncio.Task[None]] = set()
        self.deletions = KeySpool()
        self.fatal: BaseException | None = None

    async def copy_all(self, taking: Awaitable[None]) -> None:
        """`taking` gives every decision to `take`."""
        try:
            await taking
            await self._settle()
            await self._try_failed_again()
        finally:
            for task in self.copying:
                task.cancel()
            await asyncio.gather(*self.copying, return_exceptions=True)

    def take(self, decision: KeyDecision, row: ObjectRow | None) -> Awaitable[None] | None:
        """One decision: counted, told, and begun when it is a copy and there is room for it."""
        self._raise_fatal()
        self._count(decision, row)
        self.on_decision(decision)
        if decision.action == "delete":
            self.deletions.add(decision.key)
        elif decision.action == "copy" and not self.dry_run:
            assert row is not None
            return self._begin_in_turn(row.key, row)
        return None

    async def delete_extra(self, *, approved: bool) -> None:
        """Counted first: either all may go, or nothing does."""
        if not approved and not self.dry_run:
            check_deletions(len(self.deletions), self.counts.replica_objects, self.policy)
        if self.dry_run:
            return
        for keys in self.deletions.batches(DELETE_BATCH):
            gone = await self._still_absent(keys)
            outcome = await self.replica.delete(gone)
            self.counts.deleted += len(outcome.done)
            for one in outcome.failed:
                self._fail(one.key, CheckFailed(one.message or one.code, code=one.code))
            self.progress(self.counts)

    def result(self) -> SyncResult:
        failures = [
            SyncFailure(key, error.instance_code, error.message)
            for key, error in islice(sorted(self.failed.items()), NAMED)
        ]
        return SyncResult(
            source=self.source.name,
            replica=self.replica.name,
            started_at=self.started_at,
            finished_at=self.clock.now(),
            dry_run=self.dry_run,
            source_objects=self.counts.source_objects,
            replica_objects=self.counts.replica_objects,
            reasons={f"{action} {why}": n for (action, why), n in sorted(self.reasons.items())},
            copied=self.counts.copied,
            copied_bytes=self.counts.copied_bytes,
            deleted=self.counts.deleted,
            vanished=self.vanished,
            missed=self.missed,
            missed_keys=tuple(self.missed_keys),
            failed=len(self.failed),
            failures=tuple(failures),
        )

    def _count(self, decision: KeyDecision, row: ObjectRow | None) -> None:
        counts = self.counts
        counts.source_objects += row is not None
        counts.replica_objects += decision.reason != "new"
        self.reasons[decision.action, decision.reason] += 1
        if row is not None and decision.action == "copy":
            counts.to_copy += 1
            counts.to_copy_bytes += row.size_bytes
        if is_missed(decision, row, self.policy, started_at=self.started_at):
            self.missed += 1
            if len(self.missed_keys) < NAMED:
                self.missed_keys.append(decision.key)
        if (counts.source_objects + counts.replica_objects) % 1000 == 0:
            self.progress(counts)

    async def _begin_in_turn(self, key: str, row: ObjectRow | None) -> None:
        await self.gate.acquire()
        task = asyncio.ensure_future(self._copy_or_note(key, row))
        self.copying.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.copying.discard(task)
        self.gate.release()
        if not task.cancelled() and task.exception() is not None:
            self.fatal = self.fatal or task.exception()

    async def _settle(self) -> None:
        while self.copying:
            await asyncio.wait(self.copying, return_when=asyncio.FIRST_COMPLETED)
            self._raise_fatal()
        self._raise_fatal()

    def _raise_fatal(self) -> None:
        if self.fatal is not None:
            raise self.fatal

    async def _copy_or_note(self, key: str, row: ObjectRow | None) -> None:
        """`row` None: whatever the source holds now."""
        try:
            await self._copy(key, row or await look(self.source, key))
        except LeewardError as error:
            if isinstance(error, NotReady) and error.instance_code in GENERAL:
                raise
            self._fail(key, error)

    async def _copy(self, key: str, row: ObjectRow | None) -> None:
        copied = row and await copy_current(self.source, self.replica, row, self.policy)
        self.failed.pop(key, None)
        if copied is None:
            self.vanished += 1
            return
        self.counts.copied += 1
        self.counts.copied_bytes += copied.size_bytes
        self.progress(self.counts)

    async def _try_failed_again(self) -> None:
        for key in list(self.failed):
            await self._begin_in_turn(key, None)
        await self._settle()

    async def _still_absent(self, keys: Sequence[str]) -> list[str]:
        """What was written again since it was listed stays."""

        async def found(key: str) -> bool:
            async with self.gate:
                return await look(self.source, key) is not None

        there = await asyncio.gather(*(found(key) for key in keys))
        return [key for key, is_there in zip(keys, there, strict=True) if not is_there]

    def _fail(self, key: str, error: LeewardError) -> None:
        self.failed[key] = error
        if len(self.failed) >= MOST_FAILURES:
            raise CheckFailed(
                f"expected {key!r} to be copied to {self.replica.name}, found "
                f"{len(self.failed)} keys that were not; the last: {error.message}",
                code="too-many-failures",
                hint=error.hint or "Mend what the last error tells; the sync goes on from there.",
            ) from error


async def copy_current(
    source: Bucket, replica: Replica, row: ObjectRow, policy: SyncPolicy
) -> Copied | None:
    """Copy what the source holds now; None when it holds nothing any more.

    The copy counts when the source is still what was copied: where no ETag tells the content, and
    no note what was copied, later syncs go by the times alone. They are enough where the copy's own
    time shows what changed since. Between ETags that do tell it, an object of parts is looked at by
    the next sync, which has not compared what replaced it.

    Raises:
        DigestMismatch: code "object-changed": it changed at each of COPY_ATTEMPTS.
    """
    shown = tells_content(row.etag) or is_in_parts(row.etag)
    by_etag = replica.has_etags and not policy.opaque_etags and shown
    current: ObjectRow | None = row
    for attempt in range(1, COPY_ATTEMPTS + 1):
        assert current is not None
        try:
            copied = await replica.copy(source, current)
            if by_etag or replica.tells_source or shows_later_changes(copied.dated_after, policy):
                return copied
            after = await look(source, row.key)
            if after is not None and after.etag == current.etag:
                return copied
        except Truncated as error:
            if error.instance_code != "object-missing":
                raise
            after = await look(source, row.key)
        except DigestMismatch as error:
            if error.instance_code != "object-changed" or attempt == COPY_ATTEMPTS:
                raise
            after = await look(source, row.key)
        if after is None:
            return None
        current = after
    raise DigestMismatch(
        f"expected {row.key!r} to stay as it is while it is copied, it changed each time",
        code="object-changed",
        hint="It is copied by the next sync; look who writes it so often.",
        key=row.key,
    )
