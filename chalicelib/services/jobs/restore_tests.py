"""The components of a restore test: each restored by a `prove` of its own, judged when it answered.

    restore-tests/exercises/<exercise>/<due at>/<component>.json   what one came to

Every component that has copies ends with an outcome: sound, failed, or not tried and why. One that
does not answer was not tried. Repeats safely: a test that is begun twice writes the same object.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from chalicelib.errors import LeewardError, NotReady, Refused, Unavailable
from chalicelib.plan.exercises import (
    ComponentTest,
    Occasion,
    PlannedExercise,
    judge_test,
    why_untested,
)
from chalicelib.plan.records import format_time
from chalicelib.services import build

PREFIX = "restore-tests/exercises/"


def begin_tests(occasion: Occasion, planned: PlannedExercise, now: datetime) -> Occasion:
    """With every component of the exercise; those that were begun before are left alone."""
    known = {it.component for it in occasion.tests}
    begun = [_begin(occasion, name, now) for name in planned.components if name not in known]
    left = [
        ComponentTest(name, now, "left-out", found=why)
        for name, why in planned.left_out.items()
        if name not in known
    ]
    return replace(occasion, tests=(*occasion.tests, *begun, *left))


def look_at_tests(occasion: Occasion, now: datetime, before: list[Occasion]) -> Occasion:
    """With what those that ran have come to.

    Args:
        before: every other occasion, of whichever exercise.
    """
    if all(it.outcome for it in occasion.tests):
        return occasion
    store, folder = build.evidence_store(), _folder(occasion)
    answered = {row.key for row in store.list(folder)}

    def told(component: str) -> dict[str, Any] | None:
        key = f"{folder}{component}.json"
        return json.loads(store.get(key)) if key in answered else None

    tests = (
        it if it.outcome else judge_test(it, told(it.component), before, now=now)
        for it in occasion.tests
    )
    return replace(occasion, tests=tuple(tests))


def prove_for(occasion: str, component: str, location: str) -> dict[str, Any]:
    """What `prove` does with the newest point, its rows compared; whatever it came to is written
    down for the exercise and not raised: Lambda would try it again, and the first answer counts.

    Args:
        occasion: "<exercise>/<due at>".
    """
    from chalicelib.services.jobs.proving import prove

    began_at, told = build.clock().now(), {"outcome": "sound"}
    try:
        told |= prove(component, location, newest=True, rows=True)
    except LeewardError as error:
        not_tried = isinstance(error, (NotReady, Unavailable))
        told = {"outcome": "not-tried" if not_tried else "failed", "found": error.message}
    seconds = (build.clock().now() - began_at).total_seconds()
    answer = told | {"component": component, "seconds": seconds}
    key = f"{PREFIX}{occasion}/{component}.json"
    try:
        build.evidence_store().put(key, json.dumps(answer, indent=1).encode(), if_absent=True)
    except Refused as error:
        if error.instance_code != "exists":
            raise
    return answer


def _begin(occasion: Occasion, component: str, now: datetime) -> ComponentTest:
    if found := why_untested(build.plan().components[component]):
        return ComponentTest(component, now, "not-tried", found=found)
    event = {"component": component, "location": "", "exercise": _name(occasion)}
    try:
        build.functions().start("prove", event)
    except LeewardError as error:
        return ComponentTest(component, now, "not-tried", found=error.message)
    return ComponentTest(component, now)


def _folder(occasion: Occasion) -> str:
    return f"{PREFIX}{_name(occasion)}/"


def _name(occasion: Occasion) -> str:
    return f"{occasion.exercise}/{format_time(occasion.due_at)}"
