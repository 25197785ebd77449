"""The inventory of a very large replica: written in parts side by side, joined by their names.

The parts are ranges of keys that meet, so together they hold every key, whatever the sample was
that they were cut by. A part counts by its own result, written when its object is durable.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from chalicelib.backup.bucket.shard_plan import find_object
from chalicelib.backup.bucket.take_inventory import InventoryTaken, bucket_entries, take_inventory
from chalicelib.errors import Truncated
from chalicelib.plan.records import StoredObject, canonical_json
from chalicelib.plan.shards import InventoryPart, PartTaken, part_key, parts_key
from chalicelib.ports import ObjectStore
from chalicelib.ports.buckets import Bucket

READ_AT_ONCE = 16


def cut_parts(
    store: ObjectStore, run: str, point_id: str, cuts: Sequence[str]
) -> tuple[InventoryPart, ...]:
    """Write down the parts between the cuts, for Step Functions; kept when they are there already.

    Args:
        cuts: the last keys of all parts but the last one, in byte order.
    """
    if known := find_parts(store, run):
        return known
    bounds = ["", *cuts, ""]
    parts = tuple(
        InventoryPart(point_id, number, after, through)
        for number, (after, through) in enumerate(zip(bounds, bounds[1:], strict=False), start=1)
    )
    content = json.dumps([part.to_json() for part in parts]).encode()
    store.put(parts_key(run), content)
    return parts


def find_parts(store: ObjectStore, run: str) -> tuple[InventoryPart, ...]:
    """Empty when nothing was cut."""
    content = find_object(store, parts_key(run))
    return tuple(InventoryPart.from_json(it) for it in json.loads(content or b"[]"))


async def take_part(
    replica: Bucket,
    store: ObjectStore,
    run: str,
    part: InventoryPart,
    *,
    source: Bucket | None = None,
) -> PartTaken:
    """One object of the inventory, then its result; one that has a result is not taken again.

    `source`: as in bucket_entries.

    Raises: as take_inventory and bucket_entries; no result is written.
    """
    known = await asyncio.to_thread(find_object, store, part_key(run, part.number))
    if known is not None:
        return PartTaken.from_json(json.loads(known))
    entries = bucket_entries(replica, source=source, after=part.after, through=part.through)
    taken = await take_inventory(
        entries, store, part.point_id, entries_per_object=sys.maxsize, first=part.number
    )
    [written] = taken.objects
    result = PartTaken(
        part.number, written.key, written.size_bytes, written.sha256, taken.entries, taken.bytes,
        taken.absent,
    )  # fmt: skip
    content = canonical_json(result.to_json())
    await asyncio.to_thread(store.put, part_key(run, part.number), content)
    return result


def join_parts(store: ObjectStore, run: str, parts: Sequence[InventoryPart]) -> InventoryTaken:
    """The whole inventory as the results of its parts tell it; no key is looked at.

    Raises:
        Truncated: code "inventory-part-missing".
    """
    with ThreadPoolExecutor(READ_AT_ONCE) as threads:
        found = list(threads.map(lambda it: find_object(store, part_key(run, it.number)), parts))
    missing = [part.number for part, content in zip(parts, found, strict=True) if content is None]
    if missing:
        raise Truncated(
            f"expected {len(parts)} parts of the inventory, part {missing[0]} is missing",
            code="inventory-part-missing",
            hint="Start the sync again: what was copied is seen, and the inventory taken anew.",
        )
    taken = [PartTaken.from_json(json.loads(content or b"")) for content in found]
    return InventoryTaken(
        tuple(StoredObject(it.key, it.size_bytes, it.sha256) for it in taken),
        sum(it.entries for it in taken),
        sum(it.bytes for it in taken),
        sum(it.absent for it in taken),
    )
