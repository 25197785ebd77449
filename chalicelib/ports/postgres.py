"""PostgreSQL: the server that is protected, throw-away servers, and what they say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from chalicelib.plan.records import RecoveryTarget


@dataclass(frozen=True)
class Recovery:
    """How a throw-away server replays WAL: from `wal_dir` up to `target`, then `action`.

    `wal_dir` holds complete segments and timeline histories under PostgreSQL's own file names.
    Files may still arrive while the server replays: a segment whose name is in `coming/` is
    waited for, a file `failed` ends the replay, and the server names in `used/` what it took.
    `timeline` is the one to follow. "promote" opens for writing at the target, "pause" stays
    read-only at it.
    """

    target: RecoveryTarget
    wal_dir: Path
    timeline: int
    action: Literal["promote", "pause"] = "promote"


@dataclass(frozen=True)
class ReplayPosition:
    """What a server has replayed since it was started: up to `lsn`, the last commit among it
    (None when there was none), and the timeline it is on now."""

    lsn: int
    last_commit_at: datetime | None
    timeline: int


@dataclass(frozen=True)
class ToolOutcome:
    """What one of PostgreSQL's programs answered. `status` 0 means success."""

    status: int
    output: str
    errors: str


class DatabaseServer(Protocol):
    """A throw-away PostgreSQL server on one data folder, reachable only from this machine.

    It never runs the configuration that lies in the folder, never fsyncs, and ends with the
    process that started it. `with server:` stops it.
    """

    @property
    def data_dir(self) -> Path: ...

    def start(self, recovery: Recovery | None = None) -> None:
        """Stops what a dead worker left running here, then starts; returns at once.

        Raises NotReady when there are no programs for this version.
        """

    def wait_until(self, state: Literal["ready", "paused"], *, timeout_seconds: float) -> None:
        """ "ready": open for writing, after promotion if it recovers; "paused": at the target.

        Raises CheckFailed (code "server-ended", with the end of its log) or Unavailable.
        """

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Returns when no process of the server is left. No error when none runs."""

    def dsn(self, database: str = "postgres", **params: str) -> str:
        """How a superuser connects, for psycopg and for PostgreSQL's programs."""

    def run_tool(
        self, name: str, *args: str, env: Mapping[str, str] | None = None, timeout_seconds: float
    ) -> ToolOutcome:
        """Run a program of the server's own version; it may also run while the server is down.

        Raises NotReady when it is absent, Unavailable when it takes too long.
        """

    def replay_position(self) -> ReplayPosition:
        """Of a running server that was started with a recovery. Raises CheckFailed without."""

    def control_data(self) -> dict[str, str]:
        """pg_controldata's lines as name -> value."""

    def log_tail(self, lines: int = 20) -> str: ...


class ServerFactory(Protocol):
    """Gives the server for a data folder; it is not started."""

    def __call__(self, data_dir: Path) -> DatabaseServer: ...


@dataclass(frozen=True)
class SourceFacts:
    """What a server says it is. `server_version` as PostgreSQL counts it (170010 = 17.10)."""

    system_id: str
    server_version: int
    timeline: int
    flush_lsn: int
    segment_bytes: int
    summarizes_wal: bool


@dataclass(frozen=True)
class SlotStatus:
    """A replication slot. `wal_status` is pg_replication_slots': reserved, extended, unreserved,
    lost. `restart_lsn` is None when the slot holds no WAL; `safe_bytes` how much more may be
    written before it is lost, None when unlimited."""

    name: str
    restart_lsn: int | None
    wal_status: str
    safe_bytes: int | None


class BackupSink(Protocol):
    """Where a base backup goes while it is taken, one archive after the other."""

    def begin_archive(self, name: str, *, compressed: bool) -> None:
        """`name` is "base.tar" or "<oid of a tablespace>.tar"; zstd when `compressed`."""

    def write(self, data: memoryview) -> None: ...

    def write_manifest(self, data: memoryview) -> None: ...


@dataclass(frozen=True)
class BaseBackup:
    """What a finished base backup was. `checksum_failures` in the server's words."""

    timeline: int
    start_lsn: int
    end_lsn: int
    checksum_failures: tuple[str, ...]


@dataclass(frozen=True)
class TimelineEnd:
    """The server left a timeline at `switch_lsn` and goes on with `next_timeline`."""

    next_timeline: int
    switch_lsn: int


class WalStream(Protocol):
    """WAL as it arrives. `ended` is set when the server reached the end of the timeline."""

    @property
    def ended(self) -> TimelineEnd | None: ...

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """(LSN of the first byte, bytes), without gaps from where the stream was started."""

    def confirm(self, lsn: int) -> None:
        """Everything before `lsn` is durable: the slot need not keep it any longer."""


