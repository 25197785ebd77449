"""A communication drill: messages go out to the drill's addresses, and people acknowledge. Pure.

It is good when every message was taken, and everybody who is inside acknowledged in time. The
time is the plan's own: by when its escalation has called the last of its path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.plan.model import Plan

# Where the plan has no escalation, or its path has no clock.
ANSWER_WITHIN = timedelta(hours=1)


@dataclass(frozen=True)
class CommunicationScore:
    """answered: person -> seconds after the beginning, in time. silent: who did not, or too late.
    over: nothing more is waited for. shortfalls: what keeps it from being green."""

    answered: Mapping[str, float]
    silent: tuple[str, ...]
    over: bool
    shortfalls: tuple[str, ...]

    @property
    def slowest_seconds(self) -> float | None:
        """None while somebody has not answered: that is no time at all."""
        return None if self.silent else max(self.answered.values(), default=None)


def people_inside(plan: Plan) -> tuple[str, ...]:
    """The plan's contacts who are to answer: all that are no other firm's."""
    return tuple(name for name, it in plan.contacts.items() if not it.external)


def answer_within(plan: Plan) -> timedelta:
    """By when the last of the escalation's path has been called, and one hour at least."""
    starts = [step.after for step in plan.escalation if step.after is not None]
    return max([ANSWER_WITHIN, *starts])


def score_communication(
    expected: Collection[str],
    acknowledged: Iterable[tuple[str, datetime]],
    *,
    told: int,
    untold: Iterable[str],
    began_at: datetime,
    within: timedelta,
    now: datetime,
) -> CommunicationScore:
    """How a communication drill stands.

    Args:
        acknowledged: (person, when), any order; who did so more than once counts by the first.
        told: how many messages were taken. untold: recipients of those that were not, yet.
        now: aware UTC.
    """
    first: dict[str, datetime] = {}
    for person, at in acknowledged:
        first[person] = min(at, first.get(person, at))
    answered = {
        person: (first[person] - began_at).total_seconds()
        for person in expected
        if person in first and first[person] - began_at <= within
    }
    silent = tuple(person for person in expected if person not in answered)
    left = tuple(untold)
    return CommunicationScore(
        answered,
        silent,
        over=now - began_at > within or not (silent or left or not told),
        shortfalls=(
            *(f"{person} did not acknowledge within {within}" for person in silent),
            *(f"a message to {name} was not taken" for name in left),
            *([] if told else ["no message was taken by anybody"]),
            *([] if expected else ["the plan names nobody who could answer"]),
        ),
    )
