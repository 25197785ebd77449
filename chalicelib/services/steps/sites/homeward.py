"""The steps that bring a database home: what only home has is set aside, then all of it is loaded.

Nobody writes to either side while they are compared. In a drill both are stand-ins (acting.py).
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from chalicelib.errors import CheckFailed, NotReady
from chalicelib.evidence.entries import data_loss, decision, proven
from chalicelib.evidence.text import counted
from chalicelib.incidents.fence import require_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.records import CheckResult, Proof, RecoveryTarget, parse_time
from chalicelib.ports import Databases
from chalicelib.recover.database.fence import read_fence
from chalicelib.recover.database.load import drop_loaded, load_database, recovery_name
from chalicelib.recover.database.loaded import Loaded, tell_left_out, tell_outside
from chalicelib.recover.sites.failback import find_only_here
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say

Outputs = dict[str, Any]


def compare_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Set aside what only the database at home has; nobody writes there any more.

    A person decides about it; the database is kept and closed whatever is decided.
    """
    target = acting_on(run, inputs["component"])
    require_fence(build.state(), target, run.run_id)
    databases = build.operator(target)
    since = parse_time(inputs["since"]) if inputs["since"] else None
    only_here = find_only_here(databases, since)
    key = f"{run.incident_id}/only-at-home-{run.run_id}.jsonl"
    lines = [json.dumps(row, sort_keys=True) for row in only_here.rows]
    build.evidence_store().put(key, "".join(f"{line}\n" for line in lines).encode())
    body = {"rows": only_here.total, "object": key, "database": databases.database}
    say(
        run, decision(what=f"keep {databases.database} as it is, closed", why=_why(only_here.total))
    )
    return body | {
        "found": f"{_why(only_here.total)} ({_by_table(only_here.counts)}); {databases.database}"
        f" is kept, {counted(len(lines), 'row')} written down in {key}",
        "nothing": only_here.total == 0 or (run.drill and since is None),
    }


def _why(total: int | None) -> str:
    if total is None:
        return "nobody can tell what was committed only at home: a person compares"
    return f"{counted(total, 'row')} committed at home that the other site never had"


def _by_table(counts: dict[str, int] | None) -> str:
    if not counts:
        return "no table" if counts is not None else "unknown"
    return ", ".join(f"{table}: {count}" for table, count in counts.items())


def load_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Bring the database home, once nobody writes to it any more.

    Nothing has failed over in a drill: what the stand-in at home holds is sent to the other one
    first, so that something comes back.

    Raises:
        NotReady: code "still-written": the application may write at the other site.
        CheckFailed: code "contents-differ", "nothing-to-bring".
    """
    target, source = acting_on(run, inputs["component"]), acting_on(run, inputs["from"])
    for held in (target, source):
        require_fence(build.state(), held, run.run_id)
    _require_closed(build.operator(source), source)
    closed_at = build.clock().now()
    databases = build.operator(source)
    if run.drill:
        sent = _copy(run, build.operator(target), databases, _away_name(run, target))
        databases = build.operator(source, sent.database)
    loaded = _copy(run, databases, build.operator(target), _home_name(run, target))
    _require_some(loaded, source)
    for what, why in tell_left_out(loaded):
        say(run, decision(what=what, why=why), about=why)
    _say_proven(run, target, loaded, closed_at)
    return {
        "found": f"database {loaded.database}: {loaded.tables} tables, {loaded.rows:,} rows, equal"
        f" to those of {databases.database} at {source}{tell_outside(loaded)}",
        "database": loaded.database,
        "tables": loaded.tables,
        "rows": loaded.rows,
    }


def _copy(run: Run, source: Databases, target: Databases, name: str) -> Loaded:
    folder = build.environment().work_dir / run.run_id
    folder.mkdir(parents=True, exist_ok=True)
    return load_database(
        source,
        target,
        name,
        run_id=run.run_id,
        folder=folder / "dump",
        clock=build.clock(),
    )


def _require_some(loaded: Loaded, source: str) -> None:
    """Two databases without a table are equal too."""
    if not loaded.tables:
        raise CheckFailed(
            f"expected tables in the database of {source}, found none",
            hint=f"nothing was switched; is the secret of {source} that of the database in use?",
            code="nothing-to-bring",
        )


def _require_closed(databases: Databases, source: str) -> None:
    role = build.database(source).application_role
    if read_fence(databases, role) is None:
        raise NotReady(
            f"expected {role} to be refused at {source}, it may write there",
            hint=f"put a database.fence step on {source} before this one",
            code="still-written",
        )


def _home_name(run: Run, target: str) -> str:
    """Of the name that the application used when it was fenced: its secret names another later."""
    return recovery_name(_name_before(run, target), run.run_id.split("-")[1].lower())


def _away_name(run: Run, target: str) -> str:
    """Of what a drill sends to the other site first."""
    return recovery_name(_name_before(run, target), f"{run.run_id.split('-')[1].lower()}_away")


def _name_before(run: Run, target: str) -> str:
    kept = build.state().get(f"run#{run.run_id}", "damaged")
    return str(kept["database"]) if kept else build.operator(target).database


def _say_proven(run: Run, target: str, loaded: Loaded, closed_at: datetime) -> None:
    """Nothing is lost: nobody wrote from `closed_at` on, and every table is equal."""
    found = f"{loaded.tables} tables, {loaded.rows:,} rows: the same digests at both sites"
    check = CheckResult("contents-equal", ok=True, found=found)
    say(
        run,
        proven(
            Proof(
                component=target,
                point_id="",
                proven_at=build.clock().now(),
                target=RecoveryTarget("end", ""),
                recovered_lsn=0,
                last_commit_at=closed_at,
                checks=(check,),
                seconds=loaded.seconds,
            )
        ),
    )
    say(
        run,
        data_loss(
            last_commit_before_at=closed_at,
            last_commit_recovered_at=closed_at,
            rows_lost=0,
            how="writes had stopped; every table of both databases has the same digest",
        ),
    )


def undo_load(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Drop the databases that the run made, at home and, in a drill, at the other site."""
    target, source = acting_on(run, inputs["component"]), acting_on(run, inputs["from"])
    made = ((target, _home_name(run, target)), (source, _away_name(run, target)))
    for server, name in made:
        drop_loaded(build.operator(server), name, run_id=run.run_id)
    gone = " and ".join(f"{name} at {server}" for server, name in made)
    return {"found": f"there is no {gone}"}