class ReplicationSource(Protocol):
    """A running primary, over the replication protocol and SQL; nothing on it is changed but
    the slot. Every wait has an end.

    Raises NotReady when a right or a setting is missing (codes in docs/errors of each method),
    Unavailable when the server does not answer or breaks off.
    """

    def check_ready(self, *, slots_needed: int = 0) -> None:
        """Raises NotReady: "no-replication-right", "wal-level-too-low", "no-wal-sender",
        "no-free-slot", "source-is-standby", "unsupported-version"."""

    def facts(self) -> SourceFacts: ...

    def base_backup(
        self, sink: BackupSink, *, label: str, parent_manifest: bytes | None = None
    ) -> BaseBackup:
        """With `parent_manifest` only what changed since that backup.

        Raises Refused (code "no-incremental") before anything reached the sink when the server
        cannot give an incremental.
        """

    def slot(self, name: str) -> SlotStatus | None: ...

    def create_slot(self, name: str, *, temporary: bool = False) -> SlotStatus:
        """Keeps WAL from now on; no error when it exists.

        Temporary: ends with this source; the name stays temporary when it is made again.
        """

    def drop_slot(self, name: str) -> None:
        """No error when there is none."""

    def stream_wal(
        self, slot: str, *, start_lsn: int, timeline: int
    ) -> AbstractContextManager[WalStream]:
        """Raises Damaged (code "wal-missing") when the server no longer has that WAL."""

    def timeline_history(self, timeline: int) -> bytes: ...

    def tick(self) -> int:
        """Write a heartbeat into the WAL, wait until it is on the server's disk, and return the
        LSN up to which the WAL is flushed. No table is touched."""

    def relations(self) -> dict[str, Any]:
        """{"databases": {name: {file number: {"name", "kind", "parent", "rows"}}},
        "oids": {name: oid}, "tablespaces": [oid, ...] besides PostgreSQL's own two} of now."""


class Session(Protocol):
    """One connection to one database; each statement commits on its own.

    Parameters are `%s`. Raises Damaged when the server says that stored data is unreadable,
    Unavailable when it does not answer in time, NotReady when a right is missing, BadInput when
    it refuses the statement.
    """

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows, for results that are small; an empty list when the statement gives none."""

    def stream(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query of any size, in constant memory."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """The number of rows it changed."""

    def copy_out(self, sql: str) -> Iterator[bytes]:
        """What `COPY ... TO STDOUT` sends, in constant memory."""

    def copy_in(self, sql: str, data: Iterable[bytes]) -> int:
        """The number of rows that `COPY ... FROM STDIN` took. One that fails leaves none."""


class Databases(Protocol):
    """The databases of one PostgreSQL server, as one role, and PostgreSQL's programs on it."""

    @property
    def database(self) -> str:
        """The database that the address names."""

    def session(
        self, database: str = "", *, timeout_seconds: float = 60, read_only: bool = False
    ) -> AbstractContextManager[Session]:
        """A connection to `database` (default: `self.database`); no statement takes longer."""

    def admin_session(self, *, timeout_seconds: float = 60) -> AbstractContextManager[Session]:
        """A connection to whichever of postgres, template1 and `self.database` lets in first."""

    def run_tool(
        self, name: str, *arguments: str, database: str = "", timeout_seconds: float = 600
    ) -> ToolOutcome:
        """A client program (pg_dump, pg_amcheck, ...) to its end; the address and the password
        reach it by its environment, never by its command line."""


@dataclass(frozen=True)
class Fault:
    """Something physically wrong. `where` names the file, page, table or index."""

    kind: Literal["page", "relation-file", "index", "wal-gap"]
    where: str
    what: str


class Inspector(Protocol):
    """Looks for physical damage on a running server without changing anything.

    Each method raises NotReady when it may not look; an empty result means that it looked.
    """

    def missing_files(self, database: str = "") -> tuple[Fault, ...]:
        """Tables and indexes whose file is gone or cannot be opened."""

    def failed_checksums(self, since: datetime | None = None) -> tuple[Fault, ...]:
        """Databases in which the server met a bad page after `since`: a counter, free of cost."""

    def missing_wal(self) -> tuple[Fault, ...]:
        """WAL segments that a replication slot still needs and that are gone."""

    def damaged_pages(self) -> tuple[Fault, ...]:
        """Reads every page of the server from disk: as long as a full backup."""

    def damaged_indexes(
        self, database: str = "", *, part: int = 0, parts: int = 1
    ) -> tuple[Fault, ...]:
        """amcheck over the tables and btree indexes of a database, or over one of `parts` parts
        of about the same number; every row must have its index entries."""


class WalText(Protocol):
    """WAL as pg_waldump prints it."""

    def dump(self, timeline: int, start_lsn: int, end_lsn: int) -> Iterator[bytes]:
        """The text of the records that start in [start_lsn, end_lsn), in chunks of whole lines.

        Raises:
            Damaged: code "wal-unreadable", when the records end before `end_lsn`.
        """

    def sequence_value(self, timeline: int, lsn: int) -> int:
        """The value in the record of a sequence that starts at `lsn`, which the text leaves out.

        Raises:
            Damaged: code "wal-unreadable".
        """
