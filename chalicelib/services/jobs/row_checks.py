"""Spot checks of a restored database: single rows beside the living database's.

Only reads: the living server by the operator's login, and the WAL since, which `fetch_wal` stores
first, so that what was deleted a moment ago is explained as well.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from chalicelib.errors import BadInput, LeewardError, Unavailable
from chalicelib.plan.records import CheckResult, RecoveryTarget
from chalicelib.plan.wal import follow, segment_start
from chalicelib.ports import Databases
from chalicelib.services import build
from chalicelib.verify.checks import run_checks
from chalicelib.verify.rows.samples import GoneRow, compare_rows

if TYPE_CHECKING:
    from chalicelib.plan.records import Window
    from chalicelib.ports import Inventory

ROWS_TIME = timedelta(minutes=2)
COMPARE_TRIES, COMPARE_PAUSE_SECONDS = 3, 20.0
FETCH_SECONDS = 180.0
# The schedule may be fetching at this moment: a slot serves one at a time.
FETCH_TRIES, FETCH_PAUSE_SECONDS = 4, 15.0
# What still fits beside a restored database on a function's disk.
MOST_WAL_BYTES = 512 << 20


def look_at_rows(
    component: str, then: Databases, target: RecoveryTarget, recovered_lsn: int, *, seed: int
) -> CheckResult:
    """Compare rows by lot with the component's own database, as the application uses it now.

    Args:
        then: the restored server, on which nothing was done yet.
    """
    compare = partial(_compare, component, then, target, recovered_lsn, seed)
    return run_checks([("rows-alike", compare)], build.clock()).results[0]


def _compare(
    component: str, then: Databases, target: RecoveryTarget, recovered_lsn: int, seed: int
) -> str:
    """A lock that somebody holds for a moment, or a table that is dropped meanwhile, is no
    finding."""
    clock, now = build.clock(), build.operator(component)
    explain = partial(left_since, component, target, recovered_lsn)

    def compare() -> str:
        until = clock.now() + ROWS_TIME
        return compare_rows(then, now, explain, seed=seed, clock=clock, until=until)

    for _ in range(COMPARE_TRIES - 1):
        try:
            return compare()
        except (Unavailable, BadInput):
            clock.sleep(COMPARE_PAUSE_SECONDS)
    return compare()


def left_since(
    component: str, target: RecoveryTarget, recovered_lsn: int, rows: frozenset[GoneRow]
) -> tuple[frozenset[GoneRow] | None, str]:
    """Those that the WAL after the recovered position deleted or replaced; see LeftSince.

    Raises: as LambdaFunctions.call, when the newest WAL cannot be stored; Damaged.
    """
    from chalicelib.recover.rows.gone import left_places
    from chalicelib.recover.window import find_window
    from chalicelib.services.steps.database.wal import wal_on_disk

    _fetch_newest_wal(component)
    inventory = build.catalogue(component).inventory()
    window = find_window(inventory.windows, target)
    start = segment_start(recovered_lsn, inventory.wal.segment_bytes)
    if why := _unreadable(inventory, window, start):
        return None, why
    folder = build.environment().work_dir / f"rows-wal-{component}"
    known = {(it.database, it.file, it.page, it.line): it for it in rows}
    found: set[GoneRow] = set()
    store = build.backups(component)
    with wal_on_disk(store, inventory, window, folder, from_lsn=start) as wal:
        for place in left_places(wal.dump(window.timeline, start, window.end_lsn)):
            row = known.get((place.relfile.database, place.relfile.number, place.page, place.line))
            found |= {row} if row else set()
    return frozenset(found), ""


def _unreadable(inventory: Inventory, window: Window, start: int) -> str:
    """Why what is stored cannot tell; "" when it can."""
    newest = max(inventory.windows, key=lambda it: it.end_lsn)
    if newest != window:
        return "the WAL since has a gap"
    size = inventory.wal.segment_bytes
    since = sum(it.start_lsn + size > start for it in follow(inventory.wal, window.timeline))
    if since * size > MOST_WAL_BYTES:
        return f"{since * size >> 20} MiB of WAL since, {MOST_WAL_BYTES >> 20} MiB are read at most"
    return ""


def _fetch_newest_wal(component: str) -> None:
    functions, event = build.primary_functions(FETCH_SECONDS), {"component": component}
    for _ in range(FETCH_TRIES - 1):
        try:
            functions.call("fetch_wal", event)
            return
        except LeewardError:
            build.clock().sleep(FETCH_PAUSE_SECONDS)
    functions.call("fetch_wal", event)
