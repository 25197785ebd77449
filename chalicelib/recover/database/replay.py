"""WAL replayed on a restored folder up to the instant before the damage.

Nothing counts that PostgreSQL did not say itself: that the target was reached, up to where it
replayed, and when the last transaction committed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from chalicelib.errors import CheckFailed
from chalicelib.plan.records import Record, RecoveryTarget, format_lsn
from chalicelib.plan.wal import WalInventory, segment_start
from chalicelib.ports import (
    DatabaseServer,
    ObjectStore,
    Recovery,
    ReplayPosition,
)
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.restore import RECORD_NAME, Restored
from chalicelib.recover.database.segments import read_segment
from chalicelib.recover.database.wal_end import is_cut, next_record
from chalicelib.recover.database.wal_feed import (
    BYTES_AHEAD,
    WalFeed,
    WalPlan,
    needed_segments,
)

REPLAYED_NAME = "leeward-replayed.json"


@dataclass(frozen=True)
class Replayed(Record):
    """What a folder holds after replay: every commit up to `recovered_lsn`, on `timeline`.
    `last_commit_at` is the newest of those that were replayed, None when there was none."""

    target: RecoveryTarget
    recovered_lsn: int
    last_commit_at: datetime | None
    timeline: int
    seconds: float

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "target":
            return RecoveryTarget.from_json(value)
        return super()._revive(name, value)


def replay(
    means: Means,
    restored: Restored,
    folder: Path,
    *,
    timeout_seconds: float = 840,
    ahead_bytes: int = BYTES_AHEAD,
) -> Replayed:
    """Replay up to the target of `restored`, open the database, and stop it in order.

    Raises as `replaying`.
    """
    with replaying(
        means, restored, folder, timeout_seconds=timeout_seconds, ahead_bytes=ahead_bytes
    ) as (replayed, _):
        return replayed


@contextmanager
def replaying(
    means: Means,
    restored: Restored,
    folder: Path,
    *,
    timeout_seconds: float = 840,
    ahead_bytes: int = BYTES_AHEAD,
    wal: WalInventory | None = None,
) -> Iterator[tuple[Replayed, DatabaseServer]]:
    """Replay up to the target of `restored` and open the database: its server answers inside, and
    is stopped in order at the end. Only then is the folder known as replayed.

    Args:
        ahead_bytes: WAL that may wait on disk for the server.
        wal: what is stored, where that was looked up for this restore; None looks it up.
    Raises:
        CheckFailed: code "target-not-reached" or "replay-ended-early"; "server-ended".
        Damaged: a stored segment cannot be read.
        Unavailable: the store or the server did not answer in time.
    """
    store, clock, started_at = means.store, means.clock, means.clock.now()
    (folder / RECORD_NAME).unlink(missing_ok=True)
    plan = needed_segments(wal or means.catalogue.inventory().wal, restored)
    with ExitStack() as stack:
        # It fetches while the server is looked for and prepared.
        wal_folder = folder.with_name(f"{folder.name}.wal")
        with WalFeed(store, plan, wal_folder, ahead_bytes=ahead_bytes) as feed:
            server = means.servers(folder)
            stack.callback(server.stop)
            recovery = Recovery(restored.target, feed.folder, restored.timeline)
            position = _run(server, recovery, feed, timeout_seconds)
        _require_end(store, plan, restored, position)
        replayed = Replayed(
            target=restored.target,
            recovered_lsn=position.lsn,
            last_commit_at=position.last_commit_at,
            timeline=position.timeline,
            seconds=(clock.now() - started_at).total_seconds(),
        )
        yield replayed, server
    (folder / REPLAYED_NAME).write_text(json.dumps(replayed.to_json()))


def read_replayed(folder: Path) -> Replayed | None:
    """The record of a folder that was replayed to its target, else None."""
    try:
        return Replayed.from_json(json.loads((folder / REPLAYED_NAME).read_text()))
    except (OSError, ValueError):
        return None


def _run(
    server: DatabaseServer, recovery: Recovery, feed: WalFeed, timeout_seconds: float
) -> ReplayPosition:
    server.start(recovery)
    try:
        server.wait_until("ready", timeout_seconds=timeout_seconds)
    except CheckFailed as ended:
        feed.raise_failure()
        if feed.exhausted and recovery.target.kind != "end":
            raise CheckFailed(
                f"expected {recovery.target.kind} {recovery.target.value} in the stored WAL, "
                "it ended before",
                code="target-not-reached",
                hint="Choose an earlier moment; the windows end with the last stored commit.",
                log=server.log_tail(),
            ) from ended
        raise
    return server.replay_position()


def _require_end(
    store: ObjectStore, plan: WalPlan, restored: Restored, position: ReplayPosition
) -> None:
    """ "end" means all there is: only a record that the last tick cut may be missing."""
    end_lsn = restored.window_end_lsn
    if restored.target.kind == "end" and not _ends_in_order(store, plan, position.lsn, end_lsn):
        raise CheckFailed(
            f"expected replay to {format_lsn(end_lsn)}, it ended at {format_lsn(position.lsn)}",
            code="replay-ended-early",
            hint="The WAL at that place is damaged; recover to a moment before it.",
        )


def _ends_in_order(store: ObjectStore, plan: WalPlan, lsn: int, end_lsn: int) -> bool:
    begins = next_record(lsn, plan.segment_bytes)
    if begins >= end_lsn:
        return True
    start = segment_start(begins, plan.segment_bytes)
    [holder] = [item for item in plan.segments if item.start_lsn == start]
    return end_lsn - lsn <= LARGEST_CUT_BYTES and is_cut(
        read_segment(store, holder, plan.segment_bytes), lsn, end_lsn
    )


# A record with images of all the pages it may touch: 33 pages (XLR_MAX_BLOCK_ID) and its head.
LARGEST_CUT_BYTES = 34 * 8192
