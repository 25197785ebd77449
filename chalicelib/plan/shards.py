"""A sync of very many objects, cut into shards: what was decided, and what came of each part.

Everything lies in the component's store below `shards/<run>/`:

    <shard>.jsonl            what to do, a line an object: of a copy its row, of a deletion its key
    map.json                 the shards as a JSON array, which Step Functions reads
    compared                 objects of parts that it lists (backup/bucket/in_parts.py)
    plan.json                the shards and what the listings had; written last
    results/<shard>.json     what came of one shard; written when it was gone through to its end
    batch/<class>.csv        for S3 Batch Operations, when that copies first
    parts.json               the parts of the inventory at its end, for Step Functions
    parts/<n>.json           what came of one part
    done.json, failure.json  how the run ended
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from chalicelib.plan.records import Record

SHARDS = "shards/"
Deed = Literal["copy", "delete"]


@dataclass(frozen=True)
class Shard(Record):
    """`sha256` of its lines in hex; `bytes`: the sizes of the objects to be copied."""

    name: str
    does: Deed
    objects: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardPlan(Record):
    """What two listings decided. `reasons`: decisions by "<action> <reason>".

    batch: S3 Batch Operations copies first, and the shards bring what it left. cuts: keys of the
    source, in byte order, between which the inventory at the end is written in parts. removed:
    versions that an earlier inventory names and the source no longer has. erased: others of which
    the plan expects as many.
    """

    run: str
    source: str
    replica: str
    planned_at: datetime
    batch: bool
    source_objects: int
    replica_objects: int
    reasons: dict[str, int]
    missed: int
    missed_keys: tuple[str, ...]
    shards: tuple[Shard, ...]
    cuts: tuple[str, ...] = ()
    removed: int = 0
    erased: int = 0

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "shards":
            return tuple(Shard.from_json(item) for item in value)
        return super()._revive(name, value)

    @property
    def to_copy(self) -> int:
        return sum(shard.objects for shard in self.shards if shard.does == "copy")


@dataclass(frozen=True)
class FailedKey(Record):
    key: str
    code: str
    message: str


@dataclass(frozen=True)
class ShardResult(Record):
    """What came of a shard. `sha256` is the shard's: a result of other lines is none of it.

    left: found to be done already. vanished: the source has it no more (of a deletion: it was
    written again, and stays).
    """

    shard: str
    sha256: str
    copied: int
    copied_bytes: int
    deleted: int
    left: int
    vanished: int
    failed: int
    failures: tuple[FailedKey, ...]

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "failures":
            return tuple(FailedKey.from_json(item) for item in value)
        return super()._revive(name, value)

    @property
    def accounted(self) -> int:
        return self.copied + self.deleted + self.left + self.vanished + self.failed


@dataclass(frozen=True)
class InventoryPart(Record):
    """Keys of the replica from the one behind `after` up to `through`; "" is the beginning, and the
    end."""

    point_id: str
    number: int
    after: str
    through: str


@dataclass(frozen=True)
class PartTaken(Record):
    """One object of the inventory, `key` as in the component's store; else as InventoryTaken."""

    number: int
    key: str
    size_bytes: int
    sha256: str
    entries: int
    bytes: int
    absent: int


def folder_of(run: str) -> str:
    return f"{SHARDS}{run}/"


def lines_key(run: str, shard: str) -> str:
    return f"{folder_of(run)}{shard}.jsonl"


def compared_key(run: str) -> str:
    return f"{folder_of(run)}compared"


def result_key(run: str, shard: str) -> str:
    return f"{folder_of(run)}results/{shard}.json"


def parts_key(run: str) -> str:
    return f"{folder_of(run)}parts.json"


def part_key(run: str, number: int) -> str:
    return f"{folder_of(run)}parts/{number:06d}.json"
