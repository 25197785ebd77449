"""Static stability: a recovery needs nothing of the region that is lost, and no control plane.

Source: AWS whitepaper "AWS Fault Isolation Boundaries", "Static stability" and "Control planes and
data planes"; the events of 7 December 2021 and 20 October 2025, in which launches, changes of
names, and changes of rights failed for hours while what ran went on.
"""

from __future__ import annotations

from collections.abc import Iterator

from chalicelib.plan.check.finding import Finding, Severity
from chalicelib.plan.components import Names
from chalicelib.plan.model import Plan
from chalicelib.plan.scenario import Scenario
from chalicelib.scenarios.explain import CONTROL_PLANE_HOME, run_region
from chalicelib.scenarios.kinds.kind import Dependency, StepKind
from chalicelib.scenarios.layout import Placed, place_steps
from chalicelib.scenarios.steps import STEP_KINDS

# What stops things is tried and does without an answer; the archive of a hand-over is not there.
GOES_ON = frozenset(
    {"service.stop", "database.fence", "database.hand-over", "server.isolate", "isolation.isolate"}
)


def check_stability(plan: Plan) -> list[Finding]:
    """Findings of every scenario that loses a site."""
    return [
        finding
        for name, scenario in plan.scenarios.items()
        if scenario.loses
        for finding in _check_scenario(plan, name, scenario)
    ]


def _check_scenario(plan: Plan, name: str, scenario: Scenario) -> Iterator[Finding]:
    lost = {plan.sites[site].region for site in scenario.loses if site in plan.sites} - {None}
    here = run_region(plan, scenario)
    for one in place_steps(name, scenario):
        kind = STEP_KINDS.get(one.step.uses or "")
        if kind is None:
            continue
        for item in kind.depends:
            where = region_of(plan, item, here)
            need = f"{kind.uses} needs {item.service} ({item.plane} plane, {where or 'global'})"
            if where in lost:
                yield _finding("LW107", one, f"{need}: the region that is lost", GO_ELSEWHERE)
            elif item.plane == "control":
                yield _finding("LW108", one, need, PREPARE)
        yield from _acts_on_what_is_lost(plan, scenario, one, kind)


def region_of(plan: Plan, item: Dependency, here: str) -> str | None:
    """The region that a dependency is in; None of what is everywhere.

    `here`: where the run runs.
    """
    if item.plane == "control" and item.service in CONTROL_PLANE_HOME:
        return CONTROL_PLANE_HOME[item.service]
    if item.region == "own":
        return here
    return None if item.region == "global" else plan.aws_region(item.region)


def _acts_on_what_is_lost(
    plan: Plan, scenario: Scenario, one: Placed, kind: StepKind
) -> Iterator[Finding]:
    """Names are at every site: what moves them is another rule's matter (LW107). A step that is
    given an `instance` acts on that server, which the run launched."""
    found = plan.components.get(one.step.component or "")
    if found is None or found.site not in scenario.loses or isinstance(found, Names):
        return
    if "instance" in one.step.inputs:
        return
    site = scenario.recovers_at(plan.sites)
    if kind.changes and kind.uses not in GOES_ON and site not in found.stand_ins:
        yield _finding(
            "LW109",
            one,
            f"{kind.uses} acts on {one.step.component}, which is at {found.site} and has no"
            f" stand-in at {site or 'another site'}",
            "name what takes its place there under its `stand_ins`",
        )


GO_ELSEWHERE = "use a kind of step that needs nothing there, or prepare it beforehand"
PREPARE = "have it ready beforehand; control planes fail in the events that this is for"
SEVERITIES: dict[str, Severity] = {"LW107": "error", "LW108": "warning", "LW109": "error"}


def _finding(rule: str, one: Placed, message: str, hint: str) -> Finding:
    text = f"step {one.step.name!r}: {message}"
    return Finding(rule, SEVERITIES[rule], (*one.path, "uses"), text, hint)
