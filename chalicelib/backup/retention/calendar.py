"""What stays and what goes, laid out by days and by months: what both text and SVG draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo

from chalicelib.backup.retention.periods import TIERS, first_day, zone_of
from chalicelib.backup.retention.reasons import Kept, RetentionDecision

# Weeks that are shown day by day; what is older is shown by month.
WEEKS = 6
# Years that are shown; what is older stands in the list alone.
YEARS = 12
# The reason that lasts longest names a cell.
LETTERS = {"yearly": "Y", "monthly": "M", "weekly": "W", "daily": "D", "all": "A", "increment": "i"}
OTHER, GONE, NOTHING = "+", "x", "."
MEANINGS = {
    "Y": "yearly",
    "M": "monthly",
    "W": "weekly",
    "D": "daily",
    "A": "within the period",
    "i": "increment",
    OTHER: "another reason",
    GONE: "goes",
    NOTHING: "nothing there",
}
STRENGTH = {letter: place for place, letter in enumerate((NOTHING, GONE, "i", OTHER, *"ADWMY"))}


@dataclass(frozen=True)
class Cell:
    """A day or a month: what letter it has, and how many points stay and go in it."""

    letter: str = NOTHING
    stay: int = 0
    go: int = 0


@dataclass(frozen=True)
class Calendar:
    """`weeks`: (label, seven days from Monday on), newest first; `years`: (year, twelve months).

    A cell is None where its time has not come. `older` counts what stays and is in neither.
    """

    component: str
    as_of: datetime
    time_zone: str
    weeks: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    years: tuple[tuple[int, tuple[Cell | None, ...]], ...]
    stay: int
    go: int
    older: int

    @property
    def summary(self) -> str:
        goes = "goes" if self.go == 1 else "go"
        zone = "" if self.time_zone == "UTC" else f", days of {self.time_zone}"
        as_of = f"as of {self.as_of:%Y-%m-%d %H:%M} UTC"
        return f"{self.stay:,} stay, {self.go:,} {goes}, {as_of}{zone}"

    @property
    def letters(self) -> list[str]:
        """Those that occur, the strongest first."""
        cells = [cell for _, row in (*self.weeks, *self.years) for cell in row if cell]
        return sorted({cell.letter for cell in cells}, key=lambda one: -STRENGTH[one])


@dataclass
class _Count:
    letter: str = NOTHING
    stay: int = 0
    go: int = 0

    def add(self, letter: str) -> None:
        if STRENGTH[letter] > STRENGTH[self.letter]:
            self.letter = letter
        self.stay += letter != GONE
        self.go += letter == GONE


@dataclass
class _Counts:
    days: dict[date, _Count] = field(default_factory=dict)
    months: dict[date, _Count] = field(default_factory=dict)

    def add(self, day: date, letter: str) -> None:
        self.days.setdefault(day, _Count()).add(letter)
        self.months.setdefault(day.replace(day=1), _Count()).add(letter)


def letter_of(kept: Kept) -> str:
    return next((letter for rule, letter in LETTERS.items() if rule in kept.rules), OTHER)


def lay_out(
    component: str, decision: RetentionDecision, *, as_of: datetime, time_zone: str
) -> Calendar:
    zone = zone_of(time_zone)
    counts = _Counts()
    for kept in decision.keep:
        counts.add(_day(kept.standing.point.taken_at, zone), letter_of(kept))
    for standing in decision.prune:
        counts.add(_day(standing.point.taken_at, zone), GONE)
    today = _day(as_of, zone)
    years = range(today.year, max(today.year - YEARS, _first_year(counts.months, today)), -1)
    last_year = years[-1] if years else today.year
    older = sum(one.stay for month, one in counts.months.items() if month.year < last_year)
    return Calendar(
        component,
        as_of,
        time_zone,
        tuple(_weeks(counts.days, today)),
        tuple((year, _months(counts.months, year, today)) for year in years),
        len(decision.keep),
        len(decision.prune),
        older,
    )


def _day(at: datetime, zone: tzinfo) -> date:
    return at.astimezone(zone).date()


def _first_year(months: Iterable[date], today: date) -> int:
    """One before the oldest year that has anything."""
    return min((month.year for month in months), default=today.year) - 1


def _weeks(
    days: Mapping[date, _Count], today: date
) -> Sequence[tuple[str, tuple[Cell | None, ...]]]:
    monday = first_day("weekly", today)
    found = []
    for number in range(WEEKS):
        start = monday - timedelta(weeks=number)
        row = tuple(
            _cell(days, start + timedelta(days=day), today) for day in range(7)
        )  # fmt: skip
        found.append((f"{start:%G-W%V}", row))
    return found


def _months(months: Mapping[date, _Count], year: int, today: date) -> tuple[Cell | None, ...]:
    return tuple(_cell(months, date(year, month, 1), today) for month in range(1, 13))


def _cell(counts: Mapping[date, _Count], day: date, today: date) -> Cell | None:
    found = counts.get(day)
    if found is None:
        return None if day > today else Cell()
    return Cell(found.letter, found.stay, found.go)


def longest_rule(kept: Kept) -> str:
    """The tier that keeps it longest, or its first reason."""
    return next((tier for tier in reversed(TIERS) if tier in kept.rules), kept.reasons[0].rule)
