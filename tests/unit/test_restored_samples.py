"""What a bucket's restore test tells of the objects that it drew."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from chalicelib.plan.inventory import InventoryEntry
from chalicelib.plan.records import CheckResult
from chalicelib.verify.samples import draw_sample, restore_sample
from tests.integrity_stores import SteppedClock

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PARTS = "d41d8cd98f00b204e9800998ecf8427e-7"


class Replica:
    """Hands out what it is given, by key."""

    def __init__(self, **contents: bytes) -> None:
        self.contents = contents

    async def read(self, entry: InventoryEntry) -> AsyncGenerator[bytes, None]:
        yield self.contents[entry.key]


def restored(
    tmp_path: Path, entries: list[InventoryEntry], *, most_bytes: int = 100, **contents: bytes
) -> CheckResult:
    clock = SteppedClock(NOON)
    return asyncio.run(
        restore_sample(
            draw_sample(iter(entries), random.Random(1)), cast(Any, Replica(**contents)), tmp_path,
            clock=clock, until=NOON + timedelta(hours=1), most_bytes=most_bytes,
        )
    )  # fmt: skip


def entry(key: str, content: bytes, *, etag: str = "", sha256: str = "") -> InventoryEntry:
    return InventoryEntry(key, len(content), NOON, etag=etag, sha256=sha256)


def test_what_was_compared_by_its_size_alone_is_told(tmp_path: Path) -> None:
    whole = entry("a", b"four", sha256=hashlib.sha256(b"four").hexdigest())
    parts = entry("b", b"bore", etag=PARTS)
    found = restored(tmp_path, [whole, parts], a=b"four", b=b"else")
    assert found.ok
    assert "2 of 2 objects restored" in found.found
    assert "1 of them by their size alone" in found.found
    assert "by their size" not in restored(tmp_path, [whole], a=b"four").found
    assert not restored(tmp_path, [whole], a=b"five").ok
    assert not restored(tmp_path, [parts], b=b"longer").ok


def test_nothing_restored_is_no_proof(tmp_path: Path) -> None:
    assert not restored(tmp_path, []).ok
    large = entry("a", b"x" * 200, etag=PARTS)
    found = restored(tmp_path, [large], a=b"x" * 200)
    assert (found.ok, found.found[:24]) == (False, "0 of 1 objects restored,")
