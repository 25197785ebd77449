"""The calendar of exercises: what is due, how it stands, what is begun next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.plan.exercises import (
    OVER,
    RESTORABLE,
    ComponentTest,
    Occasion,
    PlannedExercise,
    ScenarioResult,
    Status,
    TestOutcome,
    choose_next,
    decide_standing,
    due_between,
    judge_test,
    planned_exercises,
)
from chalicelib.plan.model import Plan
from chalicelib.plan.references import find_unknown_references
from leeward.packaging.proofs import PROVABLE
from leeward.plan_file import load_plan

PLANS = Path(__file__).parents[2] / "policies" / "plans"
NEXUS = planned_exercises(load_plan(PLANS / "nexus-studio.yaml").plan)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
WEEKLY = next(it for it in NEXUS if it.name == "restore-test-weekly")
AUDIT = next(it for it in NEXUS if it.name == "audit-yearly")
GOOD = ScenarioResult("database-corruption", "inc-1", "run-1", outcome="recovered")
SOUND = tuple(ComponentTest(name, NOON, "sound", "p-1", "as it was") for name in WEEKLY.components)


def after(**much: float) -> datetime:
    return NOON + timedelta(**much)


def test_every_exercise_of_the_document_is_there_with_what_it_runs() -> None:
    found = {it.name: it.scenarios for it in NEXUS}
    assert found["restore-test-weekly"] == ("database-corruption",)
    assert found["restore-test-monthly"] == ("database-corruption",)
    assert found["failover-monthly"] == ("regional-outage",)
    assert found["failover-quarterly"] == ("regional-outage", "failback")
    assert found["security-quarterly"] == ("ransomware",)
    assert found["full-drill-yearly"] == ("data-center-loss",)
    assert found["communication-monthly"] == found["audit-yearly"] == found["review-yearly"] == ()
    assert [it.name for it in NEXUS if it.by_messages] == ["communication-monthly"]
    assert len(found) == len(NEXUS) == 11


def test_what_became_due_is_found_however_long_nobody_looked() -> None:
    found = list(due_between([WEEKLY], NOON, after(days=22), last_due={}))
    assert [it.due_at.day for it in found] == [29, 6, 13]
    assert list(due_between([WEEKLY], NOON, NOON, last_due={})) == []
    [again] = due_between([WEEKLY], found[0].due_at, found[1].due_at, last_due={})
    assert again == found[1]


def test_one_that_nobody_began_is_missed_and_one_that_waits_is_not() -> None:
    waiting = Occasion(WEEKLY.name, NOON)
    assert decide_standing(waiting, WEEKLY, now=after(days=3)).status == "due"
    assert decide_standing(waiting, WEEKLY, now=after(days=4)).status == "missed"
    audit = Occasion(AUDIT.name, NOON)
    assert decide_standing(audit, AUDIT, now=after(days=13)).status == "due"
    assert decide_standing(audit, AUDIT, now=after(days=15)).status == "missed"


@pytest.mark.parametrize(
    ("results", "hours", "status"),
    [
        ((replace(GOOD, outcome=""),), 2, "running"),
        ((replace(GOOD, outcome=""),), 25, "failed"),
        ((GOOD,), 2, "done"),
        ((replace(GOOD, shortfalls=("the recovered data is not proven",)),), 2, "failed"),
        ((GOOD, replace(GOOD, outcome="failed", shortfalls=("the run failed",))), 2, "failed"),
        ((), 2, "failed"),
    ],
)
def test_one_that_runs_is_done_when_every_run_was_green(
    results: tuple[ScenarioResult, ...], hours: int, status: str
) -> None:
    running = Occasion(WEEKLY.name, NOON, "running", NOON, results=results, tests=SOUND)
    verdict = decide_standing(running, replace(WEEKLY, components=()), now=after(hours=hours))
    assert verdict.status == ("done" if not results else status)
    assert verdict.why
    # Without components there is nothing else that could have been done.
    alone = decide_standing(replace(running, tests=()), replace(WEEKLY, components=()),
                            now=after(hours=hours))  # fmt: skip
    assert alone.status == status


def test_a_restore_test_restores_every_component_that_has_copies() -> None:
    assert WEEKLY.components == ("nexus-db", "nexus-uploads", "nexus-static", "nexus-config")
    assert next(it for it in NEXUS if it.kind == "failover").components == ()
    assert next(it for it in NEXUS if it.kind == "full-drill").components == ()
    artist = {it.name: it for it in planned_exercises(load_plan(PLANS / "artist-tech.yaml").plan)}
    monthly = artist["restore-test-monthly"]
    assert monthly.components == ("artist-db", "user-files", "redis", "configuration", "code")
    assert (artist["spot-check-weekly"].by_people, monthly.by_people) == (True, False)
    assert set(RESTORABLE) == {name.__name__.lower() for name in PROVABLE}


def test_a_test_that_does_not_answer_was_not_tried_and_the_time_before_is_named() -> None:
    begun = ComponentTest("redis", NOON)
    assert judge_test(begun, None, [], now=after(hours=2)) == begun
    silent = judge_test(begun, None, [], now=after(hours=2.01))
    assert (silent.outcome, silent.found) == ("not-tried", "no answer within 2:00:00")

    def earlier(days: int, outcome: TestOutcome, status: Status = "done") -> Occasion:
        test = ComponentTest("redis", after(days=-days), outcome, seconds=float(days))
        return Occasion("another", after(days=-days), status, tests=(SOUND[0], test))

    times = [earlier(9, "failed"), earlier(5, "sound"), earlier(2, "left-out")]
    told = {"outcome": "sound", "found": "as it was", "point": "p-9", "seconds": 4.5}
    found = judge_test(begun, told, [*times, earlier(1, "failed", "running")], now=NOON)
    assert (found.outcome, found.point, found.seconds) == ("sound", "p-9", 4.5)
    assert (found.before_outcome, found.before_seconds) == ("sound", 5.0)


def test_what_the_plan_leaves_out_is_told_and_a_wrong_name_is_refused() -> None:
    plan = load_plan(PLANS / "nexus-studio.yaml").plan
    data = plan.to_json()
    [test] = [it for it in data["verification"] if it["kind"] == "restore-test"]
    test["leaves_out"] = {"nexus-static": "it is built anew"}
    weekly = planned_exercises(Plan.from_json(data))[0]
    assert "nexus-static" not in weekly.components
    assert weekly.left_out == {"nexus-static": "it is built anew"}
    assert PlannedExercise.from_json(weekly.to_json()) == weekly
    test["leaves_out"] = {"nexus-statik": "a slip"}
    assert [it.name for it in find_unknown_references(Plan.from_json(data))] == ["nexus-statik"]


@pytest.mark.parametrize(
    ("changed", "hours", "status", "named"),
    [
        ({}, 2, "done", "4 components were restored and sound"),
        ({"outcome": ""}, 2, "running", "nexus-uploads"),
        ({"outcome": ""}, 25, "failed", "nexus-uploads had not ended"),
        ({"outcome": "failed", "found": "bytes"}, 2, "failed", "nexus-uploads: failed: bytes"),
        ({"outcome": "not-tried"}, 2, "failed", "nexus-uploads: not tried"),
        ({"component": "another"}, 2, "failed", "nexus-uploads: not tried"),
        # Left out by a plan that takes it in by now.
        ({"outcome": "left-out"}, 2, "failed", "nexus-uploads: left out"),
    ],
)
def test_one_component_that_was_not_sound_fails_the_restore_test_by_its_name(
    changed: dict[str, Any], hours: int, status: str, named: str
) -> None:
    tests = tuple(replace(it, **changed) if it.component == "nexus-uploads" else it for it in SOUND)
    running = Occasion(WEEKLY.name, NOON, "running", NOON, results=(GOOD,), tests=tests)
    verdict = decide_standing(running, WEEKLY, now=after(hours=hours))
    assert (verdict.status, named in verdict.why) == (status, True), verdict.why


def test_one_at_a_time_is_begun_and_none_of_peoples() -> None:
    early, late = Occasion(WEEKLY.name, NOON), Occasion("failover-monthly", after(hours=1))
    audit = Occasion(AUDIT.name, after(hours=-5))
    assert choose_next([late, audit, early], NEXUS) == early
    assert choose_next([replace(late, status="running"), early], NEXUS) is None
    assert choose_next([audit], NEXUS) is None


@given(
    st.lists(st.sampled_from([*OVER, "due", "running"]), max_size=6),
    st.integers(min_value=0, max_value=400),
)
def test_nothing_that_is_over_is_begun_again_and_silence_never_counts_as_done(
    statuses: list[str], days: int
) -> None:
    all_of = [
        Occasion(WEEKLY.name, after(days=7 * number), status)  # type: ignore[arg-type]
        for number, status in enumerate(statuses)
    ]
    chosen = choose_next(all_of, [WEEKLY])
    assert chosen is None or chosen.status == "due"
    for occasion in all_of:
        if not occasion.is_over:
            verdict = decide_standing(occasion, WEEKLY, now=occasion.due_at + timedelta(days=days))
            assert verdict.status != "done"


def test_an_occasion_is_the_same_after_it_was_stored() -> None:
    occasion = Occasion(WEEKLY.name, NOON, "done", NOON, after(hours=1), (GOOD,), "well", SOUND)
    assert Occasion.from_json(occasion.to_json()) == occasion
    planned: PlannedExercise = WEEKLY
    assert PlannedExercise.from_json(planned.to_json()) == planned
