"""What is known of a bucket's past besides its own versions: inventories, a replica, old rules."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from chalicelib.errors import Damaged, NotReady, Tampered, Truncated
from chalicelib.plan.records import RecoveryPoint
from chalicelib.plan.signs import SeenRule
from chalicelib.ports import ObjectStore
from chalicelib.ports.buckets import Bucket
from chalicelib.recover.bucket.grade import Grade, grade_restore, rules_in_reach
from chalicelib.recover.bucket.witness import (
    UNWITNESSED,
    Witness,
    Witnessed,
    choose_witnesses,
    hear_witnesses,
)
from chalicelib.services import build, environment
from chalicelib.services.jobs.buckets import bucket_component


@dataclass(frozen=True)
class Known:
    """Of one bucket, for one moment. `replica`: its name, "" without one. `unread`: inventories
    that should have been asked and cannot be read."""

    component: str
    replica: str
    before: Witness | None
    after: Witness | None
    rules: tuple[SeenRule, ...]
    unread: tuple[str, ...] = ()


def know_bucket(component: str, to_at: datetime) -> Known:
    """What can be said of the component's bucket at a moment.

    An inventory that is not what its manifest says is passed over for the next one. A quarantined
    one is asked too: what it names was there, whoever wrote it. One that the index does not know
    may name what never was.
    """
    from chalicelib.verify.ransomware import seen_rules

    standings = build.catalogue(component).holdings().standings
    points = [it.point for it in standings if it.point.kind == "objects" and not it.is_unknown]
    store, unread = build.backups(component), []
    while True:
        chosen = [point for point in choose_witnesses(points, to_at) if point is not None]
        broken = [point for point in chosen if not is_sound(store, point)]
        if not broken:
            break
        unread += [point.id for point in broken]
        points = [point for point in points if point not in broken]
    before, after = choose_witnesses(points, to_at)
    bucket = bucket_component(component).bucket
    return Known(
        component, _replica(component), _witness(store, before), _witness(store, after),
        seen_rules(bucket, state=build.state()), tuple(unread),
    )  # fmt: skip


async def hear(
    bucket: Bucket, known: Known | None, to_at: datetime, *, prefix: str = ""
) -> Witnessed:
    """What the inventories say of the bucket's versions; raises as hear_witnesses."""
    if known is None:
        return UNWITNESSED
    return await hear_witnesses(bucket, known.before, known.after, to_at, prefix=prefix)


def grade_of(
    known: Known | None, heard: Witnessed, to_at: datetime, *, as_listed: bool, prefix: str = ""
) -> Grade:
    """`heard`: without what was brought back and compared."""
    rules = rules_in_reach(known.rules if known else (), prefix=prefix, to_at=to_at)
    return grade_restore(as_listed=as_listed, testimony=heard, to_at=to_at, rules=rules)


def is_sound(store: ObjectStore, point: RecoveryPoint) -> bool:
    """Whether its inventory is what its manifest says; every byte is read."""
    try:
        return all(_digest(store, it.key) == it.sha256 for it in point.objects)
    except (Damaged, Tampered, Truncated):
        return False


def _digest(store: ObjectStore, key: str) -> str:
    digest = hashlib.sha256()
    for chunk in store.read(key):
        digest.update(chunk)
    return digest.hexdigest()


def _witness(store: ObjectStore, point: RecoveryPoint | None) -> Witness | None:
    from chalicelib.verify.copies.replica_contents import inventory_entries

    if point is None:
        return None
    return Witness(point.id, point.taken_at, partial(inventory_entries, store, point))


def _replica(component: str) -> str:
    try:
        return environment.replica_bucket(component)
    except NotReady:
        return ""
