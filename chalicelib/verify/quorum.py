"""Whether a site is lost, by several signals that do not come from one place.

    signal        seen bad by                                   seen good by
    alarm         an alarm that the plan names went off         its going back to OK
    probe         most services at the site do not answer       most of them do
    heartbeat     none came from the site for too long          one that is young
    aws-health    AWS told of an issue in the region            AWS told that it is over

A signal votes when it has been bad without a break for as long as the plan says, when it was heard
of lately, and when it did not change its mind too often. One vote decides nothing, and while the
services are seen to answer nothing does: an outage of AWS's APIs alone (7 December 2021) is none of
the application. Once decided it stays so: going back is a person's matter, and so is a second time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from chalicelib.plan.records import Record
from chalicelib.plan.scenario import SignalKind, Trigger

# These are told once when they change; the others are looked at each minute.
TOLD_ONCE = frozenset({"alarm", "aws-health"})
# A signal that is looked at must have been seen bad at least so often.
LEAST_LOOKS = 2
# More changes between good and bad than this within the window are flapping.
MOST_CHANGES = 2
KINDS = get_args(SignalKind)


@dataclass(frozen=True)
class Sign(Record):
    """One observation of a signal."""

    kind: SignalKind
    observed_at: datetime
    bad: bool
    says: str


Standing = Literal["votes", "good", "unknown", "too-short", "flapping"]


@dataclass(frozen=True)
class Vote(Record):
    """Why a signal does or does not count. `bad_since`: when its unbroken bad time began."""

    kind: SignalKind
    standing: Standing
    bad_since: datetime | None
    says: str


@dataclass(frozen=True)
class FailoverDecision(Record):
    """`go`: fail over now. `why` is one line; every signal of the plan has a vote."""

    go: bool
    why: str
    votes: tuple[Vote, ...]

    @property
    def for_it(self) -> tuple[Vote, ...]:
        return tuple(vote for vote in self.votes if vote.standing == "votes")


def decide_failover(
    signs: Iterable[Sign],
    trigger: Trigger,
    *,
    now: datetime,
    latched_at: datetime | None = None,
    settles_at: datetime | None = None,
) -> FailoverDecision:
    """Go when enough signals vote for it, the probe among them, and it was not decided before.

    Pure. Signs of the future and of signals that the plan does not count are left out; their order,
    and one that comes twice, make no difference.

    Args:
        trigger: of the scenario: which signals, how many, within what time, for how long.
        latched_at: when it was decided last and not yet taken back by a person.
        settles_at: until when a site that was gone back to is left by a person alone.
    """
    known = {sign for sign in signs if sign.kind in trigger.of and sign.observed_at <= now}
    votes = tuple(
        _vote(kind, [sign for sign in known if sign.kind == kind], trigger, now)
        for kind in dict.fromkeys(trigger.of)
    )
    count = sum(vote.standing == "votes" for vote in votes)
    told = f"{count} of {len(votes)} signals say that the site is lost, {trigger.quorum} are needed"
    if latched_at is not None:
        return FailoverDecision(False, f"decided already at {latched_at:%Y-%m-%d %H:%M:%SZ}", votes)
    if settles_at is not None and now < settles_at:
        until = f"{settles_at:%Y-%m-%d %H:%M:%SZ}"
        why = f"{told}; the site was gone back to lately: until {until} a person declares it"
        return FailoverDecision(False, why, votes)
    served = [vote for vote in votes if vote.kind == "probe" and vote.standing != "votes"]
    if served:
        return FailoverDecision(False, f"{told}; the services: {served[0].says}", votes)
    return FailoverDecision(count >= trigger.quorum, told, votes)


def _vote(kind: SignalKind, signs: list[Sign], trigger: Trigger, now: datetime) -> Vote:
    ordered = sorted(signs, key=lambda sign: (sign.observed_at, sign.bad, sign.says))
    in_window = [sign for sign in ordered if sign.observed_at > now - trigger.within]
    if not in_window:
        return Vote(kind, "unknown", None, f"nothing was heard for {_told(trigger.within)}")
    last = in_window[-1]
    if not last.bad:
        return Vote(kind, "good", None, last.says)
    if kind not in TOLD_ONCE and now - last.observed_at > trigger.fresh:
        return Vote(kind, "unknown", None, f"not looked at for {_told(now - last.observed_at)}")
    row = _bad_row(ordered)
    since = row[0].observed_at
    if _changes(in_window) > MOST_CHANGES:
        return Vote(kind, "flapping", since, f"good and bad in turn; now: {last.says}")
    looks = 1 if kind in TOLD_ONCE else LEAST_LOOKS
    if now - since < trigger.lasting or len({sign.observed_at for sign in row}) < looks:
        return Vote(kind, "too-short", since, f"since {_told(now - since)}: {last.says}")
    return Vote(kind, "votes", since, last.says)


def _bad_row(ordered: list[Sign]) -> list[Sign]:
    """The bad signs after the last good one, oldest first."""
    row: list[Sign] = []
    for sign in reversed(ordered):
        if not sign.bad:
            break
        row.insert(0, sign)
    return row


def _changes(ordered: list[Sign]) -> int:
    return sum(one.bad != other.bad for one, other in zip(ordered, ordered[1:], strict=False))


def _told(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
