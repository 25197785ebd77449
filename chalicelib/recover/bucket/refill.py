"""Brings back, from the replica, the versions that have vanished from a bucket.

The copy is the replica's version that an inventory names, not what the replica holds now, and each
one is compared with it; nothing that somebody wrote into another bucket is overwritten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from chalicelib.errors import LeewardError, Refused, Truncated
from chalicelib.plan.records import Record
from chalicelib.ports.buckets import Bucket
from chalicelib.recover.bucket.flight import Flight
from chalicelib.recover.bucket.mend import bring_back
from chalicelib.recover.bucket.outcome import FATAL, MOST_FAILURES, UndoFailure
from chalicelib.recover.bucket.same_content import Place, read_and_compare, same_bytes
from chalicelib.recover.bucket.witness import Vanished, of_copy

IN_FLIGHT = 64


@dataclass(frozen=True)
class Refilled(Record):
    """`counts`: back (copied and compared), same (there already, compared), failed."""

    counts: dict[str, int]
    failures: tuple[UndoFailure, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.failures

    @property
    def brought(self) -> int:
        return self.counts.get("back", 0) + self.counts.get("same", 0)


NOTHING = Refilled({})


async def refill(
    target: Bucket, replica: Bucket, vanished: Sequence[Vanished], *, in_place: bool
) -> Refilled:
    """Copy each version that has a copy on top of what is there, unless it is the same.

    Safe to repeat. `in_place` False leaves what is there and fails for it: the target is another
    bucket than the one that the versions vanished from.

    Raises what every other key would meet too.
    """
    counts: Counter[str] = Counter()
    failures: list[UndoFailure] = []

    async def bring(one: Vanished) -> None:
        try:
            counts[await _bring(target, replica, one, in_place=in_place)] += 1
        except LeewardError as error:
            if error.instance_code in FATAL or len(failures) >= MOST_FAILURES:
                raise
            counts["failed"] += 1
            failures.append(UndoFailure(one.key, error.instance_code, error.message))

    async with Flight(IN_FLIGHT) as flight:
        for one in vanished:
            await flight.start(bring(one))
    return Refilled(dict(counts), tuple(sorted(failures, key=lambda it: it.key)))


async def still_there(
    target: Bucket, replica: Bucket, vanished: Sequence[Vanished]
) -> frozenset[str]:
    """The keys whose readers get the very bytes of the replica's version now; what cannot be
    compared is not there."""
    found: set[str] = set()

    async def look(one: Vanished) -> None:
        with suppress(LeewardError):
            if await _is_there(target, replica, one):
                found.add(one.key)

    async with Flight(IN_FLIGHT) as flight:
        for one in vanished:
            await flight.start(look(one))
    return frozenset(found)


async def _bring(target: Bucket, replica: Bucket, one: Vanished, *, in_place: bool) -> str:
    there = await _is_there(target, replica, one)
    if there is True:
        return "same"
    if there is False and not in_place:
        raise _foreign(one)
    await bring_back(target, replica, of_copy(one))
    return "back"


async def _is_there(target: Bucket, replica: Bucket, one: Vanished) -> bool | None:
    """None when readers of the key get nothing. Raises Truncated when the replica has no copy."""
    then = await replica.head(one.key, version_id=one.copy)
    try:
        now = await target.head(one.key)
    except Truncated:
        return None
    same = same_bytes(then, now)
    if same is not None:
        return same
    return await read_and_compare(Place(replica, one.key, one.copy), Place(target, one.key))


def _foreign(one: Vanished) -> Refused:
    return Refused(
        f"expected nothing else under {one.key!r}, found another object",
        code="target-not-empty",
        hint="Name an empty bucket; nothing in it would be overwritten.",
    )
