"""Keep what was committed after the damage, for a person to merge: one JSON line a transaction.

    {"xid", "committed_at", "lsn", "tables": {name: {"inserted", "updated", "deleted"}},
     "schema": bool, "rows": [{"table", "row"}], "unread": [{"table", "why"}]}

`rows` are read from the damaged database, which the fence holds still: the versions that the
transaction wrote and none replaced since. A row that a later one changed again stands with that; a
deleted one is only counted. `schema` says that it also changed what the database is made of. What
could not be read is said in each transaction that it concerns.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.errors import LeewardError
from chalicelib.plan.records import RecoveryTarget, Window, format_lsn, format_time, parse_time
from chalicelib.plan.wal import WalInventory
from chalicelib.ports import Databases
from chalicelib.recover.database.changes import FIRST_USER_NUMBER, Relfile, Transaction
from chalicelib.recover.database.relations import UNNAMED, Relation, Relations

READ_SECONDS = 800
XIDS = 2**32
LARGE_OBJECTS = "pg_catalog.pg_largeobject"
# pg_type, pg_attribute, pg_proc, pg_class, pg_constraint, pg_namespace, pg_rewrite, pg_trigger
# (their files carry these numbers until someone rewrites a catalogue).
SCHEMA_CATALOGUES = frozenset({1247, 1249, 1255, 1259, 2606, 2615, 2618, 2620})


@dataclass(frozen=True)
class SetAside:
    """`rows`: row contents kept. `unreadable`: tables of which some could not be read."""

    transactions: int
    rows: int
    unreadable: tuple[str, ...]


def is_after(target: RecoveryTarget) -> Callable[[Transaction], bool]:
    """Whether a transaction is not part of a recovery to `target`, and is not the damage."""
    if target.kind == "xid":
        return lambda it: it.commit_lsn > target.lsn and it.xid != int(target.value)
    if target.kind == "lsn":
        return lambda it: it.commit_lsn >= target.lsn
    if target.kind == "time":
        moment = parse_time(target.value)
        return lambda it: it.committed_at >= moment
    return lambda it: False


def tell_beyond(wal: WalInventory, window: Window) -> str:
    """What the file lacks, in words: WAL that is stored after a gap, or on a younger timeline.
    "" when the window is the last there is."""
    ends = ((item.timeline, item.end_lsn) for item in wal.segments)
    timeline, end_lsn = max(ends, default=(0, 0))
    if (timeline, end_lsn) <= (window.timeline, window.end_lsn):
        return ""
    where = f"{format_lsn(window.end_lsn)} of timeline {window.timeline}"
    until = f"{format_lsn(end_lsn)} of timeline {timeline}"
    return f"NOT KEPT: what was committed between {where} and {until}, after a gap or a promotion"


def set_aside(
    transactions: Iterable[Transaction],
    relations: Relations,
    databases: Databases,
    *,
    target: RecoveryTarget,
    spool: Path,
    write: Callable[[bytes], None],
) -> SetAside:
    """Write the lines of all transactions after `target`, in the order of their commits.

    Args:
        transactions: of the WAL from the damage to its end, any others among them.
        databases: on the damaged database; read only.
        spool: a file that does not exist yet; it holds what memory should not, and is removed.
        write: takes the bytes of the lines, in pieces.
    """
    try:
        with _Spool(spool) as spooled:
            wanted = is_after(target)
            for transaction in transactions:
                if not wanted(transaction):
                    continue
                tables = _tables_of(transaction, relations)
                schema = _changes_schema(transaction, relations)
                if tables or schema:
                    spooled.add(transaction, tables, schema)
            for table in spooled.tables():
                _read_rows(spooled, databases, table)
            return spooled.write_lines(write)
    finally:
        spool.unlink(missing_ok=True)


def _tables_of(transaction: Transaction, relations: Relations) -> dict[str, dict[str, int]]:
    """Table -> counts. Catalogues, TOAST and indexes say nothing to a person, but for that of the
    large objects' contents; a file that no map names is kept under its numbers."""
    found: dict[str, dict[str, int]] = {}
    for relfile, rows in transaction.rows.items():
        if relations.has(relfile) and _holds_content(relfile, relations.get(relfile)):
            found[relations.name_of(relfile)] = rows._asdict()
    return found


