"""leeward restore rows COMPONENT: bring deleted rows back into a living database."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chalicelib.errors import BadInput, Refused
from leeward.console import Console
from leeward.deployed import Access, access_options, reach
from leeward.options import FORMAT, PLAN_PATH, require_writable
from leeward.plan_file import load_plan

if TYPE_CHECKING:
    from chalicelib.adapters.postgres.database import PostgresDatabases
    from chalicelib.recover.rows.take_back import RowsBack


@click.command("rows", short_help="Bring deleted rows back into a living database.")
@click.argument("component")
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@click.option(
    "--moment",
    required=True,
    metavar="XID|LSN|TIME",
    help="The transaction that deleted them, or a moment before it (with --table).",
)
@click.option("--table", "tables", multiple=True, help="Only this table; may be given again.")
@click.option(
    "--into",
    "dsn",
    default="",
    metavar="DSN",
    help="The living database; otherwise where the plan's secrets lead.",
)
@click.option("--from", "location", default="", help="Use this location and no other.")
@click.option(
    "--aside",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file for rows that may not go in (JSON lines); needed when there are any.",
)
@click.option("--dry-run", is_flag=True, help="Say what would come back, change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@access_options
@FORMAT
def command(
    component: str,
    plan_path: Path,
    moment: str,
    tables: tuple[str, ...],
    dsn: str,
    location: str,
    aside: Path | None,
    dry_run: bool,
    yes: bool,
    access: Access,
    form: str,
) -> None:
    """Bring back the rows that a transaction deleted, truncated or dropped in COMPONENT, or those
    that a table had at a moment and has no longer; nothing else of the table changes.

    Restores the database beside the living one to just before, inserts what is missing in one
    transaction, parents first, and compares it before the commit. A row that somebody made again
    stays as it is; the old one is set aside.

    Exit status: 0 every row is back or was there; 1 some were set aside, or it failed; 2 the input
    cannot be used.

    \b
    Example:
    leeward restore rows nexus-db \\
        --plan policies/plans/nexus-studio.yaml --moment 742 --dry-run
    """
    from leeward.commands.prove import Screen
    from leeward.row_restoring import RowRestorer

    if aside:
        require_writable(aside.absolute().parent)
    if not dry_run and not yes:
        _ask(component, form)
    screen = Screen(quiet=form == "json")
    try:
        with reach(load_plan(plan_path).plan, access) as places:
            live = _live(component, dsn, access)
            restorer = RowRestorer(
                places, component, moment, tables, live, screen.tell, location, aside
            )
            back = restorer.run(dry_run=dry_run)
    finally:
        screen.close()
    if form == "json":
        click.echo(json.dumps(back.to_json() | {"dry_run": dry_run}))
    else:
        _show(Console(highlight=False), back)
    sys.exit(1 if back.aside else 0)


def _live(component: str, dsn: str, access: Access) -> PostgresDatabases:
    from chalicelib.adapters.postgres.database import PostgresDatabases

    if dsn:
        return PostgresDatabases(dsn)
    if access.without_aws:
        raise BadInput(
            "expected the living database, found none",
            hint="name it with --into",
            code="no-database",
        )
    from chalicelib.services import build
    from chalicelib.services.steps.database.wal import fetch_last_wal

    fetch_last_wal(component)
    return build.operator(component)


def _ask(component: str, form: str) -> None:
    if form == "json" or not sys.stdin.isatty():
        raise Refused(
            f"expected a person, or --yes, before rows are written to {component}",
            code="not-confirmed",
            hint="add --yes, or --dry-run to see what would come back",
        )
    click.confirm(f"write rows to {component}?", abort=True, err=True)


def _show(console: Console, back: RowsBack) -> None:
    for it in back.tables:
        console.print(f"{it.table}: {it.restored:,} back, {it.there:,} there already", markup=False)
        for why, rows in sorted(it.aside.items()):
            console.print(f"  {rows:,} set aside: {why}", markup=False, soft_wrap=True)
    for name in back.made:
        console.print(f"made again: {name}", markup=False)
    for note in back.notes:
        console.print(note, markup=False, soft_wrap=True)
