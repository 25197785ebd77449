"""A running primary as the source of base backups and WAL: the port ReplicationSource."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import psycopg

from chalicelib.adapters.postgres.database import PostgresSession, parse_dsn
from chalicelib.adapters.postgres.login import CONNECT_SECONDS, refused_login
from chalicelib.adapters.postgres.protocol import (
    Refusal,
    ReplicationConnection,
    Row,
    WalMessages,
)
from chalicelib.adapters.postgres.refusals import (
    mapped_incremental,
    mapped_refusals,
    refused_backup,
    refused_command,
    refused_wal,
    require_ready,
)
from chalicelib.errors import BadInput, Unavailable
from chalicelib.plan.records import format_lsn, parse_lsn
from chalicelib.ports import BackupSink, BaseBackup, SlotStatus, SourceFacts

# What to ask for, best first: older servers and lean builds lack workers, or zstd altogether.
COMPRESSIONS = (
    "COMPRESSION 'zstd', COMPRESSION_DETAIL 'level=1,workers=2', ",
    "COMPRESSION 'zstd', COMPRESSION_DETAIL 'level=1', ",
    "",
)
NOT_SUPPORTED = ("0A000", "42601", "22023")
SQL_SECONDS = 60
# Where a role may connect unless somebody took that away (initdb).
MAINTENANCE_DATABASE = "postgres"


class PostgresSource:
    """Holds one replication connection (temporary slots live in it) and one for SQL."""

    def __init__(self, dsn: str, *, any_database: bool = False) -> None:
        """`dsn`: of a role with LOGIN and REPLICATION; it may read nothing else. `any_database`:
        the server's backups go on when the database that it names is gone."""
        self._parameters = parse_dsn(dsn)
        self._any_database = any_database
        self._replication: ReplicationConnection | None = None
        self._sql: psycopg.Connection[Any] | None = None
        self._temporary_slots: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for connection in (self._replication, self._sql):
            if connection is not None:
                connection.close()
        self._replication = self._sql = None

    def check_ready(self, *, slots_needed: int = 0) -> None:
        require_ready(self._session(), slots_needed)

    def facts(self) -> SourceFacts:
        connection = self._connection()
        with mapped_refusals():
            [(system_id, timeline, flushed, _)] = connection.query("IDENTIFY_SYSTEM")
            [(segment_size,)] = connection.query("SHOW wal_segment_size")
            summarizes = connection.server_version >= 170000 and connection.query(
                "SHOW summarize_wal"
            )
        return SourceFacts(
            system_id=str(system_id),
            server_version=connection.server_version,
            timeline=int(timeline or 0),
            flush_lsn=parse_lsn(str(flushed)),
            segment_bytes=_parse_size(str(segment_size)),
            summarizes_wal=summarizes == [("on",)],
        )

    def base_backup(
        self, sink: BackupSink, *, label: str, parent_manifest: bytes | None = None
    ) -> BaseBackup:
        connection = self._connection()
        if parent_manifest is not None:
            with mapped_incremental():
                connection.upload("UPLOAD_MANIFEST", parent_manifest)
        begun, compressed = self._begin_backup(label, incremental=parent_manifest is not None)
        failures: list[str] = []
        connection.on_notice(failures.append)
        try:
            _receive_archives(connection, sink, compressed)
            return _finish_backup(connection, begun, failures)
        except BaseException:
            # Only a new connection gets out of the middle of a stream.
            self.close()
            raise

    def slot(self, name: str) -> SlotStatus | None:
        rows = self._session().query(_SLOT, (name,))
        return _slot_status(rows[0]) if rows else None

    def create_slot(self, name: str, *, temporary: bool = False) -> SlotStatus:
        if temporary:
            self._temporary_slots.add(name)
        self._create_slot(name)
        status = self.slot(name)
        if status is None:
            raise Unavailable(f"expected slot {name}, it is gone again", hint="Try again.")
        return status

    def _create_slot(self, name: str) -> None:
        kind = "TEMPORARY PHYSICAL" if name in self._temporary_slots else "PHYSICAL"
        try:
            self._connection().query(f'CREATE_REPLICATION_SLOT "{name}" {kind} RESERVE_WAL')
        except Refusal as refusal:
            if refusal.sqlstate != "42710":  # it exists
                raise refused_command(refusal) from refusal

    def drop_slot(self, name: str) -> None:
        try:
            self._connection().query(f'DROP_REPLICATION_SLOT "{name}" WAIT')
        except Refusal as refusal:
            if refusal.sqlstate != "42704":  # there is none
                raise refused_command(refusal) from refusal

    @contextmanager
    def stream_wal(self, slot: str, *, start_lsn: int, timeline: int) -> Iterator[WalMessages]:
        connection = self._connection()
        try:
            connection.begin_copy_both(
                f'START_REPLICATION SLOT "{slot}" PHYSICAL {format_lsn(start_lsn)} '
                f"TIMELINE {timeline}"
            )
        except Refusal as refusal:
            raise refused_wal(refusal, start_lsn) from refusal
        stream = WalMessages(connection)
        try:
            yield stream
            if stream.ended is None:
                connection.end_copy_both()
        except Refusal as refusal:
            raise refused_wal(refusal, start_lsn) from refusal
        except BaseException:
            # Only a new connection gets out of the middle of a stream.
            self.close()
            raise

    def timeline_history(self, timeline: int) -> bytes:
        with mapped_refusals():
            [(_, content)] = self._connection().query(f"TIMELINE_HISTORY {timeline}")
        return (content or "").encode()

    def tick(self) -> int:
        session = self._session()
        session.execute("SET synchronous_commit = local")
        session.query("SELECT pg_logical_emit_message(true, 'leeward', 'tick')")
        [(flushed,)] = session.query("SELECT pg_current_wal_flush_lsn()::text")
        return parse_lsn(flushed)

    def relations(self) -> dict[str, Any]:
        session = self._session()
        oids = {str(name): int(oid) for name, oid in session.query(_DATABASES)}
        return {
            "databases": {name: self._relations_of(name) for name in oids},
            "oids": oids,
            "tablespaces": [int(oid) for (oid,) in session.query(_TABLESPACES)],
        }

    def _relations_of(self, database: str) -> dict[str, Any]:
        with self._connect_sql(dbname=database) as connection:
            rows = PostgresSession(connection).query(_RELATIONS)
        return {
            str(number): {"name": name, "kind": kind, "parent": parent, "rows": count}
            for number, name, kind, parent, count in rows
        }

    def _begin_backup(self, label: str, *, incremental: bool) -> tuple[list[list[Row]], bool]:
        for compression in COMPRESSIONS:
            command = (
                f"BASE_BACKUP (LABEL {_literal(label)}, CHECKPOINT 'fast', WAIT false, "
                f"WAL false, TABLESPACE_MAP, {compression}MANIFEST 'yes'"
                f"{', INCREMENTAL' if incremental else ''})"
            )
            try:
                return self._connection().begin_copy_out(command), bool(compression)
            except Refusal as refusal:
                if refusal.sqlstate not in NOT_SUPPORTED or not compression:
                    raise refused_backup(refusal, incremental) from refusal
                # The server drops a session's temporary slots with every error in it.
                for name in self._temporary_slots:
                    self._create_slot(name)
        raise AssertionError("the last compression is none")

    def _connection(self) -> ReplicationConnection:
        if self._replication is None:
            self._replication = ReplicationConnection(self._parameters)
        return self._replication

    def _session(self) -> PostgresSession:
        if self._sql is None or self._sql.closed:
            self._sql = self._connect_to_any() if self._any_database else self._connect_sql()
        return PostgresSession(self._sql)

    def _connect_to_any(self) -> psycopg.Connection[Any]:
        try:
            return self._connect_sql()
        except BadInput as refused:
            if refused.instance_code != "no-such-database":
                raise
            return self._connect_sql(dbname=MAINTENANCE_DATABASE)

    def _connect_sql(self, **changed: Any) -> psycopg.Connection[Any]:
        own = {
            "application_name": "leeward",
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": SQL_SECONDS * 1000,
            "options": f"{self._parameters.get('options') or ''} "
            f"-c statement_timeout={SQL_SECONDS * 1000}",
        }
        parameters = self._parameters | own | changed
        try:
            return psycopg.connect(autocommit=True, **parameters)
        except psycopg.OperationalError as error:
            raise refused_login(error.pgconn, self._parameters | changed) from error


