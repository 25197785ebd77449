"""The calendar for a terminal: letters that need no colour, in at most 80 columns of ASCII."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.text import Text

from chalicelib.backup.retention.calendar import MEANINGS, Calendar, Cell, letter_of, longest_rule
from chalicelib.backup.retention.prune_facts import PruneDecision
from chalicelib.backup.retention.reasons import Kept
from chalicelib.backup.retention.wal import wal_ranges
from chalicelib.evidence.text import counted, printable
from chalicelib.plan.records import PointStanding
from chalicelib.plan.units import format_size
from leeward.console import Console

STYLES = {"Y": "bold magenta", "M": "bold blue", "W": "bold cyan", "D": "bold green",
          "A": "bold green", "i": "green", "+": "bold yellow", "x": "red", ".": "dim"}  # fmt: skip
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
ID_COLUMNS = 22
# Of what goes, the newest are listed; the others are counted.
SHOWN = 20


def print_calendar(calendar: Calendar, console: Console) -> None:
    console.print(Text.assemble((calendar.component, "bold"), f"  {calendar.summary}"))
    console.print()
    _print_grid(DAYS, calendar.weeks, console)
    console.print()
    _print_grid(MONTHS, [(str(year), cells) for year, cells in calendar.years], console)
    if calendar.older:
        console.print(f"  before that  {counted(calendar.older, 'point')} that stay")
    console.print()
    legend = Text("  ")
    for letter in calendar.letters:
        legend.append(letter, STYLES[letter]).append(f" {MEANINGS[letter]}   ")
    legend.rstrip()
    console.print(legend)
    console.print()


def _print_grid(
    names: Sequence[str],
    rows: Iterable[tuple[str, Sequence[Cell | None]]],
    console: Console,
) -> None:
    console.print(Text(" " * 12 + " ".join(f"{name:<3}" for name in names), "dim"))
    for label, cells in rows:
        line = Text(f"  {label:<10}")
        for cell in cells:
            letter = cell.letter if cell else " "
            line.append(letter, STYLES.get(letter, "")).append("   ")
        line.rstrip()
        console.print(line)


def print_kept(kept: Sequence[Kept], sizes: dict[str, int], console: Console) -> None:
    """Each point with its first reason; increments together under what they build on."""
    console.print(Text("stays", "bold"))
    width = _width(one.standing for one in kept)
    for is_increment, group in groupby(kept, key=lambda one: letter_of(one) == "i"):
        points = list(group)
        if is_increment:
            total = sum(sizes.get(one.standing.point.id, 0) for one in points)
            console.print(
                Text(f"  {'i':<3}{counted(len(points), 'increment'):<{width}}{_size(total):>9}  "
                     "with the daily they build on", "dim")
            )  # fmt: skip
            continue
        for one in points:
            _print_point(one.standing, sizes, letter_of(one), _reasons(one), console, width)
    console.print()


def print_pruned(decision: PruneDecision, console: Console) -> None:
    gone = decision.retention.prune
    width = _width(gone)
    if gone:
        console.print(Text("goes", "bold"))
    for standing in gone[:SHOWN]:
        why = decision.retention.why_pruned(standing).words
        _print_point(standing, dict(decision.folders), "x", why, console, width)
    if len(gone) > SHOWN:
        console.print(f"     and {counted(len(gone) - SHOWN, 'older point')}")
    for leftover in decision.leftovers:
        words = "no manifest: what a crash left"
        told = f"  x  {leftover.point_id:<{width}}{_size(leftover.size_bytes):>9}  {words}"
        console.print(told, markup=False)
    for one in decision.retention.unreadable:
        console.print(
            Text.assemble(("  !  ", "bold red"), f"{printable(one.point_id):<38}", "cannot be read")
        )
        console.print(f"     {printable(one.reason)}", soft_wrap=True, markup=False)
    if gone or decision.leftovers or decision.retention.unreadable:
        console.print()


def print_wal(decision: PruneDecision, console: Console) -> None:
    rows = [("stays", one) for one in wal_ranges(decision.wal.keep)]
    rows += [("goes", one) for one in wal_ranges(decision.wal.prune)]
    if rows:
        console.print(Text("WAL", "bold"))
    for fate, one in rows:
        console.print(f"  {fate:<6}{one}, {counted(one.segments, 'segment')}")
        console.print(Text(f"        {one.reason.words}", "dim"), soft_wrap=True)
    if rows:
        console.print()


def print_indexes(decision: PruneDecision, console: Console) -> None:
    """The schemas and maps of file numbers that are stored beside the WAL."""
    if not decision.indexes:
        return
    size = _size(sum(decision.sizes[key] for key in decision.indexes))
    console.print(Text("indexes", "bold"))
    console.print(f"  goes  {counted(len(decision.indexes), 'index file')}, {size}")
    console.print(Text("        older than what the oldest point that stays asks for", "dim"))
    console.print()


def _reasons(kept: Kept) -> str:
    """The one that lasts longest, and how many more there are."""
    strongest = longest_rule(kept)
    first = next(one.words for one in kept.reasons if one.rule == strongest)
    more = len(kept.reasons) - 1
    return f"{first} +{more}" if more else first


def _print_point(
    standing: PointStanding,
    sizes: dict[str, int],
    letter: str,
    words: str,
    console: Console,
    width: int,
) -> None:
    point = standing.point
    size = _size(sizes.get(point.id, point.stored_bytes))
    line = Text("  ").append(letter, STYLES[letter])
    line.append(f"  {point.id:<{width}}{size:>9}  ")
    line.append(printable(words))
    line.truncate(max(console.width, 60), overflow="ellipsis" if console.color_system else "crop")
    console.print(line)


def _width(standings: Iterable[PointStanding]) -> int:
    return max((ID_COLUMNS, *(len(one.point.id) for one in standings)))


def _size(size_bytes: int) -> str:
    return format_size(size_bytes) if size_bytes else "-"
