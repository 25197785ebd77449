"""Which recovery points stay, and why each of them does.

Each calendar tier keeps one point for each of its newest periods: counted are periods that have a
point, the newest point stands for its period, tiers overlap, and the oldest point of all stays
while a tier has counts left. Points that nobody may restore take no slot, and nothing that a kept
point needs ever goes. docs/decisions/0011-retention.md says whose semantics these are, and why.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from operator import attrgetter, eq
from typing import NamedTuple

from chalicelib.backup.periods import (
    PERIOD_NAMES,
    TIERS,
    Tier,
    period_label,
    period_start,
    zone_of,
)
from chalicelib.errors import Refused
from chalicelib.plan.components import Retention
from chalicelib.plan.records import DatabasePoint, PointStanding
from chalicelib.plan.units import format_duration
from chalicelib.ports import RejectedPoint


class NothingWouldRemain(Refused):
    """The policy keeps nothing at all: never what was meant."""

    code = "nothing-would-remain"


class Reason(NamedTuple):
    """Why a point or WAL stays or goes. `rule` is stable, `words` are for people.

    Points stay by a tier, "oldest", "increment", "all", "logs", "newest-proven",
    "newest-unproven", "needed", "held", "locked", "quarantined", "future", "broken-chain" or
    "bad-pages".
    """

    rule: str
    words: str


class Kept(NamedTuple):
    """A point that stays, with every reason it has."""

    standing: PointStanding
    reasons: tuple[Reason, ...]

    @property
    def rules(self) -> frozenset[str]:
        return frozenset(reason.rule for reason in self.reasons)


@dataclass(frozen=True)
class RetentionDecision:
    """Every point in exactly one of `keep` and `prune`, both newest first within a component.

    `unreadable`: what claims to be a point and cannot be judged; it stays. `reach`: for each
    component, where the oldest period begins that the policy counts now.
    """

    keep: tuple[Kept, ...]
    prune: tuple[PointStanding, ...]
    unreadable: tuple[RejectedPoint, ...] = ()
    reach: Mapping[str, datetime] = field(default_factory=dict)

    def why_pruned(self, standing: PointStanding) -> Reason:
        """Told when asked: a million points may go, for one of two reasons."""
        old = standing.point.taken_at < self.reach[standing.point.component]
        return OUTLIVED if old else REPRESENTED


OUTLIVED = Reason("outlived", "older than every period that is kept")
REPRESENTED = Reason("represented", "a newer point stands for its periods")


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
            `logs` keeps the point from which the promised window of moments is reached.
        now: aware UTC; a point later than it takes no slot.
        time_zone: IANA name of the zone whose calendar is meant.
        unreadable: kept, and said.
    Raises:
        NothingWouldRemain: the policy has no rule, and there are points.
    Source: restic, internal/data/snapshot_policy.go (ApplyPolicy).
    """
    groups: defaultdict[str, list[PointStanding]] = defaultdict(list)
    for standing in standings:
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


_id = attrgetter("point.id")
_time = attrgetter("point.taken_at")


def _decide_component(
    standings: list[PointStanding], policy: Retention, now: datetime, zone: tzinfo
) -> RetentionDecision:
    reasons = _Reasons(_in_order(standings), now)
    _apply_tiers(reasons, policy, zone)
    _apply_periods(reasons, policy)
    _keep_newest(reasons)
    _keep_needed(reasons)
    return reasons.split()


def _in_order(standings: list[PointStanding]) -> list[PointStanding]:
    """By time, and by id where times are equal, which is rare and costs a second look."""
    ordered = sorted(standings, key=_time)
    times = list(map(_time, ordered))
    if any(map(eq, times, times[1:])):
        ordered = sorted(sorted(standings, key=_id), key=_time)
    return ordered


class _Link(NamedTuple):
    """What a point hangs on: the full one at the bottom, why it cannot be restored ("" when it
    can), and whether pages of it or of anything below are damaged."""

    root: int
    broken: str
    bad_pages: bool


