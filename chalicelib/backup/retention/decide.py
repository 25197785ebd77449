"""Which recovery points stay, and why each of them does.

Each calendar tier keeps one point for each of its newest periods: counted are periods that have a
point, the newest point stands for its period, tiers overlap, and the oldest point of all stays
while a tier has counts left. Points that nobody may restore take no slot, and nothing that a kept
point needs ever goes. docs/decisions/0008-retention.md says whose semantics these are, and why.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

from chalicelib.backup.retention.periods import (
    PERIOD_NAMES,
    TIERS,
    Tier,
    period_label,
    period_start,
    zone_of,
)
from chalicelib.backup.retention.reasons import Reasons, RetentionDecision
from chalicelib.errors import NothingWouldRemain
from chalicelib.plan.components import Retention
from chalicelib.plan.records import PointStanding
from chalicelib.plan.units import format_duration
from chalicelib.ports import RejectedPoint


def decide_retention(
    standings: Iterable[PointStanding],
    policy: Retention,
    *,
    now: datetime,
    time_zone: str = "UTC",
    unreadable: Iterable[RejectedPoint] = (),
) -> RetentionDecision:
    """Split recovery points into those to keep and those to prune, for each component by itself.

    Pure: reads no clock, calls no AWS. What was pruned for a policy stays pruned when a newer full
    point arrives, so it does not matter how often it is decided.

    Args:
        standings: any order; `taken_at` aware UTC.
        policy: counts per calendar period, `all` for everything of a stretch of time; 0 keeps none.
            `logs` keeps the point from which the promised window of moments is reached, and the
            one that will be it.
        now: aware UTC; a point later than it takes no slot.
        time_zone: IANA name of the zone whose calendar is meant.
        unreadable: kept, and said.
    Raises:
        NothingWouldRemain: the policy has no rule, and there are points.
    Source: restic, internal/data/snapshot_policy.go (ApplyPolicy).
    """
    groups: defaultdict[str, list[PointStanding]] = defaultdict(list)
    # By time first: a million points in any order lie all over memory, and are visited there once.
    for standing in sorted(standings, key=lambda it: it.point.taken_at.timestamp()):
        groups[standing.point.component].append(standing)
    if groups and not (policy.all or policy.is_gfs):
        raise NothingWouldRemain(
            "expected a retention with a period or counts, found one that keeps nothing",
            hint="state `all`, or one of daily, weekly, monthly and yearly, in the plan.",
        )
    zone = zone_of(time_zone)
    parts = [_decide_component(groups[name], policy, now, zone) for name in sorted(groups)]
    return RetentionDecision(
        tuple(kept for part in parts for kept in part.keep),
        tuple(pruned for part in parts for pruned in part.prune),
        tuple(unreadable),
        {name: reach for part in parts for name, reach in part.reach.items()},
    )


def _decide_component(
    standings: list[PointStanding], policy: Retention, now: datetime, zone: tzinfo
) -> RetentionDecision:
    reasons = Reasons(standings, now)
    _apply_tiers(reasons, policy, zone)
    _apply_periods(reasons, policy)
    _keep_newest(reasons)
    _keep_needed(reasons)
    return reasons.split()


def _apply_tiers(reasons: Reasons, policy: Retention, zone: tzinfo) -> None:
    calendar = _Calendar(reasons, zone)
    finest = True
    for tier in TIERS:
        count: int = getattr(policy, tier)
        if not count:
            continue
        standing_for = list(calendar.fill(tier, count))
        if finest:
            _keep_increments(reasons, tier, standing_for)
        finest = False


def _keep_increments(reasons: Reasons, tier: Tier, roots: Sequence[int]) -> None:
    """An incremental stays as long as the full point under it is one of the finest tier.

    It shortens the replay to the moments after that point, which nobody needs any longer when
    the point itself goes, or stays as an archive alone.
    """
    if not reasons.has_chains:
        return
    chosen = set(roots)
    for place in reasons.usable:
        if reasons.standings[place].point.parent_id is not None and place not in chosen:
            root = reasons.link(place).root
            if root in chosen:
                words = f"builds on {reasons.standings[root].point.id}, which is {tier}"
                reasons.keep(place, "increment", words)


class _Calendar:
    """Finds by bisection which point stands for a period: no look at the others."""

    def __init__(self, reasons: Reasons, zone: tzinfo) -> None:
        self._reasons, self._zone = reasons, zone
        self._time = reasons.times.__getitem__
        self._all = reasons.usable
        self._whole = [
            place
            for place in self._all
            if reasons.standings[place].point.parent_id is None
        ] if reasons.has_chains else self._all  # fmt: skip

    def fill(self, tier: Tier, count: int) -> Iterator[int]:
        """The point of each of the `count` newest periods that have one, newest first; then the
        oldest point of all when there are fewer such periods."""
        left, end = count, len(self._all)
        while left and end:
            newest = self._all[end - 1]
            start = period_start(tier, self._time(newest), self._zone)
            self._reasons.reach = min(self._reasons.reach, start)
            chosen = self._newest_whole(start, newest)
            label = period_label(tier, self._time(chosen), self._zone)
            words = f"newest of the {PERIOD_NAMES[tier]} {label}, {count - left + 1} of {count}"
            self._reasons.keep(chosen, tier, words)
            yield chosen
            left -= 1
            end = bisect_left(self._all, start, hi=end, key=self._time)
            if not end and left and chosen != self._all[0]:
                words = f"the oldest, while only {count - left} of {count} {PERIOD_NAMES[tier]}s"
                self._reasons.keep(self._all[0], "oldest", f"{words} have a point")
                yield self._all[0]

    def _newest_whole(self, start: datetime, newest: int) -> int:
        """In [start, newest]: the newest point that needs no other, else the newest."""
        behind = bisect_right(self._whole, newest)
        if behind and self._time(self._whole[behind - 1]) >= start:
            return self._whole[behind - 1]
        return newest


def _apply_periods(reasons: Reasons, policy: Retention) -> None:
    """Both count back from the newest point: an outage of the job makes nothing go."""
    usable = reasons.usable
    if not usable:
        return

    time_of = reasons.times.__getitem__
    if policy.all:
        since = _before(time_of(usable[-1]), policy.all)
        reasons.reach = min(reasons.reach, since)
        words = f"within {format_duration(policy.all)} of the newest"
        for place in usable[bisect_right(usable, since, key=time_of) :]:
            reasons.keep(place, "all", words)
    if policy.logs:
        _keep_openers(reasons, policy.logs, _before(time_of(usable[-1]), policy.logs))


def _keep_openers(reasons: Reasons, logs: timedelta, since: datetime) -> None:
    """The point from which the window of moments is reached, the oldest while none is old enough;
    and the next one, which opens it later: were that to go, no point would grow old enough."""
    usable = reasons.usable
    opener = bisect_right(usable, since, key=reasons.times.__getitem__) - 1
    while opener > 0 and reasons.standings[usable[opener]].point.finished_at > since:
        opener -= 1
    opener = max(opener, 0)
    words = f"the {format_duration(logs)} of moments that logs reach back"
    reasons.keep(usable[opener], "logs", f"opens {words}")
    later = range(opener + 1, len(usable))
    whole = (it for it in later if reasons.standings[usable[it]].point.parent_id is None)
    if following := next(whole, None):
        reasons.keep(usable[following], "logs", f"will open {words}")


def _before(at: datetime, period: timedelta) -> datetime:
    """`at` - `period`, or the beginning of time."""
    try:
        return at - period
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _keep_newest(reasons: Reasons) -> None:
    """The newest proven point, and the newest one where that is not proven yet."""
    proven = next(
        (
            place
            for place in reversed(reasons.usable)
            if reasons.standings[place].proven_at is not None
        ),
        None,
    )
    if proven is not None:
        at = reasons.standings[proven].proven_at
        reasons.keep(proven, "newest-proven", f"the newest that was proven, on {at:%Y-%m-%d}")
    if reasons.usable and reasons.usable[-1] != proven:
        reasons.keep(reasons.usable[-1], "newest-unproven", "the newest, and not proven yet")
    for place in reasons.unsound:
        if proven is None or place > proven:
            words = "pages fail their checksum, and no newer point is proven"
            reasons.keep(place, "bad-pages", words)


def _keep_needed(reasons: Reasons) -> None:
    """Whatever a kept point builds on, however far down."""
    if not reasons.has_chains:
        return
    needed_by: dict[int, str] = {}
    for place in sorted(reasons.found, reverse=True):
        child, parent = place, reasons.parent(place)
        while parent is not None and parent not in needed_by:
            needed_by[parent] = reasons.standings[child].point.id
            child, parent = parent, reasons.parent(parent)
    for place, by in needed_by.items():
        reasons.keep(place, "needed", f"{by} builds on it")
