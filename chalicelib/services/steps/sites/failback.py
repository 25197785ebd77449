"""The steps that go back to a site after a failover (recover/sites/failback.py tells when one may).

What runs at the other site is named by the plan's own steps (its components are ordinary ones); the
steps here act on the component at home, or in a drill on what stands in for it there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.errors import LeewardError, Unavailable
from chalicelib.evidence.body import last_body
from chalicelib.evidence.entries import decision
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Postgres, Redis, Server, Service
from chalicelib.plan.records import format_time, parse_time
from chalicelib.plan.scenario import Scenario
from chalicelib.ports import Databases
from chalicelib.ports.traffic import Switch
from chalicelib.recover.sites.failback import (
    Standing,
    Verdict,
    choose_window,
    decide_failback,
    require_open,
)
from chalicelib.services import build
from chalicelib.services.jobs.outage import last_failing, note_home_again, release_latch
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.asked import asked_by, reason_of
from chalicelib.services.steps.said import say
from chalicelib.services.steps.sites import traffic
from chalicelib.verify.probes import Target, ask_all, policy_of

if TYPE_CHECKING:
    from chalicelib.adapters.lambda_functions import LambdaFunctions

Outputs = dict[str, Any]

# How often everything at home must answer well, and what passes between two times.
ROUNDS = 3
PAUSE_SECONDS = 2.0
# Of the step's 900 s: the backup that the primary stack takes, and the WAL after it.
BACKUP_SECONDS = 800.0


def window_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Read the window, or the `another` that a person said since; the machine waits until it
    begins."""
    now = build.clock().now()
    window = choose_window(
        str(inputs.get("window") or ""), str(inputs.get("another") or ""), now=now
    )
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
        requested_by=asked_by(run),
        reason=reason_of(run),
        names_at=traffic.driver_of(names).state(),
        home=traffic.home_of(names),
        failed_over_at=away.at if away else None,
        failing=None if run.drill else last_failing(traffic.home_of(names)),
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
    return not asked_by(run)


def _switched_away(names: str) -> Switch | None:
    home = traffic.home_of(names)
    moves = [it for it in traffic.switches_of(names).past() if it.to != home]
    return moves[-1] if moves else None


def _stays_for(names: str) -> timedelta:
    from chalicelib.services.steps.sites.names import names_of

    return names_of(names).stays_for


def _recovered_until(away: Switch | None) -> str:
    """The last commit that the failover brought over, from its own records; "" when unknown."""
    if away is None:
        return ""
    run = build.state().get(f"run#{away.run_id}", "run")
    if run is None:
        return ""
    records = build.records().read(run["incident_id"])
    replays = _steps_of(run["scenario"], "database.replay")
    mine = [it for it in records if it.run_id == away.run_id and it.step in replays]
    loss = last_body(mine, "data-loss")
    return str(loss.get("last_commit_recovered_at") or "")


def _steps_of(scenario: str, uses: str) -> set[str]:
    """Other steps tell of losses too: of folders, of keys."""
    found = build.plan().scenarios.get(scenario)
    return {it.name for it in found.all_steps() if it.uses == uses} if found else set()


def _problems(run: Run) -> tuple[str, ...]:
    """What did not answer well each time, of all that the scenario brings back."""
    clock = build.clock()
    found: dict[str, str] = {}
    for turn in range(ROUNDS):
        if turn:
            clock.sleep(PAUSE_SECONDS)
        for name in _asked_at_home(build.plan().scenarios[run.scenario]):
            problem = _problem_of(acting_on(run, name), drill=run.drill)
            if problem:
                found[name] = problem
        if found:
            break
    return tuple(f"{name}: {problem}" for name, problem in found.items())


def _asked_at_home(scenario: Scenario) -> list[str]:
    """What it restores; of what lies on a server that it makes anew, that such can be made."""
    steps = scenario.all_steps()
    made = {str(it.component) for it in steps if it.uses == "server.provision"}
    parts = build.plan().components
    asked = (it for it in scenario.restores if getattr(parts[it], "on", None) not in made)
    return [*asked, *sorted(made)]


