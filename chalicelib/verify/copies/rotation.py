"""Which objects to read this time, so that within a byte budget each is read in its promised time.

Oldest first is what keeps every promise if any order can. What a run could leave to later runs is
slack, and goes to objects that were never read, newest first: the newest points are those that a
recovery would use. The plan aims one interval early, so that a run may come late or be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.verify.copies.expected import Expected


@dataclass(frozen=True)
class CheckPolicy:
    """How a location is checked.

    every: from one check to the next. read_within: every byte is read once in that time.
    read_bytes: so many a run, None for all there is. wal_within: WAL must be unbroken for so long
    back, None: only what each point itself needs. copied_within: how late a copy may be.
    long_bytes: an object as large as that is read by several checks, if one has not the time.
    whole: what lies beside the copies is looked at too; not where a replica's objects do.
    """

    every: timedelta = timedelta(hours=6)
    read_within: timedelta = timedelta(days=7)
    read_bytes: int | None = None
    wal_within: timedelta | None = None
    copied_within: timedelta = timedelta(days=1)
    long_bytes: int = 4 << 30
    whole: bool = True

    @property
    def runs(self) -> int:
        """Runs between two readings of one object, one interval early."""
        return max(1, self.read_within // self.every - 1)


@dataclass(frozen=True)
class Rotation:
    """`reads`: in the order in which to read them. `needed_bytes`: what each run must read on
    average to keep the promise; more than the budget cannot be kept."""

    reads: tuple[Expected, ...]
    needed_bytes: int


def choose_reads(objects: Iterable[Expected], policy: CheckPolicy, *, now: datetime) -> Rotation:
    """Pure. An object that is larger than the budget is read when its turn has come.

    Of equal age the largest is first: one thread that is left with it at the end works alone.

    Args:
        objects: any order.
    """
    queue = sorted(objects, key=lambda item: (item.since, -item.size_bytes, item.key))
    total = sum(item.size_bytes for item in queue)
    needed = -(-total // policy.runs)
    if policy.read_bytes is None:
        return Rotation(tuple(queue), needed)
    must = min(_due_bytes(queue, policy, now), policy.read_bytes)
    chosen = _until(queue, must)
    left = policy.read_bytes - sum(item.size_bytes for item in chosen)
    rest = queue[len(chosen) :]
    never_read = sorted(
        (item for item in rest if item.state == "new"), key=lambda item: item.since, reverse=True
    )
    picked = dict.fromkeys(chosen)
    for item in (*never_read, *rest):
        if item not in picked and item.size_bytes <= left:
            picked[item] = None
            left -= item.size_bytes
    return Rotation(tuple(picked), needed)


def order_turns(
    looks: Sequence[Expected], reads: Sequence[Expected], *, slots: int
) -> tuple[Expected, ...]:
    """In which order to begin, where `slots` objects are read at a time.

    Pure. All that is only looked at or read in an instant comes before the `reads` that take their
    time, so that a check which ends early has looked at as much as it can. Before everything come
    at most half as many reads as there are slots: those that are more than one slot's share of all
    bytes, which would be left alone at the end while the other slots have nothing to do.

    Args:
        looks: all objects, each once.
        reads: those of them that take their time, in the order of their promises.
    """
    share = sum(item.size_bytes for item in looks) / slots
    long = sorted(reads, key=lambda item: -item.size_bytes)[: slots // 2]
    ahead = [item for item in long if item.size_bytes > share]
    late = {item.key for item in reads}
    quick = (item for item in looks if item.key not in late)
    return tuple({item.key: item for item in (*ahead, *quick, *reads)}.values())


def _due_bytes(queue: Sequence[Expected], policy: CheckPolicy, now: datetime) -> int:
    """How much must be read now so that later runs, each with the same budget, can do the rest.

    By each deadline the runs before it must have read all that is due until then.
    """
    assert policy.read_bytes is not None
    due = read = 0
    for item in queue:
        read += item.size_bytes
        deadline = item.since + policy.read_within - policy.every
        later_runs = max(0, (deadline - now) // policy.every)
        due = max(due, read - later_runs * policy.read_bytes)
    return due


def _until(queue: Sequence[Expected], wanted_bytes: int) -> list[Expected]:
    """The first of the queue until they are as many bytes as wanted; the last may go beyond."""
    chosen: list[Expected] = []
    size_bytes = 0
    for item in queue:
        if size_bytes >= wanted_bytes:
            break
        chosen.append(item)
        size_bytes += item.size_bytes
    return chosen
