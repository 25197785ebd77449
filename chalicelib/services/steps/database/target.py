"""The steps that act on the running system: stop writes, switch. Each holds the fence first."""

from __future__ import annotations

from typing import Any

from chalicelib.errors import Fenced, LeewardError, NotReady, Unavailable
from chalicelib.evidence.entries import fenced, first_write, unfenced
from chalicelib.evidence.text import counted
from chalicelib.incidents.fence import acquire_fence, require_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Postgres
from chalicelib.plan.records import format_time
from chalicelib.ports import Databases
from chalicelib.recover.database.fence import open_writes, stop_writes
from chalicelib.recover.database.switch import (
    count_writes,
    reinstate_database,
    retire_database,
    tell_retired,
    wait_for_application,
)
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on, choose_target
from chalicelib.services.steps.said import say

Outputs = dict[str, Any]

# Of the step's 300 s: what the application is given to come back by itself.
WAIT_SECONDS = 240
# Sort key of what the run found when it fenced.
DAMAGED = "damaged"
# Sort key of what the application used before the switch.
BEFORE = "before-switch"


def fence_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Take the fence of what will be acted on, then refuse the application's role and end its
    sessions on the component itself; where its site is lost, that it does not answer is enough."""
    component = inputs["component"]
    held = acting_on(run, component)
    token = acquire_fence(build.state(), held, run.run_id, clock=build.clock())
    closed = choose_target(build.plan(), component, site="", drill=run.drill)
    role = build.database(closed).application_role
    try:
        ended, seconds, name = _close(run, closed, role, token)
    except (Unavailable, NotReady) as error:
        if not run.site or _answers(error):
            raise
        return _fenced_by_loss(closed, token, error)
    say(run, fenced(token=token, ended=ended, seconds=seconds))
    build.state().create(f"run#{run.run_id}", DAMAGED, {"database": name})
    return {
        "found": f"{role} is refused, {counted(ended, 'session')} ended"
        f" in {seconds:.2f} s, fencing token {token}; to undo: leeward unfence DSN {role}",
        "token": token,
        "ended": ended,
        "fenced_at": format_time(build.clock().now()),
    }


def _close(run: Run, component: str, role: str, token: int) -> tuple[int, float, str]:
    """(sessions ended, seconds, database in use) of the component."""
    databases = build.operator(component)
    stopped = stop_writes(databases, role, token=token, run_id=run.run_id, clock=build.clock())
    return stopped.ended, stopped.seconds, databases.database


def _answers(error: LeewardError) -> bool:
    """A server that refuses Leeward, or cannot do what it asks, may let the application in."""
    return "answered" in error.context or "sqlstate" in error.context


def _fenced_by_loss(component: str, token: int, error: LeewardError) -> Outputs:
    return {
        "found": f"{component} does not answer ({error.instance_code}), so it takes no writes here;"
        f" fencing token {token} keeps it from being taken back unseen",
        "token": token,
        "ended": 0,
        "fenced_at": format_time(build.clock().now()),
    }


def undo_fence(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Let the application's role in again, as it was; nothing where it never answered the run, or
    where another run held the component, so that this one closed nothing."""
    closed = choose_target(build.plan(), inputs["component"], site="", drill=run.drill)
    try:
        token = require_fence(build.state(), acting_on(run, inputs["component"]), run.run_id)
    except Fenced as error:
        return {"found": f"the run never held it, so nothing was closed: {error.message}"}
    role = build.database(closed).application_role
    try:
        opened = open_writes(build.operator(closed), role, token=token)
    except (Unavailable, NotReady) as error:
        if _answers(error) or build.state().get(f"run#{run.run_id}", DAMAGED) is not None:
            raise
        return {
            "found": f"{closed} does not answer now either; the run did not get to the end of"
            f" closing it: should {role} be refused there, leeward unfence DSN {role}"
        }
    return {
        "found": f"{role} may log in again"
        if opened
        else f"{role} may log in: nothing of this run refuses it"
    }


