"""Rows on their way back: beside the living tables, marked with what becomes of each.

One temporary table for each target, on the living server: it is gone with the connection, whoever
dies. `leeward_why` of a row is NULL while it is to go in, then one of

    restored    it went in
    same        the same row is there already
    re-created  another row with its key is there: that one stays
    taken ...   a row with another key has a value that must be unique: that one stays
    parent ...  what it refers to is not there and does not come back
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chalicelib.errors import CheckFailed, Unavailable
from chalicelib.ports import Session
from chalicelib.recover.rows.sources import Source
from chalicelib.recover.rows.tables import (
    Column,
    ForeignKey,
    Table,
    Trigger,
    read_foreign_keys,
    read_table,
    read_triggers,
    read_unique_columns,
)

RESTORED, SAME, RECREATED = "restored", "same", "re-created"
NOT_ASIDE = (RESTORED, SAME)
_WHY = "leeward_why"


@dataclass
class Staged:
    """One target table. `there`: as it is on the living server now, None when it is not.

    rows: that were sent.
    """

    table: Table
    name: str
    there: Table | None = None
    rows: int = 0

    @property
    def columns(self) -> tuple[Column, ...]:
        """What both have."""
        return self.table.shared_with(self.there) if self.there else self.table.columns

    @property
    def key_matches(self) -> str:
        return " AND ".join(f"l.{name} = s.{name}" for name in self.table.key)


class Stage:
    """All of them, on one connection to each server."""

    def __init__(self, then: Session, live: Session) -> None:
        self._then, self._live = then, live
        self.tables: dict[str, Staged] = {}
        self._references: tuple[ForeignKey, ...] = ()

    def fill(self, sources: Iterable[Source]) -> None:
        """Send the rows over. Raises CheckFailed (code "rows-differ")."""
        for source in sources:
            staged = self._staged(source.table)
            names = _names(source.table.columns)
            rows = self._then.copy_out(f"COPY ({source.select(_of('t', names))}) TO STDOUT")
            staged.rows += self._live.copy_in(
                f"COPY {staged.name} ({', '.join(names)}) FROM STDIN", rows
            )
        self._compare(sources)
        for staged in self.tables.values():
            self._live.execute(f"ANALYZE {staged.name}")

    def look(self) -> None:
        """Read what the living tables are now; before each `mark`, after each change of them."""
        for staged in self.tables.values():
            staged.there = read_table(self._live, staged.table.name)
        there = [name for name, staged in self.tables.items() if staged.there]
        self._references = read_foreign_keys(self._live, there)

    @property
    def references(self) -> tuple[ForeignKey, ...]:
        return self._references

    def mark(self) -> None:
        """Say of each row that cannot go in why; those that refer to it cannot either."""
        for staged in self.tables.values():
            if staged.there:
                self._mark_present(staged)
        self.mark_orphans()

    def mark_orphans(self) -> None:
        """Again and again, until every row that stays out has taken its children with it."""
        while sum(self._mark_children(key) for key in self._references):
            pass

    def insert(self, name: str) -> int:
        """Rows that went in; what the server kept out for a unique value is marked so."""
        staged = self.tables[name]
        columns = _names(column for column in staged.columns if not column.generated)
        keys = ", ".join(staged.table.key)
        restored = self._live.execute(
            f"WITH l AS (INSERT INTO {name} ({', '.join(columns)}) OVERRIDING SYSTEM VALUE"
            f" SELECT {', '.join(columns)} FROM {staged.name} WHERE {_WHY} IS NULL"
            f" ON CONFLICT DO NOTHING RETURNING {keys})"
            f" UPDATE {staged.name} s SET {_WHY} = '{RESTORED}' FROM l"
            f" WHERE {staged.key_matches} AND s.{_WHY} IS NULL"
        )
        left = self._live.execute(
            f"UPDATE {staged.name} SET {_WHY} = 'taken: a unique value' WHERE {_WHY} IS NULL"
        )
        if left:
            self.mark_orphans()
        return restored

    def verify(self, name: str) -> None:
        """What is in the living table now is what was sent. Raises CheckFailed."""
        staged = self.tables[name]
        names = _names(staged.columns)
        went_in = f"FROM {staged.name} s WHERE s.{_WHY} = '{RESTORED}'"
        expected = self._live.query(f"SELECT {_digest('s', names)} {went_in}")
        found = self._live.query(
            f"SELECT {_digest('l', names)} FROM {name} l JOIN {staged.name} s"
            f" ON {staged.key_matches} WHERE s.{_WHY} = '{RESTORED}'"
        )
        if expected != found:
            raise _differ(name, expected[0], found[0], "nothing was changed; look for rules")

    def triggers(self, name: str) -> tuple[Trigger, ...]:
        return read_triggers(self._live, name)

    def counts(self, name: str) -> Counter[str]:
        """Rows by what became of them; "" for those that would go in."""
        staged = self.tables[name]
        rows = self._live.query(
            f"SELECT coalesce({_WHY}, ''), count(*) FROM {staged.name} GROUP BY 1"
        )
        return Counter({str(why): int(count) for why, count in rows})

    def aside(self) -> Iterator[tuple[str, str, str]]:
        """(table, why, the row as JSON) of each that stays out and is not there in another form."""
        for name, staged in self.tables.items():
            rows = self._live.stream(
                f"SELECT {_WHY}, (to_jsonb(s) - '{_WHY}')::text FROM {staged.name} s"
                f" WHERE {_WHY} IS NOT NULL AND {_WHY} NOT IN ('{RESTORED}', '{SAME}')"
            )
            for why, row in rows:
                yield name, str(why), str(row)

    def _staged(self, table: Table) -> Staged:
        if table.name not in self.tables:
            staged = Staged(table, f"pg_temp.leeward_rows_{len(self.tables) + 1}")
            columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
            self._live.execute(
                f"CREATE TEMP TABLE {staged.name.removeprefix('pg_temp.')} ({columns}, {_WHY} text)"
            )
            self.tables[table.name] = staged
        return self.tables[table.name]

    def _compare(self, sources: Iterable[Source]) -> None:
        """Count and content of what was sent and of what arrived."""
        sent: dict[str, list[int]] = {}
        for source in sources:
            names = _names(source.table.columns)
            # Of the rows themselves: `select` may join.
            rows = source.select(f"{_row_hash('t', names)} AS hash")
            [(count, content)] = self._then.query(f"SELECT count(*), sum(hash) FROM ({rows}) t")
            total = sent.setdefault(source.table.name, [0, 0])
            total[0] += int(count)
            total[1] += int(content or 0)
        for name, staged in self.tables.items():
            names = _names(staged.table.columns)
            [(count, content)] = self._live.query(
                f"SELECT {_digest('s', names)} FROM {staged.name} s"
            )
            if [int(count), int(content or 0)] != sent[name]:
                raise _differ(name, tuple(sent[name]), (count, content), "nothing was changed")

    def _mark_present(self, staged: Staged) -> None:
        names, name = _names(staged.columns), staged.table.name
        self._live.execute(
            f"UPDATE {staged.name} s SET {_WHY} = CASE WHEN {_text('l', names)} = "
            f"{_text('s', names)} THEN '{SAME}' ELSE '{RECREATED}' END"
            f" FROM {name} l WHERE {staged.key_matches} AND s.{_WHY} IS NULL"
        )
        shared = set(names)
        for index, columns in read_unique_columns(self._live, name).items():
            if shared.issuperset(columns):
                matches = " AND ".join(f"l.{column} = s.{column}" for column in columns)
                self._live.execute(
                    f"UPDATE {staged.name} s SET {_WHY} = %s FROM {name} l"
                    f" WHERE {matches} AND s.{_WHY} IS NULL",
                    (f"taken: {index}",),
                )

    def _mark_children(self, key: ForeignKey) -> int:
        """Rows whose parent neither is there nor comes back."""
        child, parent = self.tables[key.table], self.tables.get(key.parent)
        pairs = list(zip(key.columns, key.parent_columns, strict=True))
        if not set(key.columns) <= set(_names(child.columns)):
            return 0
        has_one = " AND ".join(f"s.{column} IS NOT NULL" for column in key.columns)
        match = " AND ".join(f"p.{theirs} = s.{mine}" for mine, theirs in pairs)
        coming = (
            f" AND NOT EXISTS (SELECT FROM {parent.name} p WHERE {match}"
            f" AND (p.{_WHY} IS NULL OR p.{_WHY} = '{RESTORED}'))"
            if parent
            else ""
        )
        return self._live.execute(
            f"UPDATE {child.name} s SET {_WHY} = %s WHERE s.{_WHY} IS NULL AND {has_one}"
            f" AND NOT EXISTS (SELECT FROM {key.parent} p WHERE {match}){coming}",
            (f"parent: no such row of {key.parent} ({key.name})",),
        )


def changed_meanwhile(said: str) -> Unavailable:
    """The server refused what was sound when it was looked at: somebody wrote in between."""
    return Unavailable(
        f"expected the living tables to stay as they were looked at: {said}",
        hint="it is tried again; nothing was changed",
        code="rows-changed-meanwhile",
    )


def _differ(table: str, expected: object, found: object, hint: str) -> CheckFailed:
    return CheckFailed(
        f"expected {expected} (rows, digest) of {table}, found {found}",
        hint=hint,
        code="rows-differ",
        table=table,
    )


def _names(columns: Iterable[Column]) -> list[str]:
    return [column.name for column in columns]


def _of(alias: str, names: Iterable[str]) -> str:
    return ", ".join(f"{alias}.{name}" for name in names)


def _text(alias: str, names: Iterable[str]) -> str:
    return f"ROW({_of(alias, names)})::text"


def _row_hash(alias: str, names: Iterable[str]) -> str:
    return f"hashtextextended({_text(alias, names)}, 0)"


def _digest(alias: str, names: Iterable[str]) -> str:
    """Count and sum of row hashes: a row that occurs twice counts twice."""
    return f"count(*), sum({_row_hash(alias, names)})"
