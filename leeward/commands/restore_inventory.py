"""leeward restore inventory COMPONENT: the objects that a bucket's recovery point names."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chalicelib.errors import BadInput, Tampered
from leeward.console import Console
from leeward.deployed import DEPLOYED, reach
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan

if TYPE_CHECKING:
    from chalicelib.plan.records import RecoveryPoint
    from chalicelib.recover.bucket.fill import Filled


@click.command("inventory", short_help="Copy what a bucket's recovery point names into a bucket.")
@click.argument("component")
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@click.option("--point", "point_id", required=True, metavar="ID", help="Of `catalogue list`.")
@click.option("--to-bucket", "target", required=True, metavar="NAME", help="An empty bucket.")
@click.option("--dry-run", is_flag=True, help="Say what would be copied, copy nothing.")
@FORMAT
def command(
    component: str, plan_path: Path, point_id: str, target: str, dry_run: bool, form: str
) -> None:
    """Copy the very versions that a recovery point of COMPONENT names from its replica into
    another bucket, on S3's side, and compare every object.

    Safe to interrupt and to repeat. Nothing in the bucket is deleted or overwritten that somebody
    else put there.

    Exit status: 0 every object is there, or all could be copied; 1 not, or the point is
    quarantined; 2 the input cannot be used.

    \b
    Example:
    leeward restore inventory nexus-uploads \\
        --plan policies/plans/nexus-studio.yaml \\
        --point 20261122T020000Z-objects --to-bucket uploads-then
    """
    with reach(load_plan(plan_path).plan, DEPLOYED):
        point = _point(component, point_id)
        filled = asyncio.run(_fill(component, point, target, dry_run=dry_run))
    if form == "json":
        told = {"ok": filled.ok, "point": point_id, "dry_run": dry_run, **_told(filled)}
        click.echo(json.dumps(told))
    else:
        _print(Console(highlight=False), target, filled, dry_run=dry_run)
    sys.exit(0 if filled.ok else 1)


def _point(component: str, point_id: str) -> RecoveryPoint:
    """Raises as choose_points; Tampered (code "inventory-changed")."""
    from chalicelib.recover.points import choose_points
    from chalicelib.services import build

    holdings = build.catalogue(component).holdings()
    [point] = choose_points(holdings, "objects", point_id=point_id)
    for item in point.objects:
        digest = hashlib.sha256()
        for chunk in build.backups(component).read(item.key):
            digest.update(chunk)
        if digest.hexdigest() != item.sha256:
            raise Tampered(
                f"expected {item.key} with SHA-256 {item.sha256}, found {digest.hexdigest()}",
                code="inventory-changed",
                hint="Use another point; `leeward verify --repair` copies a sound one back.",
            )
    return point


async def _fill(component: str, point: RecoveryPoint, target: str, *, dry_run: bool) -> Filled:
    from chalicelib.recover.bucket.fill import fill_from_point, look_from_point
    from chalicelib.services import build
    from chalicelib.services.jobs.buckets import bucket_at, bucket_component, replica_of
    from chalicelib.verify.copies.replica_contents import inventory_entries

    store = build.backups(component)
    bring = look_from_point if dry_run else fill_from_point
    async with build.buckets() as buckets:
        replica = replica_of(buckets, component)
        _require_another(target, bucket_component(component).bucket, replica.name)
        return await bring(
            lambda: inventory_entries(store, point), replica, bucket_at(buckets, target)
        )


def _require_another(target: str, *taken: str) -> None:
    """What was deleted since would be in the bucket again, and in the replica as if it had been."""
    if target in taken:
        raise BadInput(
            f"expected a bucket that holds nothing else, found {target}, which is the component's",
            hint="name an empty bucket; `leeward restore bucket` takes the bucket itself back",
            code="same-bucket",
        )


def _told(filled: Filled) -> dict[str, object]:
    return {
        "objects": filled.objects,
        "done": filled.outcome.counts,
        "missing": filled.missing,
        "failures": [failure.to_json() for failure in filled.outcome.failures],
    }


def _print(console: Console, target: str, filled: Filled, *, dry_run: bool) -> None:
    verdict = "[green]PROVEN[/]" if filled.ok else "[bold red]NOT PROVEN[/]"
    done = ", ".join(f"{count:,} {what}" for what, count in filled.outcome.counts.items())
    console.print(f"{target}: {filled.objects:,} objects; {done}", markup=False)
    for failure in filled.outcome.failures:
        console.print(f"{failure.key!r}: {failure.message}", markup=False, soft_wrap=True)
    for key in filled.missing:
        console.print(f"{key!r} is not as the point says", markup=False, soft_wrap=True)
    if dry_run:
        verdict = (
            "nothing was copied" if filled.ok else "[bold red]NOT POSSIBLE[/]; nothing was copied"
        )
    console.print(verdict)
