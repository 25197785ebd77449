"""A scenario's steps in order, with where each one's result will lie in the machine's data."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.plan.scenario import Scenario, Step


def snake(name: str) -> str:
    """ "stop-writes" -> "stop_writes": a field name that JSONPath reads without quoting."""
    return name.replace("-", "_")


@dataclass(frozen=True)
class Placed:
    """A step with its place: `stage` counts from 0, `branch` is None outside a parallel stage.

    `path` points the plan's path of the step in the YAML, for findings.
    """

    step: Step
    stage: int
    branch: int | None
    path: tuple[str | int, ...]

    @property
    def result_path(self) -> str:
        """JSONPath of the step's outputs, as steps of later stages see it."""
        if self.branch is None:
            return f"$.steps.{snake(self.step.name)}"
        return f"$.stages.s{self.stage}.{snake(self.step.name)}"

    @property
    def local_path(self) -> str:
        """JSONPath of the step's outputs inside its own branch."""
        return f"$.steps.{snake(self.step.name)}"


def place_steps(name: str, scenario: Scenario) -> list[Placed]:
    """Every step of the scenario in order of running; branches one after the other."""
    placed: list[Placed] = []
    base: tuple[str | int, ...] = ("scenarios", name, "steps")
    for stage, item in enumerate(scenario.steps):
        if isinstance(item, Step):
            placed.append(Placed(item, stage, None, (*base, stage)))
            continue
        for branch, steps in enumerate(item.parallel):
            for index, step in enumerate(steps):
                path = (*base, stage, "parallel", branch, index)
                placed.append(Placed(step, stage, branch, path))
    return placed


def visible_path(source: Placed, reader: Placed) -> str | None:
    """Where `reader` finds the outputs of `source`, or None when it runs too late or beside it."""
    if source.stage < reader.stage:
        return source.result_path
    same_branch = source.stage == reader.stage and source.branch == reader.branch
    return source.local_path if same_branch and source.branch is not None else None
