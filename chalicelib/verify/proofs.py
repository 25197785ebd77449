"""Which recovery point a restore test brings back, and how the proofs of a component stand.

Pure: reads no clock, calls nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chalicelib.errors import OutsideWindow
from chalicelib.plan.records import PointStanding

NEVER = datetime.min.replace(tzinfo=UTC)
# A clock that is ahead by more tells nothing about ages.
CLOCK_ERROR = timedelta(minutes=5)


@dataclass(frozen=True)
class ProofStanding:
    """proven_at: of the newest proof of a point that a restore may use; None: there is none.
    `stands`: it is no older than the plan allows."""

    proven_at: datetime | None
    age: timedelta | None
    stands: bool


def choose_point(
    standings: Iterable[PointStanding],
    *,
    draw: random.Random | None = None,
    newest: bool = False,
) -> PointStanding:
    """The newest point that may be used, until it is proven; then the one whose turn it is.

    Args:
        standings: any order.
        draw: a spot check takes any of them, by lot.
        newest: that one, whether it is proven or not.
    Raises OutsideWindow (code "no-point") when there is none.
    """
    usable = sorted(
        (it for it in standings if not it.quarantined), key=lambda it: it.point.taken_at
    )
    if not usable:
        raise OutsideWindow(
            "expected a recovery point that may be restored, found none",
            code="no-point",
            hint="take a backup; until one is restored, nothing says that this can be recovered",
        )
    if draw is not None:
        return draw.choice(usable)
    if newest or usable[-1].proven_at is None:
        return usable[-1]
    return min(reversed(usable), key=lambda it: it.proven_at or NEVER)


def stand_proofs(
    standings: Iterable[PointStanding], *, valid_for: timedelta | None, now: datetime
) -> ProofStanding:
    """How a component's proofs stand at `now` (aware UTC). What a quarantined point proved counts
    no more, what is dated after `now` nothing; without a period in the plan any proof stands."""
    free = [it.proven_at for it in standings if not it.quarantined]
    known = [at for at in free if at is not None and at <= now + CLOCK_ERROR]
    if not known:
        return ProofStanding(None, None, False)
    age = now - max(known)
    return ProofStanding(max(known), age, valid_for is None or age <= valid_for)
