"""The way back to a site after a failover: what, from where, in which order, how verified, when.

A plan and nothing more: nobody goes back by itself. It says what must hold first, and the command
by which a person starts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

from chalicelib.plan.model import Plan
from chalicelib.plan.records import Record, format_time

# How long the primary site must have answered without a break before anybody goes back to it.
# The plan names no such time; a day holds a whole cycle of its load and of its schedules.
SOUND_FOR = timedelta(hours=24)
# A window for the switch where the plan names none: the hours of least load at the data's time
# zone are not known here, so these are proposed, and a person chooses.
WINDOW_BEGINS, WINDOW_LASTS = time(2, 0), timedelta(hours=2)


@dataclass(frozen=True)
class Way(Record):
    """How one kind of component goes back, and how one knows that it is there."""

    how: str
    verified: str


WAYS: Mapping[str, Way] = {
    "infrastructure": Way("terraform plan, then apply", "the plan shows no change"),
    "server": Way("start it again, or launch its template", "it takes commands"),
    "postgres": Way(
        "a base backup of what runs now, restored there, and its WAL until nothing is missing;"
        " writes stop for the last of it",
        "the same last commit, the same row count and digest of each table, the plan's checks",
    ),
    "bucket": Way(
        "a sync of every version written since the failover",
        "the same keys with the same checksums on both sides",
    ),
    "redis": Way("a dump of what runs now, restored there", "the same keys, types and TTLs"),
    "files": Way("an archive of what runs now, restored there", "the same digest of every file"),
    "git": Way("a push of every branch and tag", "the same commit on every branch"),
    "service": Way("the revision that runs now, started there", "its health address answers"),
    "cdn": Way("a sync from its source", "the addresses of its objects answer"),
    "names": Way("names.switch to the site", "every name server answers with its addresses"),
}
# Data before what uses it, names when all else stands.
ORDER = (
    *("infrastructure", "server", "postgres", "bucket", "redis", "files", "git", "cdn"),
    *("service", "names"),
)


@dataclass(frozen=True)
class Return(Record):
    """One component's way back. `stands_in`: the component that serves in its place now."""

    component: str
    kind: str
    stands_in: str
    to_site: str
    how: str
    verified: str
    after: tuple[str, ...]


@dataclass(frozen=True)
class FailbackPlan(Record):
    """What a person starts, and not before what. Times of the window are proposals."""

    scenario: str
    from_site: str
    to_site: str
    made_at: datetime
    not_before_at: datetime
    window_begins_at: datetime
    window_ends_at: datetime
    conditions: tuple[str, ...]
    returns: tuple[Return, ...]
    last: tuple[str, ...]
    command: str

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "returns":
            return tuple(Return.from_json(item) for item in value)
        return super()._revive(name, value)


def decide_way_back(
    plan: Plan, scenario: str, *, site: str, drill: bool, now: datetime
) -> FailbackPlan:
    """The plan for the way back of everything that the scenario moved. Pure.

    Args:
        site: where the run recovered; "" where everything stayed, and is re-protected alone.
    """
    chosen = plan.scenarios[scenario]
    home = next(iter(chosen.loses), "")
    moved = [
        name
        for name, it in plan.components.items()
        if name in chosen.restored_components() and (it.site != site or not site)
    ]
    moved.sort(key=lambda name: ORDER.index(plan.components[name].kind))
    returns = tuple(_return(plan, name, site, home, drill, moved) for name in moved)
    not_before = now + SOUND_FOR
    begins = _next_window(not_before)
    return FailbackPlan(
        scenario=scenario,
        from_site=site,
        to_site=home,
        made_at=now,
        not_before_at=not_before,
        window_begins_at=begins,
        window_ends_at=begins + WINDOW_LASTS,
        conditions=_conditions(home, site),
        returns=returns,
        last=_last(site),
        command=f'leeward failback {scenario} --plan {plan.name}.yaml --reason "..."',
    )


def _return(plan: Plan, name: str, site: str, home: str, drill: bool, moved: list[str]) -> Return:
    component = plan.components[name]
    there = component.stand_ins.get(site, name)
    stands = plan.components[there].stand_ins.get("drill", there) if drill else there
    way = WAYS[component.kind]
    if component.kind == "names":
        after = tuple(other for other in moved if plan.components[other].kind != "names")
    else:
        after = tuple(other for other in component.depends_on if other in moved)
    return Return(name, component.kind, stands, home, way.how, way.verified, after)


def _next_window(after: datetime) -> datetime:
    today = datetime.combine(after.date(), WINDOW_BEGINS, after.tzinfo)
    return today if today >= after else today + timedelta(days=1)


def _conditions(home: str, site: str) -> tuple[str, ...]:
    return (
        f"the cause of the loss of {home} is known, and mended",
        f"{home} has answered every probe for {SOUND_FOR.total_seconds() / 3600:.0f} h on end",
        f"{site or 'what was recovered'} is backed up, and its newest copy is proven",
        "a person has chosen the window, and the customers were told of it",
        "no other incident is open",
    )


def _last(site: str) -> tuple[str, ...]:
    return (
        "compare both sides once more before names move; what differs stops the return",
        "watch response times for as long as the scenario's own watch",
        f"make {site or 'the standby'} the standby again: copies, schedules and probes as before",
        f"keep what {site or 'the standby'} holds until a proof of the new primary is there",
    )


def told(plan: FailbackPlan) -> str:
    """One line for the record."""
    names = ", ".join(it.component for it in plan.returns)
    return (
        f"the way back to {plan.to_site} is written down: {names}; not before "
        f"{format_time(plan.not_before_at)[:16]}Z, and only when a person starts it"
    )
