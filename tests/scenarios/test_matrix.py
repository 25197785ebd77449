"""Every scenario under faults: a worker killed at each step, and the start of it told twice.

How many faults each scenario survived is printed at the end of the tests (tests/conftest.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chalicelib.errors import NotReady
from chalicelib.scenarios.steps import STEP_KINDS
from leeward.commands.drill import load_runnable
from leeward.local.drill import Drill, DrillOptions, Told

PLANS = Path(__file__).parents[2] / "policies" / "plans"
# Database corruption of Nexus has two deaths a step in test_faults.py, Artist Tech's server in
# test_artist_faults.py, the regional outage the outages themselves in test_regional_outage.py.
SCENARIOS = (
    ("nexus-studio", "accidental-deletion"),
    ("nexus-studio", "ransomware"),
    ("nexus-studio", "data-center-loss"),
    ("artist-tech", "database-corruption"),
)
KILL_AFTER_SECONDS = 0.15


class Striker:
    """Kills the worker of each step once, a moment after the step began."""

    def __init__(self) -> None:
        self.killed: set[str] = set()
        self.said: list[str] = []
        self.drill: Drill | None = None

    def hear(self, told: Told) -> None:
        record = told.record
        if record is not None and record.kind in ("step-failed", "run-finished"):
            self.said.append(f"{record.step} {record.body}")
        if record is None or record.kind != "step-started" or record.body["attempt"] > 1:
            return
        threading.Thread(target=self.kill, args=(record.step,), daemon=True).start()

    def kill(self, name: str) -> None:
        assert self.drill is not None
        steps = self.drill.plan.scenarios[self.drill.options.scenario].all_steps()
        uses = next(step.uses for step in steps if step.name == name)
        time.sleep(KILL_AFTER_SECONDS)
        try:
            self.drill.cloud.kill_worker(STEP_KINDS[uses or ""].function, wait_seconds=0.05)
            self.killed.add(name)
        except NotReady:
            return


@pytest.mark.parametrize(("plan_name", "scenario"), SCENARIOS, ids=lambda it: str(it))
def test_a_death_at_every_step_changes_nothing_of_the_end(
    plan_name: str,
    scenario: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    plan, stage = load_runnable(PLANS / f"{plan_name}.yaml", scenario)
    striker = Striker()
    options = DrillOptions(
        scenario,
        plan.scenarios[scenario].component or "",
        stage.damages[0],
        tmp_path,
        projects=500,
        rate=30,
    )
    drill = striker.drill = stage(plan, options, striker.hear)
    result = drill.run()
    assert result.problems == [], striker.said
    done = [step for step in result.score.steps if step.outcome == "ok"]
    assert len(done) == len(result.score.steps)
    # Steps that last shorter than the blow takes are not hit; most are.
    assert len(striker.killed) >= len(done) // 3, striker.killed
    assert sum(step.attempts for step in done) >= len(done) + len(striker.killed) // 2
    record_property("survived", f"{plan_name} {scenario}: {len(striker.killed)} deaths")
