"""Names for the files that WAL speaks of, from the stored relation maps and the live source."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.errors import NotReady
from chalicelib.plan.records import format_time
from chalicelib.ports import Session
from chalicelib.recover.database.changes import Relfile


@dataclass(frozen=True)
class Relation:
    """`kind` is pg_class.relkind; `rows` an estimate, None when nobody knows; `oid` is what no
    stored map tells: a table has a file of that number until it is rewritten."""

    name: str
    kind: str
    parent: str | None = None
    rows: int | None = None
    oid: int | None = None

    @property
    def is_user_table(self) -> bool:
        return self.kind == "r" and not self.name.startswith(_SYSTEM_SCHEMAS)


# How a file is called that no map names.
UNNAMED = "file "
_SYSTEM_SCHEMAS = ("pg_catalog.", "pg_toast.", "information_schema.")


class Relations:
    """All files that ever carried a name in one database, and which names live now.

    `oids`: every one that the database had: one that is dropped and made again has another.
    """

    def __init__(self, *oids: int) -> None:
        self.oids = frozenset(oids)
        self._by_number: dict[int, Relation] = {}
        self._names: dict[int, list[str]] = {}
        self._rows: dict[str, int] = {}
        self._living: frozenset[str] = frozenset()

    def learn(self, numbered: dict[int, Relation]) -> None:
        """Take in one map; the last one learnt is the newest."""
        self._by_number |= numbered
        self._living = frozenset(relation.name for relation in numbered.values())
        for number, relation in numbered.items():
            if relation.name not in self._names.setdefault(number, []):
                self._names[number].append(relation.name)
            if relation.rows is not None:
                self._rows[relation.name] = max(self._rows.get(relation.name, 0), relation.rows)

    def get(self, relfile: Relfile) -> Relation | None:
        return self._by_number.get(relfile.number) if self.has(relfile) else None

    def has(self, relfile: Relfile) -> bool:
        """Whether it is a file of this database, named by a map or not."""
        return relfile.database in self.oids

    def name_of(self, relfile: Relfile) -> str:
        """The table's name, that of its table for a TOAST table, or its numbers."""
        relation = self.get(relfile)
        if relation is None:
            return f"{UNNAMED}{relfile.database}/{relfile.number}"
        return relation.parent or relation.name

    def names_of(self, number: int) -> tuple[str, ...]:
        """All that a file was ever called, the oldest first."""
        return tuple(self._names.get(number, ()))

    def files_of(self, names: Collection[str]) -> frozenset[int]:
        """The numbers of all files that ever bore one of the names."""
        found = {it for it, called in self._names.items() if not set(called).isdisjoint(names)}
        return frozenset(found)

    def lives(self, name: str) -> bool:
        return name in self._living

    def rows_of(self, name: str) -> int | None:
        """The most rows that any map saw in a table: what there was to lose."""
        return self._rows.get(name)

    @property
    def total_rows(self) -> int:
        """Of the users' tables."""
        return sum(
            rows for name, rows in self._rows.items() if not name.startswith(_SYSTEM_SCHEMAS)
        )


def parse_relation_map(content: dict[str, Any], database: str) -> dict[int, Relation]:
    """One database's part of a stored relations/*.json: file number -> relation."""
    files = content["databases"].get(database, {})
    return {
        int(number): Relation(entry["name"], entry["kind"], entry.get("parent"), entry.get("rows"))
        for number, entry in files.items()
    }


def read_relations(session: Session) -> tuple[int, dict[int, Relation]]:
    """The oid of the session's database, and what its files are now."""
    [(oid,)] = session.query("SELECT oid FROM pg_database WHERE datname = current_database()")
    rows = session.query(_LIVE)
    return int(oid), {
        int(number): Relation(name, kind, parent, None if rows_ is None else int(rows_), int(oid_))
        for number, name, kind, parent, rows_, oid_ in rows
    }


def known_oids(maps: Sequence[dict[str, Any]], database: str) -> list[int]:
    """Those that a database has or had by the stored maps, oldest first: one that took another
    name since is another database. Maps of before they held oids tell none."""
    names = {oid: name for content in maps for name, oid in content.get("oids", {}).items()}
    return [oid for oid, name in names.items() if name == database]


def last_oid(maps: Sequence[dict[str, Any]], database: str) -> int | None:
    """The one that last had the name, whatever it is called now."""
    oids = [content["oids"][database] for content in maps if database in content.get("oids", {})]
    return oids[-1] if oids else None


def oids_since(maps: Sequence[dict[str, Any]], database: str, since: datetime) -> frozenset[int]:
    """Those that had the name then, or since, whatever they are called now. Pure."""
    at = format_time(since)
    before = [it for it in maps if it["taken_at"] <= at]
    after = [it for it in maps if it["taken_at"] > at]
    named = (it.get("oids", {}).get(database) for it in (*before[-1:], *after))
    return frozenset(int(oid) for oid in named if oid is not None)


def gather_relations(
    database: str,
    maps: Sequence[dict[str, Any]],
    live: tuple[int, dict[int, Relation]] | None,
    *,
    also: Collection[int] = (),
) -> Relations:
    """`maps`: the stored ones, oldest first. `live`: as `read_relations`, empty when the database
    does not open; None when it is not there. `also`: oids of the database under whatever name.

    Raises NotReady (code "database-gone"): nobody knows by which oid WAL speaks of it.
    """
    oid, now = live or (None, {})
    relations = Relations(*known_oids(maps, database), *also, *filter(None, [oid]))
    if not relations.oids:
        raise NotReady(
            f"expected the database {database} on the server, it is not there, and no stored "
            "relation map knows it",
            code="database-gone",
            hint="Name the moment before it was dropped, and restore it by hand.",
        )
    for numbered in (*(_parse_all(content, database, also) for content in maps), now):
        if numbered:
            relations.learn(numbered)
    return relations


def _parse_all(
    content: dict[str, Any], database: str, also: Collection[int]
) -> dict[int, Relation]:
    """Of a map, what is of the database by its name, and of the oids by any other."""
    others = [name for name, oid in content.get("oids", {}).items() if oid in also]
    found: dict[int, Relation] = {}
    for name in dict.fromkeys((*others, database)):
        found |= parse_relation_map(content, name)
    return found


_LIVE = """
SELECT pg_relation_filenode(c.oid)::bigint,
       format('%I.%I', n.nspname, c.relname),
       c.relkind::text,
       (SELECT format('%I.%I', pn.nspname, p.relname)
          FROM pg_class p JOIN pg_namespace pn ON pn.oid = p.relnamespace
         WHERE p.oid = coalesce(i.indrelid, t.oid)),
       CASE WHEN c.relkind IN ('r', 'm')
            THEN CASE WHEN c.reltuples > 0 THEN c.reltuples::bigint
                      ELSE pg_stat_get_live_tuples(c.oid) END END,
       c.oid::bigint
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_index i ON i.indexrelid = c.oid
  LEFT JOIN pg_class t ON t.reltoastrelid = c.oid
 WHERE pg_relation_filenode(c.oid) IS NOT NULL
"""
