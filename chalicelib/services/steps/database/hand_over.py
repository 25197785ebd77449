"""The step that gives the recovered data folder to a host."""

from __future__ import annotations

from typing import Any

from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.incidents.run import Run
from chalicelib.plan.records import RecoveryTarget, format_lsn
from chalicelib.recover.database.hand_over import hand_over, host_commands
from chalicelib.recover.database.load import LEFTOVER_SCHEMA
from chalicelib.services import build
from chalicelib.services.steps.database.proven import require_proven
from chalicelib.services.steps.database.rebuild import (
    START_SECONDS,
    data_folder,
    databases_of,
    ensure_replayed,
    server_of,
)

Outputs = dict[str, Any]


def hand_over_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Store the recovered folder for a host, and say what to type there.

    Raises Refused (code "not-proven") when this run has not verified what it recovered to.
    """
    component, target = inputs["component"], RecoveryTarget.from_json(inputs["target"])
    require_proven(run, component, target)
    replayed = ensure_replayed(run, component, target)
    server = server_of(data_folder(run))
    _shut_down(server, build.operator(component).database)
    made = hand_over(
        build.backups(component),
        server,
        replayed,
        component=component,
        run_id=run.run_id,
        clock=build.clock(),
    )
    url = f"s3://{build.environment().backup_bucket}/{component}/{made.archive.key}"
    size = f"{made.archive.size_bytes / 1e6:.1f} MB"
    return {
        "found": f"recovered to {format_lsn(made.recovered_lsn)}, {size}, sha-256 "
        f"{made.archive.sha256}; on the host, with PostgreSQL {made.postgres_major}, in an empty "
        f"folder (docs/hand-over.md): {host_commands(url)}",
        "object": url,
        "sha256": made.archive.sha256,
    }


def _shut_down(server: ThrowawayServer, database: str) -> None:
    """Started once more, so that what a dead worker left is gone, and stopped in order."""
    with server:
        server.start()
        server.wait_until("ready", timeout_seconds=START_SECONDS)
        with databases_of(server, database).session() as session:
            session.execute(f"DROP SCHEMA IF EXISTS {LEFTOVER_SCHEMA} CASCADE")
