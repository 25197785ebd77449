"""What a restore of single rows must know of tables, and the order in which rows may go in.

Names come quoted from the server, schema first, and are used as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chalicelib.ports import Databases, Session


@dataclass(frozen=True)
class Column:
    """`type`: with its collation, as a definition spells it."""

    name: str
    type: str
    generated: bool


@dataclass(frozen=True)
class Table:
    """`name` of the table itself, or of the root of the partitions that it is one of.

    key: columns that tell its rows apart: the primary key, else a unique index over NOT NULL
    columns; () when there is none.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def shared_with(self, other: Table) -> tuple[Column, ...]:
        """Its columns that `other` has too, under the same name."""
        theirs = {column.name for column in other.columns}
        return tuple(column for column in self.columns if column.name in theirs)


@dataclass(frozen=True)
class ForeignKey:
    """Rows of `table` refer to rows of `parent`: `columns` to `parent_columns`, in pairs."""

    name: str
    table: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    deferrable: bool


@dataclass(frozen=True)
class Trigger:
    """One that would fire at an INSERT. `enable`: the words that bring back what it was."""

    table: str
    name: str
    enable: str


def read_table(session: Session, name: str) -> Table | None:
    """The table of that name, or the root of its partitions; None when there is none."""
    found = session.query(_ROOT, (name,))
    if not found:
        return None
    root, oid = str(found[0][0]), int(found[0][1])
    columns = tuple(
        Column(str(column), str(type_), bool(generated))
        for column, type_, generated in session.query(_COLUMNS, (oid,))
    )
    keys = session.query(_KEY, (oid,))
    return Table(root, columns, tuple(keys[0][0]) if keys else ())


def read_foreign_keys(session: Session, tables: Iterable[str]) -> tuple[ForeignKey, ...]:
    """Those of these tables (roots), to whatever table."""
    return tuple(
        ForeignKey(name, table, tuple(columns), parent, tuple(parent_columns), deferrable)
        for name, table, columns, parent, parent_columns, deferrable in session.query(
            _FOREIGN_KEYS, (list(tables),)
        )
    )


def read_unique_columns(session: Session, table: str) -> dict[str, tuple[str, ...]]:
    """Unique index -> its columns, for those over columns alone and all rows; not the key's."""
    return {str(name): tuple(columns) for name, columns in session.query(_UNIQUE, (table,))}


def read_triggers(session: Session, table: str) -> tuple[Trigger, ...]:
    """Triggers of the table and its partitions that an INSERT fires; not PostgreSQL's own."""
    return tuple(
        Trigger(str(owner), str(name), "ENABLE ALWAYS" if always else "ENABLE")
        for owner, name, always in session.query(_TRIGGERS, (table,))
    )


def keyed_tables(databases: Databases) -> tuple[str, ...]:
    """Names of all tables that have a primary key; of a partitioned one its root's."""
    with databases.session(read_only=True) as session:
        return tuple(str(name) for (name,) in session.query(_KEYED))


def order_tables(
    tables: Iterable[str], foreign_keys: Iterable[ForeignKey]
) -> tuple[tuple[str, ...], ...]:
    """Groups of tables, parents before children. Pure.

    A group of several tables refer to each other in a circle: none of them can be first.
    """
    parents: dict[str, set[str]] = {name: set() for name in tables}
    for key in foreign_keys:
        if key.table in parents and key.parent in parents:
            parents[key.table].add(key.parent)
    reach = {name: _ancestors(name, parents) for name in parents}
    groups = {
        tuple(sorted({name} | {it for it in reach[name] if name in reach[it]})) for name in parents
    }
    # Whoever has the fewer ancestors, itself not counted, cannot be a child of who has more.
    rank = {group: len(set().union(*(reach[it] for it in group)) - set(group)) for group in groups}
    return tuple(sorted(groups, key=lambda group: (rank[group], group)))


def _ancestors(name: str, parents: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(parents[name])
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += parents[one]
    return found


_ROOT = """
SELECT format('%%I.%%I', n.nspname, c.relname), c.oid::bigint
  FROM (SELECT to_regclass(%s) AS oid) named
  JOIN pg_class c ON c.oid = coalesce(pg_partition_root(named.oid), named.oid)
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p')
"""

_COLUMNS = """
SELECT quote_ident(a.attname),
       format_type(a.atttypid, a.atttypmod)
         || CASE WHEN a.attcollation NOT IN (0, t.typcollation)
                 THEN format(' COLLATE %%I.%%I', cn.nspname, co.collname) ELSE '' END,
       a.attgenerated <> ''
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_collation co ON co.oid = a.attcollation
  LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
 WHERE a.attrelid = %s::oid AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""

# Of several unique indexes the primary key's, then the one that replication goes by.
_KEY = """
SELECT ARRAY(SELECT quote_ident(a.attname)
               FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
              WHERE k.place <= i.indnkeyatts ORDER BY k.place)
  FROM pg_index i
 WHERE i.indrelid = %s::oid AND i.indisunique AND i.indimmediate AND i.indisvalid
   AND i.indpred IS NULL AND i.indexprs IS NULL
   AND NOT EXISTS (SELECT FROM pg_attribute a
                    WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                      AND NOT a.attnotnull)
 ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indexrelid LIMIT 1
"""

_KEYED = """
SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
 ORDER BY 1
"""

# A partition's copy of its root's constraint is left out.
_FOREIGN_KEYS = """
SELECT quote_ident(k.conname), format('%%I.%%I', n.nspname, c.relname),
       ARRAY(SELECT quote_ident(a.attname) FROM unnest(k.conkey) WITH ORDINALITY u (attnum, place)
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum
              ORDER BY u.place),
       format('%%I.%%I', pn.nspname, p.relname),
       ARRAY(SELECT quote_ident(a.attname) FROM unnest(k.confkey) WITH ORDINALITY u (attnum, place)
               JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum
              ORDER BY u.place),
       k.condeferrable
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
 WHERE k.contype = 'f' AND k.conparentid = 0
   AND k.conrelid = ANY (SELECT to_regclass(unnest(%s::text[])))
 ORDER BY 2, 1
"""

_UNIQUE = """
SELECT i.indexrelid::regclass::text,
       ARRAY(SELECT quote_ident(a.attname)
               FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
              WHERE k.place <= i.indnkeyatts ORDER BY k.place)
  FROM pg_index i
 WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indisvalid
   AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT i.indisprimary
"""

# tgtype 4: INSERT (TRIGGER_TYPE_INSERT). A trigger for replicas alone does not fire here.
_TRIGGERS = """
SELECT format('%%I.%%I', n.nspname, c.relname), quote_ident(t.tgname), t.tgenabled = 'A'
  FROM (SELECT to_regclass(%s) AS oid) named
  JOIN pg_trigger t ON t.tgrelid = named.oid
       OR t.tgrelid IN (SELECT relid FROM pg_partition_tree(named.oid))
  JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgtype & 4 <> 0 AND t.tgenabled IN ('O', 'A')
 ORDER BY 1, 2
"""
