"""The step that takes rows back into the living database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from chalicelib.adapters.postgres_waldump import PgWaldump
from chalicelib.errors import Refused, Unavailable
from chalicelib.evidence.deletion_entries import rows_back
from chalicelib.evidence.entries import serving
from chalicelib.evidence.text import counted
from chalicelib.incidents.fence import acquire_fence, require_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.records import Damage, RecoveryTarget, Window
from chalicelib.plan.wal import segment_start
from chalicelib.ports import Databases, Inventory, ObjectWriter
from chalicelib.recover.gone_rows import (
    GoneScan,
    begins_too_late,
    find_transaction,
    rewrote,
)
from chalicelib.recover.row_sources import Wish
from chalicelib.recover.rows import (
    Aside,
    RowsBack,
    remove_rows,
    take_rows_back,
    transaction_state,
)
from chalicelib.recover.window import find_window
from chalicelib.services import build
from chalicelib.services.acting import acting_on
from chalicelib.services.rebuild import (
    START_SECONDS,
    data_folder,
    databases_of,
    ensure_replayed,
    server_of,
)
from chalicelib.services.said import say
from chalicelib.services.sources import source_of
from chalicelib.services.wal import wal_on_disk

Outputs = dict[str, Any]

FILE = "rows-aside.jsonl"
# WAL that is read first before a commit: a transaction seldom spans more (64 MiB).
FIRST_SEGMENTS = 4
DELETING = ("mass-delete", "truncate", "drop", "suspected")


def restore_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Bring back what the damage deleted, and set aside what may not go in.

    Inputs: `tables`, names separated by commas: only these.
    Raises:
        Refused: code "not-a-deletion", when rows were changed or files are damaged; and as
            `take_rows_back`.
    """
    component = inputs["component"]
    if not inputs.get("damage"):
        return _nothing(run, "no rows were deleted, as far as the WAL tells")
    damage = Damage.from_json(inputs["damage"])
    if damage.kind not in DELETING:
        raise _not_deleted(damage)
    target = acting_on(run, component)
    acquire_fence(build.state(), target, run.run_id, clock=build.clock())
    live = build.operator(target)
    kept = _kept(run, live)
    if kept is None:
        kept = _take_back(run, component, target, live, damage, _names(inputs))
    back, key = RowsBack.from_json(kept["back"]), str(kept["aside"])
    say(run, rows_back(component=target, back=back.to_json(), aside=key))
    say(run, serving(at=build.clock().now(), how=f"{back.restored:,} rows are in {target} again"))
    return {
        "found": _told(back),
        "restored": back.restored,
        "there": back.there,
        "aside": back.aside,
        "object": key,
    }


