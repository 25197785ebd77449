"""What watches a site from the other one: a heartbeat there, the look of the standby here.

`heartbeat_resources` belong into the primary stack, `outage_resources` into the standby's; both are
empty for a plan without a scenario that starts by a quorum of signals.
"""

from __future__ import annotations

from datetime import timedelta

from chalicelib.plan.model import Plan
from leeward.packaging.parts import Resources, on_event, schedule, silence_alarm

EACH_MINUTE = "rate(1 minute)"
UNHEARD = "the standby is not told that this site works, and counts that as a sign of its loss"
MISSED = "the standby does not look at the other site; an outage of it would not be noticed"


def watched_sites(plan: Plan) -> tuple[str, ...]:
    """Sites whose loss starts a scenario by itself, in a plan with a standby region in AWS."""
    if plan.aws_region("standby") is None:
        return ()
    triggered = [(name, it) for name, it in plan.scenarios.items() if it.trigger is not None]
    return tuple(dict.fromkeys(scenario.subject(name) for name, scenario in triggered))


def heartbeat_resources(plan: Plan) -> Resources:
    resources: Resources = {}
    for site in watched_sites(plan):
        resources |= schedule(plan, site, "heartbeat", "heartbeat", EACH_MINUTE, {})
        resources |= silence_alarm(
            site, "heartbeat-silent", "Taken.heartbeat", timedelta(minutes=3), UNHEARD
        )
    return resources


def outage_resources(plan: Plan) -> Resources:
    """One look for all sites: it asks for each."""
    sites = watched_sites(plan)
    if not sites:
        return {}
    resources = schedule(plan, "sites", "probe", "probe", EACH_MINUTE, {})
    # AWS delivers what it says of a region in a second one too.
    # Source: AWS Health user guide, "About monitoring AWS Health events in a backup Region".
    health = {"source": ["aws.health"], "detail": {"eventTypeCategory": ["issue"]}}
    resources |= on_event("OutageTold", "probe", health)
    alarms = [
        alarm for it in plan.scenarios.values() if it.trigger is not None for alarm in it.alarms
    ]
    if alarms:
        pattern = {
            "source": ["aws.cloudwatch"],
            "detail-type": ["CloudWatch Alarm State Change"],
            "detail": {"alarmName": sorted(set(alarms))},
        }
        resources |= on_event("OutageAlarm", "probe", pattern)
    for site in sites:
        resources |= silence_alarm(
            f"site-{site}", "probe-silent", "Taken.probe", timedelta(minutes=5), MISSED
        )
    return resources