def switch_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Close the damaged database, point the application to the other, open writes, see one.

    Each act is done before the next begins and repeats harmlessly: an application is never let in
    while its secret names a database that the role may still write to by mistake. Inputs: `wait`
    False where no application runs yet; a drill never waits for one.
    """
    target, name = acting_on(run, inputs["component"]), inputs["database"]
    found = build.database(target)
    token = require_fence(build.state(), target, run.run_id)
    databases = build.operator(target)
    damaged = _database_before(run, databases)
    retire_database(databases, damaged, found.application_role)
    writes_before = _writes_before(run, databases, name)
    build.addresses_of(found).point_to(found.application_secret, name)
    switched_at = build.clock().now()
    open_writes(databases, found.application_role, token=token)
    opened_at = build.clock().now()
    say(run, unfenced(token=token, seconds=(opened_at - switched_at).total_seconds()))
    switched = {"switched_at": format_time(switched_at), "first_write_at": ""}
    if run.drill:
        return {**_write_in_drill(run, found, name), **switched}
    if not inputs.get("wait", True):
        return {"found": f"{found.application_role} may write in {name}", **switched}
    first_at = wait_for_application(
        databases,
        name,
        writes_before=writes_before,
        clock=build.clock(),
        limit_seconds=WAIT_SECONDS,
    )
    say(run, first_write(at=first_at))
    waited = (first_at - opened_at).total_seconds()
    return {
        "found": f"{found.application_role} writes in {name} again, {waited:.2f} s after it was "
        f"let in; {damaged} {tell_retired(databases, damaged)}",
        **switched,
        "first_write_at": format_time(first_at),
    }


def await_writes_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """See the application's first write after a switch that did not wait for it.

    Raises CheckFailed (code "application-silent").
    """
    target, name = acting_on(run, inputs["component"]), inputs["database"]
    if run.drill:
        return {"found": "a drill: no application writes there", "first_write_at": ""}
    databases = build.operator(target)
    first_at = wait_for_application(
        databases,
        name,
        writes_before=_writes_before(run, databases, name),
        clock=build.clock(),
        limit_seconds=WAIT_SECONDS,
    )
    say(run, first_write(at=first_at))
    found = f"{build.database(target).application_role} writes in {name} again"
    return {"found": found, "first_write_at": format_time(first_at)}


def _write_in_drill(run: Run, found: Postgres, name: str) -> Outputs:
    """No application runs on a stand-in: a transaction of its role, by its secret, is the proof."""
    applications = build.application(found)
    with applications.session() as session:
        session.query("SELECT pg_current_xact_id()")
    at = build.clock().now()
    say(run, first_write(at=at))
    return {"found": f"{found.application_role} wrote in {name}, as the drill's application"}


def undo_switch(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Point the application back to the database that it used, which opens for it again."""
    target = acting_on(run, inputs["component"])
    found = build.database(target)
    require_fence(build.state(), target, run.run_id)
    kept = build.state().get(f"run#{run.run_id}", BEFORE)
    if kept is None:
        return {"found": f"{target} was not switched"}
    databases, before = build.operator(target), str(kept["database"])
    reinstate_database(databases, before, found.application_role)
    build.addresses_of(found).point_to(found.application_secret, before)
    return {"found": f"{target} is used as {before} again"}


def _database_before(run: Run, databases: Databases) -> str:
    """What the application used before the switch: the damaged database, or at another site, where
    nothing is damaged, what it would have used there. Kept once: the secret names another later."""
    name = databases.database if run.site else damaged_database(run)
    build.state().create(f"run#{run.run_id}", BEFORE, {"database": name})
    kept = build.state().get(f"run#{run.run_id}", BEFORE)
    assert kept is not None
    return str(kept["database"])


def damaged_database(run: Run) -> str:
    """The database that the application used when it was fenced; the secret names another later."""
    kept = build.state().get(f"run#{run.run_id}", DAMAGED)
    if kept is None:
        raise NotReady(
            "the run has not stopped writes, so no database is known to be the damaged one",
            hint="put a database.fence step before this one in the plan",
            code="not-fenced",
        )
    return str(kept["database"])


def _writes_before(run: Run, databases: Databases, name: str) -> int:
    """Counted once a run, before anybody is let in: a repeated step must not count its writes."""
    partition = f"run#{run.run_id}"
    build.state().create(partition, "writes-before", {"count": count_writes(databases, name)})
    kept = build.state().get(partition, "writes-before")
    assert kept is not None
    return int(kept["count"])
