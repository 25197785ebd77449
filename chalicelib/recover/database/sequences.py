"""Which transactions put a sequence back, so that numbers are given out twice. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from chalicelib.recover.database.changes import SequenceSet, Transaction

# WAL holds a sequence up to so many values ahead (SEQ_LOG_VALS, sequence.c).
LOGGED_AHEAD = 32


@dataclass(frozen=True)
class Sequence:
    """An ascending one as it is. `column`: what it numbers and is the first of an index, "" when
    nobody knows; `highest`: the largest number there, None in an empty table. `went_back`: whether
    the WAL has a value lower than one before; else its first value may be the one."""

    name: str
    next_value: int
    increment: int = 1
    cache: int = 1
    column: str = ""
    highest: int | None = None
    went_back: bool = False

    @property
    def is_behind(self) -> bool:
        return self.highest is not None and self.next_value <= self.highest


def sequences_set(transactions: Iterable[Transaction]) -> dict[int, bool]:
    """By file: whether the WAL shows it going back."""
    found: dict[int, bool] = {}
    for one in (it for transaction in transactions for it in transaction.sequences):
        found[one.relfile.number] = found.get(one.relfile.number, False) or one.was is not None
    return found


def tell_put_back(
    transaction: Transaction, sequences: Mapping[int, Sequence]
) -> Iterator[tuple[str, str]]:
    """(name, what it did) of each sequence that it put back and that is behind its column now.

    Args:
        sequences: by the number of their file.
    """
    for one in transaction.sequences:
        found = sequences.get(one.relfile.number)
        if found and _matters(one, found):
            yield found.name, _told(one, found)


def _matters(one: SequenceSet, now: Sequence) -> bool:
    if one.was is None and now.went_back:
        return False
    if now.highest is not None:
        return now.is_behind and one.now <= now.highest
    ahead = (LOGGED_AHEAD + now.cache) * now.increment
    return not now.column and one.was is not None and one.was - one.now > ahead


def _told(one: SequenceSet, now: Sequence) -> str:
    was = f"from {one.was} " if one.was is not None else ""
    put = f"put sequence {now.name} back {was}to {one.now}"
    if now.highest is None:
        return put
    mended = f"SELECT setval('{now.name}', {now.highest})"
    return f"{put}, though {now.column} reaches {now.highest} ({mended} puts it right)"
