"""Where the long steps of a database run: in a Lambda, or in a task with more disk and more time.

Pure. Each step may have to make the recovered data folder again (docs/decisions/0001), so that all
of them have one need and are placed together.
"""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.plan.records import Record
from chalicelib.plan.rooms import LAMBDA, TASK, Room, Where, disk_for

# When nothing was measured and the plan says nothing: a third of what a restore and a replay
# reached on two cores, as a Lambda's network and a larger folder are slower.
# Source: docs/benchmarks.md, "Restore from object storage to accepting queries".
ASSUMED_BYTES_PER_SECOND = 40e6
# WAL is replayed by one process, page by page; the same caution.
WAL_BYTES_PER_SECOND = 15e6
# Restored, and read once more by the checks.
PASSES = 2


@dataclass(frozen=True)
class Work:
    """What there is to recover. `data_bytes`: of all backups of the chain, unpacked; `wal_bytes`:
    from the last of them to the target, at most. `bytes_per_second` and `how`: the speed of a
    restore, and who says so; 0 when nobody does."""

    data_bytes: int
    wal_bytes: int
    bytes_per_second: float = 0.0
    how: str = ""


@dataclass(frozen=True)
class Placement(Record):
    """`why` is one line for the record."""

    where: Where
    why: str


def decide_placement(
    work: Work, *, wanted: Where | None, has_tasks: bool, ran_out: bool = False
) -> Placement:
    """Where the work runs: where the plan wants it, else in a Lambda while it fits there.

    Without tasks in the deployment what does not fit is tried in a Lambda all the same: the need is
    an estimate, and to refuse would be a failure for certain.

    Args:
        ran_out: an attempt in a Lambda was ended by its limit of time.
    """
    if wanted is not None:
        return Placement(wanted, f"the plan says so (runs_in: {wanted})")
    short = "an attempt ran out of time there" if ran_out else _short_of(LAMBDA, work)
    if not short:
        return Placement("lambda", f"it fits: {_tell(work)}")
    if not has_tasks:
        return Placement(
            "lambda", f"no task can be started here; it may not fit into a Lambda: {short}"
        )
    beyond = _short_of(TASK, work)
    more = f"; even a task may be too small: {beyond}" if beyond else ""
    return Placement("task", f"it does not fit into a Lambda: {short}{more}")


def seconds_for(work: Work) -> float:
    """How long a worker that has nothing yet takes until it has verified all of it."""
    speed = work.bytes_per_second or ASSUMED_BYTES_PER_SECOND
    return PASSES * work.data_bytes / speed + work.wal_bytes / WAL_BYTES_PER_SECOND


def _short_of(room: Room, work: Work) -> str:
    """What the room lacks; "" when the work fits."""
    disk, seconds = disk_for(work.data_bytes) + work.wal_bytes, seconds_for(work)
    if disk > room.disk_bytes:
        return f"{_size(disk)} of disk needed, {_size(room.disk_bytes)} there"
    if seconds > room.seconds:
        return f"{seconds:.0f} s needed ({_tell(work)}), {room.seconds} s there"
    return ""


def _tell(work: Work) -> str:
    how = work.how or "assumed, as nothing was measured"
    speed = work.bytes_per_second or ASSUMED_BYTES_PER_SECOND
    return f"{_size(work.data_bytes)} at {speed / 1e6:.0f} MB/s ({how})"


def _size(value: int) -> str:
    return f"{value / 1e9:.1f} GB"
