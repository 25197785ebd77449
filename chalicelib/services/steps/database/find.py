"""The step that names the damage and the moment to go back to."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from chalicelib.adapters.postgres.inspect import PostgresInspector
from chalicelib.errors import BadInput, CheckFailed, Damaged, Unavailable
from chalicelib.evidence.entries import damage_found
from chalicelib.incidents.run import Run
from chalicelib.plan.records import Damage, Window
from chalicelib.plan.wal import segment_start
from chalicelib.ports import Inventory
from chalicelib.recover.database.changes import ChangeScan, drops_marked
from chalicelib.recover.database.find import Search, find_damage
from chalicelib.recover.database.owners import check_owners
from chalicelib.recover.database.reshaped import to_keep
from chalicelib.recover.moment import last_commit_in, named_transactions
from chalicelib.recover.window import choose_points, find_window
from chalicelib.services import build
from chalicelib.services.jobs.watching import watched_until
from chalicelib.services.steps.database.bisect import Bisection
from chalicelib.services.steps.database.relations import (
    invalid_row,
    relations_of,
    shapes_of,
    with_sequences,
)
from chalicelib.services.steps.database.wal import fetch_last_wal, wal_on_disk
from chalicelib.services.steps.said import say
from chalicelib.services.steps.sources import END, Source, choose_source

# WAL that is searched first: 1 GiB takes about 15 s to read (measured at 65 to 75 MiB/s).
FIRST_SEARCH_SEGMENTS = 64


def find(run: Run, inputs: dict[str, Any]) -> dict[str, Any]:
    """Search all the WAL there is up to now, the source's files and pages.

    Raises OutsideWindow when a person named a moment that cannot be reached.
    """
    component, moment = inputs["component"], str(inputs.get("moment") or "")
    if run.drill and not moment:
        return _pretend(run, component)
    _expect_owners(run, component)
    note = fetch_last_wal(component)
    source = choose_source(run, component, END)
    damage = _search(run, component, source, moment)
    if moment:
        # What cannot be reached is refused here, before a later step stops anybody's writes.
        choose_points(source.inventory(), damage.target)
    say(run, damage_found(damage))
    found = f"{damage.found}; {note}" if note else damage.found
    return {"found": found, "damage": damage.to_json(), "target": damage.target.to_json()}


def _expect_owners(run: Run, component: str) -> None:
    """What could not be given back is refused while the application still works as well as it did.
    A database that does not open was asked by the watch before."""
    steps = build.plan().scenarios[run.scenario].all_steps()
    if any(step.uses == "database.load" for step in steps):
        with suppress(BadInput, Damaged, Unavailable):
            check_owners(build.operator(component))


def _pretend(run: Run, component: str) -> dict[str, Any]:
    """In a drill nothing is damaged: as if it were lost now, with all that is stored."""
    note = fetch_last_wal(component)
    choose_source(run, component, END)
    found = "a drill: nothing is damaged; recover all that is stored, as if it were lost now"
    return {"found": f"{found}; {note}" if note else found, "damage": {}, "target": END.to_json()}


def _search(run: Run, component: str, source: Source, moment: str) -> Damage:
    inventory = source.inventory()
    window = find_window(inventory.windows, END)
    far = window.end_lsn - FIRST_SEARCH_SEGMENTS * inventory.wal.segment_bytes
    search = partial(_search_from, run, component, source, moment, inventory, window)
    try:
        return search(max(window.start_lsn, far))
    except CheckFailed as error:
        if error.instance_code != "no-damage-found" or far <= window.start_lsn:
            raise
    return search(window.start_lsn)


def _search_from(
    run: Run,
    component: str,
    source: Source,
    moment: str,
    inventory: Inventory,
    window: Window,
    from_lsn: int,
) -> Damage:
    databases = build.operator(component)
    folder = build.environment().work_dir / run.run_id / "wal"
    start = segment_start(from_lsn, inventory.wal.segment_bytes)
    since = watched_until(component)
    relations, shapes = relations_of(source.store, databases), shapes_of(source.store, databases)
    with wal_on_disk(source.store, inventory, window, folder, from_lsn=start) as wal:
        scan = ChangeScan(
            keep=named_transactions(moment),
            shaped=to_keep(relations, shapes),
            drops_marked=drops_marked(it.server_version for it in inventory.points),
            sequence_value=partial(wal.sequence_value, window.timeline),
        )
        activity = scan.read(wal.dump(window.timeline, start, window.end_lsn))
        bisection = Bisection(run, component, source, wal, window, since)
        search = Search(
            activity=activity,
            relations=relations,
            shapes=with_sequences(shapes, databases, activity),
            inspector=PostgresInspector(build.operator_dsn(component), databases),
            thresholds=build.database(component).damage,
            timeline=window.timeline,
            now=build.clock().now(),
            since=since,
            commits=partial(bisection.commits, start),
            invalid_row=invalid_row(databases),
            last_commit=lambda lsn: last_commit_in(wal.dump(window.timeline, start, lsn)),
            is_sound=bisection.is_sound if build.database(component).checks.assertions else None,
        )
        return find_damage(search, moment=moment)
