"""CloudFormation for the restore tests of single components: their schedules and alarms."""

from __future__ import annotations

from datetime import timedelta

from chalicelib.plan.components import BaseComponent, Bucket, Files, Git, Postgres, Redis
from chalicelib.plan.exercises import why_unproven
from chalicelib.plan.model import Plan
from leeward.packaging.copies import primary_location, reachable_locations
from leeward.packaging.parts import Resources, require_utc, schedule, sign_alarm, silence_alarm

PROVABLE = (Postgres, Redis, Files, Git, Bucket)
# Where backups are taken to, every day. Elsewhere so often that CloudWatch, which looks back over a
# week at most, can tell two silent intervals.
EVERY_DAY, ELSEWHERE_EVERY = timedelta(days=1), timedelta(days=3)
FAILED = "a recovery point could not be restored, or was not what it should be"
UNPROVEN = "no point in {} was restored within the time that the plan allows a proof"


def proof_resources(plan: Plan) -> Resources:
    """For each component that a recovery brings back from copies of its own."""
    resources: Resources = {}
    if primary_location(plan) is None:
        return resources
    for name, component in plan.components.items():
        if name not in plan.stand_ins and is_provable(component) and not why_unproven(component):
            resources |= _proofs(plan, name, component)
            if component.retired is None:
                resources |= _spot_checks(plan, name)
    return resources


def is_provable(component: BaseComponent) -> bool:
    """Whether it is of a kind that Leeward backs up, and the plan backs it up."""
    return isinstance(component, PROVABLE) and bool(component.backups)


def _proofs(plan: Plan, name: str, component: BaseComponent) -> Resources:
    resources = sign_alarm(name, "restore-test-failing", "ProofFailures", FAILED, holds=True)
    locations = reachable_locations(plan, component)
    # The copies of a bucket's objects in other clouds keep no versions to restore a point from.
    for location in locations[:1] if isinstance(component, Bucket) else locations:
        every = EVERY_DAY if location == locations[0] else ELSEWHERE_EVERY
        body = {"component": name, "location": location}
        what = f"prove-{location}"
        expression = f"rate({every.days} day{'s' if every.days > 1 else ''})"
        resources |= schedule(plan, name, what, "prove", expression, body)
        silent = f"no copy in {location} was restored to see whether it works"
        resources |= silence_alarm(name, f"{what}-silent", f"Proven.{location}", every, silent)
        unproven = UNPROVEN.format(location)
        what, metric = f"unproven-{location}", f"Unproven.{location}"
        resources |= sign_alarm(name, what, metric, unproven, holds=True)
    return resources


def _spot_checks(plan: Plan, name: str) -> Resources:
    """Any point, by lot, as often as the plan wants spot checks: also where people do them too.

    Not of what is retired: nothing new is drawn, and the day's test takes each point in turn.
    """
    resources: Resources = {}
    for planned in plan.verification:
        if planned.kind == "spot-check":
            require_utc(name, planned.when)
            body = {"component": name, "spot": True}
            when = planned.when.to_eventbridge()
            resources |= schedule(plan, name, "spot-check", "prove", when, body)
            missed = "no point was drawn and restored when the plan says so"
            interval = planned.when.longest_interval()
            resources |= silence_alarm(name, "spot-check-silent", "SpotChecked", interval, missed)
    return resources
