"""Services watched over a time: how fast they answered, how often not, and for how long not.

A watch may be interrupted and go on; what nobody asked in between counts against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Literal

from chalicelib.plan.records import Record, format_time, parse_time
from chalicelib.ports import Clock
from chalicelib.ports.health import Answer, Prober
from chalicelib.verify.probes import HealthPolicy, Target, ask_all, require_targets

Verdict = Literal["ok", "warning", "critical"]


@dataclass(frozen=True)
class Watched(Record):
    """How a target did over the time it was watched. Percentiles are of the good answers.

    availability: good answers among all. longest_outage_seconds: from the first bad answer to the
    next good one, or to the end; a time in which nobody asked counts as one.
    """

    component: str
    verdict: Verdict
    answers: int
    availability: float
    p50_seconds: float | None
    p95_seconds: float | None
    worst_seconds: float | None
    longest_outage_seconds: float
    problem: str


@dataclass(frozen=True)
class Watch:
    """A watch as far as it has come: answers by component, and when it began. Kept between the
    invocations of one step."""

    began_at: datetime
    answers: dict[str, list[Answer]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """[milliseconds since the beginning, milliseconds it took, status or 0, problem]."""
        return {
            "began_at": format_time(self.began_at),
            "answers": {
                name: [self._pack(it) for it in all_] for name, all_ in self.answers.items()
            },
        }

    def _pack(self, answer: Answer) -> list[Any]:
        since = round((answer.asked_at - self.began_at).total_seconds() * 1000)
        return [since, round(answer.seconds * 1000), answer.status or 0, answer.problem]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Watch:
        began_at = parse_time(data["began_at"])
        return cls(
            began_at,
            {
                name: [_unpack(began_at, *item) for item in packed]
                for name, packed in data["answers"].items()
            },
        )


def _unpack(began_at: datetime, since: int, took: int, status: int, problem: str) -> Answer:
    asked_at = began_at + timedelta(milliseconds=since)
    return Answer(asked_at, took / 1000, status or None, problem)


def watch_targets(
    targets: Iterable[Target],
    prober: Prober,
    policy: HealthPolicy,
    watch: Watch,
    *,
    clock: Clock,
    until: datetime,
) -> Watch:
    """The watch with what was answered until then. Raises NotReady as `verify_targets` does."""
    chosen = require_targets(targets)
    answers = {target.component: list(watch.answers.get(target.component, ())) for target in chosen}
    while (asked_at := clock.now()) < until:
        for target, answer in ask_all(chosen, prober, policy):
            answers[target.component].append(replace(answer, asked_at=asked_at))
        clock.sleep(policy.pause_seconds)
    return Watch(watch.began_at, answers)


def judge_watch(watch: Watch, policy: HealthPolicy, *, ended_at: datetime) -> tuple[Watched, ...]:
    """Pure. What is not good at the end is critical, however short: nobody sees it mend."""
    return tuple(
        _watched(name, answers, watch.began_at, ended_at, policy)
        for name, answers in watch.answers.items()
    )


def _watched(
    name: str, answers: list[Answer], began_at: datetime, ended_at: datetime, policy: HealthPolicy
) -> Watched:
    good = sorted(answer.seconds for answer in answers if answer.good)
    outage = _longest_outage(answers, began_at, ended_at, policy)
    p95 = _percentile(good, 0.95)
    return Watched(
        component=name,
        verdict=_verdict(answers, outage, p95, policy),
        answers=len(answers),
        availability=round(len(good) / len(answers), 4) if answers else 0.0,
        p50_seconds=_percentile(good, 0.5),
        p95_seconds=p95,
        worst_seconds=round(good[-1], 3) if good else None,
        longest_outage_seconds=round(outage, 3),
        problem=next((it.problem for it in reversed(answers) if not it.good), ""),
    )


def _verdict(
    answers: list[Answer], outage: float, p95: float | None, policy: HealthPolicy
) -> Verdict:
    if not answers or not answers[-1].good or outage > policy.unavailable_seconds:
        return "critical"
    slow = p95 is not None and p95 > policy.slow_seconds
    return "warning" if slow or outage > 0 else "ok"


def _longest_outage(
    answers: list[Answer], began_at: datetime, ended_at: datetime, policy: HealthPolicy
) -> float:
    """Seconds; also between two answers, where nobody asked for longer than a round may take."""
    round_seconds = policy.within_seconds + 10 * policy.pause_seconds
    longest, since, last = 0.0, None, began_at
    for answer in answers:
        silent = (answer.asked_at - last).total_seconds()
        if silent > round_seconds:
            longest = max(longest, silent)
        if not answer.good:
            since = since or answer.asked_at
        elif since is not None:
            longest, since = max(longest, (answer.asked_at - since).total_seconds()), None
        last = answer.asked_at
    if since is not None:
        longest = max(longest, (ended_at - since).total_seconds())
    silent = (ended_at - last).total_seconds()
    return max(longest, silent) if silent > round_seconds else longest


def _percentile(ordered: list[float], share: float) -> float | None:
    """Nearest rank: a value that was measured. None of nothing."""
    if not ordered:
        return None
    return round(ordered[ceil(share * len(ordered)) - 1], 3)
