"""The watch of a component: probes of the source, and a look at every change in its WAL.

What was looked at and found good is remembered by its place in the WAL; what looks wrong is not
passed over, so that the alarm stays until a recovery or a person has dealt with it. A moment counts
as sound when every check ran and passed.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from chalicelib.adapters.postgres.inspect import PostgresInspector
from chalicelib.plan.records import CheckResult, RecoveryTarget, Window, parse_time
from chalicelib.plan.wal import segment_start
from chalicelib.ports import Databases
from chalicelib.recover.database.owners import check_owners
from chalicelib.recover.database.watch_wal import (
    Look,
    WalMark,
    look_at_wal,
    remember_look,
    tell_look,
)
from chalicelib.recover.window import find_window
from chalicelib.services import build
from chalicelib.services.jobs.schemas import record_schema
from chalicelib.services.steps.database.relations import relations_of
from chalicelib.services.steps.database.wal import wal_on_disk
from chalicelib.verify.checks import Outcome
from chalicelib.verify.schema import read_schema
from chalicelib.verify.traits import read_traits
from chalicelib.verify.watch import probe_texts, watch_database

SOUND = "sound"
ANSWERED = "answered"
LOAD = "database.load"


def watch(component: str) -> dict[str, Any]:
    """Run every check once and publish each; remember what was sound."""
    database, databases = build.database(component), build.operator(component)
    looks: list[Look] = []
    outcome = watch_database(
        databases,
        PostgresInspector(build.operator_dsn(component), databases),
        database.checks,
        since=watched_until(component),
        clock=build.clock(),
        answered=_answered(component),
        more=[
            *([("owners", partial(check_owners, databases))] if _is_loaded(component) else []),
            ("changes", lambda: tell_look(_look(component, databases, looks))),
        ],
    )
    _publish(component, outcome)
    _remember_answers(component, outcome)
    # A check that could not run says nothing about the changes that were looked at.
    if looks and not outcome.signs:
        _remember(component, databases, looks[-1], sound=outcome.ok)
    failed = [result for result in outcome.results if not result.ok]
    return {"failed": [result.name for result in failed], "found": _tell(outcome, failed)}


def watched_until(component: str) -> datetime | None:
    """The last commit up to which everything was sound, by the server's own clock."""
    kept = build.state().get(_partition(component), SOUND)
    return parse_time(kept["commit_at"]) if kept and kept["commit_at"] else None


def _is_loaded(component: str) -> bool:
    """Whether a recovery by the plan loads it beside the damaged one."""
    ours = [it for it in build.plan().scenarios.values() if it.component == component]
    return any(step.uses == LOAD for scenario in ours for step in scenario.all_steps())


def _look(component: str, databases: Databases, looks: list[Look]) -> Look:
    """Read on in the stored WAL from where it last looked sound."""
    store, inventory = build.backups(component), build.catalogue(component).inventory()
    window = find_window(inventory.windows, RecoveryTarget("end", ""))
    mark = _mark(component, window)
    folder = build.environment().work_dir / "watch" / component
    first = segment_start(mark.lsn, inventory.wal.segment_bytes)
    with wal_on_disk(store, inventory, window, folder, from_lsn=first) as wal:
        relations = relations_of(store, databases)
        thresholds = build.database(component).damage
        looks.append(look_at_wal(wal, mark, window.end_lsn, relations, thresholds))
    return looks[-1]


def _mark(component: str, window: Window) -> WalMark:
    """The start of the window when the last look was elsewhere: before a gap, on another
    timeline."""
    kept = build.state().get(_partition(component), SOUND)
    mark = WalMark.from_json(kept["mark"]) if kept else None
    if mark is None or mark.timeline != window.timeline or mark.lsn < window.start_lsn:
        return WalMark(window.timeline, window.start_lsn, seen=False, open={})
    return mark


def _answered(component: str) -> list[str]:
    kept = build.state().get(_partition(component), ANSWERED)
    return list(kept["probes"]) if kept else []


def _remember_answers(component: str, outcome: Outcome) -> None:
    """Of the plan's probes as they are now, those that the database ever had an answer to."""
    texts, before = probe_texts(build.database(component).checks), _answered(component)
    probes = [text for name, text in texts.items() if text in before or name not in outcome.unable]
    if probes != before:
        _keep(component, ANSWERED, {"probes": probes})


def _remember(component: str, databases: Databases, look: Look, *, sound: bool) -> None:
    if sound:
        with databases.session() as session:
            schema, traits = read_schema(session), read_traits(session)
        record_schema(component, databases.database, schema, traits, at=build.clock().now())
    kept = build.state().get(_partition(component), SOUND) or {}
    _keep(component, SOUND, remember_look(kept, look, sound=sound))


def _keep(component: str, sort: str, item: dict[str, Any]) -> None:
    if not build.state().create(_partition(component), sort, item):
        build.state().replace(_partition(component), sort, item, expected={})


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
