"""Retention over a million recovery points, and ten years of a plan: python -m bench.retention

Prints one JSON object and rewrites its section of docs/benchmarks.md.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from bench.lab import publish, table
from chalicelib.backup.retention.decide import decide_retention
from chalicelib.plan.components import BaseComponent, Retention
from chalicelib.plan.records import PointStanding, RecoveryPoint
from leeward.plan_file import load_plan
from leeward.retention.forecast import forecast

POINTS = 1_000_000
ROUNDS = 5
NOW = datetime(2036, 1, 1, tzinfo=UTC)
POLICY = Retention(daily=7, weekly=4, monthly=12, yearly=7)
PLAN, COMPONENT = "policies/plans/nexus-studio.yaml", "nexus-db"


def main() -> None:
    points = list(_points())
    mixed = random.Random(1).sample(points, len(points))
    zone = "America/New_York"
    component = load_plan(PLAN).plan.components[COMPONENT]
    figures = {
        "10^6 points, oldest first, as the catalogue gives them": _measure(
            lambda: decide_retention(points, POLICY, now=NOW, time_zone=zone)
        ),
        "10^6 points in any order": _measure(
            lambda: decide_retention(mixed, POLICY, now=NOW, time_zone=zone)
        ),
        "ten years of Nexus Studio's database, 18,300 points, a prune a day": _measure(
            lambda: _ten_years(component)
        ),
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    publish("retention", _text(figures, peak), {"parts": figures, "peak_mib": peak})


def _points() -> Iterator[PointStanding]:
    """Every five minutes for nine and a half years, up to now."""
    for number in range(POINTS):
        at = NOW - (POINTS - number) * timedelta(minutes=5)
        yield PointStanding(
            point=RecoveryPoint(
                id=f"{at:%Y%m%dT%H%M%SZ}-full", component="db", kind="full", taken_at=at,
                finished_at=at, objects=(), source_bytes=0, encryption="",
            )
        )  # fmt: skip


def _ten_years(component: BaseComponent) -> None:
    assert component.retention
    start = NOW.replace(year=NOW.year - 10)
    forecast(COMPONENT, component, component.retention, start=start, end=NOW)


def _measure(work: Callable[[], Any]) -> dict[str, float]:
    wall, cpu = [], []
    for _ in range(ROUNDS):
        started, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    return {"wall_s": round(median(wall), 2), "cpu_s": round(median(cpu), 2)}


def _text(figures: dict[str, dict[str, float]], peak_mib: int) -> str:
    lines = [[name, f"{it['wall_s']:.2f}", f"{it['cpu_s']:.2f}"] for name, it in figures.items()]
    return (
        "## Retention\n\n"
        "7 daily, 4 weekly, 12 monthly, 7 yearly in New York's time; a reason for every point. "
        f"Median of {ROUNDS}; the process with all points in memory takes {peak_mib} MiB.\n\n"
        f"{table(['decision', 'wall s', 'CPU s'], lines)}"
    )


if __name__ == "__main__":
    main()
