"""What is done less often than an alarm of CloudWatch looks back: whether it was done in time.

Read from the metrics' own history and put as a metric of its own, `within_metric`, as long as it is
so; the alarm watches that one. What cannot be read is not put, and silence is the alarm.

In the state, one item a schedule: when each was last known to be done. What has never been done
counts from the first look on, so that a new plan has the time that it promises.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.plan.records import format_time, parse_time
from chalicelib.plan.silence import within_metric
from chalicelib.services import build

if TYPE_CHECKING:
    from chalicelib.ports.history import MetricHistory

# component -> metric -> seconds that it may be silent for; several where it is promised so
Promises = dict[str, dict[str, list[int]]]
Metric = tuple[str, str]

SELDOM = "seldom"
# As long as CloudWatch keeps anything. Source: CloudWatch user guide, "Metrics retention".
KEPT = timedelta(days=455)


def look_at_seldom(part: str, promises: Promises) -> dict[str, Any]:
    """Put what was done in time; once every ten minutes.

    Args:
        part: the schedule's name, as a plan may have more promises than fit into one.
    Raises:
        Unavailable: the history or the state could not be read, and nothing was put; or it could
            not be put.
    """
    now = build.clock().now()
    last = _last_done([(it, metric) for it in promises for metric in promises[it]], part, now)
    done = 0
    for component, metrics in promises.items():
        silences = [(metric, timedelta(seconds=it)) for metric in metrics for it in metrics[metric]]
        kept = [it for it in silences if now - last[component, it[0]] <= it[1]]
        if kept:
            build.metrics().put(component, {within_metric(*it): 1.0 for it in kept})
        done += len(kept)
    asked = sum(len(each) for metrics in promises.values() for each in metrics.values())
    return {"found": f"{done} of {asked} were done in time", "late": asked - done}


def _last_done(wanted: list[Metric], part: str, now: datetime) -> dict[Metric, datetime]:
    """As the state knows it, or younger where the metrics tell so."""
    item = build.state().get(SELDOM, part)
    kept = item["last"] if item else {}
    known = {
        (component, metric): parse_time(kept[component][metric])
        for component, metric in wanted
        if metric in kept.get(component, {})
    }
    oldest = min(known.get(it, now - KEPT) for it in wanted)
    put = _metric_history().latest(wanted, start=max(oldest, now - KEPT), end=now)
    # The history tells the beginning of an hour or a day, which is before what is known.
    last = {it: max(known.get(it, put.get(it, now)), put.get(it, oldest)) for it in wanted}
    _note(part, last, item)
    return last


def _note(part: str, last: dict[Metric, datetime], before: dict[str, Any] | None) -> None:
    """What the plan no longer promises is forgotten: promised again, it is new."""
    told: dict[str, dict[str, str]] = {}
    for (component, metric), at in last.items():
        told.setdefault(component, {})[metric] = format_time(at)
    if before is None:
        build.state().create(SELDOM, part, {"last": told})
    elif before["last"] != told:
        build.state().replace(SELDOM, part, {"last": told}, expected={})


def _metric_history() -> MetricHistory:
    from chalicelib.adapters.metric_history import CloudWatchHistory

    return CloudWatchHistory(build.client("cloudwatch"))
