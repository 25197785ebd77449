"""A component's stored WAL on this Lambda's disk, for reading what happened."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.waldump import PgWaldump
from chalicelib.backup.wal_fetch import fetch_wal
from chalicelib.errors import NotReady, Unavailable
from chalicelib.plan.records import Window
from chalicelib.plan.wal import follow
from chalicelib.ports import Inventory, ObjectStore
from chalicelib.recover.database.segments import read_segment
from chalicelib.recover.database.writing import write_file
from chalicelib.services import build


def fetch_last_wal(component: str) -> str:
    """Store what the source has written until now; "" or why that could not be done."""
    try:
        with build.source(component) as source:
            tick = fetch_wal(
                source,
                build.backups(component),
                build.catalogue(component),
                component=component,
                clock=build.clock(),
            )
    except (Unavailable, NotReady) as error:
        return f"the source gives no more WAL ({error.instance_code}): what is stored must do"
    if tick.gap:
        return "the WAL has a gap: what was written after it is not stored"
    return ""


@contextmanager
def wal_on_disk(
    store: ObjectStore, inventory: Inventory, window: Window, folder: Path, *, from_lsn: int
) -> Iterator[PgWaldump]:
    """The segments of a window from `from_lsn` on, under PostgreSQL's names; removed after use."""
    with segments_on_disk(
        store, inventory, window, folder, from_lsn=from_lsn, named=build.environment().postgres
    ) as wal:
        yield wal


@contextmanager
def segments_on_disk(
    store: ObjectStore,
    inventory: Inventory,
    window: Window,
    folder: Path,
    *,
    from_lsn: int,
    named: str | None,
) -> Iterator[PgWaldump]:
    """See `wal_on_disk`. `named`: the folder of PostgreSQL's programs, None looks for them."""
    wal = inventory.wal
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    try:
        for item in follow(wal, window.timeline):
            if item.start_lsn + wal.segment_bytes > from_lsn:
                content = read_segment(store, item, wal.segment_bytes)
                write_file(folder / item.name, content)
        yield PgWaldump(find_binaries(_major(inventory), named), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _major(inventory: Inventory) -> int:
    return inventory.points[-1].server_version // 10000