def _receive_archives(
    connection: ReplicationConnection, sink: BackupSink, compressed: bool
) -> None:
    write = sink.write
    for message in connection.received():
        kind = bytes(message[:1])
        if kind == b"d":
            write(message[1:])
        elif kind == b"n":
            name = bytes(message[1:]).split(b"\0")[0].decode()
            sink.begin_archive(name.removesuffix(".zst"), compressed=compressed)
            write = sink.write
        elif kind == b"m":
            write = sink.write_manifest


def _finish_backup(
    connection: ReplicationConnection, begun: list[list[Row]], warnings: list[str]
) -> BaseBackup:
    """The server names bad pages in warnings, sends everything, and fails at the very end."""
    start_lsn, timeline = begun[0][0]
    end_lsn, failed = _end_of_backup(connection)
    connection.on_notice(lambda _: None)
    return BaseBackup(
        timeline=int(timeline or 0),
        start_lsn=parse_lsn(str(start_lsn)),
        end_lsn=end_lsn,
        checksum_failures=tuple(warnings or ["pages failed"]) if failed else (),
    )


def _end_of_backup(connection: ReplicationConnection) -> tuple[int, bool]:
    ended: list[list[Row]] = []
    failed = False
    try:
        for result in connection.results():
            ended.append(result)
    except Refusal as refusal:
        if refusal.sqlstate != "XX001" or not ended:  # data_corrupted
            raise refused_command(refusal) from refusal
        failed = True
    return parse_lsn(str(ended[0][0][0])), failed


