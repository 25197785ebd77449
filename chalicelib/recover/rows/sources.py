"""Which rows of a recovered server are to come back, and from which of its tables.

a transaction's WAL  ->  the places of the rows that it deleted, and the tables that it emptied
a moment and a table ->  the rows whose key is no longer there
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from chalicelib.errors import BadInput, Refused
from chalicelib.ports import Session
from chalicelib.recover.rows.gone import Place
from chalicelib.recover.rows.tables import Table, read_table

How = Literal["deleted", "emptied", "absent"]


@dataclass(frozen=True)
class Wish:
    """What to bring back.

    places: of the rows that a transaction deleted; None when keys are to be compared instead.
    lost_files: file numbers of tables that it truncated or dropped. tables: only these, by name,
    partitions under their own; () for all that it touched. rewrote: it copied rows into new files.
    changed: asked when the places were read: rows that it changed and did not delete.
    """

    places: Iterable[Place] | None = None
    lost_files: frozenset[int] = frozenset()
    tables: tuple[str, ...] = ()
    rewrote: bool = False
    changed: Callable[[], int] = int


@dataclass(frozen=True)
class Source:
    """Rows of `relation` (a table, or one partition) that belong into `table`.

    number: of its file, by which the places in it are found.
    """

    relation: str
    table: Table
    how: How
    number: int

    def select(self, columns: str) -> str:
        """The query of the wanted rows; `columns` of the table, which is `t` in it."""
        base = f"SELECT {columns} FROM ONLY {self.relation} t"
        if self.how == "deleted":
            return f"{base} JOIN {PLACES} g ON g.tid = t.ctid AND g.number = {self.number}"
        if self.how == "emptied":
            return base
        same = " AND ".join(f"k.{name} = t.{name}" for name in self.table.key)
        return f"{base} WHERE NOT EXISTS (SELECT FROM {_keys(self.table)} k WHERE {same})"


@dataclass
class Found:
    """`placed`: places of deleted rows in tables of users. `nameless`: files, with places in them,
    that no table has: the transaction made and removed them itself. `changed`: as the wish says."""

    sources: list[Source] = field(default_factory=list)
    placed: int = 0
    nameless: int = 0
    changed: int = 0


def find_sources(then: Session, live: Session, wish: Wish) -> Found:
    """Look the wish up in the recovered server.

    Raises:
        BadInput: code "no-such-table".
        Refused: code "table-without-key", "table-rewritten".
    """
    if wish.places is None:
        relations = [one for name in wish.tables for one in _leaves(then, name)]
        found = Found([_source(then, name, "absent", number) for name, number in relations])
    else:
        found = _of_transaction(then, wish)
    _require_keys(found.sources)
    if wish.rewrote:
        _refuse_rewritten(live, found.sources)
    for table in {it.table.name: it.table for it in found.sources if it.how == "absent"}.values():
        _fetch_keys(then, live, table)
    return found


def _of_transaction(then: Session, wish: Wish) -> Found:
    assert wish.places is not None
    then.execute("CREATE TEMP TABLE leeward_places (number bigint, tid tid)")
    [(database,)] = then.query(
        "SELECT oid::bigint FROM pg_database WHERE datname = current_database()"
    )
    lines = (
        b"%d\t(%d,%d)\n" % (place.relfile.number, place.page, place.line)
        for place in wish.places
        if place.relfile.database == database
    )
    then.copy_in(f"COPY {PLACES} FROM STDIN", batched(lines))
    then.execute(f"ANALYZE {PLACES}")
    found = Found(changed=wish.changed())
    [(found.nameless,)] = then.query(_NAMELESS)
    wanted = {one for name in wish.tables for one, _ in _leaves(then, name)}
    for name, number, places in then.query(_TABLES, (sorted(wish.lost_files),)):
        if wanted and name not in wanted:
            continue
        how: How = "emptied" if number in wish.lost_files else "deleted"
        found.sources.append(_source(then, str(name), how, int(number)))
        found.placed += int(places)
    return found


def _source(then: Session, relation: str, how: How, number: int) -> Source:
    table = read_table(then, relation)
    assert table is not None, relation
    return Source(relation, table, how, number)


def _leaves(then: Session, name: str) -> list[tuple[str, int]]:
    """The table itself, or its partitions; names may be given as a person writes them."""
    found = then.query(_LEAVES, (name if "." in name else f"public.{name}",))
    if not found:
        raise BadInput(
            f"expected a table {name} at that moment, found none",
            hint="write its schema too, and quote it as in SQL; or choose another moment",
            code="no-such-table",
        )
    return [(str(leaf), int(number)) for leaf, number in found]


def _require_keys(sources: list[Source]) -> None:
    without = sorted({it.table.name for it in sources if not it.table.key})
    if without:
        raise Refused(
            f"expected a key that tells the rows of {', '.join(without)} apart, found none:"
            " nobody could say which of them are there again",
            hint="name the other tables (with --table, or `tables:` in the plan), and take these"
            " from `leeward restore point --out`; a primary key lets it be done here next time",
            code="table-without-key",
            tables=without,
        )


def _refuse_rewritten(live: Session, sources: list[Source]) -> None:
    """Emptied and filled again by one transaction: what it left out on the way is not in its WAL
    as a deletion."""
    there = [it.relation for it in sources if it.how == "emptied" and read_table(live, it.relation)]
    if there:
        raise Refused(
            f"expected rows that were deleted, found that {', '.join(there)} was written anew",
            hint="name the table and the moment instead of the transaction: keys are compared then",
            code="table-rewritten",
            tables=there,
        )


def _fetch_keys(then: Session, live: Session, table: Table) -> None:
    """What is there now, beside what was there then: the comparison is the recovered server's."""
    definitions = ", ".join(
        f"{column.name} {column.type}" for column in table.columns if column.name in table.key
    )
    columns = ", ".join(table.key)
    then.execute(f"CREATE TEMP TABLE {_keys(table).removeprefix('pg_temp.')} ({definitions})")
    if read_table(live, table.name) is None:
        return
    rows = live.copy_out(f"COPY (SELECT {columns} FROM {table.name}) TO STDOUT")
    then.copy_in(f"COPY {_keys(table)} ({columns}) FROM STDIN", rows)
    then.execute(f"ANALYZE {_keys(table)}")


