"""The steps that act on the running system: stop writes, switch. Each holds the fence first."""

from __future__ import annotations

from typing import Any

from chalicelib.evidence.entries import fenced
from chalicelib.incidents.fence import acquire_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.records import format_time
from chalicelib.recover.fence import stop_writes
from chalicelib.services import build
from chalicelib.services.said import say

Outputs = dict[str, Any]


def fence_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Take the component's fence, then refuse the application's role and end its sessions."""
    component = inputs["component"]
    role = build.database(component).application_role
    token = acquire_fence(build.state(), component, run.run_id, clock=build.clock())
    stopped = stop_writes(
        build.operator(component), role, token=token, run_id=run.run_id, clock=build.clock()
    )
    say(run, fenced(token=token, ended=stopped.ended, seconds=stopped.seconds))
    return {
        "found": f"{role} is refused, {stopped.ended} sessions ended in {stopped.seconds:.2f} s, "
        f"fencing token {token}; to undo: ALTER ROLE {role} LOGIN",
        "token": token,
        "ended": stopped.ended,
        "fenced_at": format_time(build.clock().now()),
    }