def _problem_of(name: str, *, drill: bool) -> str:
    """Why it does not count as answering; "" when it does, or nobody can ask it."""
    from chalicelib.services.steps.servers.launch import ec2_of

    component = build.plan().components[name]
    try:
        if isinstance(component, Postgres):
            return _problem_of_database(build.operator(name))
        if isinstance(component, Service):
            return _problem_of_service(name, component, asked=not drill)
        if isinstance(component, Server):
            ec2_of(component).find(component.instance)
    except LeewardError as error:
        return f"{error.instance_code}: {error.message}"
    return ""


def _problem_of_database(databases: Databases) -> str:
    with databases.admin_session() as session:
        [(recovering,)] = session.query("SELECT pg_is_in_recovery()")
    return "it is recovering and takes no writes" if recovering else ""


def _problem_of_service(name: str, component: Service, *, asked: bool) -> str:
    """Its cluster must answer, and itself where it is meant to run."""
    from chalicelib.services.steps.workloads.deployments import workload_of

    wanted = workload_of(name).status().wanted
    if not (asked and wanted and component.health):
        return ""
    target = Target(name, component.health, component.health_says or "")
    [(_, answer)] = ask_all([target], build.prober(), policy_of(build.plan()))
    return "" if answer.good else answer.problem


def protect_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """A full backup at home, awaited, and WAL after it, or a dump of a Redis; then a failover may
    be decided again."""
    if run.drill:
        told = "a drill: stand-ins have no backups, and no latch is touched"
        return {"found": told, "backup": "", "wal": "", "copies": "", "released": False}
    functions = build.primary_functions(BACKUP_SECONDS)
    component = inputs["component"]
    backup = _backup_once(run, functions, component)
    wal = _wal_since(functions, component)
    home = build.plan().scenarios[run.scenario].returns_to or ""
    copies = _copy_elsewhere(functions, component)
    note_home_again(home)
    released = release_latch(home)
    latch = "a failover may be decided again" if released else "no failover had been latched"
    return {
        "found": "; ".join(filter(None, (backup, wal, copies, latch))),
        "backup": backup,
        "wal": wal,
        "copies": copies,
        "released": released,
    }


def _backup_once(run: Run, functions: LambdaFunctions, component: str) -> str:
    """What was taken, in words: by this attempt of the step, or by one that died or failed after
    its backup had ended, as hours may lie in it."""
    partition, sort = f"run#{run.run_id}", f"backup#{run.step}"
    kept = build.state().get(partition, sort)
    if kept is not None:
        return str(kept["found"])
    function, kind = ("take", "dump") if _is_redis(component) else ("back_up", "full")
    found = str(functions.call(function, {"component": component, "kind": kind})["found"])
    build.state().create(partition, sort, {"found": found})
    return found


def _wal_since(functions: LambdaFunctions, component: str) -> str:
    if _is_redis(component):
        return ""
    return str(functions.call("fetch_wal", {"component": component})["found"])


def _is_redis(component: str) -> bool:
    return isinstance(build.plan().components[component], Redis)


def _copy_elsewhere(functions: LambdaFunctions, component: str) -> str:
    """To each location that another region would recover from; one that fails is told, not waited
    for: its own schedule and alarm go on.

    Raises Unavailable (code "not-copied") when none of them has it: a second loss would bring back
    what was there before the first.
    """
    kept = build.plan().locations
    wanted = [it for it in build.locations().of(component)[1:] if kept[it].provider != "own"]
    failed: dict[str, str] = {}
    for name in wanted:
        try:
            answer = functions.call("copy", {"component": component, "location": name})
            failed |= {} if answer["complete"] else {name: str(answer["found"])}
        except LeewardError as error:
            failed[name] = error.message
    told = "; ".join(f"no copy in {name}: {why}" for name, why in failed.items())
    if wanted and len(failed) == len(wanted):
        raise Unavailable(
            f"expected a copy of {component} outside the primary site, found {told}",
            hint="the backup at home is there; mend the copies, and start this step again",
            code="not-copied",
        )
    done = ", ".join(name for name in wanted if name not in failed)
    return "; ".join(filter(None, (f"copied to {done}" if done else "", told)))
