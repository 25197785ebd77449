"""The step that keeps what was committed after the damage, for a person to merge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from chalicelib.evidence import entries
from chalicelib.incidents.run import Run
from chalicelib.plan.records import Damage, RecoveryTarget, Window
from chalicelib.plan.wal import segment_start
from chalicelib.ports import Databases, ObjectStore
from chalicelib.recover.database.beginnings import sees_beginnings
from chalicelib.recover.database.changes import ChangeScan
from chalicelib.recover.database.relations import Relations
from chalicelib.recover.database.set_aside import SetAside, is_after, set_aside, tell_beyond
from chalicelib.recover.window import find_window
from chalicelib.services import build
from chalicelib.services.steps.database.relations import relations_of, relations_since
from chalicelib.services.steps.database.target import damaged_database
from chalicelib.services.steps.database.wal import fetch_last_wal, wal_on_disk
from chalicelib.services.steps.said import say
from chalicelib.services.steps.sources import source_of

FILE = "set-aside.jsonl"
# How much WAL before the damage is read, one after the other and then all, until each
# transaction that committed after it is seen from its beginning on.
BACK_SEGMENTS = (1, 8, 64)


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
    folder = build.environment().work_dir / run.run_id
    beyond = tell_beyond(inventory.wal, window)
    for start in _starts(window, target, inventory.wal.segment_bytes):
        with wal_on_disk(
            source.store, inventory, window, folder / "aside-wal", from_lsn=start
        ) as wal:
            dump = partial(wal.dump, window.timeline, start, window.end_lsn)
            if start <= window.start_lsn or sees_beginnings(dump(), is_after(target)):
                relations, damaged = _damaged(run, component, source.store, damage)
                return _keep(run, dump(), relations, damaged, target), beyond
    raise AssertionError("the last start is that of the window")


def _starts(window: Window, target: RecoveryTarget, segment_bytes: int) -> Iterator[int]:
    """From where to read. What is committed after the damage may have begun long before."""
    first = segment_start(window.start_lsn, segment_bytes)
    for segments in BACK_SEGMENTS if target.kind != "time" else ():
        start = segment_start(target.lsn, segment_bytes) - segments * segment_bytes
        if start > first:
            yield start
    yield first


def _keep(
    run: Run,
    texts: Iterable[bytes],
    relations: Relations,
    damaged: Databases,
    target: RecoveryTarget,
) -> SetAside:
    scan, folder = ChangeScan(), build.environment().work_dir / run.run_id
    with build.evidence_store().open_writer(f"{run.incident_id}/{FILE}") as writer:
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
    return kept


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
