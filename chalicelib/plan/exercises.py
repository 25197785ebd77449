"""The exercises that a plan promises: which scenarios each runs, when it is due, how it stands.

An exercise that runs scenarios runs them as drills of the deployed plan, the same machines as for
the real thing. A restore test restores the newest point of every component that has copies besides,
each by a function of its own. A communication drill sends messages and waits for acknowledgements.
One without any of these (an audit, a review, a spot check by hand) is a person's: it counts when
somebody says that it was done.

    due --(its turn)--> running --(all runs ended)--> done | failed
     |                     +-----(longer than a day)--> failed
     +--(not begun, not said to be done, in time)--> missed

Pure: reads no clock, calls nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, Literal

from chalicelib.plan.components import BaseComponent, Component, Files, Git, Postgres
from chalicelib.plan.model import Plan
from chalicelib.plan.records import Record
from chalicelib.plan.schedule import Schedule
from chalicelib.plan.upkeep import Exercise

Status = Literal["due", "running", "done", "failed", "missed"]
TestOutcome = Literal["", "sound", "failed", "not-tried", "left-out"]
OVER: tuple[Status, ...] = ("done", "failed", "missed")

# Checked by jobs of their own, which have their own alarms.
BY_JOBS = ("integrity-check",)
BY_PEOPLE = ("audit", "review", "spot-check")
# Messages that are really sent, and acknowledgements; where no channel has a login, people's.
BY_MESSAGES = "communication"
# By the longest time between two: the word for it, for names.
PERIODS = (
    (timedelta(days=1), "daily"),
    (timedelta(days=8), "weekly"),
    (timedelta(days=32), "monthly"),
    (timedelta(days=93), "quarterly"),
    (timedelta(days=185), "twice-yearly"),
)
# A drill takes minutes; the plan's largest estimate is 8 hours, and its people may wait as long.
LONGEST_RUN = timedelta(days=1)
# What a function restores into something that is thrown away: see docs/restore-tests.md.
RESTORABLE = ("postgres", "redis", "files", "git", "bucket")
# A function may take 15 minutes, and Lambda begins one that died twice again.
LONGEST_TEST = timedelta(hours=2)
# What is not begun by then is missed: no later than half of the time to the next one.
LONGEST_WAIT = timedelta(days=14)
# What was due before anybody looked for the first time is nobody's fault.
MOST_AT_ONCE = 100


@dataclass(frozen=True)
class PlannedExercise(Record):
    """`name`: its kind and how often, unique in the plan. `scenarios`: what a run of it drills.
    `by_messages`: it sends messages and waits for acknowledgements instead.

    components: whose newest points it restores. left_out: those that the plan leaves out, and why.
    """

    name: str
    kind: str
    says: str
    schedule: str
    time_zone: str
    scenarios: tuple[str, ...]
    by_messages: bool = False
    components: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def by_people(self) -> bool:
        return not (self.scenarios or self.by_messages or self.components)

    @property
    def when(self) -> Schedule:
        return Schedule(self.schedule, self.time_zone)


@dataclass(frozen=True)
class ScenarioResult(Record):
    """One scenario's drill within an exercise. Seconds; None: not measured.

    `estimate_seconds`: the document's own, at most. `before_seconds`: RTO of the time before.
    """

    scenario: str
    incident: str
    run_id: str
    outcome: str = ""
    rto_seconds: float | None = None
    rto_objective_seconds: float | None = None
    rpo_seconds: float | None = None
    rpo_objective_seconds: float | None = None
    estimate_seconds: float | None = None
    before_seconds: float | None = None
    shortfalls: tuple[str, ...] = ()


@dataclass(frozen=True)
class ComponentTest(Record):
    """The newest point of one component, restored within an exercise and thrown away.

    outcome: "" while it runs; "not-tried" says that nobody could look, and is as bad as "failed";
    "left-out": the plan does without, for the reason in `found`. seconds: the whole test;
    before_seconds, before_outcome: of the time before, None and "" when there was none.
    """

    component: str
    begun_at: datetime
    outcome: TestOutcome = ""
    point: str = ""
    found: str = ""
    seconds: float | None = None
    before_seconds: float | None = None
    before_outcome: str = ""


@dataclass(frozen=True)
class Occasion(Record):
    """One time that an exercise was due. Times aware UTC. `note`: a person's, or why it failed."""

    exercise: str
    due_at: datetime
    status: Status = "due"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    results: tuple[ScenarioResult, ...] = ()
    note: str = ""
    tests: tuple[ComponentTest, ...] = ()

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name == "results":
            return tuple(ScenarioResult.from_json(item) for item in value)
        if name == "tests":
            return tuple(ComponentTest.from_json(item) for item in value)
        return super()._revive(name, value)

    @property
    def is_over(self) -> bool:
        return self.status in OVER


