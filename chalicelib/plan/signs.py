"""Signs of ransomware: what a detector found, and what was made of all of it.

A sign is never proof by itself; `Judgement` says what the signs amount to together. Times are
aware UTC; all records are JSON-ready.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from chalicelib.plan.records import Record, parse_time

# What a sign is about. Signs of one family share their causes, so a family counts once.
Family = Literal["content", "canary", "burst", "names", "keys", "configuration", "versions"]
EventKind = Literal["created", "deleted"]
After = Literal["older", "newer", "nothing"]


@dataclass(frozen=True)
class Sign(Record):
    """One thing a detector found. `score`: how much it weighs alone, 0 to 1.

    `subject` is a key, a group of keys ("*.locked") or the bucket's name. `at` is when what was
    found happened, not when it was looked at. `evidence` holds the figures the score rests on.
    """

    detector: str
    family: Family
    score: float
    subject: str
    at: datetime
    found: str
    evidence: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        return parse_time(value) if name == "at" else value


@dataclass(frozen=True)
class RemovedVersion(Record):
    """A version that an inventory names and the bucket no longer has.

    `seen_at`: when that inventory was taken. `after`: what its key has now: an older version is the
    object again, it was replaced by something newer, or there is nothing left.
    """

    key: str
    version_id: str
    modified_at: datetime
    seen_at: datetime
    point_id: str
    after: After


@dataclass(frozen=True)
class SeenRule(Record):
    """A lifecycle rule that removes versions `days` after they were replaced, and when the watch
    saw it first and last. It may be gone by now."""

    prefix: str
    days: int
    from_at: datetime
    until_at: datetime


@dataclass(frozen=True)
class Judgement(Record):
    """What all signs of a bucket amount to.

    `suspicion` is 0 to 1; `infected` when it reaches what judge.py demands. `started_at` is
    the earliest credible sign, None when nothing is suspected.
    """

    infected: bool
    suspicion: float
    started_at: datetime | None
    why: str
    signs: tuple[Sign, ...] = ()

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "signs":
            return tuple(Sign.from_json(item) for item in value)
        return super()._revive(name, value)


@dataclass(frozen=True)
class BucketEvent(Record):
    """An object was written or deleted. `id` is the same when it is delivered again.

    `size_bytes` is None where the event does not tell it, as S3's deletions do not.
    `reason` is S3's: PutObject, CopyObject, CompleteMultipartUpload, DeleteObject,
    Lifecycle Expiration. `permanent`: a version was deleted, not a marker put above it.
    """

    id: str
    at: datetime
    kind: EventKind
    key: str
    version_id: str = ""
    size_bytes: int | None = None
    etag: str = ""
    reason: str = ""
    requester: str = ""
    permanent: bool = False

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        return parse_time(value) if name == "at" else value


@dataclass(frozen=True)
class Watched(Record):
    """One look at a bucket. It is green only when `judgement` is not infected and `blind` is empty.

    `blind` names each thing that could not be judged, and why: a detector without history, an
    object that could not be read, settings that may not be read. `unread` counts the writes that
    were not sampled because the budget of the run was spent.
    """

    bucket: str
    looked_at: datetime
    events: int
    sampled: int
    unread: int
    judgement: Judgement
    blind: tuple[str, ...] = ()

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "judgement":
            return Judgement.from_json(value)
        return super()._revive(name, value)


@dataclass(frozen=True)
class QuarantineReason(Record):
    """A recovery point that must not be restored from without a person's decision, and why."""

    point_id: str
    code: str
    reason: str