def _keys(table: Table) -> str:
    """A name of its own for each table, whatever its own is made of."""
    return f"pg_temp.leeward_keys_{sha256(table.name.encode()).hexdigest()[:32]}"


def batched(lines: Iterable[bytes], size: int = 5000) -> Iterator[bytes]:
    """Pieces of many lines each."""
    batch: list[bytes] = []
    for line in lines:
        batch.append(line)
        if len(batch) >= size:
            yield b"".join(batch)
            batch.clear()
    yield b"".join(batch)


PLACES = "pg_temp.leeward_places"

# Tables of users of which rows were deleted, or whose file was lost.
_TABLES = """
SELECT format('%%I.%%I', n.nspname, c.relname), c.relfilenode::bigint, coalesce(g.places, 0)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN (SELECT number, count(*) AS places FROM pg_temp.leeward_places GROUP BY number) g
         ON g.number = c.relfilenode::bigint
 WHERE c.relkind = 'r' AND c.relpersistence = 'p'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND (g.places > 0 OR c.relfilenode::bigint = ANY (%s))
 ORDER BY 1
"""

_NAMELESS = """
SELECT count(DISTINCT g.number) FROM pg_temp.leeward_places g
 WHERE g.number NOT IN (SELECT coalesce(pg_relation_filenode(oid), 0)::bigint FROM pg_class)
"""

_LEAVES = """
SELECT format('%%I.%%I', n.nspname, c.relname), c.relfilenode::bigint
  FROM (SELECT to_regclass(%s) AS oid) named
  JOIN pg_class c ON c.oid = named.oid OR c.oid IN (SELECT relid FROM pg_partition_tree(named.oid))
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r'
 ORDER BY 1
"""
