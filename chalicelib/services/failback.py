"""The steps that go back to a site after a failover (recover/failback.py tells when one may).

What runs at the other site is named by the plan's own steps (its components are ordinary ones); the
steps here act on the component at home, or in a drill on what stands in for it there.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import LeewardError, NotReady
from chalicelib.evidence.body import last_body
from chalicelib.evidence.entries import data_loss, decision, proven
from chalicelib.evidence.text import counted
from chalicelib.incidents.fence import require_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Postgres, Service
from chalicelib.plan.records import CheckResult, Proof, RecoveryTarget, format_time, parse_time
from chalicelib.ports import Databases
from chalicelib.ports.traffic import Switch
from chalicelib.recover.failback import (
    Standing,
    Verdict,
    decide_failback,
    find_only_here,
    parse_window,
    require_open,
)
from chalicelib.recover.fence import read_fence
from chalicelib.recover.load import Loaded, drop_loaded, load_database, recovery_name
from chalicelib.services import build, traffic
from chalicelib.services.acting import acting_on
from chalicelib.services.said import say
from chalicelib.verify.probes import Target, ask_all, policy_of

Outputs = dict[str, Any]

# How often everything at home must answer well, and what passes between two times.
ROUNDS = 3
PAUSE_SECONDS = 2.0
# Of the step's 900 s: the backup that the primary stack takes, and the WAL after it.
BACKUP_SECONDS = 800.0
RELATED = ("incident-opened", "alarm-joined")


def window_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Read the window; the machine waits until it begins."""
    now = build.clock().now()
    window = parse_window(str(inputs.get("window") or ""), now=now)
    begins_at = now if run.drill else window.begins_at
    return {
        "found": f"from {format_time(begins_at)} until {format_time(window.ends_at)}",
        "begins_at": format_time(begins_at),
        "ends_at": format_time(window.ends_at),
    }


