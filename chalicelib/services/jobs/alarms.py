"""The sweep: each minute, the alarms that are raised.

An alarm starts its scenario by the event of its change. Lambda gives an event up after two more
tries (asynchronous invocation), so a function that cannot write for three minutes would lose it,
and an alarm that stays raised makes no second one. The sweep does what the event should have done.
What starts no scenario is told to people.
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

from chalicelib.incidents.incident import SIGNALS, Signal
from chalicelib.plan.model import Plan
from chalicelib.plan.records import parse_time
from chalicelib.ports.alarms import Alarm
from chalicelib.services import build
from chalicelib.services.people.alarms import first_look, tell_alarms
from chalicelib.services.signals import (
    DECLARED_BY,
    handle_alarm,
    handle_declaration,
    handle_signals,
    was_handled,
)
from chalicelib.telemetry import logger

# The event and its tries come first.
GRACE = timedelta(minutes=2)
# CloudWatch's event and its description of the alarm may tell the change a moment apart.
APART = timedelta(seconds=5)
# The source of "Scheduled Event" (EventBridge User Guide, "rule that runs on a schedule").
CLOCK = "aws.events"
# Of the metrics that Leeward's alarms watch.
NAMESPACES = ("Leeward", "AWS/States")


def on_signal(event: dict[str, Any]) -> dict[str, Any]:
    """An alarm of CloudWatch's, a person's declaration, or that a minute is over: all three come
    as EventBridge events."""
    if event.get("source") == CLOCK:
        return sweep()
    if event.get("source") == DECLARED_BY:
        return handle_declaration(event)
    done = handle_alarm(event)
    # An account has many alarms, and each tells of its changes.
    if not done["incidents"] and _namespaces(event) & set(NAMESPACES):
        sweep()
    return done


def _namespaces(event: dict[str, Any]) -> set[str]:
    metrics = event["detail"].get("configuration", {}).get("metrics", ())
    found = (it.get("metricStat", {}).get("metric", {}) for it in metrics)
    return {str(it.get("namespace", "")) for it in found}


def sweep() -> dict[str, Any]:
    """Handle what no event was handled of; tell of the others; say that somebody looked.

    Raises the error of an alarm that could not be handled, after all the others were; that nobody
    has said that he looked is an alarm then.
    """
    raised, plan = build.alarms().raised(), build.plan()
    starting = starting_alarms(plan) if build.environment().stack == "primary" else frozenset()
    first = first_look()
    lost = [it for it in raised if it.name in starting and _was_lost(it, first)]
    # All are called, those of the lost ones first, whatever each raises.
    with ExitStack() as calls:
        calls.callback(tell_alarms, [it for it in raised if it.own and it.name not in starting])
        for alarm in lost:
            logger.error("an alarm's event was not handled", extra={"alarm": alarm.name})
            calls.callback(handle_signals, _signal_of(alarm))
    build.metrics().put("alarms", {"AlarmsLooked": 1.0})
    return {
        "found": f"{len(raised)} raised, {len(lost)} of them without an event",
        "lost": [it.name for it in lost],
    }


def starting_alarms(plan: Plan) -> frozenset[str]:
    """Those by which a scenario begins alone."""
    scenarios = (it for it in plan.scenarios.values() if it.trigger is None)
    return frozenset(name for it in scenarios for name in it.alarms)


def _was_lost(alarm: Alarm, first: datetime) -> bool:
    """Not one that was raised before anybody looked: a plan that is deployed beside an old alarm
    starts nothing by it."""
    if alarm.raised_at < first or build.clock().now() - alarm.raised_at < GRACE:
        return False
    return not was_handled(alarm.name, alarm.raised_at - APART)


def _signal_of(alarm: Alarm) -> Signal:
    """The very one of its event, where that was begun with."""
    prefix = f"{alarm.name}@"
    kept = (it["sort"].removeprefix(prefix) for it in build.state().query(SIGNALS, prefix))
    begun = (parse_time(it.split("@")[0]) for it in kept)
    same = [at for at in begun if abs(at - alarm.raised_at) <= APART]
    return Signal(alarm.name, min(same, default=alarm.raised_at), f"{alarm.reason} (found raised)")
