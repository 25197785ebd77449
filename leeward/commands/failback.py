"""leeward failback --plan PLAN --reason TEXT: a person goes back to the site that was lost."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path

import click

from chalicelib.errors import BadInput
from chalicelib.plan.model import Plan
from chalicelib.plan.records import format_time
from chalicelib.recover.sites.failback import EARLY, parse_window
from leeward.commands.run import FUNCTION, event_of, invoke, place_of
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan
from leeward.wired import require_wired


@click.command(short_help="Go back after a failover, with a reason.")
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@click.option("--reason", required=True, help="Why; it stands in the evidence.")
@click.option(
    "--window",
    default="now",
    show_default=True,
    help="When names may move: BEGIN/END with their zones, at most 14 days ahead.",
)
@click.option("--early", is_flag=True, help="Even though the failover was a short time ago.")
@click.option("--drill", is_flag=True, help="As a drill: on what stands in for drills alone.")
@FORMAT
def command(plan_path: Path, reason: str, window: str, early: bool, drill: bool, form: str) -> None:
    """Start the scenario of PLAN that goes back to the primary site, in the standby region.

    Nothing else starts it. It looks first, and refuses while the primary site does not answer well
    (primary-still-failing); then it waits for the window.

    Exit status: 0 started; 1 refused or not deployed; 2 the input cannot be used.

    \b
    Example:
    leeward failback --plan policies/plans/nexus-studio.yaml \\
        --reason "us-east-1 sound since Friday" \\
        --window 2026-11-29T02:00Z/2026-11-29T04:00Z
    """
    file = load_plan(plan_path)
    require_wired(file)
    scenario = find_failback(file.plan)
    if not reason.strip():
        hint = "say in one line why"
        raise BadInput("expected a reason, found none", hint=hint, code="no-reason")
    now = datetime.now(UTC)
    parse_window(window, now=now)
    at = format_time(now)
    detail = {"scenario": scenario, "reason": f"{EARLY} {reason}" if early else reason,
              "by": getpass.getuser(), "at": at, "moment": window, "drill": drill}  # fmt: skip
    function, region = place_of(file.plan, scenario, FUNCTION)
    answer = invoke(function, event_of(detail, at), region=region)
    if form == "json":
        click.echo(json.dumps(answer))
        return
    click.echo(f"incident {answer['incident']}\nrun      {answer['run']}")


def find_failback(plan: Plan) -> str:
    """The scenario that goes back. Raises BadInput (code "no-failback")."""
    found = [name for name, it in plan.scenarios.items() if it.returns_to]
    if not found:
        raise BadInput(
            f"the plan {plan.name} has no scenario that goes back",
            hint="write one with `returns_to`; docs/failback.md has an example",
            code="no-failback",
        )
    return found[0]
