"""What an attack did to a database, by its WAL: its rows, its tables, and the database itself."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from chalicelib.incidents.run import Run
from chalicelib.plan.wal import segment_start
from chalicelib.ports import Inventory
from chalicelib.recover.attack.infection import DatabaseSign
from chalicelib.recover.database.changes import (
    Activity,
    ChangeScan,
    Relfile,
    Shaped,
    drops_marked,
)
from chalicelib.recover.database.suspects import Suspect, decide_suspects
from chalicelib.recover.moment import last_commit_in
from chalicelib.recover.window import find_window
from chalicelib.services import build
from chalicelib.services.steps.database.relations import relations_since, renamed
from chalicelib.services.steps.database.wal import fetch_last_wal, wal_on_disk
from chalicelib.services.steps.sources import END, choose_source

DATABASES = frozenset({"pg_catalog.pg_database"})


def database_signs(run: Run, component: str, since: datetime) -> list[DatabaseSign]:
    """Transactions since then that changed too much, or that dropped or renamed the database, of
    the WAL that is stored and of the rest.

    Raises NotReady: code "database-gone"; "database-renamed" where no transaction since then did
        it, so that it bore another name before the attack.
    """
    fetch_last_wal(component)
    source, databases = choose_source(run, component, END), build.operator(component)
    inventory = source.catalogue.inventory()
    window = find_window(inventory.windows, END)
    start = _start_of(inventory, window.start_lsn, since)
    folder = build.environment().work_dir / run.run_id / "infection-wal"
    relations, now_called = relations_since(source.store, databases, since)
    rows = frozenset(Relfile(0, it) for it in relations.files_of(DATABASES))
    with wal_on_disk(source.store, inventory, window, folder, from_lsn=start) as wal:
        scan = ChangeScan(
            shaped=Shaped(unlocked=rows),
            drops_marked=drops_marked(it.server_version for it in inventory.points),
        )
        activity = scan.read(wal.dump(window.timeline, start, window.end_lsn))
        thresholds = build.database(component).damage
        found = decide_suspects(activity, relations, thresholds, since=since)
        before = partial(wal.dump, window.timeline, start)
        signs = [
            _sign_of(it, last_commit_in(before(it.drop_lsn)) if it.drop_lsn else None)
            for it in found
            if it.strong
        ]
    if now_called == databases.database:
        return signs
    renaming = find_renaming(activity, rows, now_called, since)
    if renaming is None:
        raise renamed(databases.database, now_called)
    return [*signs, renaming]


def find_renaming(
    activity: Activity, rows: frozenset[Relfile], now_called: str, since: datetime
) -> DatabaseSign | None:
    """The first transaction since then that may have renamed a database: WAL names the catalogue
    that it changed a row of, and not the row. A moment too early costs little. Pure.

    Args:
        rows: pg_database, under every number that its file had.
    """
    changed = (
        it
        for it in activity.notable
        if it.committed_at > since and any(it.rows[file].updated for file in rows & it.rows.keys())
    )
    first = next(changed, None)
    if first is None:
        return None
    why = f"the database is called {now_called} now, by transaction {first.xid} or one after it"
    return DatabaseSign(first.xid, first.committed_at, 0, why)


def _sign_of(suspect: Suspect, quiet_since: datetime | None) -> DatabaseSign:
    why = f"transaction {suspect.xid}: {suspect.why}"
    return DatabaseSign(
        suspect.xid, suspect.committed_at, suspect.rows, why, suspect.drop_lsn, quiet_since
    )


def _start_of(inventory: Inventory, first: int, since: datetime) -> int:
    """The end of the last backup before the time: WAL before it holds nothing that is searched."""
    ends = [it.end_lsn for it in inventory.points if it.finished_at < since]
    start = segment_start(max([first, *ends]), inventory.wal.segment_bytes)
    return max(first, start)
