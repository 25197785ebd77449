"""Pieces of the template that several parts of it are made of: schedules and alarms."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from chalicelib.errors import PlanError
from chalicelib.plan.model import Plan
from chalicelib.plan.schedule import Schedule
from chalicelib.plan.silence import is_seldom, may_be_silent, within_metric
from chalicelib.scenarios.compile import logical_id
from leeward.packaging.limits import LONGEST_RULE_NAME, fitting

Resources = dict[str, Any]

CLOUDWATCH_PERIOD_SECONDS = 60
# What is seldom done is looked at so often; an hour without is an alarm.
SELDOM_LOOKED_AT = timedelta(minutes=10)
SELDOM_UNSEEN = timedelta(minutes=30)
# Attribute of an alarm's resource: what seldom.py has the function look at for it.
PROMISE = "Promise"


def alarm_name(component: str, what: str) -> str:
    """ "nexus-db-checks-failing": what a scenario's `alarms` names."""
    return f"{component}-{what}"


def rule_name(plan: Plan, component: str, what: str) -> str:
    """ "leeward-nexus-studio-nexus-db-wal": the EventBridge rule of one schedule."""
    return fitting(f"leeward-{plan.name}-{component}-{what}", LONGEST_RULE_NAME)


def schedule(
    plan: Plan,
    component: str,
    what: str,
    function: str,
    expression: str,
    body: dict[str, Any] | None,
) -> Resources:
    """body: what the function is asked; None for EventBridge's own "Scheduled Event"."""
    logical = f"Schedule{title(component)}{title(what)}"
    arn = {"Fn::GetAtt": [logical_id(function), "Arn"]}
    asked = {} if body is None else {"Input": json.dumps(body)}
    return {
        logical: {
            "Type": "AWS::Events::Rule",
            "Properties": {
                "Name": rule_name(plan, component, what),
                "ScheduleExpression": expression,
                "State": "ENABLED",
                "Targets": [{"Id": "job", "Arn": arn} | asked],
            },
        },
        f"{logical}Permission": _permission(logical, function),
    }


def on_event(logical: str, function: str, pattern: dict[str, Any]) -> Resources:
    """A rule by which events of this pattern reach the function."""
    arn = {"Fn::GetAtt": [logical_id(function), "Arn"]}
    return {
        logical: {
            "Type": "AWS::Events::Rule",
            "Properties": {
                "EventPattern": pattern,
                "State": "ENABLED",
                "Targets": [{"Id": "function", "Arn": arn}],
            },
        },
        f"{logical}Permission": _permission(logical, function),
    }


def _permission(rule: str, function: str) -> dict[str, Any]:
    return {
        "Type": "AWS::Lambda::Permission",
        "Properties": {
            "Action": "lambda:InvokeFunction",
            "FunctionName": {"Ref": logical_id(function)},
            "Principal": "events.amazonaws.com",
            "SourceArn": {"Fn::GetAtt": [rule, "Arn"]},
        },
    }


def require_utc(component: str, when: Schedule) -> None:
    """Rules of EventBridge know UTC alone: another zone would fire at another hour, unsaid.

    Raises PlanError (code "zone-not-scheduled").
    """
    if not when.is_rate and when.time_zone != "UTC":
        raise PlanError(
            f"expected the schedules of {component} in UTC, found {when}",
            hint="write the schedule in UTC; rules of EventBridge have no time zone",
            code="zone-not-scheduled",
        )


def sign_alarm(
    component: str, what: str, metric: str, description: str, *, holds: bool = False
) -> Resources:
    """Fires when `metric` is 1 or more.

    Args:
        holds: it stays as it is until `metric` is published again: for what is told good or bad at
            each look, and looked at once an hour or a day. Without it the alarm is over after a
            minute of silence, and fires anew with each sign, as what starts a run should.
    """
    properties = alarm(component, what, metric, CLOUDWATCH_PERIOD_SECONDS) | {
        "AlarmDescription": f"{component}: {description}",
        "Statistic": "Maximum",
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "ignore" if holds else "notBreaching",
    }
    return alarm_resource(component, what, properties)


def silence_alarm(
    component: str, what: str, metric: str, interval: timedelta, missed: str
) -> Resources:
    """Fires when `metric` was not published for twice `interval`. `missed` says what that means.

    Of what is seldom done it watches what `tell` puts; seldom.py makes the schedule of that.
    """
    silence = may_be_silent(interval)
    if is_seldom(interval):
        unseen = f"{missed}, or nobody can tell whether it was"
        seen = within_metric(metric, silence)
        made = silence_alarm(component, what, seen, SELDOM_UNSEEN, unseen)
        promise = {PROMISE: [component, metric, int(silence.total_seconds())]}
        return {name: it | {"Metadata": promise} for name, it in made.items()}
    longest = int(silence.total_seconds())
    period = min(max(longest, CLOUDWATCH_PERIOD_SECONDS), 86400)
    properties = alarm(component, what, metric, period) | {
        "AlarmDescription": f"{component}: {missed}",
        "Statistic": "Sum",
        "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "breaching",
        "EvaluationPeriods": -(-longest // period),
    }
    return alarm_resource(component, what, properties)


def alarm(component: str, what: str, metric: str, period: int) -> dict[str, Any]:
    return {
        "AlarmName": alarm_name(component, what),
        "Namespace": "Leeward",
        "MetricName": metric,
        "Dimensions": [{"Name": "Component", "Value": component}],
        "Period": period,
        "EvaluationPeriods": 1,
        "Threshold": 1,
    }


def alarm_resource(subject: str, what: str, properties: dict[str, Any]) -> Resources:
    logical = f"Alarm{title(subject)}{title(what)}"
    return {logical: {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}}


def run_alarms(subject: str, run: str, machine: str, said: str) -> Resources:
    """A run that ended badly, or was ended, wakes somebody: the recorder may have died with it.

    Args:
        run: "run": what the alarms' names begin with, behind the subject.
        machine: the logical id of the state machine.
        said: the description; "{how}" becomes failed, timedout or aborted.
    """
    resources: Resources = {}
    for metric in ("ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"):
        how = metric.removeprefix("Executions").lower()
        properties = {
            "AlarmName": alarm_name(subject, f"{run}-{how}"),
            "AlarmDescription": said.format(how=how.replace("timedout", "timed out")),
            "Namespace": "AWS/States",
            "MetricName": metric,
            "Dimensions": [{"Name": "StateMachineArn", "Value": {"Ref": machine}}],
            "Statistic": "Sum",
            "Period": CLOUDWATCH_PERIOD_SECONDS,
            "EvaluationPeriods": 1,
            "Threshold": 1,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "notBreaching",
        }
        resources |= alarm_resource(subject, f"{run}-{how}", properties)
    return resources


def title(name: str) -> str:
    return "".join(word.capitalize() for word in name.replace("_", "-").split("-"))
