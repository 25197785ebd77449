"""Checks that a scenario's steps fit together before any machine is made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from chalicelib.plan.check.finding import Finding
from chalicelib.plan.model import Plan
from chalicelib.plan.scenario import Scenario
from chalicelib.scenarios.layout import Placed, place_steps, visible_path
from chalicelib.scenarios.steps import RUN_FIELDS, STEP_KINDS

REFERENCE = re.compile(r"^\$\{([a-z0-9-]+)\.([a-z_]+)\}$")

# What a person's step gives to the steps after it.
PERSON_OUTPUTS = ("found", "answer", "by")


def parse_reference(value: Any) -> tuple[str, str] | None:
    """ "${identify.target}" -> ("identify", "target"); None when the value is a constant."""
    match = REFERENCE.match(value) if isinstance(value, str) else None
    return (match[1], match[2]) if match else None


def check_wiring(plan: Plan) -> list[Finding]:
    """Findings of every scenario: unknown kinds and inputs, outputs nobody made, no approver."""
    return [
        finding
        for name, scenario in plan.scenarios.items()
        for finding in _check_scenario(plan, name, scenario)
    ]


def _check_scenario(plan: Plan, name: str, scenario: Scenario) -> Iterator[Finding]:
    placed = place_steps(name, scenario)
    for index, reader in enumerate(placed):
        if any(reader.step.name == other.step.name for other in placed[:index]):
            yield _finding(
                "LW101",
                reader,
                "name",
                f"step {reader.step.name!r} exists twice",
                "give each step of a scenario a name of its own",
            )
        yield from _check_kind(plan, reader)
        yield from _check_inputs(reader, placed)
        yield from _check_approval(plan, reader)
        yield from _check_unless(reader, placed)


def _check_kind(plan: Plan, reader: Placed) -> Iterator[Finding]:
    step = reader.step
    if step.uses is not None and step.uses not in STEP_KINDS:
        near = get_close_matches(step.uses, STEP_KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(STEP_KINDS)}"
        yield _finding("LW102", reader, "uses", f"unknown kind of step {step.uses!r}", hint)
    if step.by is not None and step.by not in plan.roles:
        near = get_close_matches(step.by, plan.roles, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "name a role of the plan"
        yield _finding("LW104", reader, "by", f"no role {step.by!r} is there to do this", hint)


def _check_inputs(reader: Placed, placed: list[Placed]) -> Iterator[Finding]:
    kind = STEP_KINDS.get(reader.step.uses or "")
    if kind is not None:
        for name, needed in kind.inputs.items():
            if needed and name not in reader.step.inputs:
                yield _finding(
                    "LW103",
                    reader,
                    "with",
                    f"{kind.uses} needs the input {name!r}",
                    f"add `{name}:` under `with:`",
                )
        for name in reader.step.inputs:
            if name not in kind.inputs:
                yield _finding(
                    "LW103",
                    reader,
                    "with",
                    f"{kind.uses} has no input {name!r}",
                    f"its inputs are: {', '.join(kind.inputs)}",
                )
    for name, value in reader.step.inputs.items():
        reason = _why_unresolved(value, reader, placed)
        if reason:
            yield _finding(
                "LW105",
                reader,
                "with",
                f"input {name!r}: {reason}",
                "refer to an output of an earlier step, or to ${run.FIELD}",
            )


def _why_unresolved(value: Any, reader: Placed, placed: list[Placed]) -> str:
    reference = parse_reference(value)
    if reference is None:
        stray = isinstance(value, str) and "${" in value
        return f"{value!r} is not of the form ${{step.output}}" if stray else ""
    owner, output = reference
    if owner == "run":
        return "" if output in RUN_FIELDS else f"a run has no field {output!r}"
    source = next((item for item in placed if item.step.name == owner), None)
    if source is None:
        return f"there is no step {owner!r}"
    if visible_path(source, reader) is None:
        return f"step {owner!r} has not run when this one needs its {output!r}"
    kind = STEP_KINDS.get(source.step.uses or "")
    outputs = (*kind.outputs, "found") if kind else PERSON_OUTPUTS
    return "" if output in outputs else f"step {owner!r} gives no {output!r}"


def _check_approval(plan: Plan, reader: Placed) -> Iterator[Finding]:
    approval = reader.step.approve
    if approval is None:
        return
    known = [role for role in approval.by if role in plan.roles]
    for role in approval.by:
        if role not in plan.roles:
            yield _finding(
                "LW106",
                reader,
                "approve",
                f"no role {role!r} is there to approve this",
                "name a role of the plan",
            )
        elif "approve" not in plan.roles[role].may:
            yield _finding(
                "LW106",
                reader,
                "approve",
                f"the role {role!r} may not approve",
                "give it `may: [approve]`, or name a role that may",
            )
    people = {person for role in known for person in plan.roles[role].held_by}
    if known and len(people) < approval.count:
        yield _finding(
            "LW106",
            reader,
            "approve",
            f"{approval.count} approvals are asked for, {len(people)} people can give one",
            "give the role more people, or ask for fewer approvals",
        )


def _check_unless(reader: Placed, placed: list[Placed]) -> Iterator[Finding]:
    unless = reader.step.approve.unless if reader.step.approve else None
    if unless is None:
        return
    reason = _why_unresolved(unless, reader, placed)
    if reason or parse_reference(unless) is None:
        yield _finding(
            "LW105",
            reader,
            "approve",
            f"`unless`: {reason or f'{unless!r} is a constant'}",
            "refer to an output of an earlier step that is true or false",
        )


def _finding(rule: str, reader: Placed, field: str, message: str, hint: str) -> Finding:
    text = f"step {reader.step.name!r}: {message}"
    return Finding(rule=rule, severity="error", path=(*reader.path, field), message=text, hint=hint)
