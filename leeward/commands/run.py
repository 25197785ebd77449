"""leeward run SCENARIO --plan PLAN --reason TEXT: a person starts a recovery for real."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from chalicelib.errors import BadInput, NotReady, Refused
from chalicelib.plan.model import Plan
from chalicelib.plan.records import format_time
from chalicelib.services.signals import DECLARED_BY
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan
from leeward.wired import require_scenario, require_wired

FUNCTION = "on_alarm"


@click.command(short_help="Start a scenario for real, with a reason.")
@click.argument("scenario")
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@click.option("--reason", required=True, help="Why; it stands in the evidence.")
@click.option(
    "--moment",
    help="Recover to just before this: a transaction id, an LSN, a time with its zone, or `end`."
    " Without it the run finds the moment itself.",
)
@click.option("--drill", is_flag=True, help="As a drill: on what stands in for drills alone.")
@FORMAT
def command(
    scenario: str, plan_path: Path, reason: str, moment: str | None, drill: bool, form: str
) -> None:
    """Start SCENARIO of PLAN for real, in the AWS account that the environment names.

    Opens an incident, or starts the next run of one whose last run failed. Refused while a run of
    the same incident is still going on. `eval "$(leeward cloud env)"` points to the local cloud.
    A scenario that loses the primary region is started in the standby one, and asks the primary
    for nothing.

    Exit status: 0 started; 1 refused or not deployed; 2 the input cannot be used.

    \b
    Example:
    leeward run database-corruption --plan policies/plans/nexus-studio.yaml \\
        --reason "wrong import at noon" --moment 2026-11-22T12:00:00Z
    """
    file = load_plan(plan_path)
    require_scenario(file.plan, scenario)
    require_wired(file)
    if not reason.strip():
        hint = "say in one line why"
        raise BadInput("expected a reason, found none", hint=hint, code="no-reason")
    now = format_time(datetime.now(UTC))
    detail = {"scenario": scenario, "reason": reason, "by": getpass.getuser(), "at": now,
              "moment": moment, "drill": drill}  # fmt: skip
    function, region = place_of(file.plan, scenario, FUNCTION)
    answer = invoke(function, event_of(detail, now), region=region)
    if form == "json":
        click.echo(json.dumps(answer))
        return
    click.echo(f"incident {answer['incident']}\nrun      {answer['run']}")


def place_of(plan: Plan, scenario: str, function: str) -> tuple[str, str | None]:
    """The function's name in the stack that runs the scenario, and its region: the standby's, or
    None for the one that the environment names."""
    if plan.runs_in_standby(scenario):
        return f"leeward-standby-{function}", plan.aws_region("standby")
    return f"leeward-primary-{function}", None


def event_of(detail: dict[str, Any], at: str) -> dict[str, Any]:
    """The envelope in which EventBridge sends events."""
    return {
        "version": "0",
        "id": f"declared-{at}",
        "detail-type": "Run Declared",
        "source": DECLARED_BY,
        "account": "",
        "time": at,
        "region": "",
        "resources": [],
        "detail": detail,
    }


def invoke(function: str, event: dict[str, Any], *, region: str | None = None) -> dict[str, Any]:
    """The function's answer. Raises Refused with what the function refused, NotReady."""
    import boto3

    from chalicelib.adapters.aws_errors import mapped

    with mapped("lambda", function=function):
        answer = boto3.client("lambda", region_name=region).invoke(
            FunctionName=function, Payload=json.dumps(event).encode()
        )
    body: dict[str, Any] = json.loads(answer["Payload"].read())
    if "FunctionError" not in answer:
        return body
    kind, said = body.get("errorType"), str(body.get("errorMessage"))
    if kind == Refused.__name__:
        hint = "wait for the run that is going on, or stop it"
        raise Refused(said, hint=hint, code="run-running")
    raise NotReady(f"{function} failed: {kind}: {said}", hint="look at the function's log")
