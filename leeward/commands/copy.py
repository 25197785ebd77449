"""leeward copy PLAN: bring the plan's other locations up to date, now."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from chalicelib.errors import LeewardError
from leeward.console import Console
from leeward.deployed import Access, access_options, copies_of, reach
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan

if TYPE_CHECKING:
    from chalicelib.backup.copies import CopyResult
    from chalicelib.backup.copy_decision import CopyDecision, CopyItem
    from chalicelib.services.locations import Locations


@dataclass(frozen=True)
class Copied:
    """What became of one component in one location: decided, done, or impossible."""

    component: str
    location: str
    decision: CopyDecision | None = None
    result: CopyResult | None = None
    error: LeewardError | None = None

    @property
    def ok(self) -> bool:
        if self.error is not None or self.decision is None:
            return False
        if self.decision.left or not self.decision.vouched:
            return False
        return self.result.complete if self.result else not self.decision.differing

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"component": self.component, "location": self.location}
        if self.error:
            return told | {"ok": False, "error": self.error.to_json()}
        assert self.decision is not None
        told |= {
            "ok": self.ok,
            "objects": len(self.decision.items),
            "bytes": self.decision.total_bytes,
            "differing": list(self.decision.differing),
            "lost": list(self.decision.lost),
            "left": [{"point": point, "why": why} for point, why in self.decision.left],
        }
        return told | {"result": self.result.to_json() if self.result else None}


@click.command(short_help="Bring the plan's other locations up to date, now.")
@click.argument("plan_path", metavar="PLAN", type=PLAN_PATH)
@click.option("--component", "components", multiple=True, help="Only this one; may be repeated.")
@click.option("--to", "locations", multiple=True, help="Only this location; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would be copied, copy nothing.")
@access_options
@FORMAT
def command(
    plan_path: Path,
    components: tuple[str, ...],
    locations: tuple[str, ...],
    dry_run: bool,
    access: Access,
    form: str,
) -> None:
    """Copy the recovery points and the WAL of PLAN's components to its other locations.

    The same work as the schedule's, with your own rights: only what a location lacks, each object
    read once and compared with what the location stored, a manifest after all of its objects.
    Safe to interrupt and to repeat.

    Exit status: 0 every location holds all; 1 one does not, or there is nothing whole to copy, and
    why is told; 2 the input cannot be used.

    \b
    Example:
    leeward copy policies/plans/nexus-studio.yaml --to secondary --dry-run
    """
    plan = load_plan(plan_path).plan
    with reach(plan, access) as places:
        pairs = copies_of(places, components, locations, primary=False)
        places.find_silent([*pairs, *((name, places.primary) for name, _ in pairs)])
        with _progress(form == "text" and not dry_run) as progress:
            done = [_copy(places, *pair, progress, dry_run=dry_run) for pair in pairs]
    if form == "json":
        click.echo(json.dumps({"copied": not dry_run, "copies": [it.to_json() for it in done]}))
    else:
        _print(done, dry_run=dry_run)
    if not all(it.ok for it in done):
        sys.exit(1)


def _copy(
    places: Locations, component: str, location: str, progress: Progress, *, dry_run: bool
) -> Copied:
    from chalicelib.adapters.clock import SystemClock
    from chalicelib.backup.copies import apply_copies
    from chalicelib.backup.copy_decision import decide_copies
    from chalicelib.backup.long_copies import LongPlace

    try:
        source, target = (places.store(it, component) for it in (places.primary, location))
        holdings = places.catalogue(places.primary, component).holdings()
        decision = decide_copies(holdings, source.list(), target.list())
        if dry_run:
            return Copied(component, location, decision)
        task = progress.add_task(f"{component} to {location}", total=decision.total_bytes)

        def tell(item: CopyItem) -> None:
            progress.advance(task, item.size_bytes)

        clock = SystemClock()
        place = LongPlace(source, location, clock)
        result = apply_copies(decision, source, target, clock=clock, tell=tell, long=place)
        return Copied(component, location, decision, result)
    except LeewardError as error:
        return Copied(component, location, error=error)


@contextmanager
def _progress(shown: bool) -> Iterator[Progress]:
    """On a terminal's stderr; it goes when it is done."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    disable = not shown or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as progress:
        yield progress


def _print(done: list[Copied], *, dry_run: bool) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("component", "location", "objects", "size", "state"):
        table.add_column(name, justify="right" if name in ("objects", "size") else "left")
    for it in done:
        table.add_row(it.component, it.location, *_amount(it), _state(it, dry_run=dry_run))
    console.print(table)
    for it in done:
        _print_problems(console, it)


def _amount(it: Copied) -> tuple[str, str]:
    if it.decision is None:
        return "-", "-"
    return f"{len(it.decision.items):,}", f"{it.decision.total_bytes / 1e6:,.1f} MB"


def _state(it: Copied, *, dry_run: bool) -> str:
    if it.error:
        return "[bold red]cannot be reached"
    assert it.decision is not None
    if not it.decision.vouched:
        return "[bold red]nothing to copy: no recovery point of the primary location may be used"
    if dry_run and it.decision.items:
        return "would be copied"
    if not it.ok:
        copied = it.result.copied if it.result else 0
        return f"[bold red]incomplete: {copied:,} copied"
    if dry_run:
        return "[green]up to date"
    assert it.result is not None
    return "[green]copied" if it.result.copied else "[green]up to date"


def _print_problems(console: Console, it: Copied) -> None:
    where = f"{it.component} in {it.location}"
    lines = [f"{it.error.message} ({it.error.hint})"] if it.error else []
    if it.result:
        lines += [f"{failure.key}: {failure.found}" for failure in it.result.failures]
    if it.decision:
        lines += [f"{key}: another size than the source's" for key in it.decision.differing]
        lines += [f"{key}: gone there, though its manifest is not" for key in it.decision.lost]
        lines += [f"{point} is left: {why}" for point, why in it.decision.left]
    for line in lines:
        console.print(f"{where}: {line}", markup=False, soft_wrap=True)
