"""The step that patches a server's system, by SSM's patch baseline for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from chalicelib.errors import CheckFailed, StillRunning
from chalicelib.evidence.entries import decision
from chalicelib.incidents.run import Run
from chalicelib.plan.records import format_time, parse_time
from chalicelib.ports.servers import Patched, Patches
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say
from chalicelib.services.steps.servers.launch import commands_of, facts_of, server_of

Outputs = dict[str, Any]
# Of a step's 900 s; what takes longer goes on in the next attempt.
FOLLOW_SECONDS = 780.0
# The clock of a server may be behind.
CLOCK_ERROR = timedelta(minutes=5)


def patch_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Install what the server's baseline says is missing; green when nothing is missing after it.

    Inputs: `restart`: "never" leaves patches waiting for a restart, which is not green; else the
    server is restarted where a patch needs it.
    Raises:
        StillRunning: it goes on; the machine asks again.
        CheckFailed: code "patches-missing".
    """
    name = acting_on(run, inputs["component"])
    facts = facts_of(run, name, str(inputs.get("instance") or ""))
    agent = commands_of(server_of(name))
    begun = _begun(run, agent, facts.id, may_restart=inputs.get("restart") != "never")
    if not agent.follow_patches(facts.id, begun["command"], seconds=FOLLOW_SECONDS):
        raise StillRunning(
            f"patches are being installed on {facts.id}",
            hint="nothing to do: it goes on by itself",
        )
    found = agent.patches(facts.id)
    if found is None or found.began_at < parse_time(begun["at"]) - CLOCK_ERROR or not found.ok:
        raise CheckFailed(
            f"expected {facts.id} to miss no patch of its baseline, found {_tell(found)}",
            hint="look at the command's output in SSM; patch by hand, or say why it may wait",
            code="patches-missing",
        )
    return {
        "found": f"{facts.id}: {_tell(found)}",
        "instance": facts.id,
        "installed": found.installed,
        "baseline": found.baseline,
    }


def _begun(run: Run, agent: Patches, instance: str, *, may_restart: bool) -> dict[str, Any]:
    """The command of this step, begun by this attempt or by one before it."""
    partition, sort = f"run#{run.run_id}", f"patch#{run.step}"
    kept = build.state().get(partition, sort)
    if kept is not None:
        return kept
    what = f"install the patches that {instance} misses"
    say(run, decision(what=what, why="its patch baseline wants them; a patch has no undo"))
    command = agent.begin_patches(
        instance, may_restart=may_restart, name=f"{run.run_id}/{run.step}"
    )
    item = {"command": command, "at": format_time(build.clock().now())}
    build.state().create(partition, sort, item)
    return item


def _tell(found: Patched | None) -> str:
    if found is None:
        return "no word of its agent on patches"
    return (
        f"{found.installed} installed, {found.missing} missing, {found.failed} failed, "
        f"{found.waiting_for_restart} waiting for a restart (baseline {found.baseline}, "
        f"{format_time(found.began_at)})"
    )
