"""`leeward prune PLAN`: what stays of the backups and why, what goes, and removing it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress

from chalicelib.backup.retention.calendar import Calendar, lay_out
from chalicelib.backup.retention.prune import PruneResult, apply_prune
from chalicelib.backup.retention.prune_facts import PruneDecision, decide_prune, read_facts
from chalicelib.backup.retention.reasons import Kept
from chalicelib.backup.retention.wal import WalDecision, WalRange, wal_ranges
from chalicelib.errors import BadInput, Refused
from chalicelib.evidence.text import counted
from chalicelib.plan.components import BaseComponent, Retention
from chalicelib.plan.model import Plan
from chalicelib.plan.places import Provider
from chalicelib.plan.prices import format_usd, usd_per_month
from chalicelib.plan.records import PointStanding, format_time, parse_time
from chalicelib.plan.units import format_size, parse_duration
from chalicelib.ports import Catalogue, ObjectStore
from chalicelib.ports.locks import ObjectLocks
from leeward.deployed import Access, access_options, reach
from leeward.options import FORMAT, PLAN_PATH, writing_to
from leeward.plan_file import load_plan
from leeward.retention.forecast import Forecast, forecast
from leeward.retention.svg import draw
from leeward.retention.text import (
    print_calendar,
    print_indexes,
    print_kept,
    print_pruned,
    print_wal,
)

if TYPE_CHECKING:
    from chalicelib.services.locations import Locations

WIDEST = 80
LONGEST_SIMULATION = timedelta(days=50 * 366)


@dataclass(frozen=True)
class Shelf:
    """A component's backups in one location, opened."""

    place: str
    store: ObjectStore
    catalogue: Catalogue
    locks: ObjectLocks | None = None


@dataclass(frozen=True)
class Shown:
    """One component in one place: what was decided, at what price, what was done or simulated."""

    name: str
    component: BaseComponent
    retention: Retention
    decision: PruneDecision
    calendar: Calendar
    provider: Provider
    place: str
    shelf: Shelf | None = None
    result: PruneResult | None = None
    simulated: Forecast | None = None

    @property
    def cost(self) -> str:
        price = usd_per_month(self.decision.freed_bytes, self.provider)
        return "" if price is None else f", about {format_usd(price)} a month{self.where}"

    @property
    def where(self) -> str:
        """For a line whose title does not name the location."""
        named = self.shelf is not None and self.shelf.place
        return "" if named else f" in {self.place}"


@click.command()
@click.argument("plan_path", metavar="PLAN", type=PLAN_PATH)
@click.option("--component", "only", metavar="NAME", help="This component alone.")
@click.option("--location", metavar="NAME", help="This location alone; otherwise every one.")
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="Instead of the plan's locations, a folder with a folder for each component.",
)
@click.option("--dry-run", is_flag=True, help="Show what would go, and remove nothing.")
@click.option("--approve", is_flag=True, help="Also when more than half of a component goes.")
@click.option("--as-of", metavar="TIME", help="Decide as of then; with a zone; removes nothing.")
@click.option("--simulate", metavar="PERIOD", help="Play the plan's schedules through, no store.")
@click.option("--svg", type=click.Path(path_type=Path), help="Draw the calendar into this file.")
@access_options
@FORMAT
def command(
    plan_path: Path,
    only: str | None,
    location: str | None,
    store: Path | None,
    dry_run: bool,
    approve: bool,
    as_of: str | None,
    simulate: str | None,
    svg: Path | None,
    access: Access,
    form: str,
) -> None:
    """Remove the recovery points and WAL that PLAN no longer keeps.

    First what stays and why, on a calendar, and what goes with the bytes and money that frees. A
    point that a kept one needs, that is held, locked or quarantined, the newest proven one: none
    of these ever goes. Stopped in the middle, what is left is whole; run it again.

    --simulate plays the plan's backups and daily prunes through for so long, from now on or up to
    --as-of, without any store: what would be kept on that day.

    Exit status: 0, also when nothing goes; 1 refused or no answer; 2 PLAN cannot be used.

    \b
    Examples:
    leeward prune PLAN --dry-run
    leeward prune PLAN --simulate 10y --as-of 2036-01-01T00:00Z --svg kept.svg
    """
    plan = load_plan(plan_path).plan
    now = _moment(as_of)
    chosen = list(_components(plan, only, _is_scheduled if simulate else _has_backups))
    if simulate:
        shown = [_simulate(plan, *one, _period(simulate), now, bool(as_of)) for one in chosen]
    else:
        with ExitStack() as stack:
            places = None if store else stack.enter_context(reach(plan, access))
            shown = [
                _look(plan, *one, shelf, now)
                for one in chosen
                for shelf in _shelves(one[0], store, location, places)
            ]
            if not dry_run and not as_of:
                shown = [_remove(one, approve, form) for one in shown]
    if svg:
        with writing_to(svg.parent):
            svg.write_text(draw([one.calendar for one in shown], _notes(shown)))
    if form == "json":
        click.echo(json.dumps({"plan": plan.name, "components": list(map(_as_json, shown))}))
    else:
        _print(shown, Console(highlight=False))


