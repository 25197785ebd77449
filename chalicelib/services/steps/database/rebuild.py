"""The steps that share a recovered data folder: restore, replay, verify, load.

The folder is a cache (docs/decisions/0001): each step makes again what it does not find.
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from chalicelib.adapters.postgres.binaries import find_binaries
from chalicelib.adapters.postgres.database import PostgresDatabases
from chalicelib.adapters.postgres.inspect import PostgresInspector
from chalicelib.adapters.postgres.server import ThrowawayServer
from chalicelib.errors import CheckFailed, Damaged, OutsideWindow, Quarantined
from chalicelib.evidence.body import last_body, moment_of
from chalicelib.evidence.entries import chosen_point, data_loss, decision, proven, rejected_point
from chalicelib.incidents.fence import require_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.records import (
    CheckResult,
    DatabasePoint,
    EvidenceRecord,
    Proof,
    RecoveryTarget,
    format_lsn,
    format_time,
    parse_time,
)
from chalicelib.plan.wal import segment_start
from chalicelib.ports import Databases, DatabaseServer
from chalicelib.recover.database.load import drop_loaded, load_database, recovery_name
from chalicelib.recover.database.loaded import tell_left_out, tell_outside
from chalicelib.recover.database.loss import Loss, bounded_loss, measure_loss
from chalicelib.recover.database.means import Means
from chalicelib.recover.database.replay import Replayed, read_replayed, replay
from chalicelib.recover.database.restore import Restored, read_restored, restore
from chalicelib.recover.window import find_window
from chalicelib.services import build
from chalicelib.services.jobs.schemas import schema_before
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.database.proven import require_proven
from chalicelib.services.steps.database.wal import fetch_last_wal, wal_on_disk
from chalicelib.services.steps.said import say
from chalicelib.services.steps.sources import Source, choose_again, choose_source, source_of
from chalicelib.verify.database import verify_database, verify_pages

START_SECONDS = 60
REINDEX_SECONDS = 600
# Sort key of what the restore knew of the end of the WAL.
WAL_END = "wal-end"

Outputs = dict[str, Any]

# Of a scenario that found nothing to bring back in this database.
NOT_NEEDED: Outputs = {"found": "there is nothing to bring back to"}


def data_folder(run: Run) -> Path:
    return build.environment().work_dir / run.run_id / "data"


def server_of(data_dir: Path) -> ThrowawayServer:
    """The throw-away server of a data folder, of the right version."""
    return ThrowawayServer(data_dir, named=build.environment().postgres)


def restore_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Unpack the newest clean chain; say which points were refused and why."""
    if not inputs["target"]:
        return NOT_NEEDED | {"point": "", "chain": [], "rejected": []}
    component, target = inputs["component"], read_target(inputs["target"])
    note = _fetch_last_wal(run, component) if target.kind == "end" else ""
    source, restored = _restore(run, component, choose_source(run, component, target), target)
    if target.kind == "end" and source.location != build.locations().primary and not note:
        note = f"{source.location} may lack what was written last"
    # What a copy does not hold is lost too, and how much that is nobody knows.
    _keep_wal_end(run, complete=not note)
    point, reason = _say_restored(run, source, restored)
    size = f"{restored.source_bytes / 1e6:.0f} MB"
    found = f"{point.id} of {format_time(point.taken_at)} from {source.location}, {size}, {reason}"
    return {
        "found": f"{found}; {note}" if note else found,
        "point": point.id,
        "chain": list(restored.chain),
        "rejected": [item["point_id"] for item in restored.rejected],
    }


def _say_restored(run: Run, source: Source, restored: Restored) -> tuple[DatabasePoint, str]:
    """The point, and why that one."""
    for item in restored.rejected:
        entry = rejected_point(point=item["point_id"], reason=item["reason"])
        say(run, entry, about=f"{source.location}/{item['point_id']}")
    point = _point_in(source, restored.point_id)
    refused = f"; {len(restored.rejected)} were refused" if restored.rejected else ""
    reason = f"the newest clean point before the moment{refused}"
    entry = chosen_point(
        point=point.id, reason=reason, taken_at=point.taken_at, chain=restored.chain
    )
    say(run, entry, about=f"{source.location}/{point.id}")
    return point, reason


def _point_in(source: Source, point_id: str) -> DatabasePoint:
    """As the choice knew it; anew where it was taken since."""
    found = {point.id: point for point in source.inventory().points}
    if point_id not in found:
        found = {point.id: point for point in source.catalogue.inventory().points}
    return found[point_id]


def read_target(given: Any) -> RecoveryTarget:
    """A target as a step before found it, or the word "end" in the plan: all there is."""
    return RecoveryTarget("end", "") if given == "end" else RecoveryTarget.from_json(given)


def _fetch_last_wal(run: Run, component: str) -> str:
    """Elsewhere nobody can ask the source: its site is lost."""
    if run.site:
        return f"{component} was not asked for its last WAL: its site is lost"
    return fetch_last_wal(component)


