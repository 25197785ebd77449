"""Every scenario under faults: a worker killed at each step and at the end, its start told twice, a
second start refused.

How many faults each scenario survived is printed at the end of the tests (tests/conftest.py); that
none is without them, tests/house/test_all_survived.py holds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions
from tests.scenarios.drills import PARTIAL
from tests.scenarios.striker import Striker, undisturbed

PLANS = Path(__file__).parents[2] / "policies" / "plans"
# Where a stage is there already, the deaths are in its own tests (tests/survived.py tells where).
SCENARIOS = (
    ("nexus-studio", "accidental-deletion"),
    ("nexus-studio", "ransomware"),
    ("nexus-studio", "data-center-loss"),
    ("artist-tech", "database-corruption"),
    ("artist-tech", "infrastructure-failure"),
)
# What they end with when nobody dies.
PROBLEMS = {"data-center-loss": PARTIAL}


@pytest.mark.parametrize(("plan_name", "scenario"), SCENARIOS, ids=lambda it: str(it))
def test_a_death_at_every_step_changes_nothing_of_the_end(
    plan_name: str,
    scenario: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    plan, stage = load_runnable(PLANS / f"{plan_name}.yaml", scenario)
    striker = Striker(whole=True)
    options = DrillOptions(
        scenario,
        plan.scenarios[scenario].component or "",
        stage.damages[0],
        tmp_path,
        projects=500,
        rate=30,
    )
    drill = striker.drill = stage(plan, options, striker.hear)
    with ExitStack() as stack:
        drill.set_stage(stack)
        drill.prepare()
        injected = drill.harm()
        score = drill.follow(drill.notice())
        result = drill._result(score, injected, 0.0)
        assert result.problems == PROBLEMS.get(scenario, []), striker.said
        assert {step.outcome for step in score.steps} == {"ok"}
        records = [it for it in drill.records.read(score.incident) if it.run_id == score.run_id]
        assert undisturbed(records) == set()
        record_property("survived", striker.told(plan_name, scenario))
