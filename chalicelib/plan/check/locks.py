"""Rules on locks against deletion: whether they end with the promise, after it or before it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.components import BaseComponent, Retention
from chalicelib.plan.model import Plan
from chalicelib.plan.places import Location
from chalicelib.plan.prices import format_usd, usd_per_month
from chalicelib.plan.units import format_duration as show
from chalicelib.plan.units import format_size

# A month is 31 days and a year 366, as everywhere in a plan: never shorter than the calendar's.
_TIER_DAYS = {"daily": 1, "weekly": 7, "monthly": 31, "yearly": 366}
_POINTS = ("full", "dump", "sync")


def find_locks_that_end_early(plan: Plan, now: datetime) -> Hits:
    for place, location, name, component in _locked_copies(plan):
        promised = max(_promises(component.retention), default=None)
        if promised is not None and location.locked_for and location.locked_for < promised:
            yield (
                ("locations", place, "locked_for"),
                f"copies of {name} are to be kept {show(promised)}, and can be deleted after "
                f"{show(location.locked_for)}",
            )


def find_locks_that_outlast(plan: Plan, now: datetime) -> Hits:
    for place, location, name, component in _locked_copies(plan):
        shortest = min(_promises(component.retention), default=None)
        if shortest is None or not location.locked_for or location.locked_for <= shortest:
            continue
        yield (
            ("locations", place, "locked_for"),
            f"a copy of {name} may go after {show(shortest)} and is locked for "
            f"{show(location.locked_for)}: {_overlap(component, location, shortest)}",
        )


def _overlap(component: BaseComponent, location: Location, shortest: timedelta) -> str:
    """What is stored for the lock alone at any time, and what that costs."""
    assert location.locked_for
    intervals = [
        backup.when.longest_interval()
        for backup in component.backups
        if backup.kind in _POINTS and backup.when
    ]
    copies = sum((location.locked_for - shortest) / interval for interval in intervals)
    if component.size is None or not copies:
        return "how much that stores is not known, for its size or its schedule is not stated"
    size_bytes = round(copies * component.size)
    price = usd_per_month(size_bytes, location.provider)
    cost = f", about {format_usd(price)} a month" if price is not None else ""
    return (
        f"some {copies:.0f} copies of {format_size(component.size)} stay for the lock alone, "
        f"{format_size(size_bytes)}{cost}"
    )


def find_locks_that_can_be_lifted(plan: Plan, now: datetime) -> Hits:
    for place, location in plan.locations.items():
        if location.is_locked and location.lock_mode == "governance":
            yield (
                ("locations", place, "lock_mode"),
                f"locks in {place} are lifted by whoever may bypass governance: an administrator "
                "who is taken over may",
            )


def find_locks_that_nothing_keeps(plan: Plan, now: datetime) -> Hits:
    for place, location in plan.locations.items():
        if location.locks_follow_tiers and location.provider != "aws":
            yield (
                ("locations", place, "locks_follow_tiers"),
                f"Leeward extends locks in Amazon S3 alone, and {place} is at {location.provider}",
            )
        elif location.locked_for and location.provider == "own":
            yield (
                ("locations", place, "locked_for"),
                f"{place} is a server of one's own: nothing there keeps its administrator from "
                "deleting",
            )


def find_idle_tiers(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.components.items():
        kept = component.retention
        if kept is None:
            continue
        for tier, days in _TIER_DAYS.items():
            count: int = getattr(kept, tier)
            within = timedelta(days=count * days)
            if count and within <= _covered(kept, tier):
                yield (
                    ("components", name, "retention", tier),
                    f"{count} {tier} copies of {name} reach back {show(within)} at most, and all "
                    "of these are kept anyway",
                )


def _covered(kept: Retention, tier: str) -> timedelta:
    """How far back every point that the tier could choose is kept without it."""
    daily = timedelta(days=kept.daily if tier != "daily" else 0)
    return max(kept.all or timedelta(0), daily)


def _locked_copies(plan: Plan) -> Iterator[tuple[str, Location, str, BaseComponent]]:
    """(location, component) for each component whose points go to a location with a fixed lock."""
    for place, location in plan.locations.items():
        if location.locked_for is None or location.locks_follow_tiers:
            continue
        for name, component in plan.components.items():
            if any(place in one.to and one.kind in _POINTS for one in component.backups):
                yield place, location, name, component


def _promises(retention: Retention | None) -> Iterator[timedelta]:
    """How long single points are promised: that of a point of no coarser tier is the shortest."""
    if retention is None:
        return
    if retention.all:
        yield retention.all
    for tier, days in _TIER_DAYS.items():
        if count := getattr(retention, tier):
            yield timedelta(days=count * days)


RULES = (
    Rule(
        "LW079",
        "warning",
        "A lock that ends before the plan's promise",
        "let the locks follow the tiers (`locks_follow_tiers`), or lock for longer",
        find_locks_that_end_early,
    ),
    Rule(
        "LW080",
        "warning",
        "A lock that outlasts what is to be kept",
        "let the locks follow the tiers (`locks_follow_tiers`), lock for less, or keep longer",
        find_locks_that_outlast,
    ),
    Rule(
        "LW081",
        "warning",
        "A lock that can be lifted",
        "lock in compliance mode, at least in one location",
        find_locks_that_can_be_lifted,
    ),
    Rule(
        "LW082",
        "error",
        "A lock that nothing keeps",
        "keep the locked copy in a bucket with Object Lock",
        find_locks_that_nothing_keeps,
    ),
    Rule(
        "LW083",
        "note",
        "A tier that adds nothing",
        "remove the tier, or keep more of it",
        find_idle_tiers,
    ),
)
