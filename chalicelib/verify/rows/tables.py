"""The tables of a restored server and of the living one, and SQL that reads their rows alike.

A restored server has the object ids of its source, so a table is the same one when its id is, by
whatever name it goes now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from chalicelib.ports import Session
from chalicelib.verify.rows.versions import Version

# "send": the bytes that a client would be sent, which no setting changes; "text": where a type has
# none of these.
Form = Literal["send", "text"]
DIGESTS: dict[Form, str] = {
    "send": "encode(sha256(record_send(ROW({}))), 'hex')",
    "text": "encode(sha256(convert_to(ROW({})::text, 'UTF8')), 'hex')",
}
# Types whose values name a row and tell nothing of anybody.
SHOWN_TYPES = ("smallint", "integer", "bigint", "uuid")
KEY_DIGITS = 12


@dataclass(frozen=True)
class Column:
    """`name`: quoted. `type`: as a definition spells it."""

    number: int
    name: str
    type_id: int
    type: str


@dataclass(frozen=True)
class Table:
    """`file`: the number of its data file. `xmin`: of its row in the catalogue. `key`: numbers of
    the columns of its primary key, () when it has none."""

    oid: int
    name: str
    file: int
    xmin: int
    pages: int
    key: tuple[int, ...]
    columns: tuple[Column, ...]

    def column(self, number: int) -> Column:
        return next(it for it in self.columns if it.number == number)


@dataclass(frozen=True)
class Side:
    """One table as one of the two servers has it, and how its rows are read.

    columns: numbers of those that both servers have. by_key: whether rows are found by their key;
    else by their places, which a copy of the files shares until the table is written anew.
    """

    table: Table
    columns: tuple[int, ...]
    by_key: bool
    form: Form

    @property
    def keys(self) -> list[tuple[str, str]]:
        """(expression, type) of what finds a row."""
        if not self.by_key:
            return [("t.ctid", "tid")]
        found = (self.table.column(number) for number in self.table.key)
        return [(f"t.{it.name}", it.type) for it in found]

    @property
    def content(self) -> str:
        names = (f"t.{self.table.column(number).name}" for number in self.columns)
        return DIGESTS[self.form].format(", ".join(names))


Drawn = tuple[tuple[str, ...], Version]


def read_tables(session: Session) -> dict[int, Table]:
    """Every table of users that a restore brings back, by its id."""
    columns: dict[int, list[Column]] = {}
    for owner, number, name, type_id, type_ in session.query(_COLUMNS):
        columns.setdefault(int(owner), []).append(Column(number, name, int(type_id), type_))
    return {
        int(oid): Table(int(oid), name, int(file), int(xmin), int(pages), tuple(key or ()), own)
        for oid, name, file, xmin, pages, key in session.query(_TABLES)
        for own in [tuple(columns.get(int(oid), ()))]
    }


def shared_columns(one: Table, other: Table) -> tuple[int, ...]:
    """Of both, with the same type: one that came or went since is no difference of a row."""
    known = {(it.number, it.type_id) for it in other.columns}
    return tuple(it.number for it in one.columns if (it.number, it.type_id) in known)


def draw_rows(
    session: Session, side: Side, *, seed: int, rows: int, percent: float | None = None
) -> list[Drawn]:
    """(key, version) of rows by lot: those whose keys have the lowest hashes with this seed.

    Args:
        percent: of the table's pages, also by lot; None reads them all.
    """
    keys = side.keys
    lot = f"hashtextextended(ROW({', '.join(it for it, _ in keys)})::text, {seed})"
    sample = "" if percent is None else f" TABLESAMPLE SYSTEM ({percent:.6f}) REPEATABLE ({seed})"
    found = session.query(
        f"WITH drawn AS MATERIALIZED (SELECT t.ctid AS place FROM ONLY {side.table.name} t{sample}"
        f" ORDER BY {lot} LIMIT {rows})"
        f" SELECT {_version(side)}, {', '.join(f'{it}::text' for it, _ in keys)}"
        f" FROM drawn JOIN ONLY {side.table.name} t ON t.ctid = drawn.place"
    )
    return [(tuple(map(str, row[4:])), Version(*row[:4])) for row in found]


def find_rows(
    session: Session, side: Side, keys: Iterable[tuple[str, ...]]
) -> dict[tuple[str, ...], Version]:
    """The versions that are there under these keys."""
    wanted = list(keys)
    if not wanted:
        return {}
    named = [f"k{number}" for number in range(len(side.keys))]
    alike = (
        f"{expression} = u.{name}::{type_}"
        for name, (expression, type_) in zip(named, side.keys, strict=True)
    )
    version, on = _version(side), " AND ".join(alike)
    given = ", ".join("%s::text[]" for _ in named)
    found = session.query(
        f"SELECT {_escaped(version)}, u.n"
        f" FROM unnest({given}) WITH ORDINALITY AS u({', '.join(named)}, n)"
        f" JOIN ONLY {_escaped(side.table.name)} t ON {_escaped(on)}",
        [list(column) for column in zip(*wanted, strict=True)],
    )
    return {wanted[int(row[4]) - 1]: Version(*row[:4]) for row in found}


def _escaped(sql: str) -> str:
    """A statement with parameters has a meaning for the percent sign; a name may hold one."""
    return sql.replace("%", "%%")


def show_row(side: Side, key: tuple[str, ...]) -> str:
    """Its table and key. Only numbers and UUIDs are shown: other keys may be somebody's name or
    secret, and the beginning of their SHA-256 finds them as well."""
    if not side.by_key:
        return f"{side.table.name} at {key[0]}"
    told = (
        f"{column.name} {value if column.type in SHOWN_TYPES else _hidden(value)}"
        for column, value in zip(map(side.table.column, side.table.key), key, strict=True)
    )
    return f"{side.table.name} ({', '.join(told)})"


def _hidden(value: str) -> str:
    return f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:KEY_DIGITS]}"


def _version(side: Side) -> str:
    return f"t.xmin::text::bigint, {side.content} AS digest, t.ctid::text, t.xmax::text::bigint"


# Unlogged tables are empty after a recovery, temporary ones gone.
_TABLES = """
SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), pg_relation_filenode(c.oid)::bigint,
       c.xmin::text::bigint,
       pg_relation_size(c.oid) / current_setting('block_size')::bigint,
       (SELECT i.indkey::int2[]::int[] FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence = 'p'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""

# A virtual column (18) is no part of a row.
_COLUMNS = """
SELECT a.attrelid::bigint, a.attnum::int, quote_ident(a.attname), a.atttypid::bigint,
       format_type(a.atttypid, a.atttypmod)
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
 WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND a.attnum > 0 AND NOT a.attisdropped
   AND a.attgenerated <> 'v'
 ORDER BY a.attrelid, a.attnum
"""
