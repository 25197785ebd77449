"""Objects of a bucket's recovery point, drawn by lot, restored into a folder and compared.

Reading all of a bucket costs what the bucket costs, so a restore test brings back a sample; its
proof says how many of how many. The whole inventory is read besides: it is what a restore goes by.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chalicelib.errors import Damaged, LeewardError
from chalicelib.plan.inventory import InventoryEntry
from chalicelib.plan.records import CheckResult
from chalicelib.ports import Clock
from chalicelib.verify.copies.replica_contents import ReplicaContents

# A flaw in 3 % of all objects is met by 100 of them with a probability of 95 %.
SAMPLED_OBJECTS = 100
# Half of what a function's disk holds.
SAMPLED_BYTES = 4 << 30
NAMED = 3


@dataclass(frozen=True)
class Sample:
    """Of an inventory: the entries drawn, and how much it is in all."""

    entries: tuple[InventoryEntry, ...]
    objects: int
    total_bytes: int


def draw_sample(
    entries: Iterable[InventoryEntry], draw: random.Random, *, size: int = SAMPLED_OBJECTS
) -> Sample:
    """Every entry has the same chance. One pass, constant memory.

    Source: algorithm R (Vitter, 1985).
    """
    chosen: list[InventoryEntry] = []
    seen = total = 0
    for entry in entries:
        seen, total = seen + 1, total + entry.size_bytes
        if len(chosen) < size:
            chosen.append(entry)
        elif (place := draw.randrange(seen)) < size:
            chosen[place] = entry
    return Sample(tuple(chosen), seen, total)


async def restore_sample(
    sample: Sample,
    contents: ReplicaContents,
    folder: Path,
    *,
    clock: Clock,
    until: datetime,
    most_bytes: int = SAMPLED_BYTES,
) -> CheckResult:
    """Restore each object of the sample into `folder`, one file each, and compare what lies there.

    Nothing is begun after `until`, and no object that would exceed `most_bytes` in all; what was
    not restored is told, and nothing restored at all is no proof.

    Raises Unavailable when the replica does not answer: that says nothing about the point.
    """
    started_at, wrong, restored, size_bytes, by_size = clock.now(), [], 0, 0, 0
    for number, entry in enumerate(sample.entries):
        if clock.now() >= until:
            break
        if size_bytes + entry.size_bytes > most_bytes:
            continue
        found = await _restore(entry, contents, folder / f"{number:06d}")
        wrong += [found] if found else []
        restored, size_bytes = restored + 1, size_bytes + entry.size_bytes
        by_size += not _digest_of(entry)[1]
    told = f"{restored} of {sample.objects} objects restored, drawn by lot, {size_bytes} bytes"
    told += f"; {by_size} of them by their size alone" if by_size else ""
    if wrong:
        told += f"; WRONG: {'; '.join(wrong[:NAMED])}"
        told += f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    seconds = (clock.now() - started_at).total_seconds()
    return CheckResult("objects-restored", not wrong and restored > 0, told, seconds)


async def _restore(entry: InventoryEntry, contents: ReplicaContents, path: Path) -> str:
    """What is wrong with one object; "" when it is what the inventory says."""
    try:
        with path.open("wb") as file:
            async with aclosing(contents.read(entry)) as chunks:
                async for chunk in chunks:
                    file.write(chunk)
    except LeewardError as error:
        if error.retryable:
            raise
        return f"{entry.key!r}: {error.message}"
    try:
        _compare(entry, path)
    except Damaged as error:
        return f"{entry.key!r}: {error.message}"
    finally:
        path.unlink()
    return ""


def _compare(entry: InventoryEntry, path: Path) -> None:
    size_bytes = path.stat().st_size
    algorithm, expected = _digest_of(entry)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, algorithm).hexdigest()
    if size_bytes != entry.size_bytes or (expected and digest != expected):
        raise Damaged(
            f"expected {entry.size_bytes} bytes, {algorithm} {expected}, "
            f"found {size_bytes} bytes, {digest}",
            code="object-differs",
            hint="copy it back from another location",
        )


def _digest_of(entry: InventoryEntry) -> tuple[str, str]:
    """The SHA-256 of the inventory; where nobody computed it, an ETag that is an MD5; "" when
    nothing tells the content, as of what was uploaded in parts."""
    if entry.sha256:
        return "sha256", entry.sha256
    is_md5 = len(entry.etag) == hashlib.md5(usedforsecurity=False).digest_size * 2
    return "md5", entry.etag if is_md5 else ""