def _slot_status(row: tuple[Any, ...]) -> SlotStatus:
    name, restart_lsn, wal_status, safe_bytes = row
    return SlotStatus(
        name=name,
        restart_lsn=parse_lsn(restart_lsn) if restart_lsn else None,
        wal_status=wal_status or "",
        safe_bytes=None if safe_bytes is None else int(safe_bytes),
    )


def _parse_size(text: str) -> int:
    """PostgreSQL's "16MB", "1GB" -> bytes."""
    units = {"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
    return int(text[:-2]) * units[text[-2:]]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_SLOT = """
SELECT slot_name::text, restart_lsn::text, wal_status, safe_wal_size
  FROM pg_replication_slots WHERE slot_name = %s
"""
# -2: its DROP was interrupted, and nobody can connect (pg_database.h).
_DATABASES = """
SELECT datname::text, oid FROM pg_database
 WHERE datallowconn AND NOT datistemplate AND has_database_privilege(oid, 'CONNECT')
   AND datconnlimit <> -2
 ORDER BY 1
"""
# Oids below 16384 are PostgreSQL's own (FirstNormalObjectId).
_TABLESPACES = "SELECT oid FROM pg_tablespace WHERE oid >= 16384 ORDER BY oid"
_RELATIONS = """
SELECT pg_relation_filenode(c.oid)::bigint, format('%I.%I', n.nspname, c.relname),
       c.relkind::text,
       (SELECT format('%I.%I', owner_space.nspname, owner.relname)
          FROM pg_class owner JOIN pg_namespace owner_space ON owner_space.oid = owner.relnamespace
         WHERE owner.oid = coalesce(i.indrelid, toasted.oid)),
       CASE WHEN c.relkind IN ('r', 'm')
            THEN nullif(greatest(c.reltuples::bigint, pg_stat_get_live_tuples(c.oid)), -1) END
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_index i ON i.indexrelid = c.oid
  LEFT JOIN pg_class toasted ON toasted.reltoastrelid = c.oid
 WHERE pg_relation_filenode(c.oid) IS NOT NULL
 ORDER BY 1
"""
