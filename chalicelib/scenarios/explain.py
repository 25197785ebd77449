"""A scenario told before it runs: what each step does, who decides, what it needs, how long.

Pure. The same data is printed for a person and as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from chalicelib.plan.model import Plan
from chalicelib.plan.records import Record
from chalicelib.plan.scenario import Scenario, Step
from chalicelib.scenarios.compile import limit_seconds
from chalicelib.scenarios.layout import Placed, place_steps
from chalicelib.scenarios.steps import STEP_KINDS, Dependency

# A name or address of these kinds changes only through a control plane, wherever it is called from.
# Source: "AWS Fault Isolation Boundaries", appendix B: Route 53's control plane is in us-east-1.
CONTROL_PLANE_HOME = {"route53": "us-east-1", "iam": "us-east-1"}


@dataclass(frozen=True)
class StepExplanation(Record):
    """`needs` and `approval` are lines for a person; `together` numbers the branch of a stage."""

    name: str
    says: str
    does: str
    who: str
    approval: str
    needs: tuple[str, ...]
    changes: str
    undo: str
    takes_seconds: int | None
    limit_seconds: int
    stage: int
    branch: int | None


@dataclass(frozen=True)
class Explanation(Record):
    """`takes_seconds`: None when a step does not say. `worst_seconds`: every step, every wait for
    an approval, at its limit along the longest path, with no retry."""

    scenario: str
    title: str
    starts_when: tuple[str, ...]
    steps: tuple[StepExplanation, ...]
    takes_seconds: int | None
    worst_seconds: int
    rto_seconds: int | None
    estimate_seconds: int | None
    on_failure: tuple[str, ...]


def explain_scenario(plan: Plan, name: str) -> Explanation:
    """Tell scenario `name` of a plan whose wiring was found good."""
    scenario = plan.scenarios[name]
    region = run_region(plan, scenario)
    steps = [_explain_step(one, region) for one in place_steps(name, scenario)]
    estimate = scenario.estimate.at_most if scenario.estimate else None
    return Explanation(
        scenario=name,
        title=scenario.title,
        starts_when=(
            *(f"alarm {alarm}" for alarm in scenario.alarms),
            *scenario.detection,
            *(("a person alone: leeward failback",) if scenario.returns_to else ()),
        ),
        steps=tuple(steps),
        takes_seconds=_seconds(scenario.longest_path()),
        worst_seconds=_worst_seconds(scenario),
        rto_seconds=_seconds(plan.rto_of_scenario(name)),
        estimate_seconds=_seconds(estimate),
        on_failure=_on_failure(scenario),
    )


def run_region(plan: Plan, scenario: Scenario) -> str:
    """Where a run of the scenario runs: beside its component, and away from what it loses."""
    if scenario.runs_away_from(plan.sites, "primary"):
        return plan.aws_region("standby") or "the standby region"
    component = plan.components.get(scenario.component or "")
    site = plan.sites.get(component.site or "") if component else None
    return (site.region if site else None) or "the primary region"


def _explain_step(one: Placed, region: str) -> StepExplanation:
    step = one.step
    kind = STEP_KINDS.get(step.uses or "")
    return StepExplanation(
        name=step.name,
        says=step.says,
        does=kind.does if kind else "a person does it and confirms",
        who=f"Leeward ({step.uses})" if kind else str(step.by),
        approval=_approval(step),
        needs=tuple(_need(item, region) for item in kind.depends) if kind else (),
        changes=kind.changes if kind else "",
        undo=kind.undo if kind else "",
        takes_seconds=_seconds(step.takes),
        limit_seconds=limit_seconds(step),
        stage=one.stage,
        branch=one.branch,
    )


def _need(item: Dependency, region: str) -> str:
    home = CONTROL_PLANE_HOME.get(item.service) if item.plane == "control" else None
    where = home or (region if item.region == "own" else item.region)
    return f"{item.service} ({item.plane} plane, {where})"


def _approval(step: Step) -> str:
    if step.approve is None:
        return ""
    who = " or ".join(step.approve.by)
    within = int(step.approve.within.total_seconds() // 60)
    asked = f"{step.approve.count} of {who} within {within} min, otherwise {step.approve.otherwise}"
    return f"{asked}; nobody while {step.approve.unless}" if step.approve.unless else asked


def _worst_seconds(scenario: Scenario) -> int:
    total = 0
    for entry in scenario.steps:
        branches = ((entry,),) if isinstance(entry, Step) else entry.parallel
        total += max(sum(_longest(step) for step in branch) for branch in branches)
    return total


def _longest(step: Step) -> int:
    wait = int(step.approve.within.total_seconds()) if step.approve else 0
    return wait + limit_seconds(step)


def _on_failure(scenario: Scenario) -> tuple[str, ...]:
    """What stays in effect when a later step fails, the latest first, and how it is undone."""
    lines = []
    for step in scenario.all_steps():
        kind = STEP_KINDS.get(step.uses or "")
        if kind and kind.changes:
            lines.append(f"{step.name}: {kind.changes}; to undo: {kind.undo}")
    return ("the run stops, its record says where, nothing is undone unasked", *reversed(lines))


def _seconds(value: timedelta | None) -> int | None:
    return None if value is None else int(value.total_seconds())
