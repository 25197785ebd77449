"""Which objects of a planned sync S3 Batch Operations may copy, class by class.

A job has one storage class for all its copies, so each class of the source has a job of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack

from chalicelib.backup.bucket.shard_plan import Line, read_lines
from chalicelib.plan.shards import ShardPlan, folder_of
from chalicelib.ports import ObjectStore, ObjectWriter


def manifest_key(run: str, storage_class: str) -> str:
    return f"{folder_of(run)}batch/{storage_class}.csv"


def write_manifests(
    store: ObjectStore,
    manifests: ObjectStore,
    plan: ShardPlan,
    line_of: Callable[[str, str], bytes],
    *,
    classes: Collection[str],
    largest_bytes: int,
) -> dict[str, int]:
    """A manifest for each storage class, in constant memory; how many objects each has.

    Left out, for the shards: what is larger, or of another class.

    Args:
        manifests: where they are written.
        line_of: makes a manifest's line of bucket and key.
    """
    counts: dict[str, int] = {}
    with ExitStack() as open_writers:
        writers: dict[str, ObjectWriter] = {}
        for shard in plan.shards:
            if shard.does != "copy":
                continue
            for line in map(Line.from_bytes, read_lines(store, plan.run, shard)):
                found = line.row.storage_class or "STANDARD"
                if found not in classes or line.row.size_bytes > largest_bytes:
                    continue
                if found not in writers:
                    opened = manifests.open_writer(manifest_key(plan.run, found))
                    writers[found] = open_writers.enter_context(opened)
                writers[found].write(line_of(plan.source, line.row.key))
                counts[found] = counts.get(found, 0) + 1
        for writer in writers.values():
            writer.commit()
    return counts
