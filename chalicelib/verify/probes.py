"""Whether services serve: asked until each has answered well several times in a row.

What was not asked, or was asked and not heard, is never good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta

from chalicelib.errors import NotReady
from chalicelib.plan.model import Plan
from chalicelib.plan.records import Record
from chalicelib.ports import Clock
from chalicelib.ports.health import Answer, Prober

# Metrics of a plan's `thresholds` that are meant, as people write them.
RESPONSE_TIME = ("response time", "latency")
UNAVAILABLE = ("service unavailable", "unavailable")


@dataclass(frozen=True)
class HealthPolicy:
    """When an answer is slow, when a service is gone, and how often it must have been good.

    within_seconds: the longest that one answer may take. unavailable_seconds: an outage that is
    longer is critical. good_answers: in a row. pause_seconds: between two rounds.
    """

    slow_seconds: float = 2.0
    unavailable_seconds: float = 300.0
    good_answers: int = 3
    within_seconds: float = 10.0
    pause_seconds: float = 1.0


@dataclass(frozen=True)
class Target:
    """What to ask for a component: `component` is the one that is meant, not its stand-in."""

    component: str
    address: str
    says: str = ""


@dataclass(frozen=True)
class Health(Record):
    """What came of asking a target. `in_a_row`: good answers, the last ones; slow ones count."""

    component: str
    address: str
    ok: bool
    asked: int
    in_a_row: int
    slowest_seconds: float
    slow: bool
    problem: str


def policy_of(plan: Plan) -> HealthPolicy:
    """The plan's thresholds for response time and unavailability; 2 s and 5 min where it has none.

    Of several levels the first counts that is set: a warning for slowness, and the strictest for
    unavailability.
    """
    slow = _threshold(plan, RESPONSE_TIME)
    gone = _threshold(plan, UNAVAILABLE)
    policy = HealthPolicy()
    if slow is not None:
        policy = replace(policy, slow_seconds=slow)
        policy = replace(policy, within_seconds=max(policy.within_seconds, 2 * slow))
    return policy if gone is None else replace(policy, unavailable_seconds=gone)


def _threshold(plan: Plan, names: tuple[str, ...]) -> float | None:
    found = [
        one.above.value
        for one in plan.thresholds
        if one.metric.lower() in names and one.above and one.above.unit == "seconds"
    ]
    return min(found, default=None)


def verify_targets(
    targets: Iterable[Target],
    prober: Prober,
    policy: HealthPolicy,
    *,
    clock: Clock,
    limit_seconds: float,
) -> tuple[Health, ...]:
    """Ask all until each was good several times in a row, or until the time is up.

    Raises:
        NotReady: code "nothing-to-probe": no target means that nothing was verified.
    """
    asked = {target: list[Answer]() for target in require_targets(targets)}
    ends_at = clock.now() + timedelta(seconds=limit_seconds)
    while True:
        waiting = [it for it, answers in asked.items() if _in_a_row(answers) < policy.good_answers]
        if not waiting or clock.now() >= ends_at:
            return tuple(_health(it, answers, policy) for it, answers in asked.items())
        for target, answer in ask_all(waiting, prober, policy):
            asked[target].append(answer)
        clock.sleep(policy.pause_seconds)


def require_targets(targets: Iterable[Target]) -> tuple[Target, ...]:
    found = tuple(dict.fromkeys(targets))
    if not found:
        raise NotReady(
            "expected something with a health address, found nothing to ask",
            hint="give the services of the plan their `health` address",
            code="nothing-to-probe",
        )
    return found


def ask_all(
    targets: Iterable[Target], prober: Prober, policy: HealthPolicy
) -> Iterator[tuple[Target, Answer]]:
    """Each once, all at the same time: one that hangs keeps none of the others waiting."""
    chosen = list(targets)

    def ask(target: Target) -> Answer:
        return prober.probe(target.address, says=target.says, within_seconds=policy.within_seconds)

    with ThreadPoolExecutor(max(len(chosen), 1)) as pool:
        yield from zip(chosen, pool.map(ask, chosen), strict=True)


def _in_a_row(answers: list[Answer]) -> int:
    bad = [number for number, answer in enumerate(answers) if not answer.good]
    return len(answers) - (bad[-1] + 1 if bad else 0)


def _health(target: Target, answers: list[Answer], policy: HealthPolicy) -> Health:
    row = _in_a_row(answers)
    slowest = max((it.seconds for it in answers[len(answers) - row :]), default=0.0)
    problems = [answer.problem for answer in answers if not answer.good]
    ok = row >= policy.good_answers
    return Health(
        component=target.component,
        address=target.address,
        ok=ok,
        asked=len(answers),
        in_a_row=row,
        slowest_seconds=round(slowest, 3),
        slow=slowest > policy.slow_seconds,
        problem="" if ok else problems[-1] if problems else "not asked often enough in time",
    )
