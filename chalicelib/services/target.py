"""The steps that act on the running system: stop writes, switch. Each holds the fence first."""

from __future__ import annotations

from typing import Any

from chalicelib.errors import NotReady
from chalicelib.evidence.entries import fenced, first_write, unfenced
from chalicelib.evidence.text import counted
from chalicelib.incidents.fence import acquire_fence, require_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.records import format_time
from chalicelib.ports import Databases
from chalicelib.recover.fence import open_writes, stop_writes
from chalicelib.recover.switch import count_writes, retire_database, wait_for_application
from chalicelib.services import build
from chalicelib.services.said import say

Outputs = dict[str, Any]

# Of the step's 300 s: what the application is given to come back by itself.
WAIT_SECONDS = 240
# Sort key of what the run found when it fenced.
DAMAGED = "damaged"


def fence_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Take the component's fence, then refuse the application's role and end its sessions."""
    component = inputs["component"]
    role = build.database(component).application_role
    token = acquire_fence(build.state(), component, run.run_id, clock=build.clock())
    databases = build.operator(component)
    build.state().create(f"run#{run.run_id}", DAMAGED, {"database": databases.database})
    stopped = stop_writes(databases, role, token=token, run_id=run.run_id, clock=build.clock())
    say(run, fenced(token=token, ended=stopped.ended, seconds=stopped.seconds))
    return {
        "found": f"{role} is refused, {counted(stopped.ended, 'session')} ended"
        f" in {stopped.seconds:.2f} s, fencing token {token}; to undo: leeward unfence DSN {role}",
        "token": token,
        "ended": stopped.ended,
        "fenced_at": format_time(build.clock().now()),
    }


def switch_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Close the damaged database, point the application to the other, open writes, see one.

    Each act is done before the next begins and repeats harmlessly: an application is never let in
    while its secret names a database that the role may still write to by mistake.
    """
    component, name = inputs["component"], inputs["database"]
    found = build.database(component)
    token = require_fence(build.state(), component, run.run_id)
    databases = build.operator(component)
    damaged = damaged_database(run)
    retire_database(databases, damaged, found.application_role)
    writes_before = _writes_before(run, databases, name)
    build.addresses().point_to(found.application_secret, name)
    switched_at = build.clock().now()
    open_writes(databases, found.application_role, token=token)
    opened_at = build.clock().now()
    say(run, unfenced(token=token, seconds=(opened_at - switched_at).total_seconds()))
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
        f"let in; {damaged} is kept and refuses it",
        "switched_at": format_time(switched_at),
        "first_write_at": format_time(first_at),
    }


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
