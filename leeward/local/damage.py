"""The damage that a drill does to production, for real, and the truth about it for the scorecard.

Nothing here runs anywhere but on a production that the local cloud itself started.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from chalicelib.errors import NotReady
from chalicelib.plan.records import parse_lsn
from chalicelib.ports import ObjectStore

GARBAGE = b"\xde\xad\xbe\xef" * 16
PAGE_BYTES = 8192
STALE_ROWS = 10
EVICTIONS = 50


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


def update_without_where(victim: Victim) -> Injected:
    with _connect(victim) as database:
        table = _pick_table(database, victim)
        column = _pick_column(database, table)
        statement = f"UPDATE {table} SET {column} = (SELECT {column} FROM {table} LIMIT 1)"
        return _commit(database, "update-without-where", "mass-update", table, statement)


def delete_without_where(victim: Victim) -> Injected:
    with _connect(victim) as database:
        table = _pick_table(database, victim)
        statement = f"DELETE FROM {table}"
        return _commit(database, "delete-without-where", "mass-delete", table, statement)


def truncate(victim: Victim) -> Injected:
    with _connect(victim) as database:
        table = _pick_table(database, victim)
        return _commit(database, "truncate", "truncate", table, f"TRUNCATE {table} CASCADE")


def drop_table(victim: Victim) -> Injected:
    with _connect(victim) as database:
        table = _pick_table(database, victim)
        return _commit(database, "drop-table", "drop", table, f"DROP TABLE {table} CASCADE")


def rename_table(victim: Victim) -> Injected:
    """The one that most others refer to: whatever asks for it fails, and nothing is lost."""
    with _connect(victim) as database:
        table = victim.table or str(_one(database, _MOST_REFERRED_TABLE))
        new = _one(database, "SELECT quote_ident(relname || '_old') FROM pg_class"
                             " WHERE oid = %s::regclass", table)  # fmt: skip
        statement = f"ALTER TABLE {table} RENAME TO {new}"
        return _commit(database, "rename-table", "rename", table, statement)


def drop_database(victim: Victim) -> Injected:
    """The whole database of the application, whoever is connected to it."""
    with _connect(victim) as database:
        statement = str(_one(database, _DROP_DATABASE))
    with psycopg.connect(victim.dsn, dbname="postgres", autocommit=True) as aside:
        aside.execute(statement)  # type: ignore[call-overload]
        # It runs in no transaction of ours, which could be asked; and nobody else works elsewhere.
        xid = int(_one(aside, "SELECT xid::text FROM pg_last_committed_xact()"))
        return _committed(aside, "drop-database", "drop", statement, xid=xid)


def wrong_migration(victim: Victim) -> Injected:
    with _connect(victim) as database:
        table = _pick_table(database, victim)
        column = _pick_column(database, table)
        statement = (
            f"ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT,"
            f" ALTER COLUMN {column} TYPE text USING md5({column}::text)"
        )
        return _commit(database, "wrong-migration", "rewrite", table, statement)


def heap_bytes(victim: Victim) -> Injected:
    """Overwrite bytes of one page on disk and make the server forget the good copy it holds."""
    with _connect(victim) as database:
        table = _pick_table(database, victim)
        file = _path_of(database, table)
        block = (victim.data_dir / file).stat().st_size // PAGE_BYTES // 2
        with psycopg.connect(victim.dsn, dbname="postgres", autocommit=True) as aside:
            aside.execute("CREATE EXTENSION IF NOT EXISTS pg_buffercache")
            for _ in range(EVICTIONS):
                database.execute("CHECKPOINT")
                _overwrite(victim.data_dir / file, block)
                if _evict(aside, file, block) and _is_garbage(victim.data_dir / file, block):
                    break
            else:
                raise NotReady(
                    f"expected block {block} of {table} to leave the buffers, it stayed",
                    code="page-in-use",
                    hint="Lower the load of the drill.",
                )
    what = f"overwrote {len(GARBAGE)} bytes in block {block} of {table}"
    return Injected("heap-bytes", "page", what, _now(), table=table, file=file)


def relation_file(victim: Victim) -> Injected:
    with _connect(victim) as database:
        table = _pick_table(database, victim)
        # What is dirty is written now: a later checkpoint must not meet the missing file first.
        database.execute("CHECKPOINT")
        file = _path_of(database, table)
        (victim.data_dir / file).unlink()
    what = f"deleted the file of {table}"
    return Injected("relation-file", "relation-file", what, _now(), table=table, file=file)


def index_mismatch(victim: Victim) -> Injected:
    """Write rows again while one index is said not to be ready: it keeps none of their new places.

    The rows themselves are what they were; triggers are off, so that nothing cascades.
    """
    with _connect(victim) as database:
        table = _pick_table(database, victim)
        index = _pick_index(database, table)
        columns = _column_list(database, table)
        with database.transaction():
            database.execute("SET LOCAL session_replication_role = replica")
            _set_ready(database, index, ready=False)
            database.execute(
                f"WITH gone AS (DELETE FROM {table} WHERE ctid = ANY("  # type: ignore[arg-type]
                f"ARRAY(SELECT ctid FROM {table} LIMIT {STALE_ROWS})) RETURNING {columns})"
                f" INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE"
                f" SELECT {columns} FROM gone"
            )
            _set_ready(database, index, ready=True)
    what = f"index {index} lacks {STALE_ROWS} rows of {table}"
    return Injected("index-mismatch", "index", what, _now(), table=table, file=index)


def wal_segment(victim: Victim) -> Injected:
    """Delete a finished segment that a replication slot has not confirmed yet."""
    with _connect(victim) as database:
        database.execute("SELECT pg_logical_emit_message(true, 'drill', 'before the gap')")
        database.execute("SELECT pg_switch_wal()")
        found = database.execute(_NEEDED_SEGMENT).fetchone()
        if found is None:
            raise NotReady(
                "expected a replication slot that still needs WAL, found none",
                code="no-slot",
                hint="Let the WAL fetch run once before this damage.",
            )
        segment = str(found[0])
        (victim.data_dir / "pg_wal" / segment).unlink()
    what = f"deleted WAL segment {segment}"
    return Injected("wal-segment", "wal-gap", what, _now(), file=segment)


def backup_object(victim: Victim) -> Injected:
    """Change bytes in the middle of the newest base backup's archive, as bit rot would."""
    store = victim.store
    if store is None:
        raise NotReady(
            "expected the store of the backups, none was given",
            code="no-store",
            hint="Run this damage in a drill with backups.",
        )
    manifests = [item.key for item in store.list("points/") if item.key.endswith("/manifest.json")]
    points = [json.loads(store.get(key))["point"] for key in manifests]
    newest = max(points, key=lambda point: str(point["taken_at"]))
    archive = next(o for o in newest["objects"] if o["key"].endswith("base.tar.zst"))
    with store.open_writer(archive["key"]) as writer:
        for chunk in _with_garbage(store.read(archive["key"]), archive["size_bytes"] // 2):
            writer.write(chunk)
        writer.commit()
    what = f"overwrote {len(GARBAGE)} bytes of {archive['key']}"
    return Injected("backup-object", "backup", what, _now(), file=str(archive["key"]))


DAMAGES: dict[str, Callable[[Victim], Injected]] = {
    "update-without-where": update_without_where,
    "delete-without-where": delete_without_where,
    "truncate": truncate,
    "drop-table": drop_table,
    "rename-table": rename_table,
    "drop-database": drop_database,
    "wrong-migration": wrong_migration,
    "heap-bytes": heap_bytes,
    "relation-file": relation_file,
    "index-mismatch": index_mismatch,
    "wal-segment": wal_segment,
    "backup-object": backup_object,
}

Database = psycopg.Connection[tuple[Any, ...]]


def _connect(victim: Victim) -> Database:
    return psycopg.connect(victim.dsn, autocommit=True)


def _one(database: Database, sql: str, *parameters: object) -> Any:
    row = database.execute(sql, parameters or None).fetchone()  # type: ignore[call-overload]
    return row[0] if row else None


def _pick_table(database: Database, victim: Victim) -> str:
    if victim.table:
        return victim.table
    tables = [str(row[0]) for row in database.execute(_USER_TABLES)]
    if not tables:
        raise NotReady(
            "expected a table to damage, found none",
            code="no-table",
            hint="Let the application make its tables first.",
        )
    return max(tables, key=lambda table: int(_one(database, f"SELECT count(*) FROM {table}")))


def _pick_column(database: Database, table: str) -> str:
    column = _one(database, _PLAIN_COLUMN, table)
    if column is None:
        raise NotReady(
            f"expected a column of {table} that no index or constraint holds, found none",
            code="no-column",
            hint="Name another table.",
        )
    return str(column)


def _pick_index(database: Database, table: str) -> str:
    index = _one(database, _BTREE_INDEX, table)
    if index is None:
        raise NotReady(
            f"expected a btree index on {table}, found none",
            code="no-index",
            hint="Name another table.",
        )
    return str(index)


def _column_list(database: Database, table: str) -> str:
    return str(_one(database, _WRITABLE_COLUMNS, table))


def _set_ready(database: Database, index: str, *, ready: bool) -> None:
    database.execute(
        "UPDATE pg_index SET indisready = %s WHERE indexrelid = %s::regclass", (ready, index)
    )


def _commit(database: Database, name: str, kind: str, table: str, statement: str) -> Injected:
    with database.transaction():
        rows = int(_one(database, f"SELECT count(*) FROM {table}"))
        database.execute(statement)  # type: ignore[call-overload]
        xid = int(_one(database, "SELECT pg_current_xact_id()::text")) % 2**32
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
    lsn = parse_lsn(_one(database, "SELECT pg_current_wal_insert_lsn()::text"))
    tracked = _one(database, "SHOW track_commit_timestamp") == "on"
    at = _one(database, f"SELECT pg_xact_commit_timestamp('{xid}'::xid)") if tracked else _now()
    return Injected(name, kind, what, at.astimezone(UTC), xid, lsn, table, rows)


def _path_of(database: Database, relation: str) -> str:
    return str(_one(database, "SELECT pg_relation_filepath(%s::regclass)", relation))


def _overwrite(file: Path, block: int) -> None:
    with file.open("r+b") as heap:
        heap.seek(block * PAGE_BYTES + PAGE_BYTES // 2)
        heap.write(GARBAGE)


def _is_garbage(file: Path, block: int) -> bool:
    with file.open("rb") as heap:
        heap.seek(block * PAGE_BYTES + PAGE_BYTES // 2)
        return heap.read(len(GARBAGE)) == GARBAGE


def _evict(aside: Database, file: str, block: int) -> bool:
    """Whether no buffer holds the page any more; a dirty one is written out by this."""
    number = Path(file).name
    aside.execute(_EVICT, (number, block))
    return _one(aside, _BUFFERED, number, block) == 0


def _with_garbage(chunks: Iterator[bytes], at: int) -> Iterator[bytes]:
    seen = 0
    for chunk in chunks:
        start = at - seen
        if 0 <= start < len(chunk):
            garbage = GARBAGE[: len(chunk) - start]
            chunk = chunk[:start] + garbage + chunk[start + len(garbage) :]
        seen += len(chunk)
        yield chunk


def _now() -> datetime:
    return datetime.now(UTC)


_DROP_DATABASE = "SELECT format('DROP DATABASE %I WITH (FORCE)', current_database())"

_USER_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence = 'p'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = c.oid)
"""

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

_BTREE_INDEX = """
SELECT i.indexrelid::regclass::text
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
 WHERE i.indrelid = %s::regclass AND a.amname = 'btree' AND i.indpred IS NULL
 ORDER BY i.indisunique, i.indexrelid LIMIT 1
"""

_WRITABLE_COLUMNS = """
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
 WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""

_NEEDED_SEGMENT = """
SELECT pg_walfile_name(restart_lsn + 1) FROM pg_replication_slots
 WHERE restart_lsn IS NOT NULL
   AND pg_walfile_name(restart_lsn + 1) < pg_walfile_name(pg_current_wal_lsn() + 1)
 ORDER BY restart_lsn LIMIT 1
"""

_EVICT = """
SELECT pg_buffercache_evict(bufferid) FROM pg_buffercache
 WHERE relfilenode::text = %s AND relforknumber = 0 AND relblocknumber = %s
"""

_BUFFERED = """
SELECT count(*) FROM pg_buffercache
 WHERE relfilenode::text = %s AND relforknumber = 0 AND relblocknumber = %s
"""
