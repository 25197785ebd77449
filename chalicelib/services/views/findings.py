"""What the deployed plan promises and cannot keep."""

from __future__ import annotations

from typing import Any

from chalicelib.plan.check.finding import Finding, show_path
from chalicelib.plan.check.lint import check_plan, title_of
from chalicelib.plan.records import format_time
from chalicelib.scenarios.stability import check_stability
from chalicelib.scenarios.wiring import check_wiring
from chalicelib.services import build

Event = dict[str, Any]
ORDER = ("error", "warning", "note")


def findings_view(_event: Event) -> Event:
    """{"as_of", "plan", "plan_sha256", "findings": [{"rule", "title", "severity", "path",
    "message", "hint", "accepted"}]}; errors first. The plan as deployed has no lines."""
    plan, now = build.plan(), build.clock().now()
    found = check_plan(plan, now=now, also=[*check_wiring(plan), *check_stability(plan)])
    found.sort(key=lambda it: (it.accepted, ORDER.index(it.severity), it.rule))
    return {
        "as_of": format_time(now),
        "plan": plan.name,
        "plan_sha256": plan.plan_sha256,
        "findings": [_tell(it) for it in found],
    }


def _tell(finding: Finding) -> Event:
    return {
        "rule": finding.rule,
        "title": title_of(finding.rule),
        "severity": finding.severity,
        "path": show_path(finding.path),
        "message": finding.message,
        "hint": finding.hint,
        "accepted": finding.accepted,
    }
