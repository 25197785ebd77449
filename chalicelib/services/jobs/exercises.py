"""The exercises of the plan: begun when they are due, one at a time, judged when they have ended.

Each stack looks after those whose scenarios run in it, the primary's after those of people too. A
tick finds what became due since the last one, so that no schedule can be lost; that the ticks go on
is watched by an alarm on their silence. Every line repeats safely: an occasion is created once, a
run has its incident's name, a result is read from the records.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from chalicelib.errors import BadInput, Refused
from chalicelib.evidence.scorecard import score_run
from chalicelib.plan.exercises import (
    Occasion,
    PlannedExercise,
    ScenarioResult,
    choose_next,
    decide_standing,
    due_between,
    planned_exercises,
)
from chalicelib.plan.records import format_time, parse_time
from chalicelib.services import build
from chalicelib.services.jobs.restore_tests import begin_tests, look_at_tests
from chalicelib.services.people.communication import begin_drill, look_at_drill
from chalicelib.services.signals import handle_declaration

PARTITION = "exercises"
WATERMARK = "watermark"
OCCASION = "at#"
# The dimension of their metrics.
SUBJECT = "exercises"


def exercise(event: dict[str, Any]) -> dict[str, Any]:
    """One look at everything: {}; or {"list": true}, {"begin": NAME}, {"done": NAME, "by", "note"}.

    Raises:
        BadInput: code "unknown-exercise".
        Refused: code "not-by-people", when somebody says that a drill was done.
    """
    if event.get("list"):
        known = _occasions()
        return {"exercises": [_tell(it, known) for it in _mine()]}
    if "begin" in event:
        _create(Occasion(_named(event["begin"]).name, build.clock().now()))
    if "done" in event:
        return _note_done(_named(event["done"]), by=event["by"], note=event["note"])
    return tick()


def tick() -> dict[str, Any]:
    """Begin what is due, judge what has ended, publish how all stand."""
    now = build.clock().now()
    _create_due(now)
    for occasion in _occasions():
        if not occasion.is_over:
            _advance(occasion, now)
    chosen = choose_next(_occasions(), _mine())
    if chosen is not None:
        _begin(chosen)
    occasions = _occasions()
    failing = [it.name for it in _mine() if not _stands(it, occasions)]
    metrics = {"Taken.exercises": 1.0, "ExercisesFailing": float(len(failing))}
    build.metrics().put(SUBJECT, metrics)
    begun = f"{chosen.exercise} begun" if chosen else "nothing to begin"
    return {"failing": failing, "found": f"{begun}; failing: {', '.join(failing) or 'none'}"}


def _mine() -> tuple[PlannedExercise, ...]:
    """Those that this region's stack looks after."""
    plan, is_standby = build.plan(), build.environment().stack == "standby"
    return tuple(
        it
        for it in planned_exercises(plan)
        if any(plan.runs_in_standby(name) for name in it.scenarios) == is_standby
    )


def _named(name: str) -> PlannedExercise:
    for planned in _mine():
        if planned.name == name:
            return planned
    raise BadInput(
        f"this region's stack looks after no exercise {name!r}",
        hint=f"one of: {', '.join(it.name for it in _mine())}",
        code="unknown-exercise",
    )


def _create_due(now: datetime) -> None:
    """The first look begins at its own time: what was due before is nobody's fault."""
    state, said = build.state(), format_time(now)
    if state.create(PARTITION, WATERMARK, {"since": said, "until": said}):
        return
    kept = state.get(PARTITION, WATERMARK)
    assert kept is not None
    since = kept.get("since", kept["until"])
    last_due = {it.name: parse_time(since) for it in _mine()}
    last_due |= {it.exercise: it.due_at for it in _occasions()}
    for occasion in due_between(_mine(), parse_time(kept["until"]), now, last_due=last_due):
        _create(occasion)
    expected = {"until": kept["until"]}
    state.replace(PARTITION, WATERMARK, {"since": since, "until": said}, expected=expected)


def _occasions() -> list[Occasion]:
    found = build.state().query(PARTITION, OCCASION)
    return [Occasion.from_json({k: v for k, v in it.items() if k != "sort"}) for it in found]


def _create(occasion: Occasion) -> None:
    build.state().create(PARTITION, _sort(occasion), occasion.to_json())


def _save(occasion: Occasion) -> None:
    build.state().replace(PARTITION, _sort(occasion), occasion.to_json(), expected={})
    if occasion.is_over:
        key = f"exercises/{occasion.exercise}/{format_time(occasion.due_at)}.json"
        build.evidence_store().put(key, json.dumps(occasion.to_json(), indent=1).encode())


def _sort(occasion: Occasion) -> str:
    return f"{OCCASION}{format_time(occasion.due_at)}#{occasion.exercise}"


