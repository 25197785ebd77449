"""Metrics in CloudWatch, put one call a batch so that alarms see them at once."""

from __future__ import annotations

from typing import Any

from chalicelib.adapters.aws_errors import mapped

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
