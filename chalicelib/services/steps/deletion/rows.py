"""The step that takes rows back into the living database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from chalicelib.adapters.postgres.waldump import PgWaldump
from chalicelib.errors import CheckFailed, Refused, Unavailable
from chalicelib.evidence.deletion_entries import rows_back
from chalicelib.evidence.entries import serving
from chalicelib.evidence.text import counted
from chalicelib.incidents.fence import acquire_fence, require_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.records import Damage, RecoveryTarget, Window
from chalicelib.plan.wal import segment_start
from chalicelib.ports import Databases, Inventory
from chalicelib.recover.rows.gone import (
    GoneScan,
    begins_too_late,
    find_transaction,
    rewrote,
)
from chalicelib.recover.rows.sources import Wish
from chalicelib.recover.rows.take_back import (
    Aside,
    RowsBack,
    remove_rows,
    take_rows_back,
    transaction_state,
)
from chalicelib.recover.window import find_window
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.database.rebuild import (
    START_SECONDS,
    data_folder,
    databases_of,
    ensure_replayed,
    server_of,
)
from chalicelib.services.steps.database.wal import wal_on_disk
from chalicelib.services.steps.said import say
from chalicelib.services.steps.sources import source_of

Outputs = dict[str, Any]

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
    damages = _damages(inputs)
    if not damages:
        return _nothing(run, "no rows were deleted, as far as the WAL tells")
    target = acting_on(run, component)
    acquire_fence(build.state(), target, run.run_id, clock=build.clock())
    live = build.operator(target)
    backs: list[RowsBack] = []
    for damage in damages:
        kept = _kept(run, live, damage)
        if kept is None:
            kept = _take_back(run, component, target, live, damage, _names(inputs))
        if kept is None:
            return _nothing(run, f"a drill: {target} lacks no row")
        backs.append(RowsBack.from_json(kept["back"]))
        entry = rows_back(component=target, back=kept["back"], aside=str(kept["aside"]))
        say(run, entry, about=damage.target.value)
    say(run, serving(at=build.clock().now(), how=f"the rows are in {target} again"))
    return {
        "found": "; ".join(map(_told, backs)),
        "restored": sum(back.restored for back in backs),
        "there": sum(back.there for back in backs),
        "aside": sum(back.aside for back in backs),
        "object": _file(damages[0]) if any(back.aside for back in backs) else "",
    }


def _damages(inputs: dict[str, Any]) -> tuple[Damage, ...]:
    """The last transaction first: what came before may have deleted the children of its rows."""
    given = [inputs["damage"]] if inputs.get("damage") else []
    damages = tuple(Damage.from_json(it) for it in [*given, *(inputs.get("more") or ())])
    for damage in damages:
        if damage.kind not in DELETING:
            raise _not_deleted(damage)
    return damages


def undo_restore(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Take out what the run put in, but for rows that were written since."""
    live = build.operator(acting_on(run, inputs["component"]))
    removed = 0
    for kept in build.state().query(f"run#{run.run_id}", f"rows#{run.step}#"):
        state = transaction_state(live, str(kept["xid"]))
        if state == "in progress":
            raise Unavailable(
                f"expected transaction {kept['xid']} of the run to have ended, it goes on",
                hint="it is tried again; its worker is gone, and PostgreSQL ends it by itself",
                code="still-committing",
            )
        if state == "committed":
            removed += remove_rows(live, RowsBack.from_json(kept["back"]), str(kept["xid"]))
    return {
        "found": f"no row is left of those that the run put in and nobody wrote since;"
        f" {counted(removed, 'row')} taken out just now"
    }


def _take_back(
    run: Run, component: str, target: str, live: Databases, damage: Damage, tables: tuple[str, ...]
) -> dict[str, Any] | None:
    """What stands in the state afterwards: {"xid", "back", "aside"}; None when a drill found that
    its stand-in has every row."""
    ensure_replayed(run, component, damage.target)
    made: dict[str, Any] = {}

    def keep(back: RowsBack, xid: str, aside: Aside) -> None:
        """All of it is known before the commit, and none of it counts without."""
        require_fence(build.state(), target, run.run_id)
        key = _write_aside(run, damage, aside) if back.aside else ""
        made.update({"xid": xid, "back": back.to_json(), "aside": key})
        _remember(run, damage, made)

    with server_of(data_folder(run)) as server:
        server.start()
        server.wait_until("ready", timeout_seconds=START_SECONDS)
        then = databases_of(server, build.operator(component).database)
        named = tables or (() if damage.target.kind == "xid" else damage.tables)
        with gone_since(run, component, damage.target, named) as wish:
            try:
                take_rows_back(then, live, wish, keep=keep)
            except CheckFailed as error:
                if run.drill and error.instance_code == "no-rows-gone":
                    return None
                raise
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
        for start in wal_starts(inventory, window, target.lsn):
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
        changed=scan.changed,
    ), whole


def wal_starts(inventory: Inventory, window: Window, lsn: int) -> tuple[int, ...]:
    """From where to read, the nearest first; the last is as far back as there is WAL."""
    size = inventory.wal.segment_bytes
    oldest = min(
        (it.start_lsn for it in inventory.points if it.start_lsn <= window.start_lsn <= it.end_lsn),
        default=window.start_lsn,
    )
    first = segment_start(oldest, size)
    near = segment_start(lsn, size) - FIRST_SEGMENTS * size
    return (near, oldest) if near > first else (oldest,)


def _kept(run: Run, live: Databases, damage: Damage) -> dict[str, Any] | None:
    """What an earlier attempt of the step committed; None when none did.

    Raises Unavailable (code "still-committing") while nobody can tell.
    """
    kept = build.state().get(f"run#{run.run_id}", _sort(run, damage))
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


def _remember(run: Run, damage: Damage, made: dict[str, Any]) -> None:
    partition, sort = f"run#{run.run_id}", _sort(run, damage)
    if not build.state().create(partition, sort, made):
        build.state().replace(partition, sort, made, expected={})


def _sort(run: Run, damage: Damage) -> str:
    return f"rows#{run.step}#{damage.target.value}"


def _file(damage: Damage) -> str:
    """Below the incident: one for each transaction."""
    name = damage.target.value or damage.target.kind
    return f"rows-aside-{name.replace(':', '')}.jsonl"


def _write_aside(run: Run, damage: Damage, aside: Aside) -> str:
    """One JSON line a row: {"table", "why", "row"}."""
    name = _file(damage)
    with build.evidence_store().open_writer(f"{run.incident_id}/{name}") as writer:
        write_aside(writer, aside)
        writer.commit()
    return name


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


def write_aside(writer: Writable, aside: Aside) -> None:
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
    aside = f"; {back.aside:,} set aside for a person" if back.aside else ""
    notes = "".join(f"; {note}" for note in back.notes)
    return f"{counted(back.restored, 'row')} back, equal to what they were: {tables}" + (
        made + there + aside + notes
    )
