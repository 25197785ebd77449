"""The step that keeps what was committed after the damage, for a person to merge."""

from __future__ import annotations

from typing import Any

from chalicelib.evidence import entries
from chalicelib.incidents.run import Run
from chalicelib.plan.records import Damage
from chalicelib.plan.wal import segment_start
from chalicelib.ports import Databases, ObjectStore
from chalicelib.recover.database.changes import ChangeScan
from chalicelib.recover.database.relations import Relations
from chalicelib.recover.database.set_aside import SetAside, set_aside, tell_beyond
from chalicelib.recover.window import find_window
from chalicelib.services import build
from chalicelib.services.steps.database.relations import relations_of, relations_since
from chalicelib.services.steps.database.target import damaged_database
from chalicelib.services.steps.database.wal import fetch_last_wal, wal_on_disk
from chalicelib.services.steps.said import say
from chalicelib.services.steps.sources import source_of

FILE = "set-aside.jsonl"


def set_aside_step(run: Run, inputs: dict[str, Any]) -> dict[str, Any]:
    """Write the incident's set-aside file; nothing is kept when nothing was left behind."""
    if not inputs["damage"]:
        return {"found": "a drill: nothing was damaged", "transactions": 0, "rows": 0, "object": ""}
    component, damage = inputs["component"], Damage.from_json(inputs["damage"])
    if damage.target.kind == "end":
        kept, note = SetAside(0, 0, ()), "recovered to the end of the WAL"
    else:
        fetched = fetch_last_wal(component)
        kept, beyond = _set_aside(run, component, damage)
        note = "; ".join(filter(None, (fetched, beyond)))
    object_key = FILE if kept.transactions else ""
    say(
        run,
        entries.set_aside(
            transactions=kept.transactions,
            rows=kept.rows,
            object_key=object_key,
            unreadable=len(kept.unreadable),
        ),
    )
    unread = f"; not readable: {', '.join(kept.unreadable)}" if kept.unreadable else ""
    found = f"{kept.transactions} transactions, {kept.rows} rows kept for a person to merge{unread}"
    return {
        "found": f"{found}; {note}" if note else found,
        "transactions": kept.transactions,
        "rows": kept.rows,
        "object": object_key,
    }


def _set_aside(run: Run, component: str, damage: Damage) -> tuple[SetAside, str]:
    """And what is stored and was not looked at, in words."""
    source, target = source_of(run, component), damage.target
    inventory = source.catalogue.inventory()
    window = find_window(inventory.windows, target)
    known = window.start_lsn if target.kind == "time" else target.lsn
    first = segment_start(known, inventory.wal.segment_bytes)
    relations, damaged = _damaged(run, component, source.store, damage)
    folder = build.environment().work_dir / run.run_id
    with (
        wal_on_disk(source.store, inventory, window, folder / "aside-wal", from_lsn=first) as wal,
        build.evidence_store().open_writer(f"{run.incident_id}/{FILE}") as writer,
    ):
        scan = ChangeScan()
        texts = wal.dump(window.timeline, first, window.end_lsn)
        kept = set_aside(
            (transaction for text in texts for transaction in scan.feed(text)),
            relations,
            damaged,
            target=target,
            spool=folder / "aside.sqlite",
            write=writer.write,
        )
        if kept.transactions:
            writer.commit()
    return kept, tell_beyond(inventory.wal, window)


def _damaged(
    run: Run, component: str, store: ObjectStore, damage: Damage
) -> tuple[Relations, Databases]:
    """The database that was damaged, which an attacker may have renamed."""
    name = damaged_database(run)
    databases = build.operator(component, name)
    if damage.damaged_at is None:
        return relations_of(store, databases), databases
    relations, called = relations_since(store, databases, damage.damaged_at)
    return relations, databases if called == name else build.operator(component, called)