def undo_restore(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Take out what the run put in, but for rows that were written since."""
    live = build.operator(acting_on(run, inputs["component"]))
    kept = _kept(run, live)
    if kept is None:
        return {"found": "no rows had been brought back"}
    removed = remove_rows(live, RowsBack.from_json(kept["back"]), str(kept["xid"]))
    return {"found": f"{counted(removed, 'row')} taken out again"}


def _take_back(
    run: Run, component: str, target: str, live: Databases, damage: Damage, tables: tuple[str, ...]
) -> dict[str, Any]:
    """What stands in the state afterwards: {"xid", "back", "aside"}."""
    ensure_replayed(run, component, damage.target)
    made: dict[str, Any] = {}

    def keep(back: RowsBack, xid: str, aside: Aside) -> None:
        """All of it is known before the commit, and none of it counts without."""
        require_fence(build.state(), target, run.run_id)
        key = _write_aside(run, aside) if back.aside else ""
        made.update({"xid": xid, "back": back.to_json(), "aside": key})
        _remember(run, made)

    with server_of(data_folder(run)) as server:
        server.start()
        server.wait_until("ready", timeout_seconds=START_SECONDS)
        then = databases_of(server, build.operator(component).database)
        named = tables or (() if damage.target.kind == "xid" else damage.tables)
        with gone_since(run, component, damage.target, named) as wish:
            take_rows_back(then, live, wish, keep=keep)
    return made


@contextmanager
def gone_since(
    run: Run, component: str, target: RecoveryTarget, tables: tuple[str, ...]
) -> Iterator[Wish]:
    """What the transaction of the target deleted, from the component's stored WAL; of another
    kind of target, what these tables have no longer."""
    if target.kind != "xid":
        yield Wish(tables=tables)
        return
    source = source_of(run, component)
    inventory = source.catalogue.inventory()
    window = find_window(inventory.windows, target)
    folder = build.environment().work_dir / run.run_id / "rows-wal"
    with ExitStack() as stack:
        for start in _starts(inventory, window, target.lsn):
            stack.close()
            wal = stack.enter_context(
                wal_on_disk(source.store, inventory, window, folder, from_lsn=start)
            )
            wish, whole = wish_of(wal, window, target, start, tables)
            if whole:
                break
        if not whole:
            raise begins_too_late(target)
        yield wish


def wish_of(
    wal: PgWaldump, window: Window, target: RecoveryTarget, start: int, tables: tuple[str, ...]
) -> tuple[Wish, bool]:
    """What the transaction deleted, its places read when they are asked for; and whether its WAL
    is all there from `start` on."""
    xid = int(target.value)
    found, whole = find_transaction(wal.dump(window.timeline, start, window.end_lsn), xid)
    if found is None:
        return Wish(tables=tables), False
    scan = GoneScan((xid, *found.children))
    return Wish(
        places=scan.read(wal.dump(window.timeline, start, found.commit_lsn)),
        lost_files=frozenset(relfile.number for relfile, _ in found.dropped),
        tables=tables,
        rewrote=rewrote(found),
    ), whole


def _starts(inventory: Inventory, window: Window, lsn: int) -> tuple[int, ...]:
    """From where to read, the nearest first; the last is as far back as there is WAL."""
    size = inventory.wal.segment_bytes
    oldest = min(
        (it.start_lsn for it in inventory.points if it.start_lsn <= window.start_lsn <= it.end_lsn),
        default=window.start_lsn,
    )
    first = segment_start(oldest, size)
    near = segment_start(lsn, size) - FIRST_SEGMENTS * size
    return (near, oldest) if near > first else (oldest,)


def _kept(run: Run, live: Databases) -> dict[str, Any] | None:
    """What an earlier attempt of the step committed; None when none did.

    Raises Unavailable (code "still-committing") while nobody can tell.
    """
    kept = build.state().get(f"run#{run.run_id}", _sort(run))
    if kept is None:
        return None
    state = transaction_state(live, str(kept["xid"]))
    if state == "in progress":
        raise Unavailable(
            f"expected the transaction {kept['xid']} of an earlier attempt to have ended",
            hint="it is tried again",
            code="still-committing",
        )
    return kept if state == "committed" else None


def _remember(run: Run, made: dict[str, Any]) -> None:
    partition = f"run#{run.run_id}"
    if not build.state().create(partition, _sort(run), made):
        build.state().replace(partition, _sort(run), made, expected={})


def _sort(run: Run) -> str:
    return f"rows#{run.step}"


def _write_aside(run: Run, aside: Aside) -> str:
    """One JSON line a row: {"table", "why", "row"}."""
    with build.evidence_store().open_writer(f"{run.incident_id}/{FILE}") as writer:
        write_aside(writer, aside)
        writer.commit()
    return FILE


def write_aside(writer: ObjectWriter, aside: Aside) -> None:
    for table, why, row in aside:
        head = json.dumps({"table": table, "why": why})[:-1]
        writer.write(f'{head}, "row": {row}}}\n'.encode())


def _names(inputs: dict[str, Any]) -> tuple[str, ...]:
    named = str(inputs.get("tables") or "")
    return tuple(name.strip() for name in named.split(",") if name.strip())


def _nothing(run: Run, why: str) -> Outputs:
    say(run, serving(at=build.clock().now(), how=why))
    return {"found": why, "restored": 0, "there": 0, "aside": 0, "object": ""}


def _not_deleted(damage: Damage) -> Refused:
    return Refused(
        f"expected rows that one transaction deleted, found {damage.kind}: {damage.found}",
        hint="the scenario database-corruption brings changed rows and damaged files back",
        code="not-a-deletion",
    )


def _told(back: RowsBack) -> str:
    tables = ", ".join(f"{it.restored:,} of {it.table}" for it in back.tables)
    made = f"; made again: {', '.join(back.made)}" if back.made else ""
    there = f"; {back.there:,} were there already" if back.there else ""
    aside = f"; {back.aside:,} set aside for a person ({FILE})" if back.aside else ""
    notes = "".join(f"; {note}" for note in back.notes)
    return f"{counted(back.restored, 'row')} back, equal to what they were: {tables}" + (
        made + there + aside + notes
    )
