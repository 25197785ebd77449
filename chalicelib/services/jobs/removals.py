"""What a user's bucket has lost for good since an inventory of it, looked for before each sync."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from chalicelib.backup.bucket.removed_versions import (
    Removals,
    SeenInventory,
    find_removed,
    join_removals,
    without_erasures,
)
from chalicelib.backup.bucket.shard_plan import find_object
from chalicelib.errors import Damaged, Tampered, Truncated
from chalicelib.evidence.text import counted
from chalicelib.plan.manifest import (
    MANIFEST,
    POINTS,
    digest_of_manifest,
    parse_manifest,
    point_of_key,
    require_small,
)
from chalicelib.plan.records import RecoveryPoint, format_time
from chalicelib.plan.signs import RemovedVersion
from chalicelib.ports import Listed, ObjectStore
from chalicelib.ports.buckets import Bucket
from chalicelib.services import build
from chalicelib.services.jobs.buckets import bucket_component
from chalicelib.services.jobs.witnesses import is_sound
from chalicelib.verify.copies.replica_contents import inventory_entries
from chalicelib.verify.ransomware import note_sign, seen_rules
from chalicelib.verify.signs.removals import sign_of_removals

KIND = "-objects"
SHOWN = 5
# A copy in another cloud is synced by itself, and may be out of reach for nights.
ELSEWHERE_WITHIN = timedelta(days=7)


async def look_for_removed(
    component: str, location: str, source: Bucket, *, quietly: bool = False
) -> Removals:
    """What is gone since the newest sound inventory; for a location in another cloud, whose syncs
    leave none, since each one that was there at its last good sync or came after it.

    `quietly`: tell nobody, as a dry run does.

    Raises: as find_removed.
    """
    store = build.backups(component)
    rows = await asyncio.to_thread(_inventories, store, location)
    bucket = bucket_component(component)
    rules = seen_rules(bucket.bucket, state=build.state())
    found: list[Removals] = []
    for row in rows:
        point = await asyncio.to_thread(_sound_point, store, component, row)
        if point is not None:
            gone = await find_removed(source, _seen(store, point), rules)
            found.append(without_erasures(gone, bucket.erases_at_most))
            if location == build.locations().primary:
                break
    unread = tuple(point_of_key(row.key) for row in rows)
    removals = join_removals(found) if found else Removals(unread=unread)
    if not quietly and location == build.locations().primary:
        _tell(component, removals)
    return removals


def save_looked(component: str, location: str, removals: Removals) -> None:
    """After a good sync of a location in another cloud: the next one asks from here on."""
    if removals.point_id and location != build.locations().primary:
        build.backups(component).put(_note(location), removals.point_id.encode())


def tell_removed(removed: int, erased: int, named: Sequence[RemovedVersion]) -> str:
    """What stands behind a sync's line; "" when nothing is gone."""
    told = f"; {counted(erased, 'version')} erased, as the plan expects" if erased else ""
    if not removed:
        return told
    keys = ", ".join(repr(it.key) for it in named[:SHOWN])
    since = f" since {format_time(named[0].seen_at)}: {keys}" if named else ""
    return f"{told}; VERSIONS REMOVED FOR GOOD from the bucket: {removed}{since}"


def _tell(component: str, removals: Removals) -> None:
    """By a metric and a sign for the watch, before anything is copied; of the bucket, so once.

    An inventory that nobody can read witnesses nothing: that is told as if something were gone.
    """
    untold = removals.removed or len(removals.unread)
    build.metrics().put(component, {"VersionsRemoved": float(untold)})
    bucket = bucket_component(component).bucket
    sign = sign_of_removals(bucket, removals.named, removals.removed, removals.replaced_at)
    if sign is not None:
        note_sign(bucket, sign, build.state())


def _inventories(store: ObjectStore, location: str) -> Sequence[Listed]:
    """The manifests of points, in the order in which they are to be asked."""
    listed = (row for row in store.list(POINTS) if row.key.endswith(f"{KIND}/{MANIFEST}"))
    rows = sorted(listed, key=lambda row: row.key)
    if location == build.locations().primary:
        return rows[::-1]
    since = f"{build.clock().now() - ELSEWHERE_WITHIN:%Y%m%dT%H%M%SZ}"
    known = (find_object(store, _note(location)) or b"").decode()
    first = max(since, known)
    return [it for it in rows if point_of_key(it.key) >= first][::-1] or rows[-1:]


def _note(location: str) -> str:
    # Beside what the sync has compared (in_parts.py); no location has such a name.
    return f"copying/compared={location}@inventory"


def _sound_point(store: ObjectStore, component: str, row: Listed) -> RecoveryPoint | None:
    """None when it is not what its manifest says, or not what was entered into the index. A
    quarantined one witnesses all the same."""
    point_id = point_of_key(row.key)
    try:
        require_small(point_id, row.size_bytes)
        point = parse_manifest(point_id, store.get(row.key), component=component)
    except (Damaged, Tampered, Truncated):
        return None
    if build.catalogue(component).recorded(point_id) != digest_of_manifest(point):
        return None
    return point if is_sound(store, point) else None


def _seen(store: ObjectStore, point: RecoveryPoint) -> SeenInventory:
    parts = sorted(point.objects, key=lambda it: it.key)
    return SeenInventory(
        point.id,
        point.taken_at,
        tuple(partial(inventory_entries, store, replace(point, objects=(it,))) for it in parts),
    )
