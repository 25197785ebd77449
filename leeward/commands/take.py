"""leeward take COMPONENT: a recovery point of folders, Redis or git, from where they are."""

from __future__ import annotations

import json
from pathlib import Path

import click

from chalicelib.evidence.text import printable_lines
from leeward.deployed import Access, access_options, copies_of, reach
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan


@click.command(short_help="Take a recovery point of folders, Redis or git.")
@click.argument("component")
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@click.option("--to", "location", help="Take it to this location, not to the primary one.")
@access_options
@FORMAT
def command(
    component: str, plan_path: Path, location: str | None, access: Access, form: str
) -> None:
    """Take a recovery point of COMPONENT (files, redis, git) where this command runs: on the host
    that has the folders, or can reach the server. Databases have schedules of their own.

    `leeward copy` brings it to the other locations; `leeward restore point --prove` tries it.

    Exit status: 0 it is stored and counts; 1 it could not be taken; 2 the input cannot be used.

    \b
    Example:
    leeward take configuration --plan policies/plans/artist-tech.yaml
    """
    from chalicelib.adapters.clock import SystemClock
    from chalicelib.services.jobs.taking import take_point

    with reach(load_plan(plan_path).plan, access) as places:
        to = location or places.primary
        [(_, place)] = copies_of(places, [component], [to], primary=True)
        point = take_point(
            component,
            places.component(component),
            places.store(place, component),
            places.catalogue(place, component),
            clock=SystemClock(),
            secret=places.secret,
        )
    if form == "json":
        click.echo(json.dumps(point.to_json()))
        return
    note = f"; {point.note}" if point.note else ""
    size = f"{point.source_bytes / 1e6:,.1f} MB, {point.stored_bytes / 1e6:,.1f} MB stored"
    click.echo(printable_lines(f"{point.id} in {place}: {size}{note}"))
