"""The watch of a component: probes of the source, and a look at every change in its WAL.

What was looked at and found good is remembered by the server's own commit times; what looks wrong
is not passed over, so that the alarm stays until a recovery or a person has dealt with it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chalicelib.adapters.postgres_inspect import PostgresInspector
from chalicelib.errors import CheckFailed
from chalicelib.plan.records import CheckResult, RecoveryTarget, format_time, parse_time
from chalicelib.plan.wal import segment_start
from chalicelib.ports import Databases
from chalicelib.recover.changes import Activity, ChangeScan
from chalicelib.recover.suspects import decide_suspects
from chalicelib.recover.window import find_window
from chalicelib.services import build
from chalicelib.services.relations import relations_of
from chalicelib.services.schemas import record_schema
from chalicelib.services.wal import wal_on_disk
from chalicelib.verify.checks import Outcome
from chalicelib.verify.schema import read_schema
from chalicelib.verify.watch import watch_database

# WAL before the part that is new, to know what is usual.
NEIGHBOUR_SEGMENTS = 2
WATCHED = "sound"


def watch(component: str) -> dict[str, Any]:
    """Run every check once and publish each; remember what was sound."""
    database, databases = build.database(component), build.operator(component)
    seen = _Seen()
    outcome = watch_database(
        databases,
        PostgresInspector(build.operator_dsn(component), databases),
        database.checks,
        since=watched_until(component),
        clock=build.clock(),
        more=[("changes", lambda: _look_at_changes(component, databases, seen))],
    )
    _publish(component, outcome)
    if outcome.ok:
        _remember(component, databases, seen)
    failed = [result for result in outcome.results if not result.ok]
    return {"failed": [result.name for result in failed], "found": _tell(outcome, failed)}


def watched_until(component: str) -> datetime | None:
    """The commit up to which everything looked sound, by the server's clock; None before that."""
    kept = build.state().get(_partition(component), WATCHED)
    return parse_time(kept["commit_at"]) if kept else None


class _Seen:
    """How far the look at the changes came."""

    lsn: int = 0
    commit_at: datetime | None = None


def _look_at_changes(component: str, databases: Databases, seen: _Seen) -> str:
    """Raises CheckFailed when a transaction looks like damage."""
    activity = _read_changes(component, seen)
    since, thresholds = watched_until(component), build.database(component).damage
    relations = relations_of(component, databases)
    suspects = decide_suspects(activity, relations, thresholds, since=since)
    strong = [suspect for suspect in suspects if suspect.strong]
    if strong:
        raise CheckFailed(
            f"transaction {strong[0].xid} {strong[0].why}",
            hint="if this was meant, raise the component's `damage` thresholds in the plan",
        )
    return f"{activity.transactions} transactions, none suspicious"


def _read_changes(component: str, seen: _Seen) -> Activity:
    inventory = build.catalogue(component).inventory()
    window = find_window(inventory.windows, RecoveryTarget("end", ""))
    size = inventory.wal.segment_bytes
    kept = build.state().get(_partition(component), WATCHED) or {"lsn": window.start_lsn}
    from_lsn = max(window.start_lsn, int(kept["lsn"]) - NEIGHBOUR_SEGMENTS * size)
    first = segment_start(min(from_lsn, window.end_lsn), size)
    folder = build.environment().work_dir / "watch" / component
    with wal_on_disk(component, inventory, window, folder, from_lsn=first) as wal:
        activity = ChangeScan().read(wal.dump(window.timeline, first, window.end_lsn))
    seen.lsn, seen.commit_at = window.end_lsn, activity.last_commit_at
    return activity


def _remember(component: str, databases: Databases, seen: _Seen) -> None:
    now = build.clock().now()
    with databases.session() as session:
        record_schema(component, databases.database, read_schema(session), at=now)
    if seen.commit_at is None:
        return
    item = {"lsn": seen.lsn, "commit_at": format_time(seen.commit_at), "at": format_time(now)}
    if not build.state().create(_partition(component), WATCHED, item):
        build.state().replace(_partition(component), WATCHED, item, expected={})


def _publish(component: str, outcome: Outcome) -> None:
    """`DamageSigns` starts a recovery; `ChecksUnable` wakes somebody: nothing is known then."""
    values = {f"Check.{result.name}": float(not result.ok) for result in outcome.results}
    values |= {"DamageSigns": float(len(outcome.signs)), "ChecksUnable": float(len(outcome.unable))}
    build.metrics().put(component, values | {"Taken.watch": 1.0})


def _tell(outcome: Outcome, failed: list[CheckResult]) -> str:
    if not failed:
        return f"{len(outcome.results)} checks of the source passed"
    return "; ".join(f"{result.name}: {result.found}" for result in failed)


def _partition(component: str) -> str:
    return f"watch#{component}"
