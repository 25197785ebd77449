"""Prove that a PostgreSQL server can be recovered: back it up, restore it, replay, look inside.

Nothing on the source is changed. Its WAL is kept by a temporary replication slot, which the server
itself drops when this process goes, however it goes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.inspect import PostgresInspector
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.backup.base_backup import take_backup
from chalicelib.backup.wal_fetch import fetch_wal
from chalicelib.errors import CheckFailed, NotReady
from chalicelib.evidence.text import in_units
from chalicelib.plan.components import DatabaseChecks
from chalicelib.plan.records import (
    CheckResult,
    DatabasePoint,
    Proof,
    RecoveryTarget,
    WalTick,
    format_lsn,
)
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.replay import Replayed, replaying
from chalicelib.recover.database.restore import Restored, restore
from chalicelib.verify.checks import run_checks
from chalicelib.verify.database import verify_database, verify_pages
from chalicelib.verify.unique import check_unique
from leeward.prove_source import Survey, list_tablespaces, survey

COMPONENT = "proof"
REPLAY_SECONDS = 24 * 3600.0
END = RecoveryTarget("end", "")
# No assertion of a plan here, and no schema recorded before: what remains is the data itself.
CHECKS = DatabaseChecks(schema_digest=False)


@dataclass(frozen=True)
class ProofOfServer:
    """`not_checked`: what was not looked at, and why; it is no part of what is proven."""

    proof: Proof
    point: DatabasePoint
    databases: tuple[str, ...]
    not_checked: tuple[str, ...]
    backup_folder: Path | None

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.proof.ok,
            "server_version": self.point.server_version,
            "databases": list(self.databases),
            "not_checked": list(self.not_checked),
            "backup_folder": str(self.backup_folder) if self.backup_folder else None,
            "point": self.point.to_json(),
            "proof": self.proof.to_json(),
        }


@dataclass
class Prover:
    """One run. `tell(step, found)` is called when a step begins (found "") and when it is done."""

    dsn: str
    tell: Callable[[str, str], None]
    keep: Path | None = None
    binaries: str | None = None
    _clock: SystemClock = field(default_factory=SystemClock)
    _seconds: dict[str, float] = field(default_factory=dict)
    _found: str = ""

    def run(self) -> ProofOfServer:
        """Raises the errors of each part; whatever happens, no server and no slot is left."""
        with _work_folder() as work:
            store = FolderObjectStore(self.keep or work / "backup")
            catalogue = StoredCatalogue(store, COMPONENT)
            surveyed, point = self._back_up(store, catalogue, work)
            folder = work / "data"
            means = Means(store, catalogue, self._server, self._clock)
            restored = self._restore(means, folder)
            with self._replaying(means, restored, folder) as (replayed, server):
                checks, not_checked = self._verify(server)
        return ProofOfServer(
            proof=self._proof(point, replayed, checks),
            point=point,
            databases=tuple(database.name for database in surveyed.databases),
            not_checked=not_checked,
            backup_folder=self.keep,
        )

    def _back_up(
        self, store: FolderObjectStore, catalogue: StoredCatalogue, work: Path
    ) -> tuple[Survey, DatabasePoint]:
        slot = f"leeward_prove_{os.getpid()}"
        with PostgresSource(self.dsn) as source:
            with self._step("look"):
                surveyed = survey(source, self.dsn, self.binaries, work)
                tablespaces = list_tablespaces(self.dsn)
                self._found = _describe_source(surveyed)
            with self._step("back up"):
                source.create_slot(slot, temporary=True)
                point = take_backup(
                    source, store, catalogue, component=COMPONENT, kind="full", clock=self._clock
                )
                _require_clean(point)
                self._found = f"{_size(point.source_bytes)} as {_size(point.stored_bytes)}"
            with self._step("fetch WAL"):
                tick = fetch_wal(
                    source, store, catalogue, component=COMPONENT, clock=self._clock, slot=slot
                )
                self._found = _describe_wal(tick, point)
        _require_same_tablespaces(self.dsn, tablespaces)
        return surveyed, point

    def _restore(self, means: Means, folder: Path) -> Restored:
        with self._step("restore"):
            restored = restore(means, END, folder)
            self._found = f"{_size(restored.source_bytes)}, every byte as it was sent"
        return restored

    @contextmanager
    def _replaying(
        self, means: Means, restored: Restored, folder: Path
    ) -> Iterator[tuple[Replayed, ThrowawayServer]]:
        """The server that replayed answers inside."""
        with ExitStack() as stack:
            with self._step("replay"):
                replayed, server = stack.enter_context(
                    replaying(means, restored, folder, timeout_seconds=REPLAY_SECONDS)
                )
                self._found = f"to {format_lsn(replayed.recovered_lsn)}"
            assert isinstance(server, ThrowawayServer)
            yield replayed, server

    def _verify(self, server: ThrowawayServer) -> tuple[tuple[CheckResult, ...], tuple[str, ...]]:
        with self._step("verify"):
            checks, not_checked = verify_all(server, self._clock)
            failed = sum(not check.ok for check in checks)
            self._found = f"{len(checks)} checks, {failed or 'none'} failed"
        return checks, not_checked

    def _proof(
        self, point: DatabasePoint, replayed: Replayed, checks: tuple[CheckResult, ...]
    ) -> Proof:
        return Proof(
            component=COMPONENT,
            point_id=point.id,
            proven_at=self._clock.now(),
            target=replayed.target,
            recovered_lsn=replayed.recovered_lsn,
            last_commit_at=replayed.last_commit_at,
            checks=checks,
            seconds=self._seconds,
        )

    def _server(self, data_dir: Path) -> ThrowawayServer:
        return ThrowawayServer(data_dir, named=self.binaries)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self.tell(name, "")
        started = time.monotonic()
        yield
        self._seconds[name] = round(time.monotonic() - started, 3)
        self.tell(name, f"{self._found} in {in_units(self._seconds[name])}")


def verify_all(
    server: ThrowawayServer, clock: SystemClock
) -> tuple[tuple[CheckResult, ...], tuple[str, ...]]:
    """Every check that the data alone allows, of each database; and what was not checked, why."""
    not_checked = [f"database {name}: {why}" for name, why in _closed_databases(server)]
    amcheck = (server.binaries.bin_dir / "pg_amcheck").is_file() and _offers_amcheck(server)
    if not amcheck:
        not_checked.append(f"amcheck: it is not in {server.binaries.bin_dir.parent}")
    checks: list[CheckResult] = []
    for database in _databases_of(server):
        checks += _verify_one(server, database, amcheck, clock)
    if server.control_data().get("Data page checksum version", "0") != "0":
        checks.append(verify_pages(server, clock=clock))
    else:
        not_checked.append("page checksums: they are off in this cluster")
    return tuple(checks), tuple(not_checked)


def _verify_one(
    server: ThrowawayServer, database: str, amcheck: bool, clock: SystemClock
) -> list[CheckResult]:
    dsn = server.dsn(database)
    databases = PostgresDatabases(dsn, server.binaries)
    inspector = PostgresInspector(dsn, databases, may_install=True)
    wanted = CHECKS.model_copy(update={"amcheck": amcheck})
    found = verify_database(databases, inspector, wanted, moment=clock.now(), clock=clock)
    if not amcheck:
        found += run_checks([("unique-indexes", partial(check_unique, databases))], clock).results
    return [replace(check, name=f"{database}: {check.name}") for check in found]


def _databases_of(server: ThrowawayServer) -> list[str]:
    query = "SELECT datname::text FROM pg_database WHERE datallowconn AND datconnlimit <> -2"
    with PostgresDatabases(server.dsn("template1")).session() as session:
        return sorted(str(name) for (name,) in session.query(query))


def _closed_databases(server: ThrowawayServer) -> list[tuple[str, str]]:
    """Name and reason, without template0, which PostgreSQL itself made and keeps closed.

    A database whose DROP was interrupted has the limit -2 (pg_database.h, "invalid").
    """
    query = """
        SELECT datname::text, CASE WHEN datconnlimit = -2 THEN 'a DROP of it was interrupted'
                                   ELSE 'nobody may connect to it' END
          FROM pg_database WHERE datname <> 'template0' AND (NOT datallowconn OR datconnlimit = -2)
         ORDER BY 1"""
    with PostgresDatabases(server.dsn("template1")).session() as session:
        return [(str(name), str(why)) for name, why in session.query(query)]


def _offers_amcheck(server: ThrowawayServer) -> bool:
    query = "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'"
    with PostgresDatabases(server.dsn("template1")).session() as session:
        return session.query(query) == [(1,)]


def _require_same_tablespaces(dsn: str, before: list[int]) -> None:
    """Replaying CREATE TABLESPACE would write to the source's own folder if this is its machine."""
    if list_tablespaces(dsn) != before:
        raise NotReady(
            "expected no new tablespace during the backup, found one",
            code="tablespace-created",
            hint="Run it again: the next backup holds the tablespace.",
        )


def _describe_source(found: Survey) -> str:
    major, minor = divmod(found.server_version, 10000)
    count = len(found.databases)
    return f"PostgreSQL {major}.{minor}, {count} databases, {_size(found.size_bytes)}"


def _require_clean(point: DatabasePoint) -> None:
    if point.checksum_failures:
        raise CheckFailed(
            f"expected every page of the server to match its checksum, "
            f"found: {'; '.join(point.checksum_failures)}",
            code="bad-pages",
            hint="Stop relying on this server's disk; restore an older backup of these files.",
        )


def _describe_wal(tick: WalTick, point: DatabasePoint) -> str:
    if tick.gap or tick.end_lsn < point.end_lsn:
        reasons = "; ".join(finding.found for finding in tick.findings) or "it ends too early"
        raise CheckFailed(
            f"expected all WAL since the backup began: {reasons}",
            code="wal-gap",
            hint="Raise max_slot_wal_keep_size, or run it when less is written.",
        )
    return f"to {format_lsn(tick.end_lsn)}"


def _size(count: int) -> str:
    """1234567 -> "1.2 MB"."""
    power = max(0, (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:.1f} {('bytes', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"


@contextmanager
def _work_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="leeward-prove-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
