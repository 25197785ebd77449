"""The newest WAL of a running server on this machine's disk, over the replication protocol.

No slot and no confirmation: nothing on the server changes, and what it removed is gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chalicelib.adapters.postgres_binaries import Binaries
from chalicelib.adapters.postgres_database import map_sqlstate, parse_dsn
from chalicelib.adapters.postgres_protocol import Refusal, ReplicationConnection, WalMessages
from chalicelib.adapters.postgres_replication import PostgresSource
from chalicelib.adapters.postgres_waldump import PgWaldump
from chalicelib.errors import Unavailable
from chalicelib.plan.records import format_lsn
from chalicelib.plan.wal import segment_name, segment_start
from chalicelib.ports import SourceFacts, WalText

# What fits a Lambda's disk many times over and is read in about 10 s.
MOST_BYTES = 1 << 30
UNDEFINED_FILE = "58P01"


@dataclass(frozen=True)
class Tail:
    """`wal` holds the records from `start_lsn` up to `end_lsn`, at most 1 GiB of them."""

    wal: WalText
    timeline: int
    start_lsn: int
    end_lsn: int


@contextmanager
def recent_wal(
    dsn: str, binaries: Binaries, folder: Path, *, from_lsn: int | None
) -> Iterator[Tail]:
    """Fetch the WAL from `from_lsn` on, or none when it is None, into a folder that is removed.

    Raises:
        Unavailable: code "wal-removed", when the server has it no longer.
    """
    with PostgresSource(dsn) as source:
        facts = source.facts()
    start = facts.flush_lsn if from_lsn is None else from_lsn
    end = min(facts.flush_lsn, start + MOST_BYTES)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        if start < end:
            _fetch(dsn, folder, facts, segment_start(start, facts.segment_bytes), end)
        yield Tail(PgWaldump(binaries, folder), facts.timeline, start, end)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch(dsn: str, folder: Path, facts: SourceFacts, start: int, end: int) -> None:
    connection = ReplicationConnection(parse_dsn(dsn))
    try:
        connection.begin_copy_both(
            f"START_REPLICATION PHYSICAL {format_lsn(start)} TIMELINE {facts.timeline}"
        )
        for lsn, data in WalMessages(connection):
            _write(folder, facts, lsn, data)
            if lsn + len(data) >= end:
                return
    except Refusal as refusal:
        if refusal.sqlstate != UNDEFINED_FILE:
            raise map_sqlstate(refusal.sqlstate, refusal.said) from refusal
        raise Unavailable(
            f"expected the server to have its WAL from {format_lsn(start)} on, found it removed",
            code="wal-removed",
            hint="Raise wal_keep_size; what was removed is in the stored WAL.",
        ) from refusal
    finally:
        connection.close()


def _write(folder: Path, facts: SourceFacts, lsn: int, data: bytes) -> None:
    """A message never crosses a segment (walsender.c). A segment's file has its full size from
    the start: the rest of the last one reads as zeros."""
    path = folder / segment_name(facts.timeline, lsn, facts.segment_bytes)
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(facts.segment_bytes)
        file.seek(lsn % facts.segment_bytes)
        file.write(data)
