"""Names move to another site: whether they may, and whether they have.

    decide_switch -> remember it -> the driver acts -> every name server answers for the new site

Names never move back to their home by themselves: failover is for machines, failback for people.
What was switched lately is not switched again without a person's reason, so that a health check
which flaps cannot make the names flap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

from chalicelib.errors import CheckFailed, NotReady, Refused, Unavailable
from chalicelib.plan.components import NameRecord
from chalicelib.ports.control import Clock
from chalicelib.ports.traffic import Answer, Moved, Resolver, Switch, Switches, Traffic

POLL_SECONDS = 1.0
# A server farm behind one address may answer old and new in turn while a change spreads.
STEADY_ROUNDS = 2


@dataclass(frozen=True)
class Wish:
    """A switch that is asked for. `reason`: a person's, "" when a machine asks."""

    to: str
    run_id: str
    step: str
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """What is done about a wish, and why. `again`: an earlier attempt began it."""

    switch: Switch
    acts: bool
    again: bool
    why: str


def decide_switch(
    wish: Wish,
    past: Sequence[Switch],
    *,
    state: str,
    home: str,
    stays_for: timedelta,
    now: datetime,
) -> Decision:
    """Whether names may move as wished.

    Pure: reads no clock, asks nobody.

    Args:
        past: oldest first; an entry of this very run and step is an earlier attempt.
        state: the site that the driver sends names to; "" when it is none or half of each.
        home: the site that the names belong to.
        stays_for: how long a switch stays before it is taken back without a reason.
    Raises:
        Refused: code "failback-needs-a-person" or "switched-lately".
    """
    own = next((it for it in past if (it.run_id, it.step) == (wish.run_id, wish.step)), None)
    if own is not None:
        why = "an earlier attempt of this step began it"
        return Decision(own, acts=state != wish.to, again=True, why=why)
    made = Switch(now, state, wish.to, wish.run_id, wish.step, wish.reason)
    if state == wish.to:
        return Decision(made, acts=False, again=False, why=f"names are sent to {wish.to} already")
    if wish.reason:
        return Decision(made, acts=True, again=False, why=f"a person says: {wish.reason}")
    if wish.to == home:
        raise Refused(
            f"expected a person's reason to send names back to {home}, found none",
            hint="start the failback with --reason; names never go back by themselves",
            code="failback-needs-a-person",
        )
    _refuse_lately(past, stays_for, now)
    return Decision(made, acts=True, again=False, why=f"names are sent to {state or 'no one site'}")


def _refuse_lately(past: Sequence[Switch], stays_for: timedelta, now: datetime) -> None:
    moves = [it for it in past if it.came_from != it.to]
    if not moves or now - moves[-1].at >= stays_for:
        return
    last = moves[-1]
    minutes = (now - last.at).total_seconds() / 60
    raise Refused(
        f"expected {stays_for.total_seconds() / 60:.0f} min without a switch, found one to "
        f"{last.to} {minutes:.1f} min ago ({last.run_id})",
        hint="find out why the names moved, and if they must move again, give a reason",
        code="switched-lately",
        last=last.to_json(),
    )


def apply_switch(decision: Decision, traffic: Traffic, switches: Switches) -> Moved | None:
    """Remember the switch, then do it; None when there is nothing to do.

    Remembered first: whoever looks after a death in between must count it. What is refused never
    was, and is forgotten.
    """
    if not decision.acts:
        return None
    switches.add(decision.switch)
    try:
        return traffic.switch(decision.switch)
    except Refused:
        if not decision.again:
            switches.remove(decision.switch)
        raise


