"""CloudWatch: metrics, put one call a batch so that alarms see them at once; raised alarms."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.ports.alarms import Alarm

NAMESPACE = "Leeward"
# PutMetricData takes at most 1,000 values a call (AWS quota).
BATCH = 1000


class CloudWatchMetrics:
    def __init__(self, client: Any) -> None:
        self._client = client

    def put(self, component: str, values: dict[str, float]) -> None:
        data = [
            {
                "MetricName": name,
                "Dimensions": [{"Name": "Component", "Value": component}],
                "Value": value,
            }
            for name, value in values.items()
        ]
        for start in range(0, len(data), BATCH):
            with mapped("cloudwatch", component=component):
                self._client.put_metric_data(
                    Namespace=NAMESPACE, MetricData=data[start : start + BATCH]
                )


class CloudWatchAlarms:
    """The `Alarms` port. machine_prefix: what the names of Leeward's state machines begin with."""

    def __init__(self, client: Any, machine_prefix: str) -> None:
        self._client, self._machine_prefix = client, machine_prefix

    def raised(self) -> list[Alarm]:
        return [self._alarm(it) for it in self._described()]

    def _described(self) -> Iterator[dict[str, Any]]:
        wanted: dict[str, Any] = {
            "StateValue": "ALARM",
            "AlarmTypes": ["MetricAlarm", "CompositeAlarm"],
        }
        while True:
            with mapped("cloudwatch"):
                answer = self._client.describe_alarms(**wanted)
            yield from (*answer.get("MetricAlarms", ()), *answer.get("CompositeAlarms", ()))
            if not answer.get("NextToken"):
                return
            wanted["NextToken"] = answer["NextToken"]

    def _alarm(self, told: dict[str, Any]) -> Alarm:
        # The local cloud tells the time of the last update alone, which is that of the change.
        changed = told.get("StateTransitionedTimestamp") or told["StateUpdatedTimestamp"]
        return Alarm(
            name=told["AlarmName"],
            description=told.get("AlarmDescription", ""),
            reason=told.get("StateReason", ""),
            raised_at=changed.astimezone(UTC),
            own=is_own(told, self._machine_prefix),
        )


def is_own(metric: dict[str, Any], machine_prefix: str) -> bool:
    """Whether a metric, as CloudWatch writes it in alarms and events, is one that Leeward puts, or
    is of one of its state machines."""
    if str(metric.get("Namespace", "")) == NAMESPACE:
        return True
    values = [str(it.get("Value", "")) for it in metric.get("Dimensions", ())]
    return any(f":stateMachine:{machine_prefix}" in value for value in values)
