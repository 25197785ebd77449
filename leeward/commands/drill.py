"""leeward drill SCENARIO --plan PLAN: a scenario against real damage in the local cloud."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from rich.status import Status
from rich.table import Table
from rich.text import Text

from chalicelib.errors import BadInput
from chalicelib.evidence.text import in_units, printable
from chalicelib.plan.model import Plan
from leeward.console import Console
from leeward.local.drill import Drill, DrillOptions, DrillResult, Told
from leeward.local.stages import stage_of
from leeward.options import FORMAT, PLAN_PATH, require_writable
from leeward.plan_file import load_plan
from leeward.wired import require_scenario, require_wired

# What is shown by another name than the stage says it by.
SHOWN_AS = {"cloud": "local cloud", "damage": "DAMAGE"}


@click.command(short_help="Run a scenario against real damage in the local cloud.")
@click.argument("scenario")
@click.option("--plan", "plan_path", required=True, type=PLAN_PATH, help="The plan's YAML.")
@click.option(
    "--damage",
    metavar="NAME",
    help="What goes wrong; `list` shows what can. Without it the scenario's first.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("build/drills"),
    show_default=True,
    help="Where the evidence and the report go.",
)
@click.option(
    "--projects",
    metavar="N",
    type=click.IntRange(100, 5_000_000),
    default=20_000,
    show_default=True,
    help="Size of the sample data: rows of its first table; the second has four times as many.",
)
@click.option(
    "--keep", is_flag=True, help="Leave everything running afterwards, until Ctrl-C: look at it."
)
@FORMAT
def command(
    scenario: str,
    plan_path: Path,
    damage: str | None,
    out: Path,
    projects: int,
    keep: bool,
    form: str,
) -> None:
    """Run SCENARIO of a plan end to end against real damage, on this machine alone.

    Starts a local AWS with the deployed package, production as the scenario needs it (a real
    PostgreSQL with a sample application that writes all the time, clusters, servers, names), takes
    real backups, does the damage, and watches the recovery. What people are asked is answered at
    once. Ends with the figures, the report and the evidence; everything else is gone then, unless
    --keep leaves it open with a link to the dashboard.

    Exit status: 0 only when everything was recovered, proven and within the plan's objectives;
    1 when not; 2 when there is no such scenario or damage; 130 after Ctrl-C, which ends everything
    that was started.

    \b
    Example:
    leeward drill database-corruption --plan policies/plans/nexus-studio.yaml
    """
    plan, stage = load_runnable(plan_path, scenario)
    if damage == "list":
        click.echo(json.dumps(stage.damages) if form == "json" else "\n".join(stage.damages))
        return
    require_writable(out)
    options = DrillOptions(
        scenario,
        plan.scenarios[scenario].component or "",
        choose_damage(stage, damage),
        out,
        projects=projects,
    )
    screen = Screen(Console(highlight=False, quiet=form == "json"))
    drill = stage(plan, options, screen.tell)

    def show(result: DrillResult) -> None:
        screen.close()
        if form == "json":
            click.echo(json.dumps(result_line(result)))
        else:
            screen.show_result(result)
        if keep:
            _stay_open(drill)

    try:
        result = drill.run(show)
    finally:
        screen.close()
    sys.exit(1 if result.problems else 0)


def _stay_open(drill: Drill) -> None:
    """Until Ctrl-C, which here is no failure of the drill."""
    from leeward.commands.cloud import how_to_reach
    from leeward.local.visiting import dashboard_link

    link = dashboard_link(drill.cloud, drill.plan, drill.region)
    if link:
        click.echo(f"dashboard  {link}", err=True)
    click.echo(f"kept open: {how_to_reach(str(drill.cloud.folder))}", err=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def load_runnable(plan_path: Path, scenario: str) -> tuple[Plan, type[Drill]]:
    """The plan, and the stage on which the scenario can be drilled.

    Raises BadInput (code "no-stage") when the local cloud has none for it.
    """
    file = load_plan(plan_path)
    require_scenario(file.plan, scenario)
    require_wired(file)
    stage = stage_of(file.plan, scenario)
    if stage is None:
        able = [name for name in file.plan.scenarios if stage_of(file.plan, name)]
        raise BadInput(
            f"the local cloud cannot put up what scenario {scenario!r} is about",
            hint=f"drills run: {', '.join(able) or 'no scenario of this plan'}",
            code="no-stage",
        )
    return file.plan, stage


def choose_damage(stage: type[Drill], name: str | None) -> str:
    """The damage of that name; the stage's first without one.

    Raises BadInput (code "unknown-damage") naming the nearest.
    """
    if name is None:
        return stage.damages[0]
    if name not in stage.damages:
        near = get_close_matches(name, stage.damages, n=1)
        raise BadInput(
            f"this scenario knows no damage {name!r}",
            hint=f"did you mean {near[0]}?" if near else f"one of: {', '.join(stage.damages)}",
            code="unknown-damage",
        )
    return name


def result_line(result: DrillResult) -> dict[str, Any]:
    """The last line of `--format json`: the scorecard, and what the ledger says of it."""
    line = result.score.to_line(
        report=str(result.folder / "report.html"), evidence=str(result.folder)
    )
    if result.reckoning is not None:
        line |= {
            "rows_lost": len(result.reckoning.lost),
            "ledger": {
                "committed": result.reckoning.committed,
                "recovered": result.reckoning.recovered,
                "set_aside": result.reckoning.set_aside,
            },
        }
    return line | {
        "damage": [injected.what for injected in result.injected],
        "facts": [asdict(fact) for fact in result.facts],
        "seconds": result.seconds,
        "problems": result.problems,
    }


class Screen:
    """The live timeline: a line for each thing that happened, a spinner for what happens now."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._status: Status | None = None
        self._wait("starting the local cloud, production and the package")

    def tell(self, told: Told) -> None:
        if told.record is not None:
            self._tell_record(told)
            return
        style = "bold red" if told.kind == "damage" else ""
        self._line(SHOWN_AS.get(told.kind, told.kind), told.text, told.seconds, style=style)
        waits = "waiting for the plan's schedules to notice" if told.kind == "damage" else "working"
        self._wait(waits)

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def show_result(self, result: DrillResult) -> None:
        self._console.print()
        self._console.print(_scorecard(result))
        for problem in result.problems:
            self._console.print(Text(f"  not met: {problem}", style="bold red"))
        for line in (
            f"report    {result.folder / 'report.html'}",
            f"evidence  leeward evidence verify {result.folder}",
        ):
            self._console.print(line, soft_wrap=True, markup=False)

    def _tell_record(self, told: Told) -> None:
        record = told.record
        assert record is not None
        body = record.body
        if record.kind == "incident-opened":
            self._line("ALARM", f"{body['alarm']}: {body['reason']}", None, style="bold yellow")
        elif record.kind == "step-started":
            self._wait(f"{record.step}: {body['does']}")
        elif record.kind == "step-finished":
            self._line(record.step, str(body["found"]), body["seconds"], style="green")
        elif record.kind == "step-failed":
            self._line(record.step, f"{body['code']}: {body['message']}", None, style="bold red")
        elif record.kind == "rejected-point":
            self._line("refused", f"{body['point']}: {body['reason']}", None, style="yellow")
        elif record.kind == "run-finished":
            self._line("run", f"{body['outcome']} {body['why']}".strip(), None, style="bold")

    def _line(self, name: str, text: str, seconds: float | None, *, style: str) -> None:
        clock = time.monotonic() - self._began
        line = Table.grid(padding=(0, 2, 0, 0))
        for width, justify in ((8, "right"), (11, "left"), (9, "right"), (None, "left")):
            line.add_column(width=width, justify=justify)  # type: ignore[arg-type]
        line.add_row(
            Text(f"{clock:.1f} s", style="dim"),
            Text(name, style=style or "bold"),
            Text("" if seconds is None else f"{seconds:.2f} s", style="dim"),
            Text(printable(text)),
        )
        self._console.print(line)

    def _wait(self, text: str) -> None:
        if self._console.quiet or not self._console.is_terminal:
            return
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(Text(text, style="dim"))


def _scorecard(result: DrillResult) -> Table:
    score = result.score
    table = Table(title=f"{score.scenario}: {score.outcome}", title_justify="left", box=None)
    for heading in ("", "measured", "objective", ""):
        table.add_column(heading, no_wrap=heading != "")
    rows = [
        ("recovery time (alarm to service)", in_units(score.rto_seconds),
         in_units(score.rto_objective_seconds), _mark(score.rto_met)),
        ("data lost (time)", in_units(score.rpo_seconds),
         in_units(score.rpo_objective_seconds), _mark(score.rpo_met)),
        *((fact.name, fact.measured, fact.promised, "" if fact.met is None else _mark(fact.met))
          for fact in result.facts),
        ("detected after", in_units(score.detection_seconds), "", ""),
        ("recovered data proven", "yes" if score.proven else "no", "yes", _mark(score.proven)),
        ("whole drill", in_units(result.seconds), "", ""),
    ]  # fmt: skip
    for row in rows:
        table.add_row(*row)
    return table


def _mark(met: bool | None) -> str:
    return "[green]met[/green]" if met else "[bold red]NOT MET[/bold red]"
