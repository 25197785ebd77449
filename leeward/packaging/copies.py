"""CloudFormation for the copies that a plan promises: made, checked, pruned, locked, and alarms."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from chalicelib.backup.retention.locks import default_lock_days
from chalicelib.plan.components import BaseComponent
from chalicelib.plan.model import Plan
from chalicelib.plan.places import Location
from leeward.packaging.parts import (
    CLOUDWATCH_PERIOD_SECONDS,
    Resources,
    alarm,
    alarm_resource,
    on_event,
    require_utc,
    schedule,
    sign_alarm,
    silence_alarm,
)

# A copy is begun twice within the time in which the plan wants it to be there.
RUNS_WITHIN = 2
COPIED_WITHIN_UNSAID = timedelta(hours=1)
LAG = "replication lag"


def copy_resources(plan: Plan, name: str, component: BaseComponent) -> Resources:
    """All that keeps a component's backups where, and as long as, the plan says."""
    resources = _copies(plan, name, component) | _checks(plan, name, component)
    if component.retention is not None:
        resources |= daily(plan, name, "prune", "Pruned", "old backups were not removed")
    primary = primary_location(plan)
    if component.retention is not None and primary is not None and primary.locks_follow_tiers:
        resources |= daily(plan, name, "extend_locks", "Locked", "what must stay is not locked")
    return resources


def bucket_resources(plan: Plan) -> Resources:
    """What arrives in the backup bucket is looked at; Object Lock, where the plan locks."""
    resources = on_event(
        "Arrived",
        "arrive",
        {
            "source": ["aws.s3"],
            "detail-type": ["Object Created"],
            "detail": {"bucket": {"name": [{"Ref": "BackupBucket"}]}},
        },
    )
    primary = primary_location(plan)
    if primary is not None and primary.is_locked:
        resources |= {"BackupBucket": {"Properties": _locks(plan, primary)}}
    return resources


def _locks(plan: Plan, primary: Location) -> dict[str, Any]:
    """Whatever is written is locked at once, for the least that any policy promises; the function
    `extend_locks` adds the rest. The writer needs no right for either."""
    kept = [it.retention for it in plan.components.values() if it.retention is not None]
    days = primary.locked_for.days if primary.locked_for else default_lock_days(kept)
    if not days:
        return {"ObjectLockEnabled": True}
    rule = {"DefaultRetention": {"Mode": primary.lock_mode.upper(), "Days": days}}
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    return {"ObjectLockEnabled": True, "ObjectLockConfiguration": configuration}


def primary_location(plan: Plan) -> Location | None:
    """The one in AWS that backups are taken to."""
    for location in plan.locations.values():
        if location.provider == "aws" and location.role in ("primary", "remote"):
            return location
    return None


def _copies(plan: Plan, name: str, component: BaseComponent) -> Resources:
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


def _checks(plan: Plan, name: str, component: BaseComponent) -> Resources:
    """Every location is checked as often as the plan says, and what is wrong is an alarm."""
    planned = [it for it in plan.verification if it.kind == "integrity-check" and not it.manual]
    if not planned:
        return {}
    when = planned[0].when
    require_utc(name, when)
    resources = sign_alarm(name, "unrepaired", "Unrepaired", "a copy is damaged; none is sound")
    for location in reachable_locations(plan, component):
        body = {"component": name, "location": location}
        resources |= schedule(plan, name, f"check-{location}", "check", when.to_eventbridge(), body)
        resources |= silence_alarm(
            name,
            f"check-{location}-silent",
            f"Checked.{location}",
            when.longest_interval(),
            f"not every object in {location} was looked at when the plan says so",
        )
        damaged = f"what {location} holds is not what was stored; see the function check's log"
        what, metric = f"copy-{location}-damaged", f"Damaged.{location}"
        resources |= sign_alarm(name, what, metric, damaged, holds=True)
    return resources


def daily(plan: Plan, name: str, function: str, metric: str, missed: str) -> Resources:
    """A job of a component, and the alarm when it was not done for a day."""
    what = function.replace("_", "-")
    body = {"component": name}
    made = schedule(plan, name, what, function, "rate(1 day)", body)
    return made | silence_alarm(name, f"{what}-silent", metric, timedelta(days=1), missed)


def reachable_locations(plan: Plan, component: BaseComponent) -> list[str]:
    """Those of the component that a function can reach, the one it is backed up to among them."""
    primary = [
        name
        for name, location in plan.locations.items()
        if location.provider == "aws" and location.role in ("primary", "remote")
    ]
    return [*primary[:1], *remote_locations(plan, component)]


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
