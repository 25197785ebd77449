"""From object storage to a server that answers, beside `cp -r`, barman-cloud and pgBackRest.

    python -m bench.restore [--scale 150] [--rounds 3]

Each restores the same cluster with the WAL written since its backup, starts it, shuts it down in
order and has it on the disk; with what it reads in memory, and on the disk alone. Prints one JSON
object and rewrites its section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from bench.lab import (
    BUCKET,
    ROOT,
    Cluster,
    Cost,
    Store,
    cluster,
    free_ports,
    measure,
    object_store,
    poll,
    publish,
    rounds,
    start_server,
    table,
    work_folder,
)
from bench.peers import Barman, PgBackRest, plain_backup
from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.errors import NotReady

COPY, OURS, BARMAN, PGBACKREST = "cp -r (not started)", "leeward", "barman-cloud", "pgBackRest"
WRITE_SECONDS = 2
SETTLING_BYTES = 64 << 20
READ_BYTES = 1 << 20
COLD = ", from the disk"


@dataclass(frozen=True)
class RestoreCost(Cost):
    """`wall_seconds` until it answers; `disk_seconds` until all of it is on the disk, too."""

    disk_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with work_folder() as work, object_store(work / "store") as store:
        figures = {
            "17": _on_17(work / "seventeen", store, options.scale, options.rounds),
            "15": _on_15(work / "fifteen", store, options.scale, options.rounds),
        }
    publish("restore", _text(figures), figures)


def _on_17(folder: Path, store: Store, scale: int, number: int) -> dict[str, Any]:
    with cluster(folder, find_binaries(17), scale=scale, settings=ARCHIVING) as source:
        barman = Barman(source, store)
        _archive_with(source, barman.archive_command())
        measure(_leeward("fetch", source.dsn, BUCKET, "ours17/"))
        measure(_leeward("back-up", source.dsn, BUCKET, "ours17/"))
        measure(barman.back_up(), environment=barman.environment)
        _finish_history(source, "ours17/")
        restores: dict[str, Callable[[], Cost]] = {
            COPY: partial(_copy, source),
            OURS: partial(_ours, source, "ours17/"),
            BARMAN: partial(_barman, source, barman),
        }
        return rounds(_warm_and_cold(source, store, restores), number)


def _on_15(folder: Path, store: Store, scale: int, number: int) -> dict[str, Any]:
    try:
        binaries = find_binaries(15)
    except NotReady:
        return {}
    if not PgBackRest.here():
        return {}
    with cluster(folder, binaries, scale=scale, settings=ARCHIVING) as source:
        pgbackrest = PgBackRest(source, store)
        pgbackrest.configure()
        measure(pgbackrest.command("stanza-create"), account=source.account)
        _archive_with(source, pgbackrest.archive_command())
        measure(_leeward("fetch", source.dsn, BUCKET, "ours15/"))
        measure(_leeward("back-up", source.dsn, BUCKET, "ours15/"))
        measure(pgbackrest.command("--type=full", "backup"), account=source.account)
        _finish_history(source, "ours15/")
        restores: dict[str, Callable[[], Cost]] = {
            COPY: partial(_copy, source),
            OURS: partial(_ours, source, "ours15/"),
            PGBACKREST: partial(_pgbackrest, source, pgbackrest),
        }
        return rounds(_warm_and_cold(source, store, restores), number)


def _warm_and_cold(
    source: Cluster, store: Store, restores: dict[str, Callable[[], Cost]]
) -> dict[str, Callable[[], Cost]]:
    """Each with what it reads in memory, and with all of that on the disk alone."""
    plain = source.folder / "plain"

    def warm(restore: Callable[[], Cost]) -> Cost:
        _read(plain, store.folder)
        _settle(source)
        return restore()

    def cold(restore: Callable[[], Cost]) -> Cost:
        _settle(source)
        _forget(plain, store.folder)
        return restore()

    return {name: partial(warm, restore) for name, restore in restores.items()} | {
        name + COLD: partial(cold, restore) for name, restore in restores.items()
    }


def _settle(source: Cluster) -> None:
    """The disk has what the variant before wrote, and as much memory as a restore fills was
    filled and freed: the same copy into other memory took up to ten times the processor time
    (measured), and the first variant would pay for all."""
    with (source.folder / "settling").open("wb", buffering=0) as file:
        for _ in range(_size(source.folder / "plain") // SETTLING_BYTES + 1):
            file.write(bytes(SETTLING_BYTES))
        file.truncate(0)
    os.sync()


def _read(*folders: Path) -> None:
    for path in _files(*folders):
        with path.open("rb", buffering=0) as file:
            while file.read(READ_BYTES):
                pass


def _forget(*folders: Path) -> None:
    """Written files leave the memory of the kernel."""
    for path in _files(*folders):
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _files(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))


ARCHIVING = {"archive_mode": "on", "archive_command": "/bin/true"}


def _archive_with(source: Cluster, command: str) -> None:
    source.run(f"alter system set archive_command = '{command}'", "select pg_reload_conf()")


def _finish_history(source: Cluster, prefix: str) -> None:
    """Some seconds of pgbench, all of it archived; and a plain copy as the limit."""
    pgbench = source.binaries.tool("pgbench")
    measure([pgbench, "-c", "2", "-T", str(WRITE_SECONDS), source.dsn])
    source.run("create table the_end as select 1 as x", "select pg_switch_wal()")
    poll(partial(_require_archived, source), 300)
    measure(_leeward("fetch", source.dsn, BUCKET, prefix))
    measure(plain_backup(source, source.folder / "plain"))


def _require_archived(source: Cluster) -> None:
    with psycopg.connect(source.dsn) as connection:
        row = connection.execute(
            "select pg_walfile_name(pg_current_wal_lsn()) > last_archived_wal"
            "   and (select count(*) from pg_ls_archive_statusdir() where name like '%ready') = 0"
            "  from pg_stat_archiver"
        ).fetchone()
    if row != (True,):
        raise RuntimeError(f"WAL is not archived: {row}")


def _leeward(*words: str) -> list[str]:
    return ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "bench.subject", *words]


def _copy(source: Cluster) -> Cost:
    target = source.folder / "copy"
    cost = measure(["cp", "-r", source.folder / "plain", target])
    synced = measure(_sync(target))
    _put_away(target)
    return _on_disk(cost, cost.wall_seconds, synced.wall_seconds)


def _ours(source: Cluster, prefix: str) -> Cost:
    target = source.folder / "ours"
    started = time.monotonic()
    cost = measure(_leeward("restore", BUCKET, prefix, str(target)))
    _put_away(target)
    answered = float((source.folder / "ours.answered").read_text())
    on_disk = float((source.folder / "ours.on-disk").read_text())
    return _on_disk(cost, answered - started, on_disk - answered)


def _barman(source: Cluster, barman: Barman) -> Cost:
    target = source.folder / "barman"
    cost = measure(barman.restore(target), environment=barman.environment)
    (target / "recovery.signal").touch()
    return _opened(source, target, cost, barman.restore_command())


def _pgbackrest(source: Cluster, pgbackrest: PgBackRest) -> Cost:
    target = source.folder / "pgbackrest-restored"
    target.mkdir(mode=0o700)
    source.account.own(target)
    command = pgbackrest.command(f"--pg1-path={target}", "--type=default", "restore")
    cost = measure(command, account=source.account)
    archive_get = pgbackrest.command(f"--pg1-path={target}", "archive-get", "%f", '"%p"')
    return _opened(source, target, cost, " ".join(archive_get))


def _opened(source: Cluster, data: Path, cost: Cost, restore_command: str) -> Cost:
    """Adds the time until the restored server answers with the last table, and until what was
    restored is shut down in order and on the disk."""
    started = time.monotonic()
    [port] = free_ports(1)
    (data / "postgresql.auto.conf").write_text("")
    source.account.own(data)
    data.chmod(0o700)
    options = {
        "port": port, "archive_mode": "off", "restore_command": restore_command, "fsync": "off",
        "full_page_writes": "off", "unix_socket_directories": "", "shared_buffers": "128MB",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    process = start_server(source.binaries, data, source.account, *words)
    dsn = source.dsn.replace(str(source.port), str(port))
    try:
        poll(partial(_require_the_end, process, dsn, data.with_name(f"{data.name}.log")), 600)
        wall = cost.wall_seconds + time.monotonic() - started
    finally:
        answered = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(60)
    measure(_sync(data))
    stopping = time.monotonic() - answered
    _put_away(data)
    return _on_disk(cost, wall, stopping)


def _sync(folder: Path) -> list[str]:
    """Of the folder's whole file system, in which nothing else is written."""
    return ["sync", "-f", str(folder)]


