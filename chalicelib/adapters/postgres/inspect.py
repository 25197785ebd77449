"""Physical damage on a running PostgreSQL server, found without changing anything.

What each look needs: `missing_files` reads empty tables (pg_read_all_data), `missing_wal` lists
pg_wal (pg_monitor), `damaged_pages` streams a base backup (REPLICATION), `damaged_indexes` calls
amcheck (the extension, and EXECUTE on its functions).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from chalicelib.adapters.postgres.database import (
    PostgresDatabases,
    map_sqlstate,
    parse_dsn,
)
from chalicelib.adapters.postgres.protocol import Refusal, ReplicationConnection
from chalicelib.errors import BadInput, Damaged, NotReady
from chalicelib.ports import Databases, Fault, Session

AMCHECK_SECONDS = 800
AMCHECK_CONNECTIONS = 2
AMCHECK_SCHEMA = "leeward_amcheck"
DATA_CORRUPTED = "XX001"


class PostgresInspector:
    """The port Inspector for the server and role that `dsn` names."""

    def __init__(
        self, dsn: str, databases: Databases | None = None, *, may_install: bool = False
    ) -> None:
        """`may_install`: add amcheck for the time of a check where it is absent. For throw-away
        servers alone."""
        self._dsn = dsn
        self._may_install = may_install
        self._databases = databases or PostgresDatabases(dsn)

    def missing_files(self, database: str = "") -> tuple[Fault, ...]:
        with self._databases.session(database, read_only=True) as session:
            short = [
                Fault("relation-file", path, f"{kind} {name} has {size} of {expected} bytes")
                for path, name, kind, size, expected in session.query(_SHORT_FILES)
            ]
            empty = session.query(_EMPTY_TABLES)
            return (*short, *_unopenable(session, empty))

    def failed_checksums(self, since: datetime | None = None) -> tuple[Fault, ...]:
        with self._databases.admin_session() as session:
            _require_checksums(session)
            rows = session.query(_FAILED_CHECKSUMS, (since, since))
        return tuple(
            Fault("page", f"database {name}", f"{count} page checksum failures, the last at {at}")
            for name, count, at in rows
        )

    def missing_wal(self) -> tuple[Fault, ...]:
        with self._databases.admin_session() as session:
            lost = session.query(_LOST_SLOTS)
            gone = session.query(_MISSING_SEGMENTS)
        return (
            *(Fault("wal-gap", f"slot {name}", "its WAL was removed") for (name,) in lost),
            *(Fault("wal-gap", segment, f"slot {name} needs it") for name, segment in gone),
        )

    def damaged_pages(self) -> tuple[Fault, ...]:
        with self._databases.admin_session() as session:
            _require_checksums(session)
        return tuple(_drop_base_backup(self._dsn))

    def damaged_indexes(
        self, database: str = "", *, part: int = 0, parts: int = 1
    ) -> tuple[Fault, ...]:
        with self._amcheck_schema(database) as schema:
            return self._check_all(database, schema, part, parts)

    @contextmanager
    def _amcheck_schema(self, database: str) -> Iterator[str]:
        with self._databases.session(database) as session:
            if self._may_install:
                session.execute(f"DROP SCHEMA IF EXISTS {AMCHECK_SCHEMA} CASCADE")
            found = session.query(_AMCHECK)
            if found or not self._may_install:
                yield _required_schema(found)
                return
            session.execute(f"CREATE SCHEMA {AMCHECK_SCHEMA}")
            session.execute(f"CREATE EXTENSION amcheck SCHEMA {AMCHECK_SCHEMA}")
            yield AMCHECK_SCHEMA
            session.execute(f"DROP SCHEMA {AMCHECK_SCHEMA} CASCADE")

    def _check_all(self, database: str, schema: str, part: int, parts: int) -> tuple[Fault, ...]:
        with self._databases.session(database, read_only=True) as session:
            rows = session.query(_RELATIONS_TO_CHECK, (schema, parts, part))
            checks = [_Check(*row) for row in rows]
        lanes = [checks[lane::AMCHECK_CONNECTIONS] for lane in range(AMCHECK_CONNECTIONS)]
        with ThreadPoolExecutor(AMCHECK_CONNECTIONS) as pool:
            found = pool.map(partial(self._check_lane, database, schema), lanes)
            return tuple(fault for faults in found for fault in faults)

    def _check_lane(self, database: str, schema: str, checks: list[_Check]) -> list[Fault]:
        with self._databases.session(
            database, timeout_seconds=AMCHECK_SECONDS, read_only=True
        ) as session:
            return [fault for check in checks for fault in _amcheck(session, schema, check)]


@dataclass(frozen=True)
class _Check:
    """`is_unique`: an index that must not name two rows, where amcheck can look (1.4, of 17)."""

    oid: int
    name: str
    is_index: bool
    is_unique: bool


def _amcheck(session: Session, schema: str, check: _Check) -> Iterator[Fault]:
    try:
        if check.is_index:
            # Also that every row of the table has its entry (heapallindexed).
            more = ", true" if check.is_unique else ""
            session.query(f"SELECT {schema}.bt_index_check(%s, true{more})", (check.oid,))
            return
        for block, line, message in session.query(
            f"SELECT blkno, offnum, msg FROM {schema}.verify_heapam(%s, check_toast => true)"
            " LIMIT 20",
            (check.oid,),
        ):
            yield Fault("page", check.name, f"block {block}, line {line}: {message}")
    except Damaged as error:
        # A table dropped since the list was made cannot be opened either.
        if session.query("SELECT 1 FROM pg_class WHERE oid = %s", (check.oid,)):
            yield Fault("index" if check.is_index else "page", check.name, error.message)


def _required_schema(found: list[tuple[Any, ...]]) -> str:
    if not found:
        raise NotReady(
            "expected the extension amcheck in the database, found none",
            code="no-amcheck",
            hint="Run CREATE EXTENSION amcheck there, and grant its functions to the role.",
        )
    return str(found[0][0])


def _unopenable(session: Session, tables: list[tuple[Any, ...]]) -> Iterator[Fault]:
    """A file of no bytes and a file that is gone have the same size; reading tells them apart."""
    for path, name in tables:
        try:
            session.query(f"SELECT 1 FROM ONLY {name} LIMIT 1")
        except Damaged as error:
            yield Fault("relation-file", path, f"table {name}: {error.message}")
        except BadInput:
            continue  # dropped since the list was made


def _require_checksums(session: Session) -> None:
    if session.query("SHOW data_checksums") != [("on",)]:
        raise NotReady(
            "expected data checksums on the server, found them off",
            code="no-checksums",
            hint="Switch them on with pg_checksums --enable while the server is down.",
        )


def _drop_base_backup(dsn: str) -> Iterator[Fault]:
    """Stream a base backup to nowhere: the server reads and checks every page of every file."""
    warnings: list[str] = []
    connection = ReplicationConnection(parse_dsn(dsn))
    connection.on_notice(warnings.append)
    try:
        connection.begin_copy_out("BASE_BACKUP (CHECKPOINT 'fast', WAL false, MANIFEST 'no')")
        for _ in connection.received():
            pass
        list(connection.results())
    except Refusal as refusal:
        if refusal.sqlstate != DATA_CORRUPTED:
            raise map_sqlstate(refusal.sqlstate, refusal.said) from refusal
        yield from (_page_fault(said) for said in warnings or [refusal.said])
    finally:
        connection.close()


def _page_fault(said: str) -> Fault:
    """The verdict is the server's SQLSTATE; its words only give the place, in any language."""
    found = re.search(r'"(?:\./)?([^"]+)"\D+(\d+)', said)
    where = f"{found[1]} block {found[2]}" if found else "the data folder"
    return Fault("page", where, said)