def check_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Whether one may go back now; it changes nothing, and is asked again after the window began.

    Raises:
        Refused: code "failback-needs-a-person", "already-home", "failed-over-lately",
            "primary-still-failing", "window-over".
    """
    now, names = build.clock().now(), acting_on(run, inputs["names"])
    if inputs.get("ends_at"):
        require_open(parse_time(inputs["ends_at"]), now=now)
    away = _switched_away(names)
    standing = Standing(
        requested_by=_requested_by(run),
        reason=_reason(run),
        names_at=traffic.driver_of(names).state(),
        home=traffic.home_of(names),
        failed_over_at=away.at if away else None,
        problems=() if _refused_before_asking(run) else _problems(run),
    )
    verdict = decide_failback(standing, stays_for=_stays_for(names), drill=run.drill, now=now)
    say(run, decision(what=f"go back to {standing.home}", why=verdict.why))
    return _may_go(standing, verdict, _recovered_until(away))


def _may_go(standing: Standing, verdict: Verdict, recovered_until: str) -> Outputs:
    at = standing.failed_over_at
    return {
        "found": f"{standing.home} answered well {ROUNDS} times in a row; {verdict.why}",
        "reason": standing.reason,
        "failed_over_at": format_time(at) if at else "",
        "recovered_until": recovered_until,
    }


def _refused_before_asking(run: Run) -> bool:
    """Nobody at home is asked for a run that no person wants."""
    return not _requested_by(run)


def _requested_by(run: Run) -> str:
    found = build.state().get(f"run#{run.run_id}", "run") or {}
    return str(found.get("requested_by") or "")


def _reason(run: Run) -> str:
    """What the person said who started this run, the last to have spoken."""
    records = build.records().read(run.incident_id)
    said = [it.body for it in records if it.kind in RELATED]
    return str(said[-1].get("reason") or "") if said else ""


def _switched_away(names: str) -> Switch | None:
    home = traffic.home_of(names)
    moves = [it for it in traffic.switches_of(names).past() if it.to != home]
    return moves[-1] if moves else None


def _stays_for(names: str) -> timedelta:
    from chalicelib.services.names import names_of

    return names_of(names).stays_for


def _recovered_until(away: Switch | None) -> str:
    """The last commit that the failover brought over, from its own records; "" when unknown."""
    if away is None:
        return ""
    run = build.state().get(f"run#{away.run_id}", "run")
    if run is None:
        return ""
    records = build.records().read(run["incident_id"])
    loss = last_body([it for it in records if it.run_id == away.run_id], "data-loss")
    return str(loss.get("last_commit_recovered_at") or "")


def _problems(run: Run) -> tuple[str, ...]:
    """What did not answer well each time, of all that the scenario brings back."""
    scenario, clock = build.plan().scenarios[run.scenario], build.clock()
    found: dict[str, str] = {}
    for turn in range(ROUNDS):
        if turn:
            clock.sleep(PAUSE_SECONDS)
        for name in scenario.restores:
            problem = _problem_of(acting_on(run, name), drill=run.drill)
            if problem:
                found[name] = problem
        if found:
            break
    return tuple(f"{name}: {problem}" for name, problem in found.items())


def _problem_of(name: str, *, drill: bool) -> str:
    """Why it does not count as answering; "" when it does, or nobody can ask it."""
    component = build.plan().components[name]
    try:
        if isinstance(component, Postgres):
            return _problem_of_database(build.operator(name))
        if isinstance(component, Service):
            return _problem_of_service(name, component, asked=not drill)
    except LeewardError as error:
        return f"{error.instance_code}: {error.message}"
    return ""


def _problem_of_database(databases: Databases) -> str:
    with databases.admin_session() as session:
        [(recovering,)] = session.query("SELECT pg_is_in_recovery()")
    return "it is recovering and takes no writes" if recovering else ""


def _problem_of_service(name: str, component: Service, *, asked: bool) -> str:
    """Its cluster must answer, and itself where it is meant to run."""
    from chalicelib.services.workloads import workload_of

    wanted = workload_of(name).status().wanted
    if not (asked and wanted and component.health):
        return ""
    target = Target(name, component.health, component.health_says or "")
    [(_, answer)] = ask_all([target], build.prober(), policy_of(build.plan()))
    return "" if answer.good else answer.problem


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

    Raises:
        NotReady: code "still-written": the application may write at the other site.
        CheckFailed: code "contents-differ".
    """
    target, source = acting_on(run, inputs["component"]), acting_on(run, inputs["from"])
    for held in (target, source):
        require_fence(build.state(), held, run.run_id)
    databases = build.operator(source)
    _require_closed(databases, source)
    closed_at = build.clock().now()
    folder = build.environment().work_dir / run.run_id
    folder.mkdir(parents=True, exist_ok=True)
    loaded = load_database(
        databases,
        build.operator(target),
        _home_name(run, target),
        run_id=run.run_id,
        folder=folder / "dump",
        clock=build.clock(),
    )
    for extension in loaded.left_out:
        mend = f"a superuser must: CREATE EXTENSION {extension} in {loaded.database}"
        why = f"the operator's role may not create it; {mend}"
        say(run, decision(what=f"extension {extension} was left out", why=why), about=extension)
    _say_proven(run, target, loaded, closed_at)
    return {
        "found": f"database {loaded.database}: {loaded.tables} tables, {loaded.rows:,} rows, equal"
        f" to those of {databases.database} at {source}",
        "database": loaded.database,
        "tables": loaded.tables,
        "rows": loaded.rows,
    }


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
    kept = build.state().get(f"run#{run.run_id}", "damaged")
    name = str(kept["database"]) if kept else build.operator(target).database
    return recovery_name(name, run.run_id.split("-")[1].lower())


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
    """Drop the database that the run made at home."""
    target = acting_on(run, inputs["component"])
    name = _home_name(run, target)
    dropped = drop_loaded(build.operator(target), name, run_id=run.run_id)
    return {"found": f"{name} is dropped" if dropped else f"there was no {name}"}


def protect_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """A full backup at home, awaited, and WAL after it; then a failover may be decided again."""
    from chalicelib.services.outage import release_latch

    if run.drill:
        told = "a drill: stand-ins have no backups, and no latch is touched"
        return {"found": told, "backup": "", "wal": "", "released": False}
    functions = build.primary_functions(BACKUP_SECONDS)
    component = inputs["component"]
    backup = functions.call("back_up", {"component": component, "kind": "full"})["found"]
    wal = functions.call("fetch_wal", {"component": component})["found"]
    home = build.plan().scenarios[run.scenario].returns_to or ""
    released = release_latch(home)
    latch = "a failover may be decided again" if released else "no failover had been latched"
    return {
        "found": f"{backup}; {wal}; {latch}",
        "backup": backup,
        "wal": wal,
        "released": released,
    }
