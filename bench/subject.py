"""Leeward's own backup and restore as whole processes, for bench.backup and bench.restore.

python -m bench.subject back-up DSN BUCKET PREFIX | fetch DSN BUCKET PREFIX
                        | restore BUCKET PREFIX FOLDER

Each imports what it does and nothing of the laboratory, as Leeward's commands do: what is imported
is in what is measured.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.s3.access import reach_s3
from chalicelib.adapters.s3.store import S3ObjectStore


def back_up(dsn: str, bucket: str, prefix: str) -> None:
    from chalicelib.adapters.postgres.replication import PostgresSource
    from chalicelib.backup.base_backup import take_backup

    store = S3ObjectStore(reach_s3(), bucket, prefix)
    with PostgresSource(dsn) as source:
        take_backup(
            source, store, StoredCatalogue(store, "db"),
            component="db", kind="full", clock=SystemClock(),
        )  # fmt: skip


def fetch(dsn: str, bucket: str, prefix: str) -> None:
    from chalicelib.adapters.postgres.replication import PostgresSource
    from chalicelib.backup.wal_fetch import fetch_wal

    store = S3ObjectStore(reach_s3(), bucket, prefix)
    with PostgresSource(dsn) as source:
        fetch_wal(source, store, StoredCatalogue(store, "db"), component="db", clock=SystemClock())


def bring_back(bucket: str, prefix: str, folder: str) -> None:
    """To the end of the WAL, opened and answering, shut down and on the disk: FOLDER.answered and
    FOLDER.on-disk say when, of time.monotonic."""
    from chalicelib.adapters.postgres.server import ThrowawayServer
    from chalicelib.plan.records import RecoveryTarget
    from chalicelib.recover.database.means import Means
    from chalicelib.recover.database.recovered import recovered
    from chalicelib.recover.on_disk import sync_folder

    store = S3ObjectStore(reach_s3(), bucket, prefix)
    catalogue, clock, data = StoredCatalogue(store, "db"), SystemClock(), Path(folder)
    means = Means(store, catalogue, ThrowawayServer, clock)
    with recovered(means, RecoveryTarget("end", ""), data) as found:
        import psycopg  # by now it is loaded

        with psycopg.connect(found.server.dsn()) as connection:
            row = connection.execute("select x, pg_is_in_recovery() from the_end").fetchone()
        assert row == (1, False)
        data.with_name(f"{data.name}.answered").write_text(str(time.monotonic()))
    sync_folder(data)
    data.with_name(f"{data.name}.on-disk").write_text(str(time.monotonic()))


if __name__ == "__main__":
    {"back-up": back_up, "fetch": fetch, "restore": bring_back}[sys.argv[1]](*sys.argv[2:])
