"""leeward locations: the places that backups go to."""

from __future__ import annotations

import json
from pathlib import Path

import click

from chalicelib.errors import BadInput
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan


@click.group()
def command() -> None:
    """Places that backups go to."""


@command.command("init")
@click.argument("location")
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@FORMAT
def init(location: str, plan_path: Path, form: str) -> None:
    """Set up LOCATION on a server of one's own, once: its folder is made and marked.

    Without the mark nothing is made in it: where a share is not mounted, its folder is an empty one
    on this machine's disk. What lies in the folder stays.

    Exit status: 0 it is set up, or was; 1 it cannot be; 2 it is no such location, or the folder is
    that of another.

    \b
    Example:
    leeward locations init local --plan policies/plans/artist-tech.yaml
    """
    from chalicelib.adapters.folder.marker import Marker

    plan = load_plan(plan_path).plan
    found = plan.locations.get(location)
    if found is None or found.provider != "own" or found.path is None:
        own = [name for name, it in plan.locations.items() if it.provider == "own" and it.path]
        raise BadInput(
            f"expected a location with a path on a server of one's own, found {location!r}",
            hint=f"one of: {', '.join(own)}" if own else "the plan has none",
            code="unknown-location",
        )
    made = Marker(Path(found.path), location).write()
    if form == "json":
        click.echo(json.dumps({"location": location, "path": found.path, "changed": made}))
    else:
        click.echo(f"{location}: {found.path} {'is set up' if made else 'was set up before'}")
