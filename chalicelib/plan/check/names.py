"""Rules on names that move: that they can, that it is seen, and that drills move others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations

from chalicelib.plan.check.finding import Path
from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.components import Names
from chalicelib.plan.model import Plan
from chalicelib.plan.scenario import Scenario, Step

# How each kind of step moves names.
DRIVERS = {
    "names.switch": ("health-check", "routing-control"),
    "names.change-records": ("change-records",),
    "names.retarget": ("load-balancer",),
}
# Caches may keep the old answer this part of the time in which the scenario is promised to end.
SHARE_OF_TTL = 0.1
DRILL = "drill"


@dataclass(frozen=True)
class Move:
    """A step that moves names. `site`: to where; `name`: the component that it acts on there."""

    path: Path
    scenario: str
    plan_of: Scenario
    step: Step
    site: str
    name: str
    names: Names


def _moves(plan: Plan) -> Iterator[Move]:
    for scenario, found in plan.scenarios.items():
        for place, step in found.steps_with_paths():
            component = plan.components.get(step.component or "")
            if step.uses not in DRIVERS or not isinstance(component, Names):
                continue
            here = found.recovers_at(plan.sites)
            name = component.stand_ins.get(here, str(step.component))
            acts_on = plan.components[name]
            if isinstance(acts_on, Names):
                path = ("scenarios", scenario, "steps", *place)
                site = str(step.inputs.get("to") or here)
                yield Move(path, scenario, found, step, site, name, acts_on)


def find_same_answers(plan: Plan, now: datetime) -> Hits:
    for name, found in plan.components.items():
        if not isinstance(found, Names):
            continue
        for number, record in enumerate(found.records):
            for one, other in combinations(record.answers, 2):
                if set(record.answers[one]) & set(record.answers[other]):
                    yield (
                        ("components", name, "records", number, "answers"),
                        f"{record.name} answers {', '.join(record.answers[other])} for both {one} "
                        f"and {other}: nobody can see which of them it leads to",
                    )


def find_long_cache(plan: Plan, now: datetime) -> Hits:
    for move in _moves(plan):
        estimate = move.plan_of.estimate
        promised = estimate.at_most if estimate else plan.rto_of_scenario(move.scenario)
        ttl = max((it.ttl for it in move.names.records), default=0)
        if promised and timedelta(seconds=ttl) > promised * SHARE_OF_TTL:
            yield (
                move.path,
                f"caches keep the old answer of {move.name} for {ttl} s after {move.step.name}, of "
                f"{promised.total_seconds():.0f} s that {move.plan_of.title} may take",
            )


def find_unmovable_names(plan: Plan, now: datetime) -> Hits:
    for move in _moves(plan):
        if lacks := _lacks(move):
            yield (
                move.path,
                f"{move.step.name} sends {move.name} to {move.site or 'no site'}: {lacks}",
            )


def _lacks(move: Move) -> str:
    """What the plan does not say and the step needs; "" when it can move them."""
    found, site = move.names, move.site
    if found.failover == "load-balancer":
        return "" if found.target_group and found.targets.get(site) else "it has no targets there"
    without = [it.name for it in found.records if site not in it.answers]
    if without or not found.records:
        return f"no answer there of {', '.join(without) or 'any record'}"
    if found.failover == "routing-control":
        lacks = site not in found.routing_controls or not found.routing_endpoints
        return "no routing control there, or no endpoint of the cluster" if lacks else ""
    if found.provider != "route53":
        return "Leeward moves names in Route 53 alone"
    needs_zone = found.failover == "change-records" and not found.hosted_zone
    return "no `hosted_zone`, which changing records needs" if needs_zone else ""


def find_other_driver(plan: Plan, now: datetime) -> Hits:
    for move in _moves(plan):
        drivers = DRIVERS[str(move.step.uses)]
        if move.names.failover not in drivers:
            yield (
                move.path,
                f"{move.step.uses} moves names by {' or '.join(drivers)}, and {move.name} moves by "
                f"{move.names.failover}",
            )


def find_drill_on_production(plan: Plan, now: datetime) -> Hits:
    drilled = {it.stand_ins[DRILL] for it in plan.components.values() if DRILL in it.stand_ins}
    real = {
        record.name: name
        for name, it in plan.components.items()
        if isinstance(it, Names) and name not in drilled
        for record in it.records
    }
    for name in sorted(drilled):
        found = plan.components.get(name)
        for number, record in enumerate(found.records if isinstance(found, Names) else ()):
            if record.name in real:
                yield (
                    ("components", name, "records", number, "name"),
                    f"a drill moves {record.name}, which {real[record.name]} answers in production",
                )


RULES = (
    Rule(
        "LW093",
        "error",
        "Two sites that answer the same",
        "give each site addresses of its own, or take out the site that has none",
        find_same_answers,
    ),
    Rule(
        "LW094",
        "warning",
        "Old answers that outlast the failover",
        "shorten the TTL to a minute, or promise a longer time",
        find_long_cache,
    ),
    Rule(
        "LW095",
        "error",
        "Names that cannot be sent to where the scenario recovers",
        "write down what is lacking, or let a stand-in of these names move",
        find_unmovable_names,
    ),
    Rule(
        "LW096",
        "error",
        "A step that moves names in another way than they move",
        "use the kind of step for the way they move, or name a stand-in that moves by another",
        find_other_driver,
    ),
    Rule(
        "LW097",
        "error",
        "A drill that moves production's names",
        "give the stand-in for drills names that lead nobody anywhere",
        find_drill_on_production,
    ),
)
