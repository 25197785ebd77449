"""leeward sync COMPONENT: make a bucket's replica what the bucket is, now."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from chalicelib.errors import Refused
from chalicelib.plan.records import format_time
from chalicelib.plan.signs import After
from leeward.console import Console
from leeward.deployed import DEPLOYED, reach
from leeward.garbage import expect_many_rows
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan

if TYPE_CHECKING:
    from chalicelib.backup.bucket.sync import SyncProgress
    from chalicelib.ports import ObjectStore
    from chalicelib.services.jobs.buckets import Synced

ASK_SECONDS = 5.0
AFTER: dict[After, str] = {
    "older": "an older version is the object again",
    "newer": "below something newer",
    "nothing": "nothing of the key is left",
}


@click.command(short_help="Make a bucket's replica what the bucket is, now.")
@click.argument("component")
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@click.option("--to", "location", help="The copy in this location, not the replica in AWS.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, change nothing.")
@click.option("--approve", is_flag=True, help="Delete, or take back, more than the plan lets.")
@click.option("--shards", is_flag=True, help="In AWS, by its state machine, and follow it.")
@FORMAT
def command(
    component: str,
    plan_path: Path,
    location: str | None,
    dry_run: bool,
    approve: bool,
    shards: bool,
    form: str,
) -> None:
    """Compare the bucket of COMPONENT with its replica and bring what is missing: the nightly
    work, now, with your own rights and for as long as it takes. Afterwards what the replica in
    AWS holds is written down as a recovery point.

    Safe to interrupt and to repeat. When the plan mirrors deletions, none is made if they are
    more than it allows; look at them with --dry-run, then --approve. So it is when somebody has
    removed newest versions for good, and more objects than that are older ones again.

    With --shards the work is that of many functions side by side, for a bucket with millions of
    objects; Ctrl-C leaves it running.

    Exit status: 0 the replica is what the bucket is; 1 it is not, and why is told; 2 the input
    cannot be used.

    \b
    Example:
    leeward sync nexus-uploads --plan policies/plans/nexus-studio.yaml --dry-run
    """
    from chalicelib.services.jobs.buckets import incomplete, sync_now

    if shards and dry_run:
        raise click.UsageError("expected --shards or --dry-run, found both")
    expect_many_rows()
    with reach(load_plan(plan_path).plan, DEPLOYED) as places:
        place = location or places.primary
        if shards:
            _in_shards(component, place, approve, form)
            return
        with _progress(form == "text") as tell:
            synced = sync_now(component, place, dry_run=dry_run, approved=approve, progress=tell)
    if form == "json":
        click.echo(json.dumps(_as_json(component, place, synced)))
    else:
        _print(component, place, synced)
        if dry_run and not approve:
            print_refusals(component, synced)
    if not synced.result.ok:
        if form == "json":
            raise SystemExit(1)
        raise incomplete(place, synced.result)


def _in_shards(component: str, location: str, approved: bool, form: str) -> None:
    """Exit status 1 when it did not end well."""
    from chalicelib.services import build
    from chalicelib.services.jobs.buckets import start_shards, sync_machine

    run = f"by-hand-{build.clock().now():%Y%m%dT%H%M%SZ}"
    start_shards(component, location, run, approved=approved)
    told = Console(stderr=True, quiet=form == "json")
    told.print(f"{run} has begun; Ctrl-C leaves it running")
    with told.status("syncing in shards"):
        while (status := build.workflows().status(sync_machine(component), run)) == "RUNNING":
            time.sleep(ASK_SECONDS)
    found = shards_told(build.backups(component), run)
    if form == "json":
        click.echo(json.dumps({"run": run, "status": status, **found}))
    else:
        Console().print(f"{run}: {status}; {tell_shards(found)}", markup=False, soft_wrap=True)
    if status != "SUCCEEDED":
        raise SystemExit(1)


def shards_told(store: ObjectStore, run: str) -> dict[str, Any]:
    """What a run wrote of its end: `done`, a SyncResult, and `failure`; None where it did not."""
    found: dict[str, Any] = {"done": None, "failure": None}
    for row in store.list(f"shards/{run}@"):
        name = row.key.rpartition("/")[2].removesuffix(".json")
        if name in found and row.key.count("/") == 2:
            found[name] = json.loads(store.get(row.key))
    return found


def tell_shards(found: dict[str, Any]) -> str:
    if failure := found["failure"]:
        return f"{failure.get('Error', '')}: {_message(failure.get('Cause', ''))}"
    if done := found["done"]:
        gone = f", {done['removed']:,} VERSIONS REMOVED FOR GOOD" if done["removed"] else ""
        return (
            f"{done['source_objects']:,} objects compared, {done['copied']:,} copied, "
            f"{done['deleted']:,} deleted, {done['failed']:,} failed{gone}"
        )
    return "it wrote nothing of its end"


def _message(cause: str) -> str:
    """What a function raised stands in JSON beside its traceback."""
    try:
        raised = json.loads(cause)
    except ValueError:
        return cause
    return str(raised.get("errorMessage", cause)) if isinstance(raised, dict) else cause


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
    for gone in result.removed_versions:
        said = f"removed for good since {format_time(gone.seen_at)}: {gone.key!r} {gone.version_id}"
        console.print(f"{said}, {AFTER[gone.after]}", markup=False, soft_wrap=True)
    if result.erased:
        console.print(f"{result.erased:,} versions erased, as the plan expects")
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


def print_refusals(component: str, synced: Synced) -> None:
    """Whether the same without --dry-run would refuse to delete, or to take back, so much."""
    from chalicelib.backup.bucket.removed_versions import check_went_back
    from chalicelib.backup.bucket.sync_decision import check_deletions
    from chalicelib.services.jobs.buckets import policy_of

    result, policy = synced.result, policy_of(component)
    deletions = result.reasons.get("delete not-in-source", 0)
    for check, count, total in (
        (check_went_back, result.went_back, result.looked_for),
        (check_deletions, deletions, result.replica_objects),
    ):
        try:
            check(count, total, policy)
        except Refused as error:
            click.echo(f"without --approve: {error.message}")