def _keep_wal_end(run: Run, *, complete: bool) -> None:
    """Whether all WAL before the target is stored: what the replay may say of the loss."""
    partition, item = f"run#{run.run_id}", {"complete": complete}
    if not build.state().create(partition, WAL_END, item):
        build.state().replace(partition, WAL_END, item, expected={})


def _restore(
    run: Run, component: str, source: Source, target: RecoveryTarget
) -> tuple[Source, Restored]:
    """From the source, or from one that leads farther where its points turn out damaged: an older
    one of the same chain of WAL loses nothing."""
    folder, tried = data_folder(run), [source.location]
    _forget_other_runs(folder.parent)
    folder.parent.mkdir(parents=True, exist_ok=True)
    while True:
        first = tried.count(source.location) == 1
        try:
            means = _means(source)
            return source, restore(means, target, folder, known=source.known, whole=first)
        except (Damaged, Quarantined, OutsideWindow) as error:
            if not first:
                raise
            source = choose_again(run, component, target, source, error)
            tried.append(source.location)


def _means(source: Source) -> Means:
    return Means(source.store, source.catalogue, server_of, build.clock())


def _forget_other_runs(own: Path) -> None:
    """A warm sandbox's disk still holds what earlier runs cached there."""
    for other in own.parent.glob("run-*"):
        if other != own:
            shutil.rmtree(other, ignore_errors=True)


def replay_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Replay up to the moment, and count what that loses."""
    if not inputs["target"]:
        return NOT_NEEDED | {"recovered_lsn": 0, "last_commit_at": ""}
    component, target = inputs["component"], read_target(inputs["target"])
    replayed = ensure_replayed(run, component, target)
    loss = _measure_loss(run, component, target, replayed)
    kept = build.state().get(f"run#{run.run_id}", WAL_END)
    complete = bool(kept and kept["complete"])
    last_commit_at, rows_lost = bounded_loss(loss, complete=complete)
    if run.site:
        # Nobody can ask what the lost source committed last: it was not after the alarm.
        last_commit_at = run.alarm_at
    say(
        run,
        data_loss(
            last_commit_before_at=last_commit_at,
            last_commit_recovered_at=replayed.last_commit_at
            or (None if loss.transactions else loss.last_commit_at),
            rows_lost=rows_lost,
            how="commits in the stored WAL before the moment, against what was replayed"
            + (
                ""
                if complete
                else "; the WAL after the last one stored is unknown, and so the loss"
            ),
            bounded=bool(run.site),
        ),
    )
    at = format_time(loss.last_commit_at) if loss.last_commit_at else "no commit"
    lost = f"{loss.transactions} committed transactions lost"
    return {
        "found": f"replayed to {format_lsn(replayed.recovered_lsn)}, last commit {at}, "
        + (lost if complete else f"at least {lost}: what the source wrote last is not stored"),
        "recovered_lsn": replayed.recovered_lsn,
        "last_commit_at": at,
    }


def ensure_replayed(run: Run, component: str, target: RecoveryTarget) -> Replayed:
    """The run's folder at the moment: as it lies there, or made again."""
    folder = data_folder(run)
    done = read_replayed(folder)
    if done is not None and done.target == target:
        return done
    source, restored = source_of(run, component), read_restored(folder)
    while True:
        if restored is None or restored.target != target:
            source, restored = _restore(run, component, source, target)
            if restored.point_id != last_body(_records(run), "chosen-point").get("point"):
                _say_restored(run, source, restored)
        try:
            return replay(_means(source), restored, folder)
        except Damaged as error:
            if target.kind == "end":
                _keep_wal_end(run, complete=False)
            source = choose_again(run, component, target, source, error, leave=True)
            restored = None


def _measure_loss(run: Run, component: str, target: RecoveryTarget, replayed: Replayed) -> Loss:
    source = source_of(run, component)
    inventory = source.catalogue.inventory()
    window = find_window(inventory.windows, target)
    bound = target.lsn if target.kind in ("xid", "lsn") else window.end_lsn
    size = inventory.wal.segment_bytes
    start = max(
        window.start_lsn, segment_start(min(bound, replayed.recovered_lsn), size) - 8 * size
    )
    folder = data_folder(run).with_name("loss-wal")
    with wal_on_disk(source.store, inventory, window, folder, from_lsn=start) as wal:
        return measure_loss(
            wal,
            timeline=window.timeline,
            start_lsn=start,
            recovered_lsn=replayed.recovered_lsn,
            bound_lsn=bound,
            segment_bytes=size,
            before=parse_time(target.value) if target.kind == "time" else None,
        )


