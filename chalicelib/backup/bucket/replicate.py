"""One S3 event brought to the replica: at least once, in any order, late or twice.

The event only says that a key was touched, and when. What is done follows from what the source
holds now, so an old event cannot undo a newer one, and one that was delivered twice changes
nothing. Whatever happens between looking and copying is seen by looking again.

An object that was uploaded in parts is dated when its upload began, perhaps before the copy of what
it replaced was made; it came with the event.
Source: "Uploading and copying objects using multipart upload", S3 user guide.

A version that somebody removed for good leaves an older one as the object. That is brought by the
nightly sync, which tells it first, and counts (removed_versions.py).

A single event cannot know how many deletions there are, so that it deletes only where versions stay
below a marker. Elsewhere the nightly sync does, which counts them first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from chalicelib.backup.bucket.replicas import Replica, look
from chalicelib.backup.bucket.sync import copy_current
from chalicelib.backup.bucket.sync_decision import SyncPolicy, decide_key
from chalicelib.errors import BadInput, CheckFailed
from chalicelib.plan.records import Record, parse_time
from chalicelib.ports import Clock
from chalicelib.ports.buckets import Bucket, ObjectRow

CREATED = "Object Created"
KINDS = (CREATED, "Object Deleted")
REMOVED = "Permanently Deleted"
# How often a key that is written and deleted by turns is looked at in one invocation.
ROUNDS = 4

Action = Literal["copied", "deleted", "already", "kept"]


@dataclass(frozen=True)
class Replicated(Record):
    """What one event led to.

    copied, deleted: the replica was changed. already: it was as the source is. kept: the source
    has the key no more, and the plan does not mirror deletions or the replica keeps no versions; or
    one of its versions was removed for good.
    lag_seconds: from the event to the change, None when nothing was changed.
    """

    key: str
    action: Action
    event_at: datetime
    done_at: datetime
    lag_seconds: float | None
    size_bytes: int = 0
    etag: str = ""
    version_id: str = ""
    sha256: str = ""


async def replicate_object(
    event: dict[str, Any], source: Bucket, replica: Replica, policy: SyncPolicy, *, clock: Clock
) -> Replicated:
    """Bring the key that an EventBridge event of S3 names to the replica.

    Args:
        event: "Object Created" or "Object Deleted", as EventBridge delivers it.
    Raises:
        BadInput: code "not-an-s3-event", or "other-bucket" when the event is of another one.
        DigestMismatch, Unavailable, ...: as the copy; nothing half is left, deliver it again.
    Source: "Amazon S3 event message structure for Amazon EventBridge"; keys are not URL-encoded.
    """
    key, event_at, created = _read(event, source)
    permanent = event["detail"].get("deletion-type") == REMOVED
    job = _Job(source, replica, policy, clock, key, event_at, created)
    if permanent and (left := await job.leave_to_sync()) is not None:
        return left
    for _ in range(ROUNDS):
        done = await job.once()
        if await job.agrees():
            return done
    raise CheckFailed(
        f"expected {key!r} to rest, found it written and deleted by turns",
        code="object-changed",
        hint="The nightly reconcile brings it; look who writes it so often.",
        key=key,
    )


@dataclass(frozen=True)
class _Job:
    source: Bucket
    replica: Replica
    policy: SyncPolicy
    clock: Clock
    key: str
    event_at: datetime
    created: bool

    async def leave_to_sync(self) -> Replicated | None:
        """None unless both have the key: where a delete marker was removed, the replica's is there
        still, and what it hid comes back at once."""
        wanted, there = await look(self.source, self.key), await self.replica.look(self.key)
        if wanted is None or there is None:
            return None
        same = decide_key(wanted, there, self.policy).action == "leave"
        return self._unchanged("already" if same else "kept")

    async def once(self) -> Replicated:
        wanted = self._dated(await look(self.source, self.key))
        there = await self.replica.look(self.key)
        if wanted is None and there is None:
            return self._unchanged("already")
        decision = decide_key(wanted, there, self.policy)
        if decision.action == "leave":
            return self._unchanged("already")
        if wanted is None:
            return await self._delete() if self._deletes else self._unchanged("kept")
        copied = await copy_current(self.source, self.replica, wanted, self.policy)
        if copied is None:
            return self._unchanged("already")
        return self._changed(
            "copied", size_bytes=copied.size_bytes, etag=copied.etag,
            version_id=copied.version_id, sha256=copied.sha256,
        )  # fmt: skip

    def _dated(self, row: ObjectRow | None) -> ObjectRow | None:
        """Not before it came: a later event than that of this object leads to one copy more."""
        if row is None or not self.created or row.modified_at >= self.event_at:
            return row
        return row._replace(modified_at=self.event_at)

    @property
    def _deletes(self) -> bool:
        return self.policy.mirror and self.replica.keeps_versions

    async def agrees(self) -> bool:
        """Nobody else changed one of the two meanwhile; times alone say nothing so early."""
        wanted = await look(self.source, self.key)
        there = await self.replica.look(self.key)
        if wanted is None:
            return there is None or not self._deletes
        return decide_key(wanted, there, self.policy).reason not in ("new", "size", "etag")

    async def _delete(self) -> Replicated:
        outcome = await self.replica.delete([self.key])
        for failure in outcome.failed:
            raise CheckFailed(
                f"expected {self.key!r} to be deleted from {self.replica.name}, "
                f"found {failure.code} {failure.message}".rstrip(),
                code="not-deleted",
                hint="Compare the function's rights with the bucket's policy and locks.",
                key=self.key,
            )
        return self._changed("deleted")

    def _changed(self, action: Action, **more: Any) -> Replicated:
        at = self.clock.now()
        lag = (at - self.event_at).total_seconds()
        return Replicated(self.key, action, self.event_at, at, lag, **more)

    def _unchanged(self, action: Action) -> Replicated:
        return Replicated(self.key, action, self.event_at, self.clock.now(), None)


def _read(event: dict[str, Any], source: Bucket) -> tuple[str, datetime, bool]:
    try:
        detail, at = event["detail"], parse_time(event["time"])
        bucket, key = str(detail["bucket"]["name"]), str(detail["object"]["key"])
        kind = event["detail-type"]
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"expected an S3 event of EventBridge, found none: {error!r}",
            code="not-an-s3-event",
            hint="Send Object Created and Object Deleted as they are, without a transformer.",
        ) from error
    if kind not in KINDS:
        raise BadInput(
            f"expected {' or '.join(KINDS)}, found {kind!r}",
            code="not-an-s3-event",
            hint="Narrow the rule's detail-type to these two.",
        )
    if bucket != source.name:
        raise BadInput(
            f"expected an event of {source.name}, found one of {bucket}",
            code="other-bucket",
            hint="Look which component of the plan names this bucket.",
        )
    return key, at, kind == CREATED
