"""The points of one component and the reasons found for each of them to stay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter, eq
from typing import NamedTuple

from chalicelib.plan.records import DatabasePoint, PointStanding
from chalicelib.ports import RejectedPoint


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


_id = attrgetter("point.id")
_time = attrgetter("point.taken_at")


def in_order(standings: list[PointStanding]) -> tuple[list[PointStanding], list[datetime]]:
    """By time, and by id where times are equal, which is rare and costs a second look.

    Returns: the points, and the time of each.
    """
    ordered = sorted(standings, key=_time)
    times = list(map(_time, ordered))
    if any(map(eq, times, times[1:])):
        ordered = sorted(sorted(standings, key=_id), key=_time)
    return ordered, times


class Link(NamedTuple):
    """What a point hangs on: the full one at the bottom, why it cannot be restored ("" when it
    can), and whether pages of it or of anything below are damaged."""

    root: int
    broken: str
    bad_pages: bool


class Reasons:
    """The points of one component, oldest first, and the reasons found so far by position.

    `times`: when each was taken. `usable` are the positions that take slots. The others are kept
    here, where each is told why it cannot be restored; those with damaged pages only until a newer
    point is proven.
    """

    def __init__(self, standings: list[PointStanding], now: datetime) -> None:
        self.standings, self.times = in_order(standings)
        self.now = now
        self.found: defaultdict[int, list[Reason]] = defaultdict(list)
        self.reach = datetime.max.replace(tzinfo=UTC)
        self.has_chains = any(item.point.parent_id is not None for item in self.standings)
        self.places = (
            {item.point.id: place for place, item in enumerate(self.standings)}
            if self.has_chains
            else {}
        )
        self._links: dict[int, Link] = {}
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
            words = f"quarantined, until that is ended: {standing.quarantined}"
            self.keep(place, "quarantined", words)
        else:
            self._look_below(place)

    def _look_below(self, place: int) -> None:
        link = self.link(place)
        if link.broken:
            self.keep(place, "broken-chain", link.broken)
        elif link.bad_pages:
            self.unsound.append(place)
        else:
            self.usable.append(place)

    def parent(self, place: int) -> int | None:
        """The position of the point that one builds on, None for a full one or a lost one."""
        return self.places.get(self.standings[place].point.parent_id or "")

    def link(self, place: int) -> Link:
        """Each link is followed once, however long the chains are."""
        if place in self._links:
            return self._links[place]
        parent = self.parent(place)
        if parent is None or parent in self._links:
            self._links[place] = self._follow(place, parent)
            return self._links[place]
        waiting: list[tuple[int, int | None]] = []
        at: int | None = place
        while at is not None and at not in self._links:
            self._links[at] = Link(at, "is part of a circle", bad_pages=False)
            below = self.parent(at)
            waiting.append((at, below))
            at = below
        for one, below in reversed(waiting):
            self._links[one] = self._follow(one, below)
        return self._links[place]

    def _follow(self, place: int, parent: int | None) -> Link:
        point = self.standings[place].point
        bad = isinstance(point, DatabasePoint) and bool(point.checksum_failures)
        if parent is None:
            lost = f"builds on {point.parent_id}, which is not here" if point.parent_id else ""
            return Link(place, lost, bad)
        above, builder = self._links[parent], self.standings[parent]
        words = f"builds on {builder.point.id}, which is quarantined" if builder.quarantined else ""
        return Link(above.root, above.broken or words, bad or above.bad_pages)

    def split(self) -> RetentionDecision:
        places = sorted(self.found, reverse=True)
        keep = [Kept(self.standings[place], tuple(self.found[place])) for place in places]
        prune = [item for place, item in enumerate(self.standings) if place not in self.found]
        prune.reverse()
        component = self.standings[0].point.component
        return RetentionDecision(tuple(keep), tuple(prune), reach={component: self.reach})
