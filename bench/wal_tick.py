"""What one WAL tick costs near idle, and with a load: with new connections each time, as in Lambda.

    python -m bench.wal_tick [--ticks 40]

Prints one JSON object and rewrites its section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.lab import (
    BUCKET,
    Cluster,
    cluster,
    object_store,
    publish,
    table,
    work_folder,
)
from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.replication import PostgresSource
from chalicelib.adapters.s3.access import reach_s3
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.backup.wal_fetch import fetch_wal

LOAD_PER_SECOND = 20


class LocalState:
    """The catalogue's index as a dictionary: the figure is of the tick, not of DynamoDB."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, str], dict[str, Any]] = {}

    def get(self, partition: str, sort: str) -> dict[str, Any] | None:
        return self._items.get((partition, sort))

    def create(self, partition: str, sort: str, item: dict[str, Any]) -> bool:
        return self._items.setdefault((partition, sort), item) is item

    def replace(
        self, partition: str, sort: str, item: dict[str, Any], *, expected: dict[str, Any]
    ) -> bool:
        self._items[partition, sort] = item
        return True

    def remove(self, partition: str, sort: str, *, expected: dict[str, Any]) -> bool:
        return self._items.pop((partition, sort), None) is not None

    def query(self, partition: str, prefix: str = "") -> Iterator[dict[str, Any]]:
        for (found, sort), item in self._items.items():
            if found == partition and sort.startswith(prefix):
                yield {**item, "sort": sort}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=40)
    ticks = parser.parse_args().ticks
    with work_folder() as work, object_store(work / "store"):
        figures = _measure(work / "cluster", ticks)
    publish("wal tick", _text(figures), figures)


def _measure(folder: Path, ticks: int) -> dict[str, Any]:
    with cluster(folder, find_binaries(17), scale=5) as source:
        store = S3ObjectStore(reach_s3(), BUCKET, "tick/")
        catalogue = StoredCatalogue(store, "db", index=LocalState())
        idle = _tick(source, store, catalogue, ticks)
        with _load(source, ticks):
            busy = _tick(source, store, catalogue, ticks)
    return {"near idle": idle, f"{LOAD_PER_SECOND} transactions/s": busy}


def _tick(
    source: Cluster, store: S3ObjectStore, catalogue: StoredCatalogue, ticks: int
) -> dict[str, float]:
    seconds = []
    for _ in range(ticks + 1):
        started = time.monotonic()
        with PostgresSource(source.dsn) as server:
            fetch_wal(server, store, catalogue, component="db", clock=SystemClock())
        seconds.append(time.monotonic() - started)
        time.sleep(0.1)
    times = sorted(1000 * one for one in seconds[1:])  # the first one makes the slot
    return {"median_ms": round(median(times), 1), "p90_ms": round(quantiles(times, n=10)[-1], 1)}


@contextmanager
def _load(source: Cluster, ticks: int) -> Iterator[None]:
    process = subprocess.Popen(
        [
            source.binaries.tool("pgbench"), "-n", "-R", str(LOAD_PER_SECOND),
            "-T", str(10 + ticks), source.dsn,
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=source.binaries.environment(),
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _text(figures: dict[str, Any]) -> str:
    lines = [
        [name, f"{found['median_ms']:.0f}", f"{found['p90_ms']:.0f}"]
        for name, found in figures.items()
    ]
    return (
        "## WAL tick\n\n"
        "Connect, heartbeat, stream, compress, store, confirm, relation map, disconnect.\n\n"
        f"{table(['load', 'median ms', '90th percentile ms'], lines)}"
    )


if __name__ == "__main__":
    main()