def _advance(occasion: Occasion, now: datetime) -> None:
    """Read what its runs came to; begin the next of its scenarios when one has ended."""
    planned = {it.name: it for it in planned_exercises(build.plan())}.get(occasion.exercise)
    if planned is None:
        _save(replace(occasion, status="missed", ended_at=now, note="the plan names it no more"))
        return
    if planned.by_messages and occasion.status == "running":
        _save(look_at_drill(occasion if occasion.results else begin_drill(occasion), now))
        return
    results = tuple(it if it.outcome else _result(it) for it in occasion.results)
    seen = replace(occasion, results=results)
    if seen.status == "running":
        seen = look_at_tests(begin_tests(seen, planned, now), now, _others(occasion))
    if seen.status == "running" and all(it.outcome for it in results):
        left = planned.scenarios[len(results) :]
        if left:
            _save(seen)
            _declare(seen, left[0])
            return
    verdict = decide_standing(seen, planned, now=now)
    if verdict.status != seen.status:
        seen = replace(seen, status=verdict.status, note=verdict.why, ended_at=now)
    _save(seen)


def _others(occasion: Occasion) -> list[Occasion]:
    return [it for it in _occasions() if _sort(it) != _sort(occasion)]


def _begin(occasion: Occasion) -> None:
    planned = _named(occasion.exercise)
    begun = replace(occasion, status="running", started_at=build.clock().now())
    _save(begun)
    if planned.by_messages:
        _save(begin_drill(begun))
        return
    begun = begin_tests(begun, planned, build.clock().now())
    _save(begun)
    for scenario in planned.scenarios[:1]:
        _declare(begun, scenario)


def _declare(occasion: Occasion, scenario: str) -> None:
    """As a drill; a death after it is healed by the next tick, which declares the same again."""
    answer = handle_declaration(
        {
            "detail": {
                "scenario": scenario,
                "reason": f"exercise {occasion.exercise}, due {format_time(occasion.due_at)}",
                "by": f"exercise {occasion.exercise}",
                "at": format_time(occasion.started_at or occasion.due_at),
                "moment": None,
                "drill": True,
            }
        }
    )
    result = ScenarioResult(scenario, answer["incident"], answer["run"])
    _save(replace(occasion, results=(*occasion.results, result)))


def _result(begun: ScenarioResult) -> ScenarioResult:
    """What the run came to, if it has ended; the same otherwise."""
    run = build.state().get(f"run#{begun.run_id}", "run")
    if run is None or run["status"] == "running":
        return begun
    score = score_run(begun.incident, build.records().read(begun.incident), run_id=begun.run_id)
    scenario = build.plan().scenarios.get(begun.scenario)  # None: it was taken out since
    estimate = scenario.estimate if scenario else None
    return replace(
        begun,
        outcome=score.outcome,
        rto_seconds=score.rto_seconds,
        rto_objective_seconds=score.rto_objective_seconds,
        rpo_seconds=score.rpo_seconds,
        rpo_objective_seconds=score.rpo_objective_seconds,
        estimate_seconds=estimate.at_most.total_seconds() if estimate else None,
        before_seconds=_time_before(begun.scenario),
        shortfalls=tuple(score.shortfalls),
    )


def _time_before(scenario: str) -> float | None:
    """The RTO of the last drill of the scenario that has ended, in whichever exercise."""
    ended = [
        (it.ended_at, result.rto_seconds)
        for it in _occasions()
        if it.is_over and it.ended_at is not None
        for result in it.results
        if result.scenario == scenario and result.rto_seconds is not None
    ]
    return max(ended)[1] if ended else None


def _note_done(planned: PlannedExercise, *, by: str, note: str) -> dict[str, Any]:
    if not planned.by_people:
        raise Refused(
            f"{planned.name} is done by {_doers(planned)}, not by a word",
            hint="begin it with `leeward exercises run`",
            code="not-by-people",
        )
    now = build.clock().now()
    waiting = [it for it in _occasions() if it.exercise == planned.name and it.status == "due"]
    occasion = waiting[-1] if waiting else Occasion(planned.name, now)
    _create(occasion)
    _save(replace(occasion, status="done", started_at=now, ended_at=now, note=f"{by}: {note}"))
    return {"found": f"{planned.name} is noted as done by {by}"}


def _doers(planned: PlannedExercise) -> str:
    if planned.by_messages:
        return "acknowledgements"
    named = planned.scenarios or planned.components
    return f"{'runs' if planned.scenarios else 'restores'} of {', '.join(named)}"


def _stands(planned: PlannedExercise, occasions: list[Occasion]) -> bool:
    """Whether the last time that it was over, it was done; before the first time it stands."""
    over = [it for it in occasions if it.exercise == planned.name and it.is_over]
    return not over or over[-1].status == "done"


def _tell(planned: PlannedExercise, occasions: list[Occasion]) -> dict[str, Any]:
    own = [it for it in occasions if it.exercise == planned.name]
    return planned.to_json() | {
        "next_due_at": format_time(planned.when.next_after(build.clock().now())),
        "stands": _stands(planned, occasions),
        "occasions": [it.to_json() for it in own[-10:]],
    }