def _moment(as_of: str | None) -> datetime:
    if as_of is None:
        return datetime.now(UTC)
    try:
        return parse_time(as_of)
    except ValueError as error:
        raise BadInput(
            f"expected a time with its zone, found {as_of!r}",
            hint="write --as-of 2036-01-01T00:00Z",
        ) from error


def _period(text: str) -> timedelta:
    try:
        period = parse_duration(text)
    except ValueError as error:
        raise BadInput(f"{error}, found {text!r}", hint="write --simulate 10y") from error
    if not timedelta(0) < period <= LONGEST_SIMULATION:
        raise BadInput(f"expected 1 day to 50 years, found {text!r}", hint="write --simulate 10y")
    return period


def _components(
    plan: Plan, only: str | None, fitting: Callable[[BaseComponent], bool]
) -> Iterator[tuple[str, BaseComponent, Retention]]:
    if only is not None and only not in plan.components:
        raise BadInput(
            f"expected a component of the plan, found {only!r}",
            hint=f"name one of {', '.join(plan.components)}",
        )
    found = [
        (name, component, component.retention)
        for name, component in plan.components.items()
        if component.retention and only in (None, name) and fitting(component)
    ]
    if not found:
        raise Refused(
            f"expected backups that fit and a retention, found none{_of(only)}",
            hint="State `backups` and `retention`; --simulate needs backups on a schedule.",
            code="nothing-kept",
        )
    yield from found


def _of(only: str | None) -> str:
    return f": {only} has not both" if only else ""


def _has_backups(component: BaseComponent) -> bool:
    """Of a bucket that is replicated the nightly inventories are pruned."""
    return bool(component.backups)


def _is_scheduled(component: BaseComponent) -> bool:
    return any(one.when and one.kind in ("full", "dump", "sync") for one in component.backups)


def _shelves(
    name: str, folder: Path | None, location: str | None, places: Locations | None
) -> Iterator[Shelf]:
    if places is None:
        yield _in_folder(folder, name)
        return
    from chalicelib.services import build

    for place in (location,) if location else places.of(name):
        yield Shelf(
            place,
            places.store(place, name),
            places.catalogue(place, name),
            build.locks(name) if places.deployed else None,
        )


def _in_folder(folder: Path | None, name: str) -> Shelf:
    from chalicelib.adapters.catalogue import StoredCatalogue
    from chalicelib.adapters.folder.store import FolderObjectStore

    if folder is None or not folder.is_dir():
        raise BadInput(
            f"expected a folder of backups, found none at {folder}",
            hint="name the folder that holds a location's objects",
            code="no-store",
        )
    store = FolderObjectStore(folder / name)
    return Shelf("", store, StoredCatalogue(store, name))


def _look(
    plan: Plan, name: str, component: BaseComponent, kept: Retention, shelf: Shelf, now: datetime
) -> Shown:
    facts = read_facts(shelf.store, shelf.catalogue, name, locks=shelf.locks)
    decision = decide_prune(facts, kept, now=now, time_zone=kept.time_zone)
    shown = _shown(plan, name, component, kept, decision, now, shelf.place)
    return replace(shown, shelf=shelf)


def _shown(
    plan: Plan,
    name: str,
    component: BaseComponent,
    kept: Retention,
    decision: PruneDecision,
    now: datetime,
    place: str = "",
) -> Shown:
    title = f"{name} in {place}" if place else name
    calendar = lay_out(title, decision.retention, as_of=now, time_zone=kept.time_zone)
    place = place or next((place for one in component.backups for place in one.to), "")
    provider: Provider = plan.locations[place].provider if place else "own"
    return Shown(name, component, kept, decision, calendar, provider, place)


def _simulate(
    plan: Plan,
    name: str,
    component: BaseComponent,
    kept: Retention,
    period: timedelta,
    now: datetime,
    ends_then: bool,
) -> Shown:
    start, end = (now - period, now) if ends_then else (now, now + period)
    found = forecast(name, component, kept, start=start, end=end)
    decision = PruneDecision(name, found.decision, WalDecision((), ()), (), {}, {})
    return replace(_shown(plan, name, component, kept, decision, end), simulated=found)


