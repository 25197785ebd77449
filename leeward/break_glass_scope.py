"""What a failover from a laptop is about, and whether it makes sense now. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from chalicelib.errors import BadInput, NotReady, Refused
from chalicelib.plan.components import Names, Service
from chalicelib.plan.model import Plan
from chalicelib.plan.scenario import Scenario
from chalicelib.ports.health import Answer
from chalicelib.verify.probes import Target

# The kinds of steps that a laptop does itself.
DONE_HERE = ("names.switch", "names.verify", "health.verify")


def require_failover(plan: Plan, name: str, scenario: Scenario, site: str) -> None:
    """Raises BadInput (code "not-a-failover"), NotReady (code "names-not-driven")."""
    if not scenario.loses or not site:
        raise BadInput(
            f"expected a scenario that loses a site and recovers at another, found {name}",
            hint="start the others with `leeward run`",
            code="not-a-failover",
        )
    if not list(moved_names(plan, scenario, site)):
        raise NotReady(
            f"expected {name} to move names by a switch object, found none",
            hint="give it a step names.switch of names whose failover is health-check",
            code="names-not-driven",
        )


def moved_names(plan: Plan, scenario: Scenario, site: str) -> Iterator[tuple[str, Names]]:
    """The names that the scenario's steps move by a switch object."""
    for step in scenario.all_steps():
        if step.uses == "names.switch" and step.component:
            own = plan.components[step.component]
            component = own.stand_ins.get(site, step.component)
            found = plan.components[component]
            if isinstance(found, Names) and found.failover == "health-check":
                yield component, found


def targets_at(plan: Plan, scenario: Scenario, site: str) -> list[Target]:
    """What of the restored services can be asked at a site: themselves, or their stand-ins."""
    targets = []
    for name in sorted(scenario.restored_components()):
        found = plan.components[plan.components[name].stand_ins.get(site, name)]
        if isinstance(found, Service) and found.site == site and found.health:
            targets.append(Target(name, found.health, found.health_says or ""))
    return targets


def require_sense(lost: str, there: dict[str, Answer], site: str, here: dict[str, Answer]) -> None:
    """Refuse to leave what serves, and to send people where nothing does.

    Raises Refused: code "site-answers" or "standby-silent".
    """
    serving = [name for name, answer in there.items() if answer.good]
    if serving:
        raise Refused(
            f"expected {lost} to be lost, found {', '.join(serving)} answering there",
            hint="look again; --insist fails over all the same",
            code="site-answers",
        )
    silent = [f"{name}: {answer.problem}" for name, answer in here.items() if not answer.good]
    if silent or not here:
        raise Refused(
            f"expected services at {site}, found {'; '.join(silent) or 'none to ask'}",
            hint="start them first; --insist moves the names all the same",
            code="standby-silent",
        )


def steps_left(scenario: Scenario) -> tuple[str, ...]:
    """The steps that need people or the deployment, in order."""
    return tuple(step.name for step in scenario.all_steps() if step.uses not in DONE_HERE)
