"""`leeward check PLAN`: what contradicts itself in a plan, with the line and how to mend it."""

from __future__ import annotations

import json
import sys
import textwrap
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from chalicelib.evidence.text import counted, printable
from chalicelib.plan.check.finding import Finding, show_path
from chalicelib.plan.check.lint import check_plan, title_of
from chalicelib.scenarios.stability import check_stability
from chalicelib.scenarios.wiring import check_wiring
from leeward.console import Console
from leeward.options import FORMAT, PLAN_PATH
from leeward.plan_file import PlanFile, load_plan

_MARGIN = 7
_SEVERITIES = ("error", "warning", "note")
_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


@click.command()
@click.argument("plan_path", metavar="PLAN", type=PLAN_PATH)
@FORMAT
def command(plan_path: Path, form: str) -> None:
    """Check PLAN for contradictions: what it promises and cannot keep.

    Each finding has a rule (docs/rules.md), its line, what follows from it and how to mend it.
    Errors, then warnings (a gap or a risk), then notes (what cannot be judged), then what the plan
    accepts.

    Exit status: 0 without errors (accepted ones aside), 1 with, 2 when PLAN is no plan.

    \b
    Example:
    leeward check policies/plans/nexus-studio.yaml
    """
    file = load_plan(plan_path)
    also = [*check_wiring(file.plan), *check_stability(file.plan)]
    findings = check_plan(file.plan, now=datetime.now(UTC), also=also)
    if form == "json":
        click.echo(json.dumps(findings_as_json(file, findings), indent=2))
    else:
        print_findings(file, findings, Console(highlight=False))
    if any(one.severity == "error" and not one.accepted for one in findings):
        sys.exit(1)


def findings_as_json(file: PlanFile, findings: list[Finding]) -> dict[str, Any]:
    """{"plan", "findings": [{"rule", "severity", "line", "path", ...}]} in the file's order."""
    rows = [
        {
            "rule": one.rule,
            "severity": one.severity,
            "line": file.line_of(one.path)[0],
            "path": show_path(one.path),
            "message": one.message,
            "hint": one.hint,
            "accepted": one.accepted,
        }
        for one in findings
    ]
    return {"plan": file.plan.name, "findings": sorted(rows, key=lambda row: row["line"])}


def print_findings(file: PlanFile, findings: list[Finding], console: Console) -> None:
    """Errors, warnings, notes; each rule once, with its lines and how to mend it."""
    open_ones = [one for one in findings if not one.accepted]
    for severity in _SEVERITIES:
        chosen = [one for one in open_ones if one.severity == severity]
        if chosen:
            console.rule(Text(f"{severity}s", _STYLES[severity]), align="left", style="dim")
            _print_rules(file, chosen, console, _STYLES[severity])
    accepted = [one for one in findings if one.accepted]
    if accepted:
        console.rule(Text("accepted", "dim"), align="left", style="dim")
        _print_rules(file, accepted, console, "dim")
    # Not wrapped: a path cut in two can be neither copied nor searched for.
    console.print(_summary(file, open_ones, len(accepted)), soft_wrap=True)


def _print_rules(file: PlanFile, findings: list[Finding], console: Console, style: str) -> None:
    in_order = sorted(findings, key=lambda one: (one.rule, one.hint, file.line_of(one.path)))
    for (rule, hint), same in groupby(in_order, key=lambda one: (one.rule, one.hint)):
        console.print(Text.assemble((rule, style), "  ", (title_of(rule), "bold")))
        for one in same:
            _print_hanging(console, str(file.line_of(one.path)[0]), one.message)
        _print_hanging(console, "HINT:", hint, "green")
        console.print()


def _print_hanging(console: Console, label: str, words: str, style: str = "") -> None:
    """The label in the margin, the words wrapped beside it."""
    lines = textwrap.wrap(
        printable(words), max(20, console.width - _MARGIN), break_on_hyphens=False
    )
    console.print(Text.assemble((f"{label:>5}", "dim"), "  ", (lines[0], style)))
    for line in lines[1:]:
        console.print(Text.assemble(" " * _MARGIN, (line, style)))


def _summary(file: PlanFile, open_ones: list[Finding], accepted: int) -> Text:
    counts = [
        counted(sum(one.severity == severity for one in open_ones), severity)
        for severity in _SEVERITIES
    ]
    tail = f"; {accepted} accepted" if accepted else ""
    return Text(f"{file.path}: {', '.join(counts)}{tail}")
