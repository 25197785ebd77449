"""Damage to the files of a server, beneath what its statements see."""

from __future__ import annotations

from pathlib import Path

import psycopg

from chalicelib.errors import NotReady
from leeward.local.damage.victim import (
    GARBAGE,
    Database,
    Injected,
    Victim,
    connect,
    now,
    one,
    pick_table,
)

PAGE_BYTES = 8192
STALE_ROWS = 10
EVICTIONS = 50


def heap_bytes(victim: Victim) -> Injected:
    """Overwrite bytes of one page on disk and make the server forget the good copy it holds."""
    with connect(victim) as database:
        table = pick_table(database, victim)
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
    return Injected("heap-bytes", "page", what, now(), table=table, file=file)


def relation_file(victim: Victim) -> Injected:
    with connect(victim) as database:
        table = pick_table(database, victim)
        # What is dirty is written now: a later checkpoint must not meet the missing file first.
        database.execute("CHECKPOINT")
        file = _path_of(database, table)
        (victim.data_dir / file).unlink()
    what = f"deleted the file of {table}"
    return Injected("relation-file", "relation-file", what, now(), table=table, file=file)


def index_mismatch(victim: Victim) -> Injected:
    """Write rows again while one index is said not to be ready: it keeps none of their new places.

    The rows themselves are what they were; triggers are off, so that nothing cascades.
    """
    with connect(victim) as database:
        table = pick_table(database, victim)
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
    return Injected("index-mismatch", "index", what, now(), table=table, file=index)


def wal_segment(victim: Victim) -> Injected:
    """Delete a finished segment that a replication slot has not confirmed yet."""
    with connect(victim) as database:
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
    return Injected("wal-segment", "wal-gap", what, now(), file=segment)


def _pick_index(database: Database, table: str) -> str:
    index = one(database, _BTREE_INDEX, table)
    if index is None:
        raise NotReady(
            f"expected a btree index on {table}, found none",
            code="no-index",
            hint="Name another table.",
        )
    return str(index)


def _column_list(database: Database, table: str) -> str:
    return str(one(database, _WRITABLE_COLUMNS, table))


def _set_ready(database: Database, index: str, *, ready: bool) -> None:
    database.execute(
        "UPDATE pg_index SET indisready = %s WHERE indexrelid = %s::regclass", (ready, index)
    )


def _path_of(database: Database, relation: str) -> str:
    return str(one(database, "SELECT pg_relation_filepath(%s::regclass)", relation))


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
    return one(aside, _BUFFERED, number, block) == 0


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
