"""Which transactions a bisection is asked over: none, when neither end says what it must."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from chalicelib.plan.records import RecoveryTarget, Window
from chalicelib.services.steps.database.bisect import Bisection

START = datetime(2026, 11, 22, 8, tzinfo=UTC)
WINDOW = Window(1, 1000, 9000, START, START + timedelta(hours=1))


@dataclass(frozen=True)
class Known(Bisection):
    """`damage`: the xid after which the database is unsound; 0 when it always was, None never."""

    damage: int | None = None

    def is_sound(self, target: RecoveryTarget) -> bool:
        last = 10 if target.kind == "end" else int(target.value) - 1
        return self.damage is None or last < self.damage


class Commits:
    """Transactions 1 to 10, one a minute; 7 changed nothing, 1 lies before every backup."""

    def dump(self, timeline: int, start_lsn: int, end_lsn: int) -> Iterator[bytes]:
        for xid in range(1, 11):
            at = START + timedelta(minutes=xid)
            lsn = f"0/{500 + xid * 400 if xid > 1 else 900:X}"
            head = f"len (rec/tot): 59/59, tx: {xid}, lsn: {lsn}, prev 0/0, desc:"
            if xid != 7:
                row = f"rmgr: Heap {head} INSERT off: 1, blkref #0: rel 1663/5/16400 blk 0\n"
                yield row.encode()
            yield f"rmgr: Transaction {head} COMMIT {at:%Y-%m-%d %H:%M:%S.%f} UTC\n".encode()

    def sequence_value(self, timeline: int, lsn: int) -> int:
        raise AssertionError("nothing here sets a sequence")


def commits(*, damage: int | None, since_minute: int | None) -> list[int]:
    since = None if since_minute is None else START + timedelta(minutes=since_minute)
    nothing = cast(Any, None)
    made = Known(nothing, "db", nothing, Commits(), WINDOW, since, damage)
    return [it.xid for it in made.commits(1000)]


@pytest.mark.parametrize(
    ("damage", "since_minute", "expected"),
    [
        (6, None, [2, 3, 4, 5, 6, 8, 9, 10]),
        (6, 4, [5, 6, 8, 9, 10]),
        (3, 4, [2, 3, 4, 5, 6, 8, 9, 10]),  # what looked sound at 4 was not: all are in question
        (None, 4, []),
        (0, 4, []),
    ],
)
def test_the_commits_in_question(
    damage: int | None, since_minute: int | None, expected: list[int]
) -> None:
    assert commits(damage=damage, since_minute=since_minute) == expected
