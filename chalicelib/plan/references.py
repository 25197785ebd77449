"""Names in a plan that stand for something else in it, and those that stand for nothing.

Roles and outputs that a step names are not here: scenarios/wiring.py reports them as findings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from chalicelib.plan.model import Plan

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Reference:
    """`name` at `path` should be one of `known`, which are things of kind `what`."""

    path: Path
    what: str
    name: str
    known: tuple[str, ...]


def find_unknown_references(plan: Plan) -> list[Reference]:
    """The references whose name does not exist, in the order of the plan."""
    return [one for one in _all_references(plan) if one.name not in one.known]


def _all_references(plan: Plan) -> Iterator[Reference]:
    yield from _of_components(plan)
    yield from _of_scenarios(plan)
    yield from _of_people(plan)
    yield from _of_exercises(plan)


def _of_components(plan: Plan) -> Iterator[Reference]:
    for name, component in plan.components.items():
        path: Path = ("components", name)
        yield from _one((*path, "site"), "site", component.site, plan.sites)
        yield from _one(
            (*path, "system"), "class of systems", component.system, plan.objectives.systems
        )
        yield from _one((*path, "data"), "class of data", component.data, plan.objectives.data)
        yield from _many((*path, "depends_on"), "component", component.depends_on, plan.live)
        yield from _one((*path, "on"), "component", component.on, plan.live)
        for site, other in component.stand_ins.items():
            where = (*path, "stand_ins", site)
            yield from _one(where, "site", site, (*plan.sites, "drill"))
            yield from _one(where, "component", other, plan.live)
        for number, backup in enumerate(component.backups):
            yield from _many(
                (*path, "backups", number, "to"), "location", backup.to, plan.locations
            )


def _of_scenarios(plan: Plan) -> Iterator[Reference]:
    for name, scenario in plan.scenarios.items():
        path: Path = ("scenarios", name)
        yield from _one((*path, "component"), "component", scenario.component, plan.live)
        yield from _one(
            (*path, "system"), "class of systems", scenario.system, plan.objectives.systems
        )
        yield from _many((*path, "restores"), "component", scenario.restores, plan.live)
        yield from _many((*path, "loses"), "site", scenario.loses, plan.sites)
        yield from _one((*path, "returns_to"), "site", scenario.returns_to, plan.sites)
        for step_path, step in scenario.steps_with_paths():
            where = (*path, "steps", *step_path, "with", "component")
            yield from _one(where, "component", step.component, plan.live)


def _of_people(plan: Plan) -> Iterator[Reference]:
    for name, role in plan.roles.items():
        path: Path = ("roles", name)
        yield from _many((*path, "held_by"), "contact", role.held_by, plan.contacts)
        yield from _one((*path, "covered_by"), "role", role.covered_by, plan.roles)
    for number, step in enumerate(plan.escalation):
        yield from _one(("escalation", number, "contact"), "contact", step.contact, plan.contacts)
    for side, channels in plan.communication.sides():
        for name, channel in channels.items():
            path = ("communication", side, name, "hosted_in")
            yield from _many(path, "site", channel.hosted_in, plan.sites)
    for name, service in plan.status_page.services.items():
        where: Path = ("status_page", "services", name, "of")
        yield from _many(where, "component", service.of, plan.live)
    told = (*plan.contacts, *plan.roles, *plan.communication.names())
    for number, threshold in enumerate(plan.thresholds):
        path = ("thresholds", number, "notify")
        yield from _many(path, "contact, role or channel", threshold.notify, told)


def _of_exercises(plan: Plan) -> Iterator[Reference]:
    for section, exercises in (("verification", plan.verification), ("testing", plan.testing)):
        for number, exercise in enumerate(exercises):
            yield from _many(
                (section, number, "scenarios"), "scenario", exercise.scenarios, plan.scenarios
            )
            for name in exercise.leaves_out:
                path = (section, number, "leaves_out", name)
                yield Reference(path, "component", name, tuple(plan.live))


def _one(path: Path, what: str, name: str | None, known: Collection[str]) -> Iterator[Reference]:
    if name is not None:
        yield Reference(path, what, name, tuple(known))


def _many(
    path: Path, what: str, names: tuple[str, ...], known: Collection[str]
) -> Iterator[Reference]:
    for number, name in enumerate(names):
        yield Reference((*path, number), what, name, tuple(known))
