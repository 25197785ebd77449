"""What a sync does with each key, and whether it may delete: pure, from two rows of listings.

An ETag is the MD5 of the content only for an object of one part that is not encrypted with a KMS
key. Where it is not, time decides: the copy is right when it was made after the source was last
written, which holds because a copy of such an object counts only when the source is still the same
after it (sync.py), or when the copy is dated so early that every change since would be newer.

A copy in another cloud that tells from which ETag it was made needs no time: every write into the
source changes it there, and what bears no such note was written over by somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from chalicelib.backup.bucket.in_parts import is_in_parts
from chalicelib.errors import Refused
from chalicelib.ports.buckets import ObjectRow

Action = Literal["copy", "leave", "delete", "keep"]
Reason = Literal[
    "new", "size", "etag", "newer", "same-moment", "may-be-older", "went-back", "same-etag",
    "copied-later", "overwritten", "not-in-source",
]  # fmt: skip
# Why a copy lacks what the source has had: the others copy what may be there already.
LACKING: frozenset[Reason] = frozenset({"new", "size", "etag", "newer"})
MD5_DIGITS = 32
MISSED_AFTER = timedelta(minutes=15)
CLOCKS_DIFFER = timedelta(seconds=1)


@dataclass(frozen=True)
class SyncPolicy:
    """What the plan says of one bucket's replica.

    mirror: what the source no longer has is deleted from the replica.
    max_delete_share: of the replica's objects, 0 to 1; more is deleted only when approved.
    opaque_etags: either bucket encrypts with a KMS key, so that no ETag tells the content.
    margin: by how much a copy must be younger than its source (S3's times have whole seconds;
    the clocks of two clouds differ).
    missed_after: how old a change must be to have been missed by the events; None where no event
    brings anything.
    """

    prefix: str = ""
    mirror: bool = False
    max_delete_share: float = 0.05
    opaque_etags: bool = False
    margin: timedelta = timedelta(seconds=2)
    missed_after: timedelta | None = MISSED_AFTER
    in_flight: int = 256
    walkers: int = 8


class KeyDecision(NamedTuple):
    """`size_bytes`: of the source, or of what would be deleted."""

    key: str
    action: Action
    reason: Reason
    size_bytes: int


def decide_key(
    source: ObjectRow | None, target: ObjectRow | None, policy: SyncPolicy
) -> KeyDecision:
    """One of the two may be missing. A row of another cloud has no ETag ("") of its own."""
    if source is None:
        assert target is not None
        action: Action = "delete" if policy.mirror else "keep"
        return KeyDecision(target.key, action, "not-in-source", target.size_bytes)
    action, reason = _compare(source, target, policy)
    return KeyDecision(source.key, action, reason, source.size_bytes)


def _compare(
    source: ObjectRow, target: ObjectRow | None, policy: SyncPolicy
) -> tuple[Action, Reason]:
    if target is None:
        return "copy", "new"
    if target.copied_from == "":
        return "copy", "overwritten"
    if source.size_bytes != target.size_bytes:
        return "copy", "size"
    if target.copied_from is not None:
        same = source.etag == target.copied_from
        return ("leave", "same-etag") if same else ("copy", "etag")
    if source.etag and source.etag == target.etag:
        return "leave", "same-etag"
    if not policy.opaque_etags and tells_content(source.etag) and tells_content(target.etag):
        return "copy", "etag"
    if source.modified_at + policy.margin < target.modified_at:
        return "leave", "copied-later"
    if source.modified_at <= target.modified_at:
        return "copy", "same-moment"
    return "copy", "newer"


def is_missed(
    decision: KeyDecision, row: ObjectRow | None, policy: SyncPolicy, *, started_at: datetime
) -> bool:
    """Whether an event should have brought this, before a sync began then. What was copied within
    moments of its writing was brought by one; the sync copies it again to be sure."""
    if row is None or policy.missed_after is None or decision.reason not in LACKING:
        return False
    return row.modified_at < started_at - policy.missed_after


def needs_memory(source: ObjectRow, target: ObjectRow | None) -> bool:
    """Whether a copy's time may prove nothing, and no ETag tells it (in_parts.py)."""
    return is_in_parts(source.etag) or bool(target and is_in_parts(target.etag))


def shows_later_changes(dated_after: timedelta | None, policy: SyncPolicy) -> bool:
    """Whether a change of the source since it was read for a copy makes that copy `newer`, so that
    nobody needs to look. A second of the margin is left to clocks of two regions; a time far before
    the copy was asked for is some other clock's. What was uploaded in parts is dated by the
    beginning of its upload: no time shows it, its event does (replicate.py), or memory
    (in_parts.py)."""
    if dated_after is None:
        return False
    return -policy.margin <= dated_after <= policy.margin - CLOCKS_DIFFER


def tells_content(etag: str) -> bool:
    """It may be an MD5 of the content. One of parts ends with "-<parts>"."""
    return len(etag) == MD5_DIGITS


def check_deletions(deletions: int, replica_objects: int, policy: SyncPolicy) -> None:
    """Raises Refused (code "too-many-deletions") when more would go than the plan lets go."""
    if deletions <= policy.max_delete_share * replica_objects:
        return
    raise Refused(
        f"expected at most {policy.max_delete_share:.1%} of {replica_objects} objects to be "
        f"deleted, found {deletions}",
        code="too-many-deletions",
        hint="See with --dry-run what would go; then approve it, or bring the source back.",
        deletions=deletions,
        replica_objects=replica_objects,
    )