def _remove(shown: Shown, approve: bool, form: str) -> Shown:
    from chalicelib.adapters.clock import SystemClock

    shelf = shown.shelf
    assert shelf

    console = Console(stderr=True)
    hidden = form == "json" or not console.is_terminal
    with Progress(console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task(f"prune {shown.name}", total=shown.decision.freed_bytes)
        result = apply_prune(
            shown.decision, shelf.store, shelf.catalogue, shown.retention,
            clock=SystemClock(), time_zone=shown.retention.time_zone, locks=shelf.locks,
            approved=approve,
            progress=lambda done: progress.advance(task, done),
        )  # fmt: skip
    return replace(shown, result=result)


def _print(shown: list[Shown], console: Console) -> None:
    for one in shown:
        print_calendar(one.calendar, console)
        if one.simulated is None:
            print_kept(one.decision.retention.keep, dict(one.decision.folders), console)
            print_pruned(one.decision, console)
            print_wal(one.decision, console)
            print_indexes(one.decision, console)
        else:
            print_kept(one.decision.retention.keep, {}, console)
    for note in _notes(shown):
        for line in _lines_of(note, min(console.width, WIDEST)):
            console.print(line, markup=False, soft_wrap=True)


def _lines_of(note: str, width: int) -> Iterator[str]:
    """What follows a semicolon begins a line; a name is never broken."""
    first, *more = note.split("; ")
    for indent, clause in (("", first), *(("  ", it) for it in more)):
        yield from wrap(
            clause, width, initial_indent=indent, subsequent_indent="  ", break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip


def _notes(shown: list[Shown]) -> list[str]:
    return [note for one in shown for note in _notes_of(one)]


def _notes_of(one: Shown) -> Iterator[str]:
    decision, title = one.decision, one.calendar.component
    if one.simulated is not None:
        told = one.simulated
        yield (
            f"{title}: {told.taken:,} taken, {told.removed:,} removed, at most {told.peak:,} "
            f"at once; {_stored(one)}"
        )
        return
    verb = "goes" if one.result is None else "was to go"
    yield (
        f"{title}: {format_size(decision.kept_bytes)} stays, "
        f"{format_size(decision.freed_bytes)} {verb}{one.cost}"
    )
    if one.result is not None:
        gone = one.result
        yield (
            f"{title}: removed {counted(len(gone.points), 'point')}, "
            f"{counted(gone.wal_objects, 'WAL segment')}, "
            f"{counted(gone.indexes, 'index file')} and "
            f"{counted(len(gone.leftovers), 'leftover')}, {format_size(gone.freed_bytes)}"
        )
        for point_id, why in gone.spared:
            yield f"{title}: spared {point_id}: {why}"


def _stored(one: Shown) -> str:
    size = one.component.size
    if size is None:
        return "bytes are not known, for the plan states no size"
    copies = sum(kept.standing.point.parent_id is None for kept in one.decision.retention.keep)
    total = copies * size
    price = usd_per_month(total, one.provider)
    cost = f", about {format_usd(price)} a month{one.where}" if price is not None else ""
    return (
        f"{counted(copies, 'full copy').replace('copys', 'copies')} of {format_size(size)} stay, "
        f"{format_size(total)}{cost}; increments and WAL come on top"
    )


def _as_json(one: Shown) -> dict[str, Any]:
    decision, retention = one.decision, one.decision.retention
    price = usd_per_month(decision.freed_bytes, one.provider)
    found: dict[str, Any] = {
        "component": one.name,
        "location": one.shelf.place if one.shelf and one.shelf.place else None,
        "as_of": format_time(one.calendar.as_of),
        "time_zone": one.retention.time_zone,
        "keep": [_kept_as_json(kept, decision) for kept in retention.keep],
        "prune": [_pruned_as_json(standing, decision) for standing in retention.prune],
        "unreadable": [
            {"id": bad.point_id, "code": bad.code, "reason": bad.reason}
            for bad in retention.unreadable
        ],
        "leftovers": [[left.point_id, left.size_bytes] for left in decision.leftovers],
        "wal": {
            "keep": list(map(_range_as_json, wal_ranges(decision.wal.keep))),
            "prune": list(map(_range_as_json, wal_ranges(decision.wal.prune))),
        },
        "indexes": list(decision.indexes),
        "kept_bytes": decision.kept_bytes,
        "freed_bytes": decision.freed_bytes,
        "freed_usd_per_month": None if price is None else round(price, 2),
        "removed": one.result.to_json() if one.result else None,
    }
    if one.simulated is not None:
        told = one.simulated
        found["simulated"] = {"taken": told.taken, "removed": told.removed, "peak": told.peak}
    return found


def _kept_as_json(kept: Kept, decision: PruneDecision) -> dict[str, Any]:
    locked_until = kept.standing.locked_until
    return {
        **_point_as_json(kept.standing, decision),
        "reasons": [{"rule": one.rule, "words": one.words} for one in kept.reasons],
        "locked_until": format_time(locked_until) if locked_until else None,
    }


def _pruned_as_json(standing: PointStanding, decision: PruneDecision) -> dict[str, Any]:
    reason = decision.retention.why_pruned(standing)
    return {
        **_point_as_json(standing, decision),
        "reason": {"rule": reason.rule, "words": reason.words},
    }


def _point_as_json(standing: PointStanding, decision: PruneDecision) -> dict[str, Any]:
    point = standing.point
    return {
        "id": point.id,
        "kind": point.kind,
        "taken_at": format_time(point.taken_at),
        "bytes": decision.point_bytes(standing),
    }


def _range_as_json(one: WalRange) -> dict[str, Any]:
    return {
        "timeline": one.timeline,
        "start_lsn": one.start_lsn,
        "end_lsn": one.end_lsn,
        "segments": one.segments,
        "reason": {"rule": one.reason.rule, "words": one.reason.words},
    }
