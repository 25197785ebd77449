"""CloudWatch: alarms are evaluated, and a change of state is an event.

moto stores alarms and metrics and evaluates nothing. A topic of SNS that the alarm names is told
too, any other action is not taken. Here an alarm is evaluated when one of its
metric's data points arrives and at each tick of the clock, over the last `EvaluationPeriods`
windows that end now: it goes to ALARM when `DatapointsToAlarm` of them breach.

Differences from AWS: evaluation does not wait for the end of a period, and the time before an
alarm was made does not count as missing data, so that a new dead man's switch is quiet at first.
Source of the rules for missing data and of the event's shape:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html
"""

from __future__ import annotations

import json
import operator
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from moto.cloudwatch.models import Alarm, CloudWatchBackend, Statistics, cloudwatch_backends
from moto.events.models import events_backends

from leeward.local.iam import ACCOUNT
from leeward.local.shims import replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

COMPARISONS = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
_lock = threading.RLock()


@contextmanager
def install(_cloud: LocalCloud) -> Iterator[None]:
    def put_metric_alarm(original: Any) -> Any:
        def put(self: CloudWatchBackend, *args: Any, **kwargs: Any) -> Alarm:
            alarm: Alarm = original(self, *args, **kwargs)
            alarm.state_value = "INSUFFICIENT_DATA"
            return alarm

        return put

    def put_metric_data(original: Any) -> Any:
        def put(self: CloudWatchBackend, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            evaluate_all(self, now=datetime.now(UTC))

        return put

    def update_state(original: Any) -> Any:
        def update(self: Alarm, reason: str, reason_data: str, state_value: str) -> None:
            before = _state(self)
            original(self, reason, reason_data, state_value)
            if before["value"] != state_value:
                announce(self, before)
                act(self)

        return update

    with ExitStack() as stack:
        stack.enter_context(replaced(CloudWatchBackend, "put_metric_alarm", put_metric_alarm))
        stack.enter_context(replaced(CloudWatchBackend, "put_metric_data", put_metric_data))
        stack.enter_context(replaced(Alarm, "update_state", update_state))
        yield


def tick(region: str, now: datetime) -> None:
    """Evaluate the region's alarms: data points grow old, missing ones become missing."""
    evaluate_all(cloudwatch_backends[ACCOUNT][region], now=now)


def evaluate_all(backend: CloudWatchBackend, *, now: datetime) -> None:
    with _lock:
        for alarm in list(backend.alarms.values()):
            state, reason = evaluate(alarm, backend.metric_data, now=now)
            if state != alarm.state_value:
                alarm.update_state(reason, json.dumps({"version": "1.0"}), state)


def evaluate(alarm: Alarm, data: list[Any], *, now: datetime) -> tuple[str, str]:
    """(state, reason) of an alarm at `now`, from the data points stored so far."""
    values = datapoints(alarm, data, now=now)
    needed = int(alarm.datapoints_to_alarm or alarm.evaluation_periods)
    missing = alarm.treat_missing_data or "missing"
    compare = COMPARISONS[alarm.comparison_operator]
    breaches = [_breaches(value, compare, float(alarm.threshold), missing) for value in values]
    known = [it for it in breaches if it is not None]
    found = ", ".join("missing" if value is None else f"{value:g}" for value in values)
    if sum(known) >= needed:
        return "ALARM", f"Threshold Crossed: {sum(known)} of [{found}] breach {alarm.threshold:g}"
    if known:
        return "OK", f"Threshold not crossed: {sum(known)} of [{found}] breach {alarm.threshold:g}"
    if missing == "ignore" or not values:
        return alarm.state_value, alarm.state_reason
    return "INSUFFICIENT_DATA", "Insufficient Data: no data points"


def _breaches(value: float | None, compare: Any, threshold: float, missing: str) -> bool | None:
    if value is None:
        return {"breaching": True, "notBreaching": False}.get(missing)
    return bool(compare(value, threshold))


def datapoints(alarm: Alarm, data: list[Any], *, now: datetime) -> list[float | None]:
    """The statistic of each evaluation window, newest first; None where nothing was stored.

    A window that began before the alarm was made and holds nothing is left out.
    """
    period = timedelta(seconds=int(alarm.period))
    made = _aware(alarm.configuration_updated_timestamp)
    mine = [it for it in data if _is_metric_of(alarm, it)]
    values: list[float | None] = []
    for number in range(int(alarm.evaluation_periods)):
        end = now - number * period
        inside = [it for it in mine if end - period < _aware(it.timestamp) <= end]
        if inside:
            values.append(_statistic(alarm, inside))
        elif end - period >= made:
            values.append(None)
    return values


def _statistic(alarm: Alarm, data: list[Any]) -> float:
    statistics = Statistics([alarm.statistic], data[0].timestamp)
    statistics.metric_data = data
    return float(statistics.get_statistics_for_type(alarm.statistic) or 0)


def _is_metric_of(alarm: Alarm, datum: Any) -> bool:
    same = (datum.namespace, datum.name) == (alarm.namespace, alarm.metric_name)
    return same and _pairs(datum) == _pairs(alarm)


def _pairs(thing: Any) -> set[tuple[str, str]]:
    return {(it.name, it.value) for it in thing.dimensions}


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _state(alarm: Alarm) -> dict[str, Any]:
    at = _aware(alarm.state_updated_timestamp)
    return {
        "value": alarm.state_value,
        "reason": alarm.state_reason,
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000",
    }


def act(alarm: Alarm) -> None:
    """Publish to the topics of SNS that the alarm names for its new state."""
    actions = {"ALARM": alarm.alarm_actions, "OK": alarm.ok_actions}.get(alarm.state_value)
    if not actions:
        return
    from moto.sns.models import sns_backends

    subject = f'{alarm.state_value}: "{alarm.name}"'
    told = {"AlarmName": alarm.name, "AlarmDescription": alarm.description}
    told |= {"NewStateValue": alarm.state_value, "NewStateReason": alarm.state_reason}
    for arn in actions:
        backend = sns_backends[ACCOUNT][arn.split(":")[3]]
        backend.publish(json.dumps(told), arn=arn, subject=subject)


def announce(alarm: Alarm, before: dict[str, Any]) -> None:
    """Put the event "CloudWatch Alarm State Change" on the default bus of the alarm's region."""
    metric = {
        "namespace": alarm.namespace,
        "name": alarm.metric_name,
        "dimensions": dict(sorted(_pairs(alarm))),
    }
    stat = {"metric": metric, "period": alarm.period, "stat": alarm.statistic}
    detail = {
        "alarmName": alarm.name,
        "configuration": {
            "description": alarm.description,
            "metrics": [{"id": "m1", "metricStat": stat, "returnData": True}],
        },
        "previousState": before,
        "state": _state(alarm),
    }
    event = {
        "Source": "aws.cloudwatch",
        "DetailType": "CloudWatch Alarm State Change",
        "Detail": json.dumps(detail),
        "Resources": [alarm.alarm_arn],
    }
    region = alarm.alarm_arn.split(":")[3]
    events_backends[ACCOUNT][region].put_events([event])
