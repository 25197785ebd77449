"""leeward exercises: what the plan promises to try, when, and how it went."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from chalicelib.errors import BadInput, LeewardError
from chalicelib.evidence.text import in_units, printable
from chalicelib.plan.exercises import PlannedExercise, planned_exercises
from chalicelib.plan.model import Plan
from leeward.commands.run import invoke
from leeward.console import Console
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan

FUNCTION = "exercise"
PLAN = click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
Place = tuple[str, str | None]


@click.group("exercises", short_help="Restore tests and drills: due, done, missed, and how fast.")
def command() -> None:
    """The plan's exercises, as the deployed plan begins and judges them."""


@command.command("list")
@PLAN
@FORMAT
def list_(plan_path: Path, form: str) -> None:
    """List every exercise of PLAN with its last result and the next date.

    Exit status: 0 every exercise stands; 1 one was missed or failed, or a region does not answer.
    """
    plan = load_plan(plan_path).plan
    rows, silent = _ask(plan)
    if form == "json":
        click.echo(json.dumps({"exercises": rows, "silent": silent}))
    else:
        _print(rows, silent, Console(highlight=False))
    sys.exit(0 if not silent and all(row["stands"] for row in rows) else 1)


@command.command("run")
@click.argument("name")
@PLAN
@FORMAT
def run_(name: str, plan_path: Path, form: str) -> None:
    """Begin the exercise NAME of PLAN now, or as soon as the one that runs has ended.

    Exit status: 0 begun; 1 not deployed; 2 there is no such exercise.
    """
    plan = load_plan(plan_path).plan
    _say({"begin": name}, plan, _find(plan, name), form)


@command.command("done")
@click.argument("name")
@click.option("--note", required=True, help="What was found, in one line; it is kept.")
@PLAN
@FORMAT
def done_(name: str, note: str, plan_path: Path, form: str) -> None:
    """Say that people did the exercise NAME of PLAN: an audit, a review, a spot check.

    Exit status: 0 noted; 1 it is none of people's; 2 there is no such exercise.
    """
    plan = load_plan(plan_path).plan
    _say({"done": name, "by": getpass.getuser(), "note": note}, plan, _find(plan, name), form)


def _find(plan: Plan, name: str) -> PlannedExercise:
    planned = {it.name: it for it in planned_exercises(plan)}
    if name not in planned:
        raise BadInput(
            f"the plan {plan.name} has no exercise {name!r}",
            hint=f"one of: {', '.join(planned)}",
            code="unknown-exercise",
        )
    return planned[name]


def _say(event: dict[str, Any], plan: Plan, planned: PlannedExercise, form: str) -> None:
    stands_by = any(plan.runs_in_standby(name) for name in planned.scenarios)
    function, region = _places(plan)[-1 if stands_by else 0]
    answer = invoke(function, event, region=region)
    click.echo(json.dumps(answer) if form == "json" else answer["found"])


def _places(plan: Plan) -> list[Place]:
    places: list[Place] = [(f"leeward-primary-{FUNCTION}", None)]
    if any(plan.runs_in_standby(name) for name in plan.scenarios):
        places.append((f"leeward-standby-{FUNCTION}", plan.aws_region("standby")))
    return places


def _ask(plan: Plan) -> tuple[list[dict[str, Any]], list[str]]:
    """What each region says, and which one says nothing: that is known of no exercise there."""
    rows, silent = [], []
    for function, region in _places(plan):
        try:
            rows += invoke(function, {"list": True}, region=region)["exercises"]
        except LeewardError as error:
            silent.append(f"{function}: {error.message}")
    return rows, silent or _unheard(plan, rows)


def _unheard(plan: Plan, rows: list[dict[str, Any]]) -> list[str]:
    """Exercises of the plan that no region looks after: nobody begins them, or sees them missed."""
    known = {row["name"] for row in rows}
    return [
        f"{it.name}: no region looks after it; deploy this plan"
        for it in planned_exercises(plan)
        if it.name not in known
    ]


def _print(rows: list[dict[str, Any]], silent: list[str], console: Console) -> None:
    table = Table(box=None, title="exercises", title_justify="left")
    for heading in ("", "next", "last", "result", "recovery", "before", "objective"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        for cells in _cells(row):
            table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table)
    for line in silent:
        console.print(Text(f"no answer: {printable(line)}", style="bold red"))


def _cells(row: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    last = row["occasions"][-1] if row["occasions"] else None
    due = row["next_due_at"][:16].replace("T", " ")
    if last is None:
        yield row["name"], due, "", "not due yet", "", "", ""
        return
    told = last["status"] if last["status"] != "failed" else f"FAILED: {last['note']}"
    told = "MISSED" if told == "missed" else told
    yield row["name"], due, last["due_at"][:16].replace("T", " "), told, "", "", ""
    for result in last["results"]:
        seconds = (result[name] for name in ("rto_seconds", "before_seconds"))
        objective = in_units(result["rto_objective_seconds"])
        yield (
            f"  {result['scenario']}",
            "",
            "",
            result["outcome"],
            *map(in_units, seconds),
            objective,
        )
    for test in last.get("tests", ()):
        seconds = (test[name] for name in ("seconds", "before_seconds"))
        outcome = test["outcome"] or "running"
        yield f"  {test['component']}", "", "", outcome, *map(in_units, seconds), ""