def verify_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Run the plan's checks on the recovered data; any that fails stops the run.

    Raises CheckFailed (code "recovered-data-unsound") naming each that failed.
    """
    if not inputs["target"]:
        return NOT_NEEDED | {"proof": {}}
    component, target = inputs["component"], read_target(inputs["target"])
    started_at = build.clock().now()
    replayed = ensure_replayed(run, component, target)
    checks = _run_checks(run, component, replayed)
    proof = Proof(
        component=component,
        point_id=last_body(_records(run), "chosen-point").get("point", ""),
        proven_at=build.clock().now(),
        target=target,
        recovered_lsn=replayed.recovered_lsn,
        last_commit_at=replayed.last_commit_at,
        checks=checks,
        seconds={"verify": (build.clock().now() - started_at).total_seconds()},
        incident=run.incident_id,
    )
    say(run, proven(proof), about=format_time(started_at))
    failed = [check for check in checks if not check.ok]
    if failed:
        raise CheckFailed(
            "the recovered data is not sound: "
            + "; ".join(f"{check.name}: {check.found}" for check in failed),
            code="recovered-data-unsound",
            hint="nothing was switched; choose an earlier moment, or mend the check in the plan",
        )
    source_of(run, component).catalogue.note_proof(proof.point_id, proof)
    names = ", ".join(check.name for check in checks)
    return {"found": f"{len(checks)} checks passed: {names}", "proof": proof.to_json()}


def _records(run: Run) -> list[EvidenceRecord]:
    return [it for it in build.records().read(run.incident_id) if it.run_id == run.run_id]


def _run_checks(run: Run, component: str, replayed: Replayed) -> tuple[CheckResult, ...]:
    plan, folder = build.database(component).checks, data_folder(run)
    moment = replayed.last_commit_at or build.clock().now()
    with server_of(folder) as server:
        server.start()
        server.wait_until("ready", timeout_seconds=START_SECONDS)
        databases = databases_of(server, build.database_name(component))
        _rebuild_indexes(run, databases)
        inspector = PostgresInspector(server.dsn(databases.database), databases, may_install=True)
        schema = schema_before(source_of(run, component).store, _current_until(run, replayed))
        checks = verify_database(
            databases, inspector, plan, moment=moment, clock=build.clock(), schema=schema
        )
        if plan.page_checksums:
            checks = (*checks, verify_pages(server, clock=build.clock()))
    return checks


def _current_until(run: Run, replayed: Replayed) -> datetime:
    """Until when the recovered state was that of the source: its last commit may lie far before,
    when nobody wrote, and what was seen in between was seen of this very state."""
    target = replayed.target
    if target.kind == "time":
        return parse_time(target.value)
    if target.kind == "end":
        return build.clock().now()
    damage = last_body(_records(run), "damage")
    of_target = damage.get("target") == target.to_json()
    damaged_at = moment_of(damage, "damaged_at") if of_target else None
    return damaged_at or replayed.last_commit_at or build.clock().now()


def _rebuild_indexes(run: Run, databases: Databases) -> None:
    """When indexes are the damage that was found: their tables are whole, and WAL brings them back
    as they were. Only those that were named; all that is checked afterwards must be sound."""
    damage = last_body(_records(run), "damage")
    if damage.get("kind") != "index":
        return
    with databases.session(timeout_seconds=REINDEX_SECONDS) as session:
        named = session.query(
            "SELECT format('REINDEX INDEX %%s', c.oid::regclass) FROM pg_class c "
            "WHERE c.oid = ANY (SELECT to_regclass(unnest(%s::text[]))) AND c.relkind = 'i'",
            (list(damage["tables"]),),
        )
        for (statement,) in named:
            session.execute(str(statement))
            why = "it disagrees with its table, which is whole"
            say(run, decision(what=str(statement), why=why), about=str(statement))


def databases_of(server: DatabaseServer, database: str) -> PostgresDatabases:
    """A throw-away server's databases, by its superuser."""
    return PostgresDatabases(
        server.dsn(database), find_binaries(named=build.environment().postgres)
    )


def load_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Load the recovered database into the target server, under a name of its own.

    Raises Refused (code "not-proven") when this run has not verified what it recovered to.
    """
    component, target = inputs["component"], read_target(inputs["target"])
    require_proven(run, component, target)
    ensure_replayed(run, component, target)
    acted_on = acting_on(run, component)
    require_fence(build.state(), acted_on, run.run_id)
    operator, folder = build.operator(acted_on), data_folder(run)
    name = _recovery_name(run, operator)
    with server_of(folder) as server:
        server.start()
        server.wait_until("ready", timeout_seconds=START_SECONDS)
        loaded = load_database(
            databases_of(server, build.database_name(component)),
            operator,
            name,
            run_id=run.run_id,
            folder=folder.with_name("dump"),
            clock=build.clock(),
        )
    for what, why in tell_left_out(loaded):
        say(run, decision(what=what, why=why), about=why)
    return {
        "found": f"database {name}: {loaded.tables} tables, {loaded.rows:,} rows, equal to the "
        f"recovered ones{tell_outside(loaded)}",
        "database": name,
    }


def _recovery_name(run: Run, operator: Databases) -> str:
    return recovery_name(operator.database, run.run_id.split("-")[1].lower())


def undo_load(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Drop the recovery database that the run made."""
    operator = build.operator(acting_on(run, inputs["component"]))
    name = _recovery_name(run, operator)
    dropped = drop_loaded(operator, name, run_id=run.run_id)
    return {"found": f"{name} is dropped" if dropped else f"there is no {name}"}
