"""What a watch says of the services it watched, and what it never calls good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.ports.health import Answer
from chalicelib.verify.probes import HealthPolicy
from chalicelib.verify.service_watch import Verdict, Watch, Watched, judge_watch

BEGAN = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
POLICY = HealthPolicy(slow_seconds=2.0, unavailable_seconds=300.0, pause_seconds=5.0)


def watched(said: str, *, seconds: float = 0.1, every: float = 5.0, more: float = 5.0) -> Watched:
    """ "..x": good, good, bad; `more`: from the last answer to the end of the watch."""
    answers = [
        Answer(BEGAN + timedelta(seconds=every * n), seconds, 200, "no answer" if it == "x" else "")
        for n, it in enumerate(said)
    ]
    ended_at = BEGAN + timedelta(seconds=every * (len(said) - 1) + more)
    [found] = judge_watch(Watch(BEGAN, {"api": answers}), POLICY, ended_at=ended_at)
    return found


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("." * 60, "ok"),
        ("." * 30 + "x" + "." * 29, "warning"),
        ("." * 30 + "x" * 61 + ".", "critical"),
        ("." * 30 + "x" * 59 + ".", "warning"),
        ("." * 60 + "x", "critical"),
        ("x" * 60, "critical"),
    ],
)
def test_an_outage_of_more_than_five_minutes_or_at_the_end_is_critical(
    said: str, verdict: Verdict
) -> None:
    assert watched(said).verdict == verdict


def test_slow_answers_are_a_warning_by_the_95th_percentile() -> None:
    assert watched("." * 60, seconds=2.5).verdict == "warning"
    assert watched("." * 60, seconds=1.9).verdict == "ok"


def test_a_time_in_which_nobody_asked_is_an_outage() -> None:
    found = watched("....", every=200.0)
    assert (found.longest_outage_seconds, found.verdict) == (200.0, "warning")
    assert watched("....", every=301.0).verdict == "critical"
    assert watched("....", more=400.0).verdict == "critical"


def test_nothing_asked_is_critical() -> None:
    watch = Watch(BEGAN, {"api": []})
    [found] = judge_watch(watch, POLICY, ended_at=BEGAN + timedelta(seconds=10))
    assert (found.verdict, found.availability, found.p95_seconds) == ("critical", 0.0, None)


def test_percentiles_are_values_that_were_measured() -> None:
    answers = [Answer(BEGAN + timedelta(seconds=n), (n + 1) / 10, 200) for n in range(20)]
    [found] = judge_watch(
        Watch(BEGAN, {"api": answers}), POLICY, ended_at=BEGAN + timedelta(seconds=20)
    )
    assert (found.p50_seconds, found.p95_seconds, found.worst_seconds) == (1.0, 1.9, 2.0)
