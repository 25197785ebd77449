"""Refuse to go on with a plan whose scenarios do not fit together."""

from __future__ import annotations

from difflib import get_close_matches

from chalicelib.errors import BadInput, PlanError
from chalicelib.plan.model import Plan
from chalicelib.scenarios.wiring import check_wiring
from leeward.plan_file import PlanFile


def require_scenario(plan: Plan, name: str) -> None:
    """Raises BadInput (code "unknown-scenario") naming the nearest scenario of the plan."""
    if name in plan.scenarios:
        return
    near = get_close_matches(name, plan.scenarios, n=1)
    raise BadInput(
        f"the plan {plan.name} has no scenario {name!r}",
        hint=f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(plan.scenarios)}",
        code="unknown-scenario",
    )


def require_wired(file: PlanFile) -> None:
    """Raises PlanError (code "plan-miswired"), a line a finding: file, line, what is wrong."""
    findings = check_wiring(file.plan)
    if not findings:
        return
    lines = [
        f"{file.path}:{file.line_of(finding.path)[0]}: {finding.rule} {finding.message}"
        f" ({finding.hint})"
        for finding in findings
    ]
    raise PlanError(
        "\n".join(["the plan's scenarios do not fit together", *lines]),
        hint="`leeward check` lists these with all other findings",
        code="plan-miswired",
    )
