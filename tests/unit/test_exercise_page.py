"""What people see of an exercise: each component with what it came to, red ones with the reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from chalicelib.pages.render import Frame, render
from chalicelib.plan.exercises import (
    ComponentTest,
    Occasion,
    PlannedExercise,
    ScenarioResult,
    planned_exercises,
)
from leeward.commands.exercises import _cells, _unheard
from leeward.plan_file import load_plan

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLANNED = PlannedExercise(
    "restore-test-weekly", "restore-test", "Weekly", "weekly", "UTC", ("corruption",),
    components=("db", "cache", "cdn"),
)  # fmt: skip
TESTS = (
    ComponentTest(
        "db", NOON, "failed", "p-1", "rows-alike: t (id 3): missing", 61.0, 30.0, "sound"
    ),
    ComponentTest("cache", NOON),
    ComponentTest("cdn", NOON, "not-tried", "", "<b>nothing restores it</b>"),
)
RUN = ScenarioResult("corruption", "inc-1", "run-1", "recovered", 30.0, 3600.0)
OCCASION = Occasion(PLANNED.name, NOON, "failed", NOON, NOON, (RUN,), "db: failed", TESTS)
ROW = PLANNED.to_json() | {
    "next_due_at": "2026-11-29T12:00:00Z", "stands": False, "occasions": [OCCASION.to_json()],
}  # fmt: skip


def test_the_page_names_every_component() -> None:
    frame = Frame("", NOON + timedelta(hours=1), path="/exercises")
    body = render("exercises.html", frame, seen={"exercises": [ROW]})
    assert "db: failed, p-1: rows-alike: t (id 3): missing, 1 min 1 s" in body
    assert "the time before sound in 30 s" in body
    assert "cache: running" in body
    assert "cdn: not tried: &lt;b&gt;nothing restores it" in body


def test_the_command_lists_every_component() -> None:
    cells = {line[0].strip(): line for line in _cells(ROW)}
    assert cells["db"][3:6] == ("failed", "1 min 1 s", "30 s")
    assert cells["cache"][3] == "running"
    assert cells["cdn"][3] == "not-tried"


def test_an_exercise_that_nothing_deployed_looks_after_is_not_silently_left_out() -> None:
    """As when the plan has one more than the stacks that were deployed before."""
    plan = load_plan(Path(__file__).parents[2] / "policies" / "plans" / "nexus-studio.yaml").plan
    rows = [it.to_json() for it in planned_exercises(plan)]
    assert _unheard(plan, rows) == []
    assert _unheard(plan, rows[1:]) == [
        f"{rows[0]['name']}: no region looks after it; deploy this plan"
    ]
    assert len(_unheard(plan, [])) == len(rows)
