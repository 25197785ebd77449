"""leeward sync COMPONENT: make a bucket's replica what the bucket is, now."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from chalicelib.errors import Refused
from leeward.deployed import Access, reach
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan

if TYPE_CHECKING:
    from chalicelib.backup.sync import SyncProgress
    from chalicelib.services.buckets import Synced

DEPLOYED = Access({}, None, None, without_aws=False)


@click.command(short_help="Make a bucket's replica what the bucket is, now.")
@click.argument("component")
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@click.option("--to", "location", help="The copy in this location, not the replica in AWS.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, change nothing.")
@click.option("--approve", is_flag=True, help="Delete more than the plan lets go in one run.")
@FORMAT
def command(
    component: str, plan_path: Path, location: str | None, dry_run: bool, approve: bool, form: str
) -> None:
    """Compare the bucket of COMPONENT with its replica and bring what is missing: the nightly
    work, now, with your own rights and for as long as it takes. Afterwards what the replica in
    AWS holds is written down as a recovery point.

    Safe to interrupt and to repeat. When the plan mirrors deletions, none is made if they are
    more than it allows; look at them with --dry-run, then --approve.

    Exit status: 0 the replica is what the bucket is; 1 it is not, and why is told; 2 the input
    cannot be used.

    \b
    Example:
    leeward sync nexus-uploads --plan policies/plans/nexus-studio.yaml --dry-run
    """
    from chalicelib.services.buckets import incomplete, sync_now

    with reach(load_plan(plan_path).plan, DEPLOYED) as places:
        place = location or places.primary
        with _progress(form == "text") as tell:
            synced = sync_now(component, place, dry_run=dry_run, approved=approve, progress=tell)
    if form == "json":
        click.echo(json.dumps(_as_json(component, place, synced)))
    else:
        _print(component, place, synced)
        if dry_run and not approve:
            _print_deletions(component, synced)
    if not synced.result.ok:
        if form == "json":
            raise SystemExit(1)
        raise incomplete(place, synced.result)


def _as_json(component: str, location: str, synced: Synced) -> dict[str, Any]:
    return {
        "component": component,
        "location": location,
        "ok": synced.result.ok,
        "result": synced.result.to_json(),
        "point": synced.point.to_json() if synced.point else None,
    }


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[SyncProgress], None]]:
    """On a terminal's stderr; it goes when it is done."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[listed]:,} listed"), BarColumn(), MofNCompleteColumn(),
        TextColumn("copied"),
    )  # fmt: skip
    disable = not shown or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as bar:
        task = bar.add_task("", total=None, listed=0)

        def tell(now: SyncProgress) -> None:
            bar.update(task, completed=now.copied, total=now.to_copy, listed=now.source_objects)

        yield tell


def _print(component: str, location: str, synced: Synced) -> None:
    result, console = synced.result, Console(highlight=False)
    console.print(
        f"{component} to {location}: {result.source_objects:,} objects, "
        f"{result.replica_objects:,} in the replica before"
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    for reason, count in result.reasons.items():
        table.add_row(f"{count:,}", reason)
    console.print(table)
    if result.dry_run:
        console.print("nothing was changed")
        return
    size = f"{result.copied_bytes / 1e6:,.1f} MB"
    console.print(f"{result.copied:,} copied ({size}), {result.deleted:,} deleted")
    for key in result.missed_keys if result.replica_objects else ():
        console.print(f"no event told of {key!r}", markup=False, soft_wrap=True)
    for failure in result.failures:
        console.print(f"{failure.key!r}: {failure.message}", markup=False, soft_wrap=True)
    if synced.point:
        console.print(f"[green]{synced.point.id}[/] tells what it holds")


def _print_deletions(component: str, synced: Synced) -> None:
    """Whether the same without --dry-run would refuse to delete so much."""
    from chalicelib.backup.sync_decision import check_deletions
    from chalicelib.services.buckets import policy_of

    result = synced.result
    deletions = result.reasons.get("delete not-in-source", 0)
    try:
        check_deletions(deletions, result.replica_objects, policy_of(component))
    except Refused as error:
        click.echo(f"without --approve: {error.message}")
