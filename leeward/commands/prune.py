"""`leeward prune PLAN`: what stays of the backups and why, what goes, and removing it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import Progress

from chalicelib.backup.retention.calendar import lay_out
from chalicelib.backup.retention.prune import apply_prune
from chalicelib.backup.retention.prune_facts import PruneDecision, decide_prune, read_facts
from chalicelib.backup.retention.wal import WalDecision
from chalicelib.errors import BadInput, Refused
from chalicelib.plan.components import BaseComponent, Retention
from chalicelib.plan.model import Plan
from chalicelib.plan.places import Provider
from chalicelib.plan.records import parse_time
from chalicelib.plan.units import parse_duration
from leeward.console import Console
from leeward.deployed import Access, access_options, reach
from leeward.options import FORMAT, PLAN_PATH, writing_to
from leeward.plan_file import load_plan
from leeward.retention.forecast import forecast
from leeward.retention.summary import WIDEST, Shelf, Shown, as_json, lines_of, notes_of_all
from leeward.retention.svg import draw
from leeward.retention.text import (
    print_calendar,
    print_indexes,
    print_kept,
    print_pruned,
    print_wal,
)
from leeward.retention.versions import (
    Versions,
    keeps_versions,
    print_versions,
    treat_versions,
    versions_as_json,
)

if TYPE_CHECKING:
    from chalicelib.services.locations import Locations

LONGEST_SIMULATION = timedelta(days=50 * 366)


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
    of these ever goes, and nothing at all while an incident is open. Stopped in the middle, what is
    left is whole; run it again. In a bucket's replica, versions that no inventory names go as long
    after they were replaced as PLAN says.

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
    versions: list[Versions] = []
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
                _require_no_incident(places)
                shown = [_remove(one, approve, form) for one in shown]
            if places is not None and places.deployed and not as_of:
                versions = [
                    treat_versions(
                        name, places.primary, remove=not dry_run, approved=approve, form=form
                    )
                    for name, component, _ in chosen
                    if keeps_versions(component) and location in (None, places.primary)
                ]
    if svg:
        with writing_to(svg.parent):
            svg.write_text(draw([one.calendar for one in shown], notes_of_all(shown)))
    if form == "json":
        told = {"components": list(map(as_json, shown))}
        told["versions"] = list(map(versions_as_json, versions))
        click.echo(json.dumps({"plan": plan.name, **told}))
    else:
        _print(shown, versions, Console(highlight=False))
    if not all(one.ok for one in versions):
        sys.exit(1)


def _require_no_incident(places: Locations | None) -> None:
    if places is not None and places.deployed:
        from chalicelib.services.jobs.pruning import require_no_incident

        require_no_incident()


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
    return f": {only} has not both, or is retired" if only else ""


def _has_backups(component: BaseComponent) -> bool:
    """Of a bucket that is replicated the nightly inventories are pruned."""
    return bool(component.backups)


def _is_scheduled(component: BaseComponent) -> bool:
    makes = (one.when and one.kind in ("full", "dump", "sync") for one in component.backups)
    return component.retired is None and any(makes)


def _shelves(
    name: str, folder: Path | None, location: str | None, places: Locations | None
) -> Iterator[Shelf]:
    if places is None:
        yield _in_folder(folder, name)
        return
    from chalicelib.services import build
    from chalicelib.services.jobs.pruning import catalogue_to_prune

    for place in (location,) if location else places.of(name):
        yield Shelf(
            place,
            places.store(place, name),
            catalogue_to_prune(places, place, name),
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


def _print(shown: list[Shown], versions: list[Versions], console: Console) -> None:
    for one in shown:
        print_calendar(one.calendar, console)
        if one.simulated is None:
            print_kept(one.decision.retention.keep, dict(one.decision.folders), console)
            print_pruned(one.decision, console)
            print_wal(one.decision, console)
            print_indexes(one.decision, console)
        else:
            print_kept(one.decision.retention.keep, {}, console)
    for each in versions:
        print_versions(each, console)
    for note in notes_of_all(shown):
        for line in lines_of(note, min(console.width, WIDEST)):
            console.print(line, markup=False, soft_wrap=True)
