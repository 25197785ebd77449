"""What a server must offer, and this machine must have, before a proof of it can begin."""

from __future__ import annotations

import locale
import shutil
from dataclasses import dataclass
from pathlib import Path

from chalicelib.adapters.postgres.binaries import Binaries, find_binaries
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.errors import NotReady

# The compressed backup beside what is unpacked from it. The worst data does not shrink.
DISK_FACTOR = 2


@dataclass(frozen=True)
class SourceDatabase:
    """A database of the source. `provider` is pg_database's: c (libc), i (ICU), b (built in)."""

    name: str
    size_bytes: int
    provider: str
    collation: str


@dataclass(frozen=True)
class Survey:
    """What is to be proven, and with which programs."""

    server_version: int
    databases: tuple[SourceDatabase, ...]
    binaries: Binaries

    @property
    def size_bytes(self) -> int:
        return sum(database.size_bytes for database in self.databases)


def survey(source: PostgresSource, dsn: str, named: str | None, work: Path) -> Survey:
    """Raises NotReady with a code for each thing that is missing; changes nothing."""
    source.check_ready(slots_needed=1)
    version = source.facts().server_version
    binaries = find_binaries(version // 10000, named)
    found = Survey(version, _list_databases(dsn), binaries)
    _require_collations(found)
    _require_space(found, work)
    return found


def list_tablespaces(dsn: str) -> list[int]:
    with PostgresDatabases(dsn).session(read_only=True) as session:
        return [int(oid) for (oid,) in session.query("SELECT oid FROM pg_tablespace ORDER BY 1")]


def _list_databases(dsn: str) -> tuple[SourceDatabase, ...]:
    with PostgresDatabases(dsn).session(read_only=True) as session:
        rows = session.query(_DATABASES)
    return tuple(
        SourceDatabase(str(name), int(size), str(provider), str(collation))
        for name, size, provider, collation in rows
    )


def _require_collations(found: Survey) -> None:
    icu = [database.name for database in found.databases if database.provider == "i"]
    if icu and not found.binaries.has_icu():
        raise NotReady(
            f"expected programs that know ICU, for database {icu[0]}; "
            f"those in {found.binaries.bin_dir} were built without",
            code="no-icu",
            hint="Install your distribution's server of the same major version, or name its "
            "folder with --binaries.",
        )
    for database in found.databases:
        if database.provider == "c" and not _has_locale(database.collation):
            raise NotReady(
                f"expected locale {database.collation} of database {database.name}, "
                "this machine has not got it",
                code="no-locale",
                hint=f"Generate it here, for example with localedef, as {database.collation}.",
            )


def _has_locale(name: str) -> bool:
    before = locale.setlocale(locale.LC_COLLATE)
    try:
        locale.setlocale(locale.LC_COLLATE, name)
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_COLLATE, before)
    return True


def _require_space(found: Survey, work: Path) -> None:
    needed, free = found.size_bytes * DISK_FACTOR, shutil.disk_usage(work).free
    if free < needed:
        raise NotReady(
            f"expected {needed} bytes of free disk in {work.parent}, found {free}",
            code="no-disk-space",
            hint="Free space there, or set TMPDIR to a folder on a larger disk.",
        )


_DATABASES = """
SELECT datname::text,
       CASE WHEN has_database_privilege(oid, 'CONNECT')
                 OR pg_has_role('pg_read_all_stats', 'USAGE')
            THEN pg_database_size(oid) ELSE 0 END,
       datlocprovider::text, datcollate
  FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY 1
"""