class _Reasons:
    """The points of one component, oldest first, and the reasons found so far by position.

    `usable` are the positions that take slots. The others are kept here, where each is told why
    it cannot be restored; those with damaged pages only until a newer point is proven.
    """

    def __init__(self, standings: list[PointStanding], now: datetime) -> None:
        self.standings = standings
        self.now = now
        self.found: defaultdict[int, list[Reason]] = defaultdict(list)
        self.reach = datetime.max.replace(tzinfo=UTC)
        self.has_chains = any(item.point.parent_id is not None for item in standings)
        self.places = (
            {item.point.id: place for place, item in enumerate(standings)}
            if self.has_chains
            else {}
        )
        self._links: dict[int, _Link] = {}
        self.unsound: list[int] = []
        self.usable: list[int] = []
        self._look_at_all()

    def keep(self, place: int, rule: str, words: str) -> None:
        self.found[place].append(Reason(rule, words))

    def _look_at_all(self) -> None:
        """There may be a million points, of which few have anything to tell: they come first."""
        now = self.now
        for place, standing in enumerate(self.standings):
            point = standing.point
            if (
                standing.held
                or standing.quarantined
                or standing.locked_until is not None
                or point.parent_id is not None
                or point.taken_at > now
                or (isinstance(point, DatabasePoint) and point.checksum_failures)
            ):
                self._look_at(place, standing)
            else:
                self.usable.append(place)

    def _look_at(self, place: int, standing: PointStanding) -> None:
        """Tell what keeps a point whatever the policy is, and whether it takes slots."""
        point = standing.point
        if standing.held:
            self.keep(place, "held", f"held: {standing.held}")
        if standing.locked_until is not None and standing.locked_until > self.now:
            self.keep(place, "locked", f"locked until {standing.locked_until:%Y-%m-%d %H:%M}")
        if point.taken_at > self.now:
            self.keep(place, "future", "its time has not come: a clock is or was wrong")
        elif standing.quarantined:
            words = f"quarantined, until it is released: {standing.quarantined}"
            self.keep(place, "quarantined", words)
        elif broken := self.link(place).broken:
            self.keep(place, "broken-chain", broken)
        elif self.link(place).bad_pages:
            self.unsound.append(place)
        else:
            self.usable.append(place)

    def parent(self, place: int) -> int | None:
        """The position of the point that one builds on, None for a full one or a lost one."""
        return self.places.get(self.standings[place].point.parent_id or "")

    def link(self, place: int) -> _Link:
        """Each link is followed once, however long the chains are."""
        waiting: list[int] = []
        at: int | None = place
        while at is not None and at not in self._links:
            self._links[at] = _Link(at, "is part of a circle", bad_pages=False)
            waiting.append(at)
            at = self.parent(at)
        for one in reversed(waiting):
            self._links[one] = self._follow(one, self.parent(one))
        return self._links[place]

    def _follow(self, place: int, parent: int | None) -> _Link:
        point = self.standings[place].point
        bad = isinstance(point, DatabasePoint) and bool(point.checksum_failures)
        if parent is None:
            lost = f"builds on {point.parent_id}, which is not here" if point.parent_id else ""
            return _Link(place, lost, bad)
        above, builder = self._links[parent], self.standings[parent]
        words = f"builds on {builder.point.id}, which is quarantined" if builder.quarantined else ""
        return _Link(above.root, above.broken or words, bad or above.bad_pages)

    def split(self) -> RetentionDecision:
        places = sorted(self.found, reverse=True)
        keep = [Kept(self.standings[place], tuple(self.found[place])) for place in places]
        prune = [item for place, item in enumerate(self.standings) if place not in self.found]
        prune.reverse()
        component = self.standings[0].point.component
        return RetentionDecision(tuple(keep), tuple(prune), reach={component: self.reach})


def _apply_tiers(reasons: _Reasons, policy: Retention, zone: tzinfo) -> None:
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


def _keep_increments(reasons: _Reasons, tier: Tier, roots: Sequence[int]) -> None:
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

    def __init__(self, reasons: _Reasons, zone: tzinfo) -> None:
        self._reasons, self._zone = reasons, zone
        self._all = reasons.usable
        self._whole = [
            place
            for place in self._all
            if reasons.standings[place].point.parent_id is None
        ] if reasons.has_chains else self._all  # fmt: skip

    def _time(self, place: int) -> datetime:
        return self._reasons.standings[place].point.taken_at

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


def _apply_periods(reasons: _Reasons, policy: Retention) -> None:
    """Both count back from the newest point: an outage of the job makes nothing go."""
    usable = reasons.usable
    if not usable:
        return

    def time_of(place: int) -> datetime:
        return reasons.standings[place].point.taken_at

    if policy.all:
        since = _before(time_of(usable[-1]), policy.all)
        reasons.reach = min(reasons.reach, since)
        words = f"within {format_duration(policy.all)} of the newest"
        for place in usable[bisect_right(usable, since, key=time_of) :]:
            reasons.keep(place, "all", words)
    if policy.logs:
        since = _before(time_of(usable[-1]), policy.logs)
        anchor = bisect_right(usable, since, key=time_of) - 1
        words = f"opens the {format_duration(policy.logs)} of moments that logs reach back"
        if anchor >= 0:
            reasons.keep(usable[anchor], "logs", words)


def _before(at: datetime, period: timedelta) -> datetime:
    """`at` - `period`, or the beginning of time."""
    try:
        return at - period
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _keep_newest(reasons: _Reasons) -> None:
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


def _keep_needed(reasons: _Reasons) -> None:
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
