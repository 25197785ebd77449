"""Kills the worker of each step of a drill once, a moment after the step began."""

from __future__ import annotations

import threading
import time

from chalicelib.errors import NotReady
from chalicelib.scenarios.steps import STEP_KINDS
from leeward.local.drill import Drill, Told

KILL_AFTER_SECONDS = 0.15


class Striker:
    """`hear` is told of everything; it strikes while `active`. `killed`: by scenario."""

    def __init__(self, *, active: bool = True) -> None:
        self.active = active
        self.killed: dict[str, set[str]] = {}
        self.said: list[str] = []
        self.drill: Drill | None = None

    def hear(self, told: Told) -> None:
        record = told.record
        if record is not None and record.kind in ("step-failed", "run-finished"):
            self.said.append(f"{record.step} {record.body}")
        if record is None or record.kind != "step-started" or record.body["attempt"] > 1:
            return
        if self.active:
            threading.Thread(target=self.kill, args=(record.step,), daemon=True).start()

    def kill(self, name: str) -> None:
        assert self.drill is not None
        scenario = self.drill.options.scenario
        steps = self.drill.plan.scenarios[scenario].all_steps()
        uses = next(step.uses for step in steps if step.name == name)
        time.sleep(KILL_AFTER_SECONDS)
        try:
            self.drill.cloud.kill_worker(STEP_KINDS[uses or ""].function, wait_seconds=0.05)
            self.killed.setdefault(scenario, set()).add(name)
        except NotReady:
            return

    def told(self, plan: str, scenario: str) -> str:
        """A line for the end of the tests."""
        return f"{plan} {scenario}: {len(self.killed.get(scenario, ()))} deaths"