def _on_disk(cost: Cost, wall_seconds: float, more_seconds: float) -> RestoreCost:
    known = asdict(cost) | {"wall_seconds": wall_seconds}
    return RestoreCost(**known, disk_seconds=wall_seconds + more_seconds)


def _put_away(folder: Path) -> None:
    """Its files are emptied and not removed: where many were removed within a minute, ext4 looks
    far for an inode, and the next variant would pay for that."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)
    folder.rename(folder.with_name(f"{folder.name}-{time.monotonic_ns()}"))


def _require_the_end(server: subprocess.Popen[bytes], dsn: str, log: Path) -> None:
    if server.poll() is not None:
        raise SystemExit(f"the restored server ended: {log.read_text()[-3000:]}")
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select x, pg_is_in_recovery() from the_end").fetchone()
    if row != (1, False):
        raise RuntimeError(f"still recovering: {row}")


def _text(figures: dict[str, Any]) -> str:
    lines = []
    for major, found in figures.items():
        for name, one in found.items():
            copied = found[COPY + COLD if name.endswith(COLD) else COPY]
            lines.append(
                [
                    f"PostgreSQL {major}: {name}",
                    f"{one['wall_seconds']:.1f}",
                    f"{one['wall_seconds'] / copied['wall_seconds']:.2f}",
                    f"{one['disk_seconds']:.1f}",
                    f"{one['disk_seconds'] / copied['disk_seconds']:.2f}",
                    f"{one['client_seconds']:.1f}",
                    f"{one['peak_mib']:.0f}",
                ]
            )
    headings = [
        "restore", "until it answers s", "ratio", "until it is on the disk s", "ratio",
        "client CPU s", "peak MiB",
    ]  # fmt: skip
    return (
        "## Restore from object storage to accepting queries\n\n"
        f"A full backup and the WAL of {WRITE_SECONDS} s of pgbench, recovered to their end. "
        "The limit is `cp -r` of the data folder alone, which replays nothing. Each is measured "
        "with what it reads in memory (the stored objects, or the folder to copy), and with that "
        "on the disk alone, as a backup is that nobody has just read. Each begins with the disk at "
        "rest and with memory to fill that was used before. "
        "On the disk: the server shut down in order and every file synced, by Leeward itself, by "
        "`sync -f` for the others; pgBackRest syncs what it restores before its server answers, "
        "too. Leeward's peak includes the server that it starts; it compares every object's "
        "SHA-256 and every file's CRC-32C on the way.\n\n"
        f"{table(headings, lines)}"
    )


if __name__ == "__main__":
    os.umask(0o022)
    main()
