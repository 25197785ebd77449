"""When a metric was put, out of CloudWatch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.adapters.cloudwatch import NAMESPACE

PERIOD_SECONDS = 60
# GetMetricData takes 500 queries and gives 100,800 data points a call (AWS quota); a day of
# minutes has 1,440.
QUERIES = 60


class CloudWatchHistory:
    """The `MetricHistory` port."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def moments(
        self, wanted: Mapping[str, Iterable[str]], *, start: datetime, end: datetime
    ) -> dict[str, tuple[datetime, ...]]:
        asked = [(component, name) for component, names in wanted.items() for name in names]
        found: dict[str, set[datetime]] = {component: set() for component in wanted}
        for first in range(0, len(asked), QUERIES):
            chunk = asked[first : first + QUERIES]
            queries = [_query(number, *it) for number, it in enumerate(chunk)]
            for number, at in self._read(queries, start, end):
                found[chunk[number][0]].add(at)
        return {component: tuple(sorted(times)) for component, times in found.items()}

    def _read(
        self, queries: list[dict[str, Any]], start: datetime, end: datetime
    ) -> Iterator[tuple[int, datetime]]:
        asked = {"MetricDataQueries": queries, "StartTime": start, "EndTime": end}
        while True:
            with mapped("cloudwatch"):
                answer = self._client.get_metric_data(**asked)
            for result in answer["MetricDataResults"]:
                for at, count in zip(result["Timestamps"], result["Values"], strict=True):
                    if count:
                        yield int(result["Id"][1:]), at.astimezone(UTC)
            if not answer.get("NextToken"):
                return
            asked["NextToken"] = answer["NextToken"]


def _query(number: int, component: str, name: str) -> dict[str, Any]:
    metric = {
        "Namespace": NAMESPACE,
        "MetricName": name,
        "Dimensions": [{"Name": "Component", "Value": component}],
    }
    stat = {"Metric": metric, "Period": PERIOD_SECONDS, "Stat": "SampleCount"}
    return {"Id": f"q{number}", "MetricStat": stat}
