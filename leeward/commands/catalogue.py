"""leeward catalogue: what a component can be restored from, in every location."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from chalicelib.errors import BadInput
from chalicelib.evidence.text import printable
from chalicelib.plan.units import format_size
from leeward.console import Console
from leeward.deployed import DEPLOYED, Access, access_options, reach
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan
from leeward.strays import look_for_strays
from leeward.unquarantining import (
    apply_unquarantine,
    decide_unquarantine,
    require_calm,
    tell_unquarantine,
)

if TYPE_CHECKING:
    from chalicelib.plan.records import PointStanding
    from chalicelib.ports import Holdings
    from chalicelib.recover.choose_copy import Candidate

PLAN = click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")


@click.group()
def command() -> None:
    """Recovery points: what there is, what is held, and the index beside them."""


@command.command("list")
@click.argument("component")
@PLAN
@access_options
@FORMAT
def list_points(component: str, plan_path: Path, access: Access, form: str) -> None:
    """List COMPONENT's recovery points in every location, and what is known of each.

    Exit status: 0; 1 when a location does not answer, or holds a point that is not whole or that
    nobody entered into the index (unknown); 2 the input cannot be used.

    \b
    Example:
    leeward catalogue list nexus-db --plan policies/plans/nexus-studio.yaml
    """
    with reach(load_plan(plan_path).plan, access) as places:
        found = places.candidates(component)
    if form == "json":
        click.echo(json.dumps({"component": component, "locations": list(map(_as_json, found))}))
    else:
        _print(found)
    if not all(it.holdings is not None and _is_sound(it.holdings) for it in found):
        sys.exit(1)


@command.command()
@click.argument("component")
@click.argument("point")
@PLAN
@click.option("--reason", required=True, help="Why it must stay; it is shown wherever it stands.")
@click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
@access_options
@FORMAT
def hold(
    component: str,
    point: str,
    plan_path: Path,
    reason: str,
    dry_run: bool,
    access: Access,
    form: str,
) -> None:
    """Hold POINT of COMPONENT: nothing deletes it, whatever the plan's retention says.

    The hold reaches the other locations with the next copy. `leeward catalogue release` ends it.

    \b
    Example:
    leeward catalogue hold nexus-db 20261122T020000Z-full --reason "legal case" \\
        --plan policies/plans/nexus-studio.yaml
    """
    _require_reason(reason)
    with reach(load_plan(plan_path).plan, access) as places:
        catalogue = places.catalogue(places.primary, component)
        _require_point(catalogue.holdings().standings, point)
        if not dry_run:
            catalogue.hold(point, reason=reason.strip(), at=datetime.now(UTC))
    if form == "json":
        _tell(component, point, reason.strip(), dry_run)
    else:
        click.echo(f"{point} {'would be' if dry_run else 'is'} held: {reason.strip()}")


@command.command()
@click.argument("component")
@click.argument("point")
@PLAN
@click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
@access_options
@FORMAT
def release(
    component: str, point: str, plan_path: Path, dry_run: bool, access: Access, form: str
) -> None:
    """End the hold of POINT: the plan's retention counts again.

    \b
    Example:
    leeward catalogue release nexus-db 20261122T020000Z-full \\
        --plan policies/plans/nexus-studio.yaml
    """
    with reach(load_plan(plan_path).plan, access) as places:
        catalogue = places.catalogue(places.primary, component)
        _require_point(catalogue.holdings().standings, point)
        if not dry_run:
            catalogue.release(point)
    if form == "json":
        _tell(component, point, None, dry_run)
    else:
        click.echo(f"{point} {'would not be' if dry_run else 'is not'} held any more")


@command.command()
@click.argument("component")
@click.argument("points", metavar="POINT...", nargs=-1, required=True)
@PLAN
@click.option("--reason", required=True, help="Why a restore may use it; `list` shows it.")
@click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
@FORMAT
def unquarantine(
    component: str,
    points: tuple[str, ...],
    plan_path: Path,
    reason: str,
    dry_run: bool,
    form: str,
) -> None:
    """End the quarantine of POINTs of COMPONENT: a restore may use them again, and the next copy
    says so in the other locations. A person's decision, as after a false alarm.

    Refused while the watch judges the bucket infected (of what is no bucket: any bucket of the
    plan), and where the copy was quarantined as damaged and is not whole: it is read first.

    Exit status: 0; 1 refused, or no answer; 2 the input cannot be used.

    \b
    Example:
    leeward catalogue unquarantine nexus-uploads 20261122T020000Z-objects \\
        --reason "the import of Saturday" --plan policies/plans/nexus-studio.yaml
    """
    _require_reason(reason)
    with reach(load_plan(plan_path).plan, DEPLOYED) as places:
        from chalicelib.services import build

        places.component(component)
        catalogue = places.catalogue(places.primary, component)
        holdings = catalogue.holdings()
        decision = decide_unquarantine(holdings, points)
        require_calm(places.plan, component, build.state())
        apply_unquarantine(
            decision, catalogue, places.store(places.primary, component), holdings.standings,
            by=getpass.getuser(), reason=reason.strip(), at=datetime.now(UTC), dry_run=dry_run,
        )  # fmt: skip
    if form == "json":
        told = {"component": component, **decision.to_json(), "changed": not dry_run}
        click.echo(json.dumps(told))
    else:
        click.echo("\n".join(map(printable, tell_unquarantine(decision, dry_run=dry_run))))


@command.command()
@click.argument("component")
@PLAN
@click.option("--from", "location", help="Read the manifests there, not in the primary location.")
@click.option("--point", "points", multiple=True, help="Enter this one alone; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
@access_options
@FORMAT
def rebuild(
    component: str,
    plan_path: Path,
    location: str | None,
    points: tuple[str, ...],
    dry_run: bool,
    access: Access,
    form: str,
) -> None:
    """Make the index of COMPONENT's points again from the manifests in one location.

    The manifests are the truth. What contradicts them is kept and named: an entry whose manifest
    is gone or another than it recorded, a manifest that cannot be read. Somebody may have deleted,
    or written, what should not be. What is entered may be restored: look first, with --dry-run,
    which of them nobody took.

    Exit status: 0 the index agrees with the manifests; 1 it does not, and where is told.

    \b
    Example:
    leeward catalogue rebuild nexus-db --plan policies/plans/nexus-studio.yaml
    """
    from chalicelib.adapters.catalogue import StoredCatalogue

    with reach(load_plan(plan_path).plan, access) as places:
        from chalicelib.services import build

        places.component(component)
        places.location(location or places.primary)
        store = places.store(location or places.primary, component)
        holdings = StoredCatalogue(store, component).holdings()
        for point in points:
            _require_point(holdings.standings, point)
        index = StoredCatalogue(store, component, index=build.state())
        change = index.index_from(holdings, only=points, dry_run=dry_run)
    if form == "json":
        click.echo(json.dumps({"changed": not dry_run} | change))
    else:
        would = "would be " if dry_run else ""
        number = len(change["added"])
        click.echo(f"{number:,} {'entry' if number == 1 else 'entries'} {would}added")
        for point in change["added"]:
            click.echo(f"  {point}")
        for line in _contradictions(change):
            click.echo(line)
    if _contradictions(change):
        sys.exit(1)


@command.command()
@PLAN
@access_options
@FORMAT
def strays(plan_path: Path, access: Access, form: str) -> None:
    """Name what lies in the locations under no component of the plan.

    Nothing checks, prunes or deletes it: copies of a component that left the plan, or what somebody
    else put there. Locations on the plan's own servers are not looked at.

    Exit status: 0 there is none; 1 there is some, or a location does not answer; 2 the plan cannot
    be used.

    \b
    Example:
    leeward catalogue strays --plan policies/plans/nexus-studio.yaml
    """
    with reach(load_plan(plan_path).plan, access) as places:
        outside = [name for name, it in places.plan.locations.items() if it.provider != "own"]
        found = [look_for_strays(places, name) for name in outside]
    if form == "json":
        click.echo(json.dumps({"locations": [it.to_json() for it in found]}))
    else:
        for line in (line for it in found for line in it.lines()):
            click.echo(line)
    if not all(it.ok for it in found):
        sys.exit(1)


def _is_sound(holdings: Holdings) -> bool:
    return not holdings.rejected and not any(it.is_unknown for it in holdings.standings)


def _contradictions(change: dict[str, Any]) -> list[str]:
    return [
        *(f"{point} is in the index and has no manifest" for point in change["without_manifest"]),
        *(f"{point}: the index recorded another manifest" for point in change["differing"]),
        *(f"{point}: {why}" for point, why in change["unreadable"].items()),
    ]


def _tell(component: str, point: str, held: str | None, dry_run: bool) -> None:
    told = {"component": component, "point": point, "held": held, "changed": not dry_run}
    click.echo(json.dumps(told))


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise BadInput(
            "expected a reason, found none", hint="say in one line why", code="no-reason"
        )


def _require_point(standings: tuple[PointStanding, ...], point: str) -> None:
    ids = [item.point.id for item in standings]
    if point not in ids:
        raise BadInput(
            f"expected a recovery point, found none named {point}",
            hint=f"the newest: {', '.join(ids[-3:]) or 'none'}; `leeward catalogue list` has all",
            code="unknown-point",
        )


def _as_json(candidate: Candidate) -> dict[str, Any]:
    told: dict[str, Any] = {"location": candidate.location}
    if candidate.holdings is None:
        assert candidate.error is not None
        return told | {"error": candidate.error.to_json()}
    told["points"] = [item.to_json() for item in candidate.holdings.standings]
    told["rejected"] = [vars(item) for item in candidate.holdings.rejected]
    if candidate.inventory:
        told["windows"] = [window.to_json() for window in candidate.inventory.windows]
    return told


def _print(found: tuple[Candidate, ...]) -> None:
    console = Console(highlight=False)
    for candidate in found:
        console.rule(candidate.location, align="left", style="dim")
        if candidate.holdings is None:
            assert candidate.error is not None
            told = f"does not answer: {candidate.error.message}"
            console.print(told, style="bold red", markup=False)
            continue
        console.print(_table(candidate.holdings.standings))
        for window in candidate.inventory.windows if candidate.inventory else ():
            console.print(
                f"any moment from {window.start_at:%Y-%m-%d %H:%M:%S} to "
                f"{window.end_at:%Y-%m-%d %H:%M:%S} UTC (timeline {window.timeline})"
            )
        for point, remark in _remarks(candidate.holdings.standings):
            console.print(f"{point}: {remark}", markup=False)
        for item in candidate.holdings.rejected:
            console.print(f"{item.point_id}: {item.reason}", style="bold red", markup=False)


def _table(standings: tuple[PointStanding, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("point", "taken (UTC)", "size", "proven", "all read"):
        table.add_column(name, justify="right" if name == "size" else "left")
    for item in standings:
        table.add_row(
            Text(item.point.id),
            f"{item.point.taken_at:%Y-%m-%d %H:%M}",
            format_size(item.point.stored_bytes),
            _day(item.proven_at),
            _day(item.read_at),
        )
    return table


def _remarks(standings: tuple[PointStanding, ...]) -> Iterator[tuple[str, str]]:
    """Below the table: a reason is as long as its writer wants, and an id is never cut."""
    for item in standings:
        no = "unknown" if item.is_unknown else "quarantined"
        told = (no, item.quarantined), ("unquarantined", item.unquarantined), ("held", item.held)
        for what, reason in told:
            if reason:
                yield item.point.id, f"{what}: {printable(reason)}"


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d}" if at else "never"
