"""leeward explain PLAN SCENARIO: a scenario told before it runs."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from chalicelib.evidence.text import in_units, printable
from chalicelib.plan.model import Plan
from chalicelib.scenarios.explain import Explanation, StepExplanation, explain_scenario
from leeward.console import Console
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import load_plan
from leeward.preview import Preview, preview_messages
from leeward.wired import require_scenario, require_wired


@click.command(short_help="Print one scenario of a plan as the run it will be.")
@click.argument("plan_path", metavar="PLAN", type=PLAN_PATH)
@click.argument("scenario")
@click.option("--messages", is_flag=True, help="Also every message: its words, and to whom.")
@FORMAT
def command(plan_path: Path, scenario: str, messages: bool, form: str) -> None:
    """Print SCENARIO of PLAN as the run it will be.

    Each step with who does it, what it needs (service, plane, region), what it changes and how
    that is undone; how long it takes, at worst too; and what stays in effect when it fails.

    Exit status: 0; 2 when PLAN is no plan or has no such scenario.

    \b
    Example:
    leeward explain policies/plans/nexus-studio.yaml database-corruption
    """
    file = load_plan(plan_path)
    require_scenario(file.plan, scenario)
    require_wired(file)
    explanation = explain_scenario(file.plan, scenario)
    previews = preview_messages(file.plan, scenario) if messages else []
    if form == "json":
        told = {"messages": [it.to_json() for it in previews]} if messages else {}
        click.echo(json.dumps(explanation.to_json() | told))
        return
    console = Console(highlight=False)
    _print(file.plan, explanation, console)
    for preview in previews:
        _print_preview(preview, console)


def _print_preview(preview: Preview, console: Console) -> None:
    console.print(f"\n[bold]{escape(preview.when)}: {preview.audience}[/bold]")
    for how, where in (("to", preview.real), ("in a drill to", preview.drill)):
        console.print(f"[dim]{how} {escape(printable('; '.join(where) or 'nobody'))}[/dim]")
    said = f"{preview.subject}\n\n{preview.text}"
    lines = "\n".join(escape(printable(line)) for line in said.splitlines())
    console.print(Padding(lines, (0, 0, 0, 2)))


def _print(plan: Plan, told: Explanation, console: Console) -> None:
    title, organisation = escape(printable(told.title)), escape(printable(plan.organisation))
    console.print(f"[bold]{title}[/bold]  {organisation}, scenario {told.scenario}")
    if told.starts_when:
        console.print("starts when: " + escape(printable("; ".join(told.starts_when))))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "step", "what happens", "expected", "at most"):
        table.add_column(heading, justify="right" if heading in ("expected", "at most") else "left")
    for number, step in enumerate(told.steps, 1):
        clock = "together" if step.branch else str(number)
        table.add_row(
            clock,
            f"[bold]{step.name}[/bold]",
            _what(step),
            in_units(step.takes_seconds),
            in_units(step.limit_seconds),
        )
    console.print(table)
    console.print(
        f"expected {in_units(told.takes_seconds)}, at worst {in_units(told.worst_seconds)}"
        f" without a retry; objective {in_units(told.rto_seconds)},"
        f" the plan's own estimate {in_units(told.estimate_seconds)}"
    )
    console.print("[bold]When a step fails[/bold]")
    for line in told.on_failure:
        console.print(Padding(line, (0, 0, 0, 2)))


def _what(step: StepExplanation) -> str:
    lines = [f"{escape(printable(step.says))}: {step.does}", f"[dim]by {step.who}[/dim]"]
    if step.approval:
        lines.append(f"[yellow]asks first:[/yellow] {step.approval}")
    if step.needs:
        lines.append(f"[dim]needs {_by_place(step.needs)}[/dim]")
    if step.changes:
        lines.append(f"changes: {step.changes}; undo: {step.undo}")
    return "\n".join(lines)


def _by_place(needs: tuple[str, ...]) -> str:
    """("s3 (data plane, x)", "dynamodb (data plane, x)") -> "s3, dynamodb (data plane, x)"."""
    services: dict[str, list[str]] = {}
    for need in needs:
        service, _, place = need.partition(" (")
        services.setdefault(place, []).append(service)
    return "; ".join(f"{', '.join(names)} ({place}" for place, names in services.items())