@dataclass(frozen=True)
class Verdict:
    """What an occasion becomes, and why."""

    status: Status
    why: str


def planned_exercises(plan: Plan) -> tuple[PlannedExercise, ...]:
    """Every exercise that is not a job of its own, in the order of the plan."""
    names: dict[str, int] = {}
    found = []
    for exercise in (*plan.verification, *plan.testing):
        if exercise.kind in BY_JOBS:
            continue
        base = f"{exercise.kind}-{_period(exercise.when)}"
        names[base] = names.get(base, 0) + 1
        name = base if names[base] == 1 else f"{base}-{names[base]}"
        found.append(_planned(plan, name, exercise))
    return tuple(found)


def _planned(plan: Plan, name: str, exercise: Exercise) -> PlannedExercise:
    by_messages = exercise.kind == BY_MESSAGES and not exercise.manual
    by_people = exercise.manual or exercise.kind in (*BY_PEOPLE, BY_MESSAGES)
    tested = tested_components(plan, exercise)
    return PlannedExercise(
        name=name,
        kind=exercise.kind,
        says=exercise.says,
        schedule=exercise.when.expression,
        time_zone=exercise.when.time_zone,
        scenarios=() if by_people else exercise.scenarios or _meant(plan, exercise.kind),
        by_messages=by_messages and plan.communication.secret is not None,
        components=tuple(it for it in tested if it not in exercise.leaves_out),
        left_out={it: why for it, why in exercise.leaves_out.items() if it in tested},
    )


def tested_components(plan: Plan, exercise: Exercise) -> tuple[str, ...]:
    """Those of which a restore test restores the newest point, left out by it or not."""
    tests = exercise.kind == "restore-test" and not exercise.manual
    return copied_components(plan) if tests else ()


def copied_components(plan: Plan) -> tuple[str, ...]:
    """Those of which the plan has copies made; what only takes another's place has none."""
    return tuple(
        name for name, it in plan.live.items() if it.backups and name not in plan.stand_ins
    )


def why_untested(component: Component) -> str:
    """Why no restore test can try a component that is copied, "" when one can."""
    if component.kind not in RESTORABLE:
        return f"nothing of Leeward's restores the copies of a {component.kind}"
    if isinstance(component, Git) and component.repository is None:
        return "its `repository` is not named: Leeward takes no copy of it"
    if isinstance(component, Files) and not component.paths:
        return "its `paths` are not named: Leeward takes no copy of it"
    return ""


def why_unproven(component: BaseComponent) -> str:
    """Why no schedule may restore what is kept of a component, "" when one may."""
    if component.retired is not None and isinstance(component, Postgres):
        return (
            "a retired database is mostly of another major version than the programs that the "
            "functions have"
        )
    return ""


def _period(when: Schedule) -> str:
    longest = when.longest_interval()
    return next((word for limit, word in PERIODS if longest <= limit), "yearly")


def _meant(plan: Plan, kind: str) -> tuple[str, ...]:
    """The scenarios of an exercise whose document names none, from what they do."""
    lost = [name for name, it in plan.scenarios.items() if it.loses]
    if kind == "restore-test":
        return tuple(name for name in plan.scenarios if _restores_one(plan, name))
    if kind == "failover":
        return tuple(lost[:1])
    if kind == "security":
        return tuple(name for name in plan.scenarios if _isolates(plan, name))
    return tuple(lost[-1:]) or tuple(name for name in plan.scenarios if _restores_one(plan, name))


def _restores_one(plan: Plan, name: str) -> bool:
    scenario = plan.scenarios[name]
    restores = any(step.uses == "database.restore" for step in scenario.all_steps())
    alone = scenario.component is not None and not scenario.loses
    return restores and alone and not _isolates(plan, name)


def _isolates(plan: Plan, name: str) -> bool:
    steps = plan.scenarios[name].all_steps()
    return any((step.uses or "").startswith("isolation.") for step in steps)


def due_between(
    planned: Iterable[PlannedExercise],
    after: datetime,
    until: datetime,
    *,
    last_due: Mapping[str, datetime],
) -> Iterator[Occasion]:
    """Every time that one was due in (after, until], oldest first within each.

    Args:
        last_due: by exercise, when it was due last, or looked after first: a rate has no place on
            the clock, and is due one interval after that. Counted from `after`, which moves with
            every look, it never would be.
    """
    for exercise in planned:
        start = last_due[exercise.name] if exercise.when.is_rate else after
        firings = takewhile(lambda at: at <= until, exercise.when.firings_after(start))
        for number, at in enumerate(firings):
            if number == MOST_AT_ONCE:
                break
            yield Occasion(exercise.name, at)