@dataclass(frozen=True)
class Seen:
    """Where names lead, as their servers say. `answers`: by "name type", of every server."""

    at: datetime
    answers: dict[str, tuple[Answer, ...]]
    wrong: tuple[str, ...]

    @property
    def ttl(self) -> int:
        """The longest that a cache may keep any of the answers, in seconds."""
        return max((it.ttl for all_ in self.answers.values() for it in all_), default=0)

    @property
    def servers(self) -> int:
        """How many servers answered for every name."""
        answered = [sum(not it.problem for it in all_) for all_ in self.answers.values()]
        return min(answered, default=0)

    def to_json(self) -> dict[str, Any]:
        """ "name type" -> the values that its servers answer, each once."""
        return {
            what: sorted({value for it in all_ for value in it.values})
            for what, all_ in self.answers.items()
        }


def look(
    resolver: Resolver, zone: str, records: Sequence[NameRecord], site: str, *, clock: Clock
) -> Seen:
    """Ask every server for every name, and say what is not the site's answer.

    A name is right when more than half of its servers answer, and all that answer give the
    site's values and nothing else: a client asks another server when one is silent.
    """
    answers = {
        f"{record.name} {record.type}": tuple(resolver.ask(zone, record.name, record.type))
        for record in records
    }
    pairs = zip(records, answers.values(), strict=True)
    wrong = [problem for record, all_ in pairs if (problem := problem_of(record, all_, site))]
    return Seen(clock.now(), answers, tuple(wrong))


def problem_of(record: NameRecord, answers: Sequence[Answer], site: str) -> str:
    """Why the answers do not count as the site's, "" when they do."""
    wanted = expected_values(record, site)
    given = [it for it in answers if not it.problem]
    if len(given) * 2 <= len(answers):
        silent = "; ".join(f"{it.server}: {it.problem}" for it in answers if it.problem)
        return f"{record.name}: {len(given)} of {len(answers)} name servers answer ({silent})"
    other = next((it for it in given if it.values != wanted), None)
    if other is None:
        return ""
    found = ", ".join(other.values) or "nothing"
    return f"{record.name}: expected {', '.join(wanted)}, {other.server} answers {found}"


def expected_values(record: NameRecord, site: str) -> tuple[str, ...]:
    """What the record answers for the site, as servers write it, sorted.

    Raises:
        NotReady: code "no-answer-for-site".
    """
    if site not in record.answers:
        raise NotReady(
            f"expected an answer of {record.name} for the site {site}, found none in the plan",
            hint=f"name its addresses at {site} under `answers` of the record",
            code="no-answer-for-site",
        )
    return tuple(sorted(plain_value(value, record.type) for value in record.answers[site]))


def plain_value(value: str, kind: str) -> str:
    """The one way of writing a value: short addresses, names in lower case without the last dot."""
    return value.lower().rstrip(".") if kind == "CNAME" else str(ip_address(value))


def wait_for_site(
    resolver: Resolver,
    zone: str,
    records: Sequence[NameRecord],
    site: str,
    *,
    clock: Clock,
    limit_seconds: float,
) -> Seen:
    """The first moment from which all names led to the site, STEADY_ROUNDS times in a row.

    Raises:
        Unavailable: code "names-not-moved", after the limit. What was switched stays switched.
    """
    started, first, rounds = clock.now(), None, 0
    while True:
        seen = look(resolver, zone, records, site, clock=clock)
        first, rounds = (None, 0) if seen.wrong else (first or seen.at, rounds + 1)
        if first is not None and rounds >= STEADY_ROUNDS:
            return replace(seen, at=first)
        if (seen.at - started).total_seconds() >= limit_seconds:
            raise Unavailable(
                f"expected names of {zone} at {site} within {limit_seconds:.0f} s, found "
                + ("; ".join(seen.wrong) or "one right answer only"),
                hint="does the health check see the switch object, and do the records name it? "
                "docs/traffic.md, section When names do not move",
                code="names-not-moved",
            )
        clock.sleep(POLL_SECONDS)


def require_site(seen: Seen, site: str) -> None:
    """Raises CheckFailed (code "names-elsewhere") when any name leads to another place."""
    if seen.wrong:
        raise CheckFailed(
            f"expected all names at {site}, found {'; '.join(seen.wrong)}",
            hint="switch them, and look at what moves them: docs/traffic.md",
            code="names-elsewhere",
        )
