"""leeward verify PLAN: are the copies what was stored, in every location; and repair them."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from chalicelib.errors import BadInput, LeewardError, Unavailable
from leeward.console import Console
from leeward.deployed import Access, access_options, copies_of, reach
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan
from leeward.verify_found import Found

if TYPE_CHECKING:
    from chalicelib.ports import ObjectStore
    from chalicelib.services.locations import Locations
    from chalicelib.verify.copies.check_run import CheckProgress
    from chalicelib.verify.copies.integrity import CheckResult
    from chalicelib.verify.copies.repair_run import Repaired


@click.command(short_help="Check the copies in every location, and repair them.")
@click.argument("plan_path", metavar="PLAN", type=PLAN_PATH)
@click.option("--component", "components", multiple=True, help="Only this one; may be repeated.")
@click.option("--location", "locations", multiple=True, help="Only there; may be repeated.")
@click.option("--read-all", is_flag=True, help="Read every byte, not the share whose turn it is.")
@click.option("--repair", is_flag=True, help="Copy back what another location has sound.")
@click.option("--dry-run", is_flag=True, help="Say what --repair would do, and repair nothing.")
@click.option("--compare", is_flag=True, help="Is every point provably the same in all of them?")
@access_options
@FORMAT
def command(
    plan_path: Path,
    components: tuple[str, ...],
    locations: tuple[str, ...],
    read_all: bool,
    repair: bool,
    dry_run: bool,
    compare: bool,
    access: Access,
    form: str,
) -> None:
    """Check that every location holds what was stored: that each object exists, its size and
    stored checksum, and by reading the share whose turn it is.

    Of a bucket its replicas are held against the newest inventory; that needs the deployment.

    With --repair what is damaged is copied back from a location that has it sound; a point that
    none has is quarantined; --dry-run tells both and does neither. A copy that was quarantined as
    damaged is read, mended where another location has it whole, and free then. Without --repair
    nothing is changed but the memory of what was read.

    With --compare the locations are held against each other too: a point is the same in all when
    its manifests name the same bytes and every object was read where it lies, so with --read-all
    at the latest. A point that one location has alone is a difference, whatever the reason, and so
    is WAL that should have been copied by now.

    Exit status: 0 everything was looked at and is as it should be (after the repair); 1 not, a
    point was quarantined, or a location did not answer; 2 the input cannot be used.

    \b
    Example:
    leeward verify policies/plans/nexus-studio.yaml --read-all
    """
    found = Found()
    with reach(load_plan(plan_path).plan, access) as places, _ledgers(places) as ledgers:
        pairs = copies_of(places, components, locations, primary=True)
        compared = _to_compare(pairs) if compare else []
        places.find_silent(pairs)
        with _progress(form == "text") as progress:
            for component, location in pairs:
                _check(places, component, location, ledgers, found, progress, read_all=read_all)
            for component, location in _replicas_of(places, components, locations):
                _check_replica(places, component, location, found, progress, read_all=read_all)
            if repair or dry_run:
                answering = _plan_repair(places, ledgers, found)
                if not dry_run:
                    _repair(places, answering, ledgers, found, progress)
            for component in compared:
                _compare(places, component, pairs, ledgers, found)
    if form == "json":
        click.echo(json.dumps(found.to_json()))
    else:
        _print(found)
    if not found.ok:
        sys.exit(1)


@contextmanager
def _ledgers(places: Locations) -> Iterator[ObjectStore]:
    """The checks' memory; without a deployment there is none, and none is kept."""
    from chalicelib.adapters.folder.store import FolderObjectStore
    from chalicelib.services import build

    if places.deployed:
        yield build.ledgers()
        return
    with tempfile.TemporaryDirectory(prefix="leeward-verify-") as folder:
        yield FolderObjectStore(Path(folder))


def _check(
    places: Locations,
    component: str,
    location: str,
    ledgers: ObjectStore,
    found: Found,
    progress: Progress,
    *,
    read_all: bool,
) -> None:
    try:
        found.checks.append(
            _look(places, component, location, ledgers, progress, read_all=read_all)
        )
    except LeewardError as error:
        found.silent.append((component, location, error))


