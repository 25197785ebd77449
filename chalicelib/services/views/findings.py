"""What the deployed plan promises and cannot keep."""

from __future__ import annotations

from typing import Any

from chalicelib.plan.check.finding import Finding, show_path
from chalicelib.plan.check.lint import check_plan, title_of
from chalicelib.plan.lines import PlanLines
from chalicelib.plan.records import format_time
from chalicelib.scenarios.stability import check_stability
from chalicelib.scenarios.wiring import check_wiring
from chalicelib.services import build

Event = dict[str, Any]
ORDER = ("error", "warning", "note")


def findings_view(_event: Event) -> Event:
    """{"as_of", "plan", "plan_sha256", "file", "findings": [{"rule", "title", "severity", "path",
    "line", "message", "hint", "accepted"}]}; errors first. `file` and `line` are those of the YAML,
    null where the plan was deployed without."""
    plan, now = build.plan(), build.clock().now()
    found = check_plan(plan, now=now, also=[*check_wiring(plan), *check_stability(plan)])
    lines = build.plan_lines()
    found.sort(key=lambda it: (it.accepted, ORDER.index(it.severity), it.rule))
    return {
        "as_of": format_time(now),
        "plan": plan.name,
        "plan_sha256": plan.plan_sha256,
        "file": lines.file if lines else None,
        "findings": [_tell(it, lines) for it in found],
    }


def _tell(finding: Finding, lines: PlanLines | None) -> Event:
    return {
        "rule": finding.rule,
        "title": title_of(finding.rule),
        "severity": finding.severity,
        "path": show_path(finding.path),
        "line": lines.line_of(finding.path) if lines else None,
        "message": finding.message,
        "hint": finding.hint,
        "accepted": finding.accepted,
    }
