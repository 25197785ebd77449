"""When a metric was put, out of CloudWatch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.adapters.cloudwatch import NAMESPACE
from chalicelib.errors import Unavailable

MINUTE, HOUR, DAY = 60, 3600, 86400
# Older points are kept by the hour alone, for 455 days. Source: GetMetricData, "StartTime".
HOURS_MATTER = timedelta(days=63)
# GetMetricData takes 500 queries and gives 100,800 data points a call (AWS quota); a day of
# minutes has 1,440.
QUERIES = 60
# "PartialData" is followed by the rest.
READ = ("Complete", "PartialData")


class CloudWatchHistory:
    """The `MetricHistory` port."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def moments(
        self, wanted: Mapping[str, Iterable[str]], *, start: datetime, end: datetime
    ) -> dict[str, tuple[datetime, ...]]:
        asked = [(component, name) for component, names in wanted.items() for name in names]
        found: dict[str, set[datetime]] = {component: set() for component in wanted}
        for (component, _), at, _ in self._points(asked, start, end, MINUTE, "SampleCount"):
            found[component].add(at)
        return {component: tuple(sorted(times)) for component, times in found.items()}

    def latest(
        self, wanted: Iterable[tuple[str, str]], *, start: datetime, end: datetime
    ) -> dict[tuple[str, str], datetime]:
        period = HOUR if end - start <= HOURS_MATTER else DAY
        # A period that began before `start` would be left out, with all that lies in it.
        begun = datetime.fromtimestamp(start.timestamp() // period * period, UTC)
        found: dict[tuple[str, str], datetime] = {}
        for metric, at, total in self._points(list(wanted), begun, end, period, "Sum"):
            if total >= 1:
                found[metric] = max(at, found.get(metric, at))
        return found

    def _points(
        self,
        asked: list[tuple[str, str]],
        start: datetime,
        end: datetime,
        period: int,
        statistic: str,
    ) -> Iterator[tuple[tuple[str, str], datetime, float]]:
        """Those that are not zero, with the beginning of their period."""
        for first in range(0, len(asked), QUERIES):
            chunk = asked[first : first + QUERIES]
            queries = [_query(number, *it, period, statistic) for number, it in enumerate(chunk)]
            for number, at, value in self._read(queries, start, end):
                yield chunk[number], at, value

    def _read(
        self, queries: list[dict[str, Any]], start: datetime, end: datetime
    ) -> Iterator[tuple[int, datetime, float]]:
        asked = {"MetricDataQueries": queries, "StartTime": start, "EndTime": end}
        while True:
            with mapped("cloudwatch"):
                answer = self._client.get_metric_data(**asked)
            for result in answer["MetricDataResults"]:
                _require_read(result)
                for at, value in zip(result["Timestamps"], result["Values"], strict=True):
                    if value:
                        yield int(result["Id"][1:]), at.astimezone(UTC), value
            if not answer.get("NextToken"):
                return
            asked["NextToken"] = answer["NextToken"]


def _require_read(result: dict[str, Any]) -> None:
    """A metric may fail alone, in an answer that is good otherwise and as empty as without it."""
    if result["StatusCode"] not in READ:
        raise Unavailable(
            f"expected the history of a metric, found {result['StatusCode']}",
            hint="CloudWatch is asked again at the next look",
        )


def _query(number: int, component: str, name: str, period: int, statistic: str) -> dict[str, Any]:
    metric = {
        "Namespace": NAMESPACE,
        "MetricName": name,
        "Dimensions": [{"Name": "Component", "Value": component}],
    }
    stat = {"Metric": metric, "Period": period, "Stat": statistic}
    return {"Id": f"q{number}", "MetricStat": stat}