def _replicas_of(
    places: Locations, components: tuple[str, ...], locations: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Without a deployment nothing tells where a replica is."""
    if not places.deployed:
        return []
    plan = places.plan
    buckets = [
        name
        for name, it in plan.components.items()
        if it.kind == "bucket" and name not in plan.stand_ins
    ]
    return [
        (component, location)
        for component in buckets
        if not components or component in components
        for location in places.of(component)
        if not locations or location in locations
    ]


def _check_replica(
    places: Locations,
    component: str,
    location: str,
    found: Found,
    progress: Progress,
    *,
    read_all: bool,
) -> None:
    from chalicelib.services.jobs.checking import policy_of
    from chalicelib.services.jobs.replica_checks import check_objects

    policy = policy_of(places.plan, places.component(component))
    try:
        result = check_objects(
            component, location, policy, until=None, read_all=read_all,
            tell=_bar(progress, f"{component} in {location}, objects"),
        )  # fmt: skip
    except LeewardError as error:
        found.silent.append((component, location, error))
        return
    found.replicas.append((component, location, result))


def _look(
    places: Locations,
    component: str,
    location: str,
    ledgers: ObjectStore,
    progress: Progress,
    *,
    read_all: bool,
) -> CheckResult:
    from chalicelib.adapters.clock import SystemClock
    from chalicelib.services.jobs.checking import policy_at, share_to_read
    from chalicelib.verify.copies.location import verify_location

    store = places.store(location, component)
    policy = policy_at(places, location, component)
    share = None if read_all else share_to_read(store, policy)
    return verify_location(
        store,
        places.indexed(location, component),
        location=location,
        component=component,
        policy=replace(policy, read_bytes=share),
        ledgers=ledgers,
        clock=SystemClock(),
        tell=_bar(progress, f"{component} in {location}"),
    )


def _bar(progress: Progress, title: str) -> Callable[[CheckProgress], None]:
    task = progress.add_task(title, total=None)

    def tell(now: CheckProgress) -> None:
        progress.update(task, completed=now.read_bytes, total=now.to_read_bytes)

    return tell


def _plan_repair(
    places: Locations, ledgers: ObjectStore, found: Found
) -> dict[str, tuple[str, ...]]:
    """Decided over all locations; the names of those that answered, by component."""
    from chalicelib.services.jobs.checking import damaged_copies, look_at_all
    from chalicelib.verify.copies.mending import decide_mending
    from chalicelib.verify.copies.repair import decide_repair

    answering = {}
    wanting = (it.component for it in found.checks if it.findings or it.quarantined)
    for component in dict.fromkeys(wanting):
        views, unknown = look_at_all(places, component, ledgers=ledgers)
        damaged = damaged_copies(places, component, views)
        planned = (*decide_repair(views, unknown=unknown), *decide_mending(views, damaged))
        found.planned[component] = planned
        answering[component] = tuple(view.name for view in views)
    return answering


def _repair(
    places: Locations,
    answering: dict[str, tuple[str, ...]],
    ledgers: ObjectStore,
    found: Found,
    progress: Progress,
) -> None:
    """What was decided is done, and what was wrong is checked again."""
    from chalicelib.adapters.clock import SystemClock
    from chalicelib.verify.copies.repair_run import RepairResult, apply_repair

    for component, actions in found.planned.items():
        stores = {name: places.store(name, component) for name in answering[component]}
        repaired: list[Repaired] = []
        # The index tells of the primary location's copy, not of one that is mended elsewhere.
        for mend, catalogue in ((False, places.indexed), (True, places.catalogue)):
            some = [it for it in actions if (it.do == "mend") is mend]
            own = {name: catalogue(name, component) for name in stores}
            repaired += apply_repair(some, stores, own, clock=SystemClock()).repaired
        found.repairs[component] = RepairResult(tuple(repaired))
    for it in (it for it in found.checks if it.findings or found.has_mended(it)):
        again = (places, it.component, it.location, ledgers, progress)
        found.after.append(_look(*again, read_all=True))


def _to_compare(pairs: list[tuple[str, str]]) -> list[str]:
    """The components with copies in two locations and more."""
    components = [component for component, _ in pairs]
    found = [it for it in dict.fromkeys(components) if components.count(it) > 1]
    if not found:
        raise BadInput(
            "expected copies in two locations to compare, found one",
            code="nothing-to-compare",
            hint="Leave --compare out, or name two locations and a component that is in both.",
        )
    return found


def _compare(
    places: Locations,
    component: str,
    pairs: list[tuple[str, str]],
    ledgers: ObjectStore,
    found: Found,
) -> None:
    from chalicelib.adapters.clock import SystemClock
    from chalicelib.services.jobs.checking import look_at_all, policy_of
    from chalicelib.verify.copies.locations import compare_locations

    views, unknown = look_at_all(places, component, ledgers=ledgers)
    silent = {(name, location) for name, location, _ in found.silent}
    for location in unknown:
        if (component, location) in pairs and (component, location) not in silent:
            found.silent.append((component, location, _silent(location)))
    found.comparisons[component] = compare_locations(
        [view for view in views if (component, view.name) in pairs],
        policy_of(places.plan, places.component(component)),
        now=SystemClock().now(),
        silent=tuple(location for location in unknown if (component, location) in pairs),
    )


def _silent(location: str) -> LeewardError:
    return Unavailable(
        f"expected {location} to be compared, it did not answer",
        code="location-silent",
        hint="Look whether the location answers, then compare again.",
    )


@contextmanager
def _progress(shown: bool) -> Iterator[Progress]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    disable = not shown or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as progress:
        yield progress


def _print(found: Found) -> None:
    from leeward.verify_report import (
        show_checks,
        show_comparison,
        show_planned,
        show_repair,
        show_replicas,
    )

    console = Console(highlight=False)
    if found.checks:
        show_checks(console, found.checks)
    if found.replicas:
        show_replicas(console, found.replicas)
    for component, location, error in found.silent:
        told = f"{component} in {location} cannot be checked: {error.message}"
        console.print(told, style="bold red", markup=False, soft_wrap=True)
    for component, actions in found.planned.items():
        if component not in found.repairs:
            show_planned(console, actions)
    for repaired in found.repairs.values():
        show_repair(console, repaired)
    if found.after:
        console.print("after the repair")
        show_checks(console, found.after)
    for component, comparison in found.comparisons.items():
        console.print(f"\n{component}: {', '.join(comparison.locations)} compared", markup=False)
        show_comparison(console, comparison)
