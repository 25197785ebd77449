"""A full backup to object storage, beside a plain local copy, barman-cloud and pgBackRest.

    python -m bench.backup [--scale 150] [--rounds 3]

Prints one JSON object and rewrites its section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from bench.lab import (
    BUCKET,
    ROOT,
    Cluster,
    Cost,
    Store,
    cluster,
    measure,
    object_store,
    publish,
    rounds,
    table,
    work_folder,
)
from bench.peers import Barman, PgBackRest, plain_backup
from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.errors import NotReady

SMALL_SCALE = 20
PLAIN, OURS, BARMAN, PGBACKREST = "pg_basebackup to disk", "leeward", "barman-cloud", "pgBackRest"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with work_folder() as work, object_store(work / "store") as store:
        small = _on_17(work / "small", store, SMALL_SCALE, 1)
        large = _on_17(work / "large", store, options.scale, options.rounds)
        fifteen = _on_15(work / "fifteen", store, options.scale, options.rounds)
    growth = large[OURS]["peak_mib"] / small[OURS]["peak_mib"]
    figures = {"small": small, "17": large, "15": fifteen, "peak_growth": round(growth, 2)}
    publish("backup", _text(figures), figures)


def _on_17(folder: Path, store: Store, scale: int, number: int) -> dict[str, Any]:
    with cluster(folder, find_binaries(17), scale=scale) as source:
        return rounds_of(source, store, number, with_barman=True)


def _on_15(folder: Path, store: Store, scale: int, number: int) -> dict[str, Any]:
    try:
        binaries = find_binaries(15)
    except NotReady:
        return {}
    with cluster(folder, binaries, scale=scale, settings={"archive_mode": "on"}) as source:
        return rounds_of(source, store, number, with_barman=False)


def rounds_of(source: Cluster, store: Store, number: int, *, with_barman: bool) -> dict[str, Any]:
    name = source.folder.name
    variants: dict[str, Callable[[], Cost]] = {
        PLAIN: partial(_plain, source),
        OURS: partial(_ours, source, f"{name}-ours-"),
    }
    prefixes = {OURS: f"{name}-ours-"}
    if with_barman:
        barman = Barman(source, store, f"{name}-barman")
        variants[BARMAN] = partial(
            measure, barman.back_up(), source=source, environment=barman.environment
        )
        prefixes[BARMAN] = barman.name
    if source.major == 15 and PgBackRest.here():
        pgbackrest = PgBackRest(source, store)
        _prepare(pgbackrest)
        command = pgbackrest.command("--type=full", "backup")
        variants[PGBACKREST] = partial(measure, command, source=source, account=source.account)
        prefixes[PGBACKREST] = "pgbackrest/backup"
    found = rounds(variants, number)
    for variant, prefix in prefixes.items():
        found[variant]["stored_mib"] = round(store.stored_mib(prefix) / number, 1)
    return found


def _prepare(pgbackrest: PgBackRest) -> None:
    pgbackrest.configure()
    source = pgbackrest.source
    measure(pgbackrest.command("stanza-create"), account=source.account)
    source.run(
        f"alter system set archive_command = '{pgbackrest.archive_command()}'",
        "select pg_reload_conf()",
    )


def _plain(source: Cluster) -> Cost:
    folder = source.folder / "plain"
    cost = measure(plain_backup(source, folder), source=source)
    shutil.rmtree(folder)
    return cost


_NUMBERS = count()


def _ours(source: Cluster, prefix: str) -> Cost:
    words = ["back-up", source.dsn, BUCKET, f"{prefix}{next(_NUMBERS)}/"]
    environment = {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench.subject", *words]
    return measure(command, source=source, environment=environment)


def _text(figures: dict[str, Any]) -> str:
    lines = []
    for major in ("17", "15"):
        limit = figures[major].get(PLAIN, {}).get("wall_seconds")
        for name, found in figures[major].items():
            ratio = found["wall_seconds"] / limit
            stored = found.get("stored_mib")
            lines.append(
                [
                    f"PostgreSQL {major}: {name}",
                    f"{found['wall_seconds']:.1f}",
                    f"{ratio:.2f}",
                    f"{found['client_seconds']:.1f}",
                    f"{found['server_seconds']:.1f}",
                    f"{found['peak_mib']:.0f}",
                    f"{stored:.0f}" if stored else "-",
                ]
            )
    headings = [
        "full backup", "wall s", "ratio", "client CPU s", "server CPU s", "peak MiB", "stored MiB",
    ]  # fmt: skip
    small = figures["small"][OURS]["peak_mib"]
    large = figures["17"][OURS]["peak_mib"]
    return (
        "## Full backup to object storage\n\n"
        "Over the network to a local SeaweedFS, whole processes, variants interleaved, medians. "
        "barman-cloud (lz4, two jobs) and pgBackRest (zstd 1, two processes, TLS) read the data "
        "folder on the server's machine; pg_basebackup writes an uncompressed copy to a local "
        "disk, and takes what the disk's cache takes: on another day 1.6 s, and Leeward the 2.4 s "
        "of today (1.54 times, PostgreSQL 17). The peak is that of the client's processes "
        "together.\n\n"
        f"{table(headings, lines)}\n"
        f"Leeward's peak is {small:.0f} MiB on a cluster of scale {SMALL_SCALE} and "
        f"{large:.0f} MiB on the large one: {figures['peak_growth']:.2f} times.\n"
    )


if __name__ == "__main__":
    main()
