"""What a recovery lost, counted in the WAL: commits before the damage that were not replayed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chalicelib.plan.wal import segment_start
from chalicelib.ports import WalText
from chalicelib.recover.database.changes import ChangeScan, Transaction

# Commits are looked for this many segments at a time, going back.
STRIDE_SEGMENTS = 4


@dataclass(frozen=True)
class Loss:
    """`last_commit_at`: of the last commit before the bound, None when the WAL holds none.
    `rows`: inserted, updated or deleted by commits before the bound that were not recovered."""

    last_commit_at: datetime | None
    transactions: int
    rows: int


def measure_loss(
    wal: WalText,
    *,
    timeline: int,
    start_lsn: int,
    recovered_lsn: int,
    bound_lsn: int,
    segment_bytes: int,
    before: datetime | None = None,
) -> Loss:
    """Compare what was recovered with all that was committed before `bound_lsn`.

    Args:
        start_lsn: the earliest WAL at hand.
        recovered_lsn: every commit that ends at or before it is in the recovered data.
        bound_lsn: the damage's commit record, or the end of the WAL.
        before: only commits earlier than this count, when the moment is a time.
    Raises:
        Damaged: the WAL between cannot be read.
    """
    from_lsn = segment_start(max(bound_lsn - 1, start_lsn), segment_bytes)
    from_lsn = min(from_lsn, segment_start(recovered_lsn, segment_bytes))
    while True:
        from_lsn = max(from_lsn, segment_start(start_lsn, segment_bytes))
        commits = [
            commit
            for commit in _commits(wal, timeline, from_lsn, bound_lsn)
            if before is None or commit.committed_at < before
        ]
        if commits or from_lsn <= start_lsn:
            break
        from_lsn -= STRIDE_SEGMENTS * segment_bytes
    lost = [commit for commit in commits if commit.commit_lsn >= recovered_lsn]
    return Loss(
        last_commit_at=commits[-1].committed_at if commits else None,
        transactions=len(lost),
        rows=sum(rows.inserted + rows.changed for commit in lost for rows in commit.rows.values()),
    )


def _commits(wal: WalText, timeline: int, start_lsn: int, bound_lsn: int) -> list[Transaction]:
    scan = ChangeScan()
    found = [t for text in wal.dump(timeline, start_lsn, bound_lsn) for t in scan.feed(text)]
    return [transaction for transaction in found if transaction.commit_lsn < bound_lsn]


def bounded_loss(loss: Loss, *, complete: bool) -> tuple[datetime | None, int | None]:
    """(last commit before the bound, rows lost), as far as they are known.

    Where the WAL is not stored to its end, nobody knows what the rest of it held: what was counted
    in the stored part is a lower bound, and is not given out as the loss.
    """
    return (loss.last_commit_at, loss.rows) if complete else (None, None)
