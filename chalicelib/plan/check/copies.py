"""Rules on copies that must be readable on the day that everything else is lost."""

from __future__ import annotations

from datetime import datetime

from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.components import Postgres, Server
from chalicelib.plan.losses import lost_for_good
from chalicelib.plan.model import Plan
from chalicelib.plan.places import Location
from chalicelib.plan.rooms import LAMBDA, TASK, disk_for
from chalicelib.plan.units import format_size


def find_sealed_for_aws_alone(plan: Plan, now: datetime) -> Hits:
    for name, location in plan.locations.items():
        key = location.encryption.key if location.encryption else None
        if location.is_sealed and not (key and key.public_key):
            yield (
                ("locations", name),
                f"copies in {name} are sealed for keys in AWS alone: they outlive AWS, and nobody "
                "can open them then",
            )


def find_lost_for_good(plan: Plan, now: datetime) -> Hits:
    for name, scenario in plan.scenarios.items():
        for component, why in lost_for_good(plan, name).items():
            yield (
                ("scenarios", name, "restores"),
                f"{scenario.title} is to bring {component} back and cannot: {why}; every run of "
                "it ends as partial",
            )


def find_region_of_everything(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.components.items():
        server = plan.components.get(component.on or "")
        if not isinstance(server, Server) or server.region is None:
            continue
        named = dict.fromkeys(to for backup in component.backups for to in backup.to)
        away = [to for to in named if plan.locations[to].role != "local"]
        if away and all(_is_in(plan.locations[to], server.region) for to in away):
            yield (
                ("components", name, "backups"),
                f"{name} is on {component.on} in {server.region}, and so is every copy of it that "
                f"does not lie beside it ({', '.join(away)}): the loss of that region takes "
                f"them all{_unplanned(plan, server.region)}",
            )


def find_recovery_without_room(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.components.items():
        if not isinstance(component, Postgres) or component.size is None:
            continue
        needed, found = disk_for(component.size), component.runs_in
        if needed > TASK.disk_bytes:
            room, why = TASK, "no task on Fargate has more"
        elif found == "lambda" and needed > LAMBDA.disk_bytes:
            room, why = LAMBDA, "runs_in: lambda allows no task"
        else:
            continue
        yield (
            ("components", name, "runs_in" if found else "size"),
            f"recovering {name} ({format_size(component.size)}) needs some "
            f"{needed / 1e9:.0f} GB of disk; its steps have {room.disk_bytes / 1e9:.0f} GB, "
            f"and {why}",
        )


def _is_in(location: Location, region: str) -> bool:
    return location.provider == "aws" and location.region == region


def _unplanned(plan: Plan, region: str) -> str:
    lost = {name for scenario in plan.scenarios.values() for name in scenario.loses}
    planned = any(plan.sites[name].region == region for name in lost)
    return "" if planned else ", and no scenario is about it"


RULES = (
    Rule(
        "LW084",
        "error",
        "Copies outside AWS that open only with AWS",
        "make an offline key (`leeward keys create`) and state its half as `public_key`",
        find_sealed_for_aws_alone,
    ),
    Rule(
        "LW087",
        "error",
        "A scenario restores what has no copy left",
        "copy the component to a location outside the lost site",
        find_lost_for_good,
    ),
    Rule(
        "LW088",
        "error",
        "One region takes the server and every copy",
        "add a location in another region",
        find_region_of_everything,
    ),
    Rule(
        "LW089",
        "error",
        "A database that no worker has room for",
        "let its steps run in a task, recover it on a server of yours, or divide it",
        find_recovery_without_room,
    ),
)
