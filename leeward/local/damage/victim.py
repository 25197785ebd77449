"""What every damage is given and tells, and how it looks at its victim."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from chalicelib.errors import NotReady
from chalicelib.ports import ObjectStore

GARBAGE = b"\xde\xad\xbe\xef" * 16

Database = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Victim:
    """Where to do it. `dsn` is a superuser's on the application's database; `store` holds the
    component's backups; `table` is the one to hit, "" for the one with the most rows."""

    dsn: str
    data_dir: Path
    store: ObjectStore | None = None
    table: str = ""


@dataclass(frozen=True)
class Injected:
    """What was done: `kind` as a Damage of it must say, `at` the commit or the write (UTC)."""

    name: str
    kind: str
    what: str
    at: datetime
    xid: int | None = None
    commit_lsn: int | None = None
    table: str = ""
    rows: int = 0
    file: str = ""


def connect(victim: Victim) -> Database:
    return psycopg.connect(victim.dsn, autocommit=True)


def one(database: Database, sql: str, *parameters: object) -> Any:
    row = database.execute(sql, parameters or None).fetchone()  # type: ignore[call-overload]
    return row[0] if row else None


def pick_table(database: Database, victim: Victim) -> str:
    if victim.table:
        return victim.table
    tables = [str(row[0]) for row in database.execute(_USER_TABLES)]
    if not tables:
        raise NotReady(
            "expected a table to damage, found none",
            code="no-table",
            hint="Let the application make its tables first.",
        )
    return max(tables, key=lambda table: int(one(database, f"SELECT count(*) FROM {table}")))


def now() -> datetime:
    return datetime.now(UTC)


_USER_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence = 'p'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = c.oid)
"""