def _holds_content(relfile: Relfile, relation: Relation | None) -> bool:
    if relation is None:
        return relfile.number >= FIRST_USER_NUMBER
    return relation.is_user_table or relation.name == LARGE_OBJECTS


def _changes_schema(transaction: Transaction, relations: Relations) -> bool:
    """Whether it wrote catalogues of this database: another's have the same numbers."""
    written = (relfile.number for relfile in transaction.rows if relations.has(relfile))
    return not SCHEMA_CATALOGUES.isdisjoint(written)


def _read_rows(spooled: _Spool, databases: Databases, table: str) -> None:
    if table.startswith(UNNAMED):
        spooled.unread[table] = "no relation map names this file"
        return
    oldest = spooled.oldest_xid()
    sql = (
        f"SELECT t.xmin::text::bigint, to_jsonb(t)::text FROM ONLY {table} t"
        " WHERE age(t.xmin) <= age(%s::text::xid)"
    )
    try:
        with databases.session(timeout_seconds=READ_SECONDS, read_only=True) as session:
            for xid, row in session.stream(sql, (str(oldest),)):
                spooled.add_row(int(xid), table, str(row))
    except LeewardError as error:
        spooled.unread[table] = error.message


class _Spool:
    """A table on disk that joins the transactions with their rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unread: dict[str, str] = {}
        self._tables: dict[str, None] = {}

    def __enter__(self) -> _Spool:
        self._database = sqlite3.connect(self._path, isolation_level=None)
        self._database.executescript(_SCHEMA)
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(
        self, transaction: Transaction, tables: dict[str, dict[str, int]], schema: bool
    ) -> None:
        self._tables |= dict.fromkeys(tables)
        head = {
            "xid": transaction.xid,
            "committed_at": format_time(transaction.committed_at),
            "lsn": format_lsn(transaction.commit_lsn),
            "tables": tables,
            "schema": schema,
        }
        added = self._database.execute("INSERT INTO line (head) VALUES (?)", (json.dumps(head),))
        members = [(xid, added.lastrowid) for xid in (transaction.xid, *transaction.children)]
        self._database.executemany("INSERT OR REPLACE INTO member VALUES (?, ?)", members)

    def tables(self) -> tuple[str, ...]:
        return tuple(self._tables)

    def oldest_xid(self) -> int:
        """Ids run in a circle; all of these lie within half of it."""
        [(first,)] = self._database.execute("SELECT xid FROM member ORDER BY line LIMIT 1")
        [(offset,)] = self._database.execute(
            _OLDEST, {"first": first, "half": XIDS // 2, "all": XIDS}
        )
        return int((first + offset) % XIDS)

    def add_row(self, xid: int, table: str, row: str) -> None:
        self._database.execute(
            "INSERT INTO kept SELECT line, ?, ? FROM member WHERE xid = ?", (table, row, xid)
        )

    def write_lines(self, write: Callable[[bytes], None]) -> SetAside:
        count = rows = 0
        for line, head in self._database.execute("SELECT line, head FROM line ORDER BY line"):
            rows += self._write_line(int(line), json.loads(head), write)
            count += 1
        return SetAside(count, rows, tuple(sorted(self.unread)))

    def _write_line(self, line: int, head: dict[str, Any], write: Callable[[bytes], None]) -> int:
        write((json.dumps(head)[:-1] + ', "rows": [').encode())
        rows = 0
        for table, row in self._rows(line):
            write(f'{", " if rows else ""}{{"table": {json.dumps(table)}, "row": {row}}}'.encode())
            rows += 1
        unread = [
            {"table": table, "why": self.unread[table]}
            for table in head["tables"]
            if table in self.unread
        ]
        write(f'], "unread": {json.dumps(unread)}}}\n'.encode())
        return rows

    def _rows(self, line: int) -> Iterator[tuple[str, str]]:
        yield from self._database.execute(
            "SELECT name, row FROM kept WHERE line = ? ORDER BY rowid", (line,)
        )


_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE line (line INTEGER PRIMARY KEY, head TEXT);
CREATE TABLE member (xid INTEGER PRIMARY KEY, line INTEGER);
CREATE TABLE kept (line INTEGER, name TEXT, row TEXT);
CREATE INDEX kept_line ON kept (line);
BEGIN;
"""

# The smallest distance to the first, forwards or backwards on the circle.
_OLDEST = """
SELECT min((xid - :first + :half + :all) % :all - :half) FROM member
"""
