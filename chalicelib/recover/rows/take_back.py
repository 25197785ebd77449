"""Rows taken back from a moment, and nothing else of their tables.

    recovered server -> rows that are gone -> beside the living tables -> marked -> one transaction:
    make dropped tables again -> insert, parents first -> verify -> commit

What others wrote meanwhile stays: a row is inserted or set aside, never updated or removed. All of
it happens in one transaction, or nothing; a second attempt finds the rows there already. A dry run
marks in a transaction that it rolls back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chalicelib.errors import BadInput, CheckFailed
from chalicelib.plan.records import Record
from chalicelib.ports import Databases, Session
from chalicelib.recover.rows.schema import (
    FOREIGN_KEY_VIOLATION,
    LostSchema,
    find_lost_schema,
    make_schema,
    mend_references,
    raise_sequences,
)
from chalicelib.recover.rows.sources import Found, Wish, find_sources
from chalicelib.recover.rows.stage import NOT_ASIDE, RESTORED, SAME, Stage, changed_meanwhile
from chalicelib.recover.rows.tables import (
    ForeignKey,
    Trigger,
    order_tables,
    read_foreign_keys,
    read_table,
)

ROWS_SECONDS = 800
LOCK_SECONDS = 10

Aside = Iterator[tuple[str, str, str]]


@dataclass(frozen=True)
class TableRows(Record):
    """`gone`: rows that were to come back: each was restored (in a dry run: would be), was there
    already, or is set aside for a reason (why -> rows)."""

    table: str
    gone: int
    restored: int
    there: int
    aside: dict[str, int]


@dataclass(frozen=True)
class RowsBack(Record):
    """`made`: tables and views made again. `notes`: what else a person should know."""

    tables: tuple[TableRows, ...]
    made: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def gone(self) -> int:
        return sum(it.gone for it in self.tables)

    @property
    def restored(self) -> int:
        return sum(it.restored for it in self.tables)

    @property
    def there(self) -> int:
        return sum(it.there for it in self.tables)

    @property
    def aside(self) -> int:
        return sum(sum(it.aside.values()) for it in self.tables)

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "tables":
            return tuple(TableRows.from_json(item) for item in value)
        return super()._revive(name, value)


Keep = Callable[[RowsBack, str, Aside], None]
"""Called just before the commit with what is done, the transaction's id (xid8 as text) and the rows
that are set aside: (table, why, row as JSON)."""


def take_rows_back(
    then: Databases, live: Databases, wish: Wish, *, keep: Keep, dry_run: bool = False
) -> RowsBack:
    """Bring the rows back, or say what that would do.

    Args:
        then: a superuser's, on the recovered server.
        live: the operator's: may insert into the tables, and make temporary ones.
    Raises:
        CheckFailed: code "no-rows-gone": nothing of that kind is missing; "rows-differ".
        Refused: code "table-without-key", "table-rewritten".
        Unavailable: code "rows-changed-meanwhile"; nothing was changed.
    """
    with (
        then.session(timeout_seconds=ROWS_SECONDS) as old,
        live.session(timeout_seconds=ROWS_SECONDS) as now,
    ):
        for session in (old, now):
            session.execute("SET search_path = ''")
        found = find_sources(old, now, wish)
        stage = Stage(old, now)
        stage.fill(found.sources)
        if not any(staged.rows for staged in stage.tables.values()):
            raise _nothing(found)
        lost = find_lost_schema(then, old, now, [it.relation for it in found.sources])
        work = _Work(old, now, stage, found, lost)
        with transaction(now, commit=not dry_run):
            return work.dry_run() if dry_run else work.do(keep)


def transaction_state(live: Databases, xid: str) -> str:
    """ "committed", "aborted" or "in progress"; "" when it is too long ago to tell."""
    with live.session(read_only=True) as session:
        [(state,)] = session.query("SELECT pg_xact_status(%s::text::xid8)", (xid,))
    return str(state or "")


def remove_rows(live: Databases, back: RowsBack, xid: str) -> int:
    """Take out again what the transaction `xid` put in, but for rows that were written since.

    Tables that it made are dropped. Returns the number of rows; safe to repeat.
    """
    removed = 0
    with live.session(timeout_seconds=ROWS_SECONDS) as session:
        session.execute("SET search_path = ''")
        tables = [it.table for it in back.tables]
        references = read_foreign_keys(session, tables)
        with transaction(session):
            session.execute("SET CONSTRAINTS ALL DEFERRED")
            for group in reversed(order_tables(tables, references)):
                for name in group:
                    removed += _remove(session, name, int(xid) % 2**32, back.made)
            for name in back.made:
                _drop(session, name)
    return removed


def _remove(session: Session, name: str, xid: int, made: Iterable[str]) -> int:
    if name in made or read_table(session, name) is None:
        return 0
    return session.execute(f"DELETE FROM {name} WHERE xmin::text::bigint = %s", (xid,))


def _drop(session: Session, name: str) -> None:
    for (kind,) in session.query(
        "SELECT relkind::text FROM pg_class WHERE oid = to_regclass(%s)", (name,)
    ):
        what = {"v": "VIEW", "m": "MATERIALIZED VIEW"}.get(str(kind), "TABLE")
        session.execute(f"DROP {what} {name} CASCADE")


@dataclass(frozen=True)
class _Work:
    then: Session
    live: Session
    stage: Stage
    found: Found
    lost: LostSchema

    def dry_run(self) -> RowsBack:
        self.stage.look()
        self.stage.mark()
        return self._told(would="", notes=self._notes())

    def do(self, keep: Keep) -> RowsBack:
        """All within the caller's transaction."""
        self.live.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        try:
            notes = self._change()
        except BadInput as error:
            if error.context.get("sqlstate") == FOREIGN_KEY_VIOLATION:
                raise changed_meanwhile(error.message) from error
            raise
        back = self._told(would=RESTORED, notes=(*self._notes(), *notes))
        [(xid,)] = self.live.query("SELECT pg_current_xact_id()::text")
        keep(back, str(xid), self.stage.aside())
        return back

    def _change(self) -> tuple[str, ...]:
        make_schema(self.live, self.lost)
        self.live.execute("SET search_path = ''")
        self.stage.look()
        self.stage.mark()
        with self._quiet_triggers() as quiet:
            for group in order_tables(self.stage.tables, self.stage.references):
                with self._deferred(group):
                    for name in group:
                        self.stage.insert(name)
            # Now, and not at the commit, is when a reference that does not hold is an error.
            self.live.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for name in self.stage.tables:
            self.stage.verify(name)
        return (*quiet, *mend_references(self.live, self.lost), *self._raise_sequences())

    def _raise_sequences(self) -> tuple[str, ...]:
        emptied = [it.relation for it in self.found.sources if it.how == "emptied"]
        moved = raise_sequences(self.then, self.live, emptied) if emptied else ()
        return (f"sequences go on after the last number: {', '.join(moved)}",) if moved else ()

    @contextmanager
    def _quiet_triggers(self) -> Iterator[tuple[str, ...]]:
        """The rows are as they were: what a trigger did when they were written, it must not do
        again. References are checked all the same: those triggers are PostgreSQL's own."""
        triggers = [it for name in self.stage.tables for it in self.stage.triggers(name)]
        for it in triggers:
            self.live.execute(f"ALTER TABLE {it.table} DISABLE TRIGGER {it.name}")
        yield (_told_triggers(triggers),) if triggers else ()
        for it in triggers:
            self.live.execute(f"ALTER TABLE {it.table} {it.enable} TRIGGER {it.name}")

    @contextmanager
    def _deferred(self, group: tuple[str, ...]) -> Iterator[None]:
        """Tables that refer to each other in a circle are checked when all have their rows."""
        circle = [it for it in self.stage.references if {it.table, it.parent} <= set(group)]
        if len(group) == 1:
            yield
            return
        hard = [it for it in circle if not it.deferrable]
        for it in hard:
            self.live.execute(_alter(it, "DEFERRABLE"))
        self.live.execute("SET CONSTRAINTS ALL DEFERRED")
        yield
        self.live.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for it in hard:
            self.live.execute(_alter(it, "NOT DEFERRABLE"))

    def _notes(self) -> tuple[str, ...]:
        sent = sum(staged.rows for staged in self.stage.tables.values())
        placed, changed = self.found.placed, self.found.changed
        notes = []
        if all(it.how == "deleted" for it in self.found.sources) and placed > sent:
            notes.append(f"{placed - sent} of the rows it deleted were its own: nobody saw them")
        if changed:
            notes.append(
                f"{changed:,} rows that it changed stay as it left them, such as references that"
                " ON DELETE SET NULL emptied"
            )
        return tuple(notes)

    def _told(self, *, would: str, notes: Iterable[str]) -> RowsBack:
        return RowsBack(
            tuple(self._table(name, would) for name in self.stage.tables),
            self.lost.relations,
            tuple(notes),
        )

    def _table(self, name: str, would: str) -> TableRows:
        counts = self.stage.counts(name)
        aside = {why: count for why, count in counts.items() if why not in (*NOT_ASIDE, "")}
        return TableRows(name, counts.total(), counts[would], counts[SAME], aside)


@contextmanager
def transaction(session: Session, *, commit: bool = True) -> Iterator[None]:
    session.execute("BEGIN")
    done = False
    try:
        yield
        done = commit
        if commit:
            session.execute("COMMIT")
    finally:
        if not done:
            session.execute("ROLLBACK")


def _alter(key: ForeignKey, how: str) -> str:
    return f"ALTER TABLE {key.table} ALTER CONSTRAINT {key.name} {how}"


def _told_triggers(triggers: Iterable[Trigger]) -> str:
    named = ", ".join(f"{it.name} of {it.table}" for it in triggers)
    return f"triggers did not fire for these rows: {named}"


def _nothing(found: Found) -> CheckFailed:
    named = ", ".join(sorted({it.table.name for it in found.sources}))
    return CheckFailed(
        f"expected rows that are gone from {named or 'a table'}, found none",
        hint="name the transaction, or a moment before the deletion; nothing was changed",
        code="no-rows-gone",
    )