_FILES = """
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
       LATERAL (SELECT pg_relation_size(c.oid, 'main') AS size,
                       current_setting('block_size')::bigint AS block) f
 WHERE pg_relation_filenode(c.oid) IS NOT NULL AND c.relpersistence = 'p'
"""

# relpages never exceeds the file: VACUUM, which shortens files, sets it again; but for pg_class,
# whose VACUUM FULL leaves the old number in PostgreSQL 18, and without which nothing can be asked.
# That of an index or a sequence is at least 1 from the start.
_SHORT_FILES = (
    """
SELECT pg_relation_filepath(c.oid), format('%I.%I', n.nspname, c.relname),
       CASE c.relkind WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' ELSE 'table' END,
       f.size, c.relpages * f.block
"""
    + _FILES
    + """   AND f.size < c.relpages * f.block AND c.oid <> 'pg_class'::regclass
"""
)

_EMPTY_TABLES = (
    """
SELECT pg_relation_filepath(c.oid), format('%I.%I', n.nspname, c.relname)
"""
    + _FILES
    + """   AND c.relkind IN ('r', 'm') AND f.size = 0 AND c.relpages <= 0
   AND n.nspname <> 'pg_toast'
"""
)

_FAILED_CHECKSUMS = """
SELECT coalesce(datname, '(shared)'), checksum_failures, checksum_last_failure
  FROM pg_stat_database
 WHERE checksum_failures > 0 AND (%s::timestamptz IS NULL OR checksum_last_failure > %s)
"""

_LOST_SLOTS = "SELECT slot_name FROM pg_replication_slots WHERE wal_status = 'lost'"

# pg_walfile_name names the segment before when it is given a boundary (up to 16), so ask for a
# byte inside. The first 8 digits, the timeline, differ for segments from before a promotion.
_MISSING_SEGMENTS = """
WITH size AS (SELECT setting::bigint AS bytes FROM pg_settings WHERE name = 'wal_segment_size'),
needed AS (
  SELECT s.slot_name, pg_walfile_name('0/0'::pg_lsn + (g.number * bytes + 1)) AS segment
    FROM pg_replication_slots s, size,
         generate_series(div(s.restart_lsn - '0/0'::pg_lsn, bytes)::bigint,
                         div(pg_current_wal_lsn() - '0/0'::pg_lsn - 1, bytes)::bigint) g(number)
   WHERE s.restart_lsn IS NOT NULL)
SELECT slot_name, segment FROM needed
 WHERE substr(segment, 9) NOT IN (SELECT substr(name, 9) FROM pg_ls_waldir())
 ORDER BY slot_name, segment
"""

_AMCHECK = """
SELECT quote_ident(n.nspname) FROM pg_extension e
  JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'
"""

_RELATIONS_TO_CHECK = """
SELECT c.oid, format('%%I.%%I', n.nspname, c.relname), c.relkind = 'i',
       coalesce(i.indisunique, false) AND EXISTS (
         SELECT FROM pg_proc WHERE proname = 'bt_index_check' AND pronargs = 3
            AND pronamespace = %s::regnamespace AND has_function_privilege(oid, 'EXECUTE'))
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_am a ON a.oid = c.relam
  LEFT JOIN pg_index i ON i.indexrelid = c.oid
 WHERE c.relpersistence <> 't' AND c.oid::bigint %% %s = %s
   AND ((c.relkind IN ('r', 'm', 't') AND a.amname = 'heap')
     OR (c.relkind = 'i' AND a.amname = 'btree' AND i.indisready AND i.indisvalid))
 ORDER BY c.relpages DESC
"""
