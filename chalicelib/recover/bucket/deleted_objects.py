"""What is gone from a bucket: objects below a delete marker, and those whose versions went too.

The first kind comes back by removing the marker, the second from a replica alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

from chalicelib.ports.buckets import Bucket, ObjectRow
from chalicelib.recover.bucket.history import KeyHistory, read_histories
from chalicelib.recover.bucket.proof import Difference, UndoProof
from chalicelib.recover.bucket.undo import UndoRules

NAMED = 20


@dataclass
class GoneObjects:
    """`deleted`: objects below markers, by the second of the newest marker. `removed`: in the
    replica, with no version left in the bucket; None without a replica. `living`: the others."""

    deleted: Counter[datetime] = field(default_factory=Counter)
    removed: int | None = None
    removed_bytes: int = 0
    removed_keys: list[str] = field(default_factory=list)
    living: int = 0


async def survey_deleted(
    bucket: Bucket, replica: Bucket | None, since: datetime, *, prefix: str = ""
) -> GoneObjects:
    """Look at every key below the prefix once, in both. `since`: before all that is looked for."""
    gone = GoneObjects(removed=None if replica is None else 0)
    async with aclosing(_copies(replica, prefix)) as copies:
        copy = await anext(copies, None)
        async for history in read_histories(bucket, prefix, since):
            while copy is not None and copy.key < history.key:
                _note_removed(gone, copy)
                copy = await anext(copies, None)
            if copy is not None and copy.key == history.key:
                copy = await anext(copies, None)
            _note(gone, history)
        while copy is not None:
            _note_removed(gone, copy)
            copy = await anext(copies, None)
    return gone


def _note(gone: GoneObjects, history: KeyHistory) -> None:
    if history.live is not None:
        gone.living += 1
    elif history.covering:
        gone.deleted[history.now.modified_at] += 1


def _note_removed(gone: GoneObjects, copy: ObjectRow) -> None:
    gone.removed = (gone.removed or 0) + 1
    gone.removed_bytes += copy.size_bytes
    if len(gone.removed_keys) < NAMED:
        gone.removed_keys.append(copy.key)


async def _copies(replica: Bucket | None, prefix: str) -> AsyncGenerator[ObjectRow, None]:
    if replica is not None:
        async for row in replica.list(prefix):
            yield row


async def verify_undelete(bucket: Bucket, rules: UndoRules, *, prefix: str = "") -> UndoProof:
    """Whether everything that was deleted between the two moments of the rules can be read.

    All versions are listed again, from the first key to the last: it is proven when no marker of
    that time is the newest entry of a key that has a version; keys aside are not looked at.
    """
    assert rules.undelete_until is not None
    keys = objects = differing = 0
    named: list[Difference] = []
    hidden_key: str | None = None
    async for row in bucket.list_versions(prefix):
        keys += row.is_latest
        objects += row.is_latest and not row.is_marker
        if row.key in rules.aside:
            continue
        if row.is_latest and row.is_marker:
            of_then = rules.to_at < row.modified_at <= rules.undelete_until
            hidden_key = row.key if of_then else None
        elif row.key == hidden_key and row.is_marker and row.modified_at <= rules.to_at:
            hidden_key = None  # it was deleted before already
        elif row.key == hidden_key and not row.is_marker:
            hidden_key = None
            differing += 1
            if len(named) < NAMED:
                named.append(Difference(row.key, "missing"))
    return UndoProof(keys, objects, differing, tuple(named), 0, complete=True)
