"""Damage by a statement that commits: what a person or a program does by mistake."""

from __future__ import annotations

from datetime import UTC

import psycopg

from chalicelib.errors import NotReady
from chalicelib.plan.records import parse_lsn
from leeward.local.damage.victim import Database, Injected, Victim, connect, now, one, pick_table


def update_without_where(victim: Victim) -> Injected:
    with connect(victim) as database:
        table = pick_table(database, victim)
        column = _pick_column(database, table)
        statement = f"UPDATE {table} SET {column} = (SELECT {column} FROM {table} LIMIT 1)"
        return _commit(database, "update-without-where", "mass-update", table, statement)


def delete_without_where(victim: Victim) -> Injected:
    with connect(victim) as database:
        table = pick_table(database, victim)
        statement = f"DELETE FROM {table}"
        return _commit(database, "delete-without-where", "mass-delete", table, statement)


def truncate(victim: Victim) -> Injected:
    with connect(victim) as database:
        table = pick_table(database, victim)
        return _commit(database, "truncate", "truncate", table, f"TRUNCATE {table} CASCADE")


def drop_table(victim: Victim) -> Injected:
    with connect(victim) as database:
        table = pick_table(database, victim)
        return _commit(database, "drop-table", "drop", table, f"DROP TABLE {table} CASCADE")


def rename_table(victim: Victim) -> Injected:
    """The one that most others refer to: whatever asks for it fails, and nothing is lost."""
    with connect(victim) as database:
        table = victim.table or str(one(database, _MOST_REFERRED_TABLE))
        new = one(database, "SELECT quote_ident(relname || '_old') FROM pg_class"
                             " WHERE oid = %s::regclass", table)  # fmt: skip
        statement = f"ALTER TABLE {table} RENAME TO {new}"
        return _commit(database, "rename-table", "rename", table, statement)


def drop_database(victim: Victim) -> Injected:
    """The whole database of the application, whoever is connected to it."""
    with connect(victim) as database:
        statement = str(one(database, _DROP_DATABASE))
    with psycopg.connect(victim.dsn, dbname="postgres", autocommit=True) as aside:
        aside.execute(statement)  # type: ignore[call-overload]
        # It runs in no transaction of ours, which could be asked; and nobody else works elsewhere.
        xid = int(one(aside, "SELECT xid::text FROM pg_last_committed_xact()"))
        return _committed(aside, "drop-database", "drop", statement, xid=xid)


def wrong_migration(victim: Victim) -> Injected:
    with connect(victim) as database:
        table = pick_table(database, victim)
        column = _pick_column(database, table)
        statement = (
            f"ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT,"
            f" ALTER COLUMN {column} TYPE text USING md5({column}::text)"
        )
        return _commit(database, "wrong-migration", "rewrite", table, statement)


def _pick_column(database: Database, table: str) -> str:
    column = one(database, _PLAIN_COLUMN, table)
    if column is None:
        raise NotReady(
            f"expected a column of {table} that no index or constraint holds, found none",
            code="no-column",
            hint="Name another table.",
        )
    return str(column)


def _commit(database: Database, name: str, kind: str, table: str, statement: str) -> Injected:
    with database.transaction():
        rows = int(one(database, f"SELECT count(*) FROM {table}"))
        database.execute(statement)  # type: ignore[call-overload]
        xid = int(one(database, "SELECT pg_current_xact_id()::text")) % 2**32
    return _committed(database, name, kind, statement, xid=xid, table=table, rows=rows)


def _committed(
    database: Database,
    name: str,
    kind: str,
    what: str,
    *,
    xid: int,
    table: str = "",
    rows: int = 0,
) -> Injected:
    # The commit record lies before this, and everything of the transaction does.
    lsn = parse_lsn(one(database, "SELECT pg_current_wal_insert_lsn()::text"))
    tracked = one(database, "SHOW track_commit_timestamp") == "on"
    at = one(database, f"SELECT pg_xact_commit_timestamp('{xid}'::xid)") if tracked else now()
    return Injected(name, kind, what, at.astimezone(UTC), xid, lsn, table, rows)


_DROP_DATABASE = "SELECT format('DROP DATABASE %I WITH (FORCE)', current_database())"

_MOST_REFERRED_TABLE = """
SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE k.contype = 'f' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1
"""

_PLAIN_COLUMN = """
SELECT quote_ident(a.attname) FROM pg_attribute a
 WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
   AND a.attgenerated = '' AND a.attidentity = ''
   AND NOT EXISTS (SELECT FROM pg_index i
                    WHERE i.indrelid = a.attrelid AND a.attnum = ANY (i.indkey))
   AND NOT EXISTS (SELECT FROM pg_constraint k
                    WHERE k.conrelid = a.attrelid AND a.attnum = ANY (k.conkey)
                      AND k.contype <> 'n')
 ORDER BY a.atttypid = 'text'::regtype DESC, a.attnum LIMIT 1
"""
