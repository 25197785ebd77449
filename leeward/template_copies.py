"""CloudFormation for the copies that a plan promises: their schedules, and alarms on their lag."""

from __future__ import annotations

from datetime import timedelta

from chalicelib.plan.components import BaseComponent
from chalicelib.plan.model import Plan
from leeward.template_parts import (
    CLOUDWATCH_PERIOD_SECONDS,
    Resources,
    alarm,
    alarm_resource,
    schedule,
    silence_alarm,
)

# A copy is begun twice within the time in which the plan wants it to be there.
RUNS_WITHIN = 2
COPIED_WITHIN_UNSAID = timedelta(hours=1)
LAG = "replication lag"


def copy_resources(plan: Plan, name: str, component: BaseComponent) -> Resources:
    """For each location that a function can reach and that is not the primary one."""
    resources: Resources = {}
    for location in remote_locations(plan, component):
        within = copied_within(component, location)
        minutes = max(1, int(within.total_seconds()) // 60 // RUNS_WITHIN)
        expression = f"rate({minutes} minute{'s' if minutes > 1 else ''})"
        body = {"component": name, "location": location}
        resources |= schedule(plan, name, f"copy-{location}", "copy", expression, body)
        resources |= silence_alarm(
            name,
            f"copy-{location}-silent",
            f"Copied.{location}",
            within,
            f"{location} does not hold all that the primary location holds",
        )
        resources |= _lag_alarms(plan, name, location)
    return resources


def remote_locations(plan: Plan, component: BaseComponent) -> list[str]:
    """Those that the component's backups go `to`, without the one they are taken to."""
    named = {name for backup in component.backups for name in backup.to}
    return [
        name
        for name, location in plan.locations.items()
        if name in named
        and location.provider != "own"
        and (location.provider != "aws" or location.role not in ("primary", "remote"))
    ]


def copied_within(component: BaseComponent, location: str) -> timedelta:
    """The shortest time in which the plan wants a backup to be there."""
    promised = [
        backup.copied_within
        for backup in component.backups
        if location in backup.to and backup.copied_within is not None
    ]
    return min(promised, default=COPIED_WITHIN_UNSAID)


def _lag_alarms(plan: Plan, name: str, location: str) -> Resources:
    """What the plan's own thresholds say of replication lag."""
    resources: Resources = {}
    for threshold in plan.thresholds:
        if threshold.metric.lower() != LAG or threshold.above is None:
            continue
        what = f"copy-{location}-lag-{threshold.level}"
        properties = alarm(name, what, f"CopyLag.{location}", CLOUDWATCH_PERIOD_SECONDS) | {
            "AlarmDescription": f"{name}: {location} lacks what is older than the plan allows "
            f"({threshold.level})",
            "Statistic": "Maximum",
            "Threshold": threshold.above.value,
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
        }
        resources |= alarm_resource(name, what, properties)
    return resources
