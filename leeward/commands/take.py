"""leeward take COMPONENT: a recovery point of folders, Redis or git, from where they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

from chalicelib.evidence.text import printable_lines
from leeward.console import Console
from leeward.deployed import Access, access_options, copies_of, reach
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan

if TYPE_CHECKING:
    from chalicelib.plan.records import RecoveryPoint


@click.command(short_help="Take a recovery point of folders, Redis or git.")
@click.argument("component")
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@click.option("--to", "location", help="Take it to this location, not to the primary one.")
@click.option("--dry-run", is_flag=True, help="Read all of it, store nothing.")
@access_options
@FORMAT
def command(
    component: str,
    plan_path: Path,
    location: str | None,
    dry_run: bool,
    access: Access,
    form: str,
) -> None:
    """Take a recovery point of COMPONENT (files, redis, git) where this command runs: on the host
    that has the folders, or can reach the server. Databases have schedules of their own.

    `leeward copy` brings it to the other locations; `leeward restore point --prove` tries it.

    Exit status: 0 it is stored and counts, or would be; 1 it could not be taken; 2 the input
    cannot be used.

    \b
    Example:
    leeward take configuration --plan policies/plans/artist-tech.yaml --dry-run
    """
    from chalicelib.adapters.clock import SystemClock
    from chalicelib.services.jobs.taking import source_of, take_point

    with reach(load_plan(plan_path).plan, access, unwritten=dry_run) as places:
        wanted = places.component(component)
        [(_, place)] = copies_of(places, [component], [location or places.primary], primary=True)
        store = places.store(place, component)
        with _progress(component, shown=form == "text") as tell:
            point = take_point(
                component,
                wanted,
                store,
                places.catalogue(place, component),
                clock=SystemClock(),
                secret=places.secret,
                progress=tell,
            )
        source = source_of(wanted, places.secret)
    if form == "json":
        where = {"source": source, "location": place, "dry_run": dry_run}
        click.echo(json.dumps(point.to_json() | where))
        return
    click.echo(printable_lines(_told(point, source, place, dry_run=dry_run)))


def _told(point: RecoveryPoint, source: str, place: str, *, dry_run: bool) -> str:
    note = f"; {point.note}" if point.note else ""
    size = f"{point.source_bytes / 1e6:,.1f} MB, {point.stored_bytes / 1e6:,.1f} MB stored"
    if not dry_run:
        return f"{point.id} in {place}: {size}{note}"
    kept = f"would be a point of kind {point.kind} in {place}, encryption {point.encryption}"
    return f"{source}: {size}, {kept}{note}; nothing was stored"


@contextmanager
def _progress(component: str, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """What was read of folders, on a terminal's stderr; how much there is, nobody has counted."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn(),
    )  # fmt: skip
    disable = not shown or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as bar:
        task = bar.add_task(component, total=None)
        yield lambda size_bytes: bar.advance(task, size_bytes)
