"""How long the store itself must refuse to delete each recovery point.

A lock follows the tiers: a new point is locked for as long as the finest tier promises to keep it,
and for longer once its week, month or year is over and it is the point that stands for it. Before
that a point is only the newest so far, and locking every daily for seven years would be the price.
A lock ends when the calendar no longer promises the point, so it never delays a prune. Locks are
only ever extended, by a role that can neither write nor delete backups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

from chalicelib.backup.retention.periods import TIERS, Tier, period_end, zone_of
from chalicelib.backup.retention.reasons import Kept, RetentionDecision
from chalicelib.plan.components import Retention
from chalicelib.plan.records import PointStanding

# Of a period at its shortest.
SHORTEST_DAYS: dict[Tier, int] = {"daily": 1, "weekly": 7, "monthly": 28, "yearly": 365}


class LockChange(NamedTuple):
    """Objects of this point are to be locked until then; `rule` is the tier, "all" or "needed"."""

    standing: PointStanding
    until: datetime
    rule: str


@dataclass(frozen=True)
class LockDecision:
    """`extend`: newest first. `kept_by_lock`: nothing but its lock keeps such a point."""

    extend: tuple[LockChange, ...]
    kept_by_lock: tuple[PointStanding, ...]


def lock_at_write(taken_at: datetime, policy: Retention, *, time_zone: str = "UTC") -> datetime:
    """How long a new point is locked: as long as the finest tier, or `all`, keeps it.

    For an incremental `taken_at` is that of the full point under it, with which it goes.
    """
    zone = zone_of(time_zone)
    ends = [
        period_end(tier, taken_at, zone, number=getattr(policy, tier))
        for tier in TIERS
        if getattr(policy, tier)
    ][:1]
    if policy.all:
        ends.append(_end_of_all(taken_at, policy.all))
    return max(ends, default=taken_at)


def _end_of_all(taken_at: datetime, period: timedelta) -> datetime:
    """A whole second, the next one: stores keep no more of a lock, and what they cut off would
    have to be extended again by each run."""
    end = taken_at + period
    return end + timedelta(microseconds=-end.microsecond % 1_000_000)


def default_lock_days(policies: Iterable[Retention]) -> int:
    """The default retention of a bucket that holds points of these policies, in whole days.

    S3 gives it to every object at its write, so that the writer needs no right to lock. It is what
    the policy that keeps least promises a point taken in the last moment of a period; the extender
    adds the rest. 0: no default, for some policy promises less than a day.
    """
    spans = []
    for policy in policies:
        tier = next((tier for tier in TIERS if getattr(policy, tier)), None)
        calendar = SHORTEST_DAYS[tier] * (getattr(policy, tier) - 1) if tier else 0
        spans.append(max(calendar, policy.all.days if policy.all else 0))
    return min(spans, default=0)


def decide_locks(
    decision: RetentionDecision, policy: Retention, *, now: datetime, time_zone: str = "UTC"
) -> LockDecision:
    """Which locks must be extended now, and what a lock alone still keeps.

    Pure and repeatable: with the extensions made, deciding again extends nothing. Run at least
    once within the finest tier's length, or a point waits unlocked for its promotion.

    Args:
        decision: of `decide_retention` at the same `now`, with the same policy and zone.
    """
    zone = zone_of(time_zone)
    wanted: dict[str, tuple[datetime, str]] = {}
    by_id = {kept.standing.point.id: kept for kept in decision.keep}
    for kept in decision.keep:
        until, rule = _wanted(kept, _root(kept, by_id), policy, now, zone)
        _ask(wanted, by_id, kept, until, rule)
    changes = [
        LockChange(kept.standing, *wanted[kept.standing.point.id])
        for kept in decision.keep
        if _is_longer(kept.standing, wanted.get(kept.standing.point.id), now)
    ]
    alone = [kept.standing for kept in decision.keep if kept.rules == {"locked"}]
    return LockDecision(tuple(changes), tuple(alone))


def _is_longer(standing: PointStanding, wanted: tuple[datetime, str] | None, now: datetime) -> bool:
    if wanted is None or wanted[0] <= now:
        return False
    return standing.locked_until is None or wanted[0] > standing.locked_until


def _ask(
    wanted: dict[str, tuple[datetime, str]],
    by_id: Mapping[str, Kept],
    kept: Kept,
    until: datetime,
    rule: str,
) -> None:
    """For the point and, as long, for everything that it builds on."""
    standing: PointStanding | None = kept.standing
    seen: set[str] = set()
    while standing is not None and standing.point.id not in seen:
        point = standing.point
        seen.add(point.id)
        if point.id not in wanted or until > wanted[point.id][0]:
            wanted[point.id] = (until, rule)
        parent = by_id.get(point.parent_id or "")
        standing, rule = parent.standing if parent else None, "needed"


def _root(kept: Kept, by_id: Mapping[str, Kept]) -> Kept:
    """The full point under an incremental, as far as the chain goes."""
    seen: set[str] = set()
    while (parent := by_id.get(kept.standing.point.parent_id or "")) is not None:
        if kept.standing.point.id in seen:
            break
        seen.add(kept.standing.point.id)
        kept = parent
    return kept


def _wanted(
    kept: Kept, root: Kept, policy: Retention, now: datetime, zone: tzinfo
) -> tuple[datetime, str]:
    """The latest of what its tiers ask for; `now` when none asks for anything."""
    taken_at = kept.standing.point.taken_at
    tiers: list[Tier] = [tier for tier in TIERS if getattr(policy, tier)]
    found = [(now, "")]
    if _goes_with_root(kept, root, tiers, now, zone):
        rooted_at = root.standing.point.taken_at
        return _until(tiers[0], tiers[0], rooted_at, policy, now, zone), "increment"
    for tier in tiers:
        if tier in kept.rules:
            found.append((_until(tier, tiers[0], taken_at, policy, now, zone), tier))
    if "all" in kept.rules and policy.all:
        found.append((_end_of_all(taken_at, policy.all), "all"))
    return max(found, key=lambda one: one[0])


def _goes_with_root(kept: Kept, root: Kept, tiers: list[Tier], now: datetime, zone: tzinfo) -> bool:
    """An increment of a point of the finest tier, also while it stands for a day that is not over:
    a full point may still take its place."""
    if kept is root or not tiers or tiers[0] not in root.rules:
        return False
    is_over = period_end(tiers[0], kept.standing.point.taken_at, zone) <= now
    return "increment" in kept.rules or not is_over


def _until(
    tier: Tier, finest: Tier, taken_at: datetime, policy: Retention, now: datetime, zone: tzinfo
) -> datetime:
    """To the end of the tier's promise when its period is over. Until then the point is only the
    newest so far, and locked a little ahead of today, so that an outage does not leave it
    unlocked: one period less than a new point, for today's may take its place."""
    if tier == finest or period_end(tier, taken_at, zone) <= now:
        return period_end(tier, taken_at, zone, number=getattr(policy, tier))
    return period_end(finest, now, zone, number=max(1, getattr(policy, finest) - 1))
