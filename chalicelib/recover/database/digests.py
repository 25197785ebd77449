"""The content of every table as a count and a sum of row hashes, to compare two databases."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.errors import BadInput
from chalicelib.ports import Databases, Session

DIGEST_SECONDS = 800


@dataclass(frozen=True)
class TableDigest:
    """`content` is the sum of the row hashes: equal rows in any order give equal sums, and a row
    that occurs twice counts twice (an XOR would not see it)."""

    rows: int
    content: str


def table_digests(databases: Databases, database: str = "") -> dict[str, TableDigest]:
    """Name -> digest for every table, every sequence as a table of one row, and the large objects
    together: that each is there, as only their owners may read them.

    Raises:
        Damaged: a table could not be read.
    """
    with databases.session(database, timeout_seconds=DIGEST_SECONDS, read_only=True) as session:
        session.execute("SET search_path = ''")
        tables = [str(name) for (name,) in session.query(_TABLES)]
        digests = {name: _table_digest(session, name) for name in tables}
        for name, state in session.query(_SEQUENCES):
            digests[f"sequence {name}"] = TableDigest(1, str(state))
        [(count, oids)] = session.query(_LARGE_OBJECTS)
        if count:
            digests["large objects"] = TableDigest(int(count), str(oids))
        return digests


def compare_digests(
    expected: dict[str, TableDigest], found: dict[str, TableDigest]
) -> tuple[str, ...]:
    """What differs, by name; empty when the contents are equal. Pure."""
    return tuple(
        f"{name}: expected {expected.get(name)}, found {found.get(name)}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    )


def _table_digest(session: Session, table: str) -> TableDigest:
    try:
        return _digest(session, table, "pg_catalog.hash_record_extended(t, 0)")
    except BadInput:
        # json, xml, point and others have no hash function; their text has.
        return _digest(session, table, "pg_catalog.hashtextextended(t::text, 0)")


def _digest(session: Session, table: str, row_hash: str) -> TableDigest:
    [(rows, content)] = session.query(f"SELECT count(*), sum({row_hash}) FROM ONLY {table} t")
    return TableDigest(int(rows), str(content or 0))


_TABLES = """
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY 1
"""

_SEQUENCES = """
SELECT pg_catalog.format('%I.%I', schemaname, sequencename),
       pg_catalog.concat_ws(',', last_value, increment_by, cycle)
  FROM pg_catalog.pg_sequences ORDER BY 1
"""

_LARGE_OBJECTS = """
SELECT count(*), sum(pg_catalog.hashint8extended(oid::bigint, 0))
  FROM pg_catalog.pg_largeobject_metadata
"""