def decide_standing(occasion: Occasion, planned: PlannedExercise, *, now: datetime) -> Verdict:
    """What an occasion that is not over becomes now.

    Args:
        occasion: with the results as far as they are known.
        now: aware UTC.
    """
    if occasion.status == "due":
        late = now - occasion.due_at
        patience = min(LONGEST_WAIT, planned.when.longest_interval() / 2)
        if late <= patience:
            return Verdict("due", "it waits for its turn, or for a person")
        return Verdict("missed", f"it was not begun within {_days(patience)} of {occasion.due_at}")
    return _standing_of_runs(occasion, planned, now)


def _standing_of_runs(occasion: Occasion, planned: PlannedExercise, now: datetime) -> Verdict:
    started = occasion.started_at or occasion.due_at
    waiting = [it.scenario for it in occasion.results if not it.outcome]
    waiting += [it.component for it in occasion.tests if not it.outcome]
    if waiting:
        if now - started <= LONGEST_RUN:
            return Verdict("running", f"not ended: {', '.join(waiting)}")
        told = f"{', '.join(waiting)} had not ended after {_days(LONGEST_RUN)}"
        return Verdict("failed", told)
    wrong = [
        f"{it.scenario}: {'; '.join(it.shortfalls)}" for it in occasion.results if it.shortfalls
    ]
    wrong += _wrong_tests(occasion, planned)
    if wrong or not (occasion.results or occasion.tests):
        return Verdict("failed", "; ".join(wrong) or "it ran nothing")
    return Verdict("done", _told(occasion))


def _wrong_tests(occasion: Occasion, planned: PlannedExercise) -> Iterator[str]:
    """A component of which nothing is known was not tried, whoever forgot it."""
    known = {it.component: it for it in occasion.tests}
    for name in planned.components:
        test = known.get(name)
        if test is None:
            yield f"{name}: not tried"
        elif test.outcome != "sound":
            yield f"{name}: {test.outcome.replace('-', ' ')}: {test.found}"


def _told(occasion: Occasion) -> str:
    told = ["every run recovered within the objectives"] if occasion.results else []
    sound = sum(it.outcome == "sound" for it in occasion.tests)
    if sound:
        told.append(f"{sound} component{'s were' if sound > 1 else ' was'} restored and sound")
    left_out = [it.component for it in occasion.tests if it.outcome == "left-out"]
    return "; ".join(told) + (f"; left out by the plan: {', '.join(left_out)}" if left_out else "")


def judge_test(
    test: ComponentTest,
    told: dict[str, Any] | None,
    before: Iterable[Occasion],
    *,
    now: datetime,
) -> ComponentTest:
    """What a test that was begun has come to; the same while it may still answer.

    Args:
        told: what its function left: {"outcome", "found"}, "point", "seconds"; None: nothing yet.
        before: other occasions, of whichever exercise: the last test of the component is named.
    """
    if told is None and now - test.begun_at <= LONGEST_TEST:
        return test
    told = told or {"outcome": "not-tried", "found": f"no answer within {LONGEST_TEST}"}
    last = _last_test(test.component, before)
    return replace(
        test,
        outcome=told["outcome"],
        point=told.get("point", ""),
        found=told["found"],
        seconds=told.get("seconds"),
        before_seconds=last.seconds if last else None,
        before_outcome=last.outcome if last else "",
    )


def _last_test(component: str, before: Iterable[Occasion]) -> ComponentTest | None:
    found = (
        test
        for occasion in before
        if occasion.is_over
        for test in occasion.tests
        if test.component == component and test.outcome not in ("", "left-out")
    )
    return max(found, key=lambda it: it.begun_at, default=None)


def choose_next(
    occasions: Iterable[Occasion], planned: Iterable[PlannedExercise]
) -> Occasion | None:
    """The occasion to begin now: one at a time, as exercises share their stand-ins; the one that
    has waited longest, and of an exercise that was due more than once the last alone."""
    all_of = list(occasions)
    automatic = {it.name for it in planned if not it.by_people}
    if any(it.status == "running" for it in all_of):
        return None
    waiting = [it for it in all_of if it.status == "due" and it.exercise in automatic]
    return min(waiting, key=lambda it: (it.due_at, it.exercise), default=None)


def _days(period: timedelta) -> str:
    return f"{period / timedelta(days=1):g} days"
