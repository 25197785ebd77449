"""Compiling: what every machine holds, how steps are wired, and what is refused with its line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.errors import all_error_types
from chalicelib.plan.model import Plan
from chalicelib.scenarios.compile import SANDBOX_ERRORS, compile_scenario
from chalicelib.scenarios.explain import explain_scenario
from chalicelib.scenarios.steps import STEP_KINDS
from chalicelib.scenarios.wiring import check_wiring
from chalicelib.services.steps.code import CODE, UNDO, undo_of, work_of
from leeward.plan_file import load_plan

PLANS = Path(__file__).parents[2] / "policies" / "plans"
NEXUS = load_plan(PLANS / "nexus-studio.yaml").plan
PLAN_FILES = sorted(PLANS.glob("*.yaml"))
SCENARIOS = [
    (plan, name) for plan in (load_plan(f).plan for f in PLAN_FILES) for name in plan.scenarios
]


def plan_with(steps: list[Any], roles: dict[str, Any] | None = None) -> Plan:
    """Nexus Studio's plan with one scenario of these steps."""
    data = NEXUS.to_json()
    data["scenarios"] = {"mine": {"title": "Mine", "component": "nexus-db", "steps": steps}}
    data["verification"], data["testing"] = [], []
    if roles is not None:
        data["roles"] = roles
    return Plan.from_json(data)


FIND = {
    "name": "find",
    "says": "Find",
    "uses": "database.find-damage",
    "with": {"component": "nexus-db", "moment": "${run.moment}"},
}
RESTORE = {
    "name": "restore",
    "says": "Restore",
    "uses": "database.restore",
    "with": {"component": "nexus-db", "target": "${find.target}"},
}
TO_THE_END = {"component": "nexus-db", "target": "end"}
FENCE = {
    "name": "stop-writes",
    "says": "Stop",
    "uses": "database.fence",
    "with": {"component": "nexus-db"},
}


def all_states(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in machine["States"].items():
        yield name, state
        for branch in state.get("Branches", []):
            yield from all_states(branch)


@pytest.mark.parametrize(("plan", "name"), SCENARIOS, ids=lambda v: v if isinstance(v, str) else "")
def test_every_state_is_bounded_told_and_caught(plan: Plan, name: str) -> None:
    machine = compile_scenario(name, plan.scenarios[name])
    assert machine["TimeoutSeconds"] > 0
    for state_name, state in all_states(machine):
        assert state["Comment"], state_name
        if state["Type"] == "Task":
            assert state["TimeoutSeconds"] > 0, state_name
            retried = [error for rule in state["Retry"] for error in rule["ErrorEquals"]]
            assert set(SANDBOX_ERRORS) < set(retried), state_name
    for state_name, state in machine["States"].items():
        if state["Type"] in ("Task", "Parallel"):
            catch_all = state["Catch"][-1]
            assert catch_all["ErrorEquals"] == ["States.ALL"], state_name
            assert ends_recorded(machine, catch_all["Next"]), state_name


@pytest.mark.parametrize(("plan", "name"), SCENARIOS, ids=lambda v: v if isinstance(v, str) else "")
def test_a_worker_ends_before_its_state_gives_it_up(plan: Plan, name: str) -> None:
    """By Lambda's longest start, and before Lambda itself ends it after 900 s."""
    steps = {it.name: it for it in plan.scenarios[name].all_steps()}
    for state_name, state in all_states(compile_scenario(name, plan.scenarios[name])):
        payload = state.get("Parameters", {}).get("Payload", {})
        if payload.get("step") in steps and "token.$" not in payload:
            assert payload["within"] + 10 <= state["TimeoutSeconds"], state_name
            assert payload["within"] <= 890, state_name
            said = steps[payload["step"]].timeout
            assert said is None or payload["within"] == said.total_seconds(), state_name


def ends_recorded(machine: dict[str, Any], name: str) -> bool:
    """Whether a failure that goes on at `name` comes to the recorder, by whatever way."""
    if name in ("Record failure", "Not recovered"):
        return True
    state = machine["States"][name]
    ways = [*state.get("Choices", []), *([state] if "Next" in state else [])]
    return all(ends_recorded(machine, way["Next"]) for way in ways) and bool(ways)


def test_exactly_the_retryable_errors_are_retried() -> None:
    machine = compile_scenario("mine", plan_with([FIND]).scenarios["mine"])
    retried = {e for rule in machine["States"]["Find"]["Retry"] for e in rule["ErrorEquals"]}
    ours = {kind.__name__: kind.retryable for kind in all_error_types()}
    assert retried - set(SANDBOX_ERRORS) == {name for name, again in ours.items() if again}


def test_outputs_are_wired_to_inputs() -> None:
    machine = compile_scenario("mine", plan_with([FIND, RESTORE]).scenarios["mine"])
    payload = machine["States"]["Restore"]["Parameters"]["Payload"]
    assert payload["inputs"] == {"component": "nexus-db", "target.$": "$.steps.find.outputs.target"}
    assert machine["States"]["Find"]["ResultPath"] == "$.steps.find"


def test_branches_run_together_and_their_outputs_are_read_after() -> None:
    together = {"parallel": [[FIND], [FENCE]]}
    machine = compile_scenario("mine", plan_with([together, RESTORE]).scenarios["mine"])
    stage = machine["States"][machine["StartAt"]]
    assert stage["Type"] == "Parallel"
    assert stage["ResultSelector"] == {
        "find.$": "$[0].steps.find",
        "stop_writes.$": "$[1].steps.stop_writes",
    }
    payload = machine["States"]["Restore"]["Parameters"]["Payload"]
    assert payload["inputs"]["target.$"] == "$.stages.s0.find.outputs.target"


def test_an_approval_comes_before_its_step_and_says_what_silence_means() -> None:
    asked = FIND | {
        "approve": {"by": ["incident-commander"], "within": 900, "otherwise": "proceed"}
    }
    machine = compile_scenario("mine", plan_with([asked]).scenarios["mine"])
    approve = machine["States"]["Approve find"]
    assert machine["StartAt"] == "Approve find"
    assert approve["TimeoutSeconds"] == 900
    assert approve["Catch"][0] == {
        "ErrorEquals": ["States.Timeout"],
        "ResultPath": None,
        "Next": "Find",
    }


@pytest.mark.parametrize(
    ("steps", "rule", "where", "message"),
    [
        ([FIND | {"uses": "database.find-damag"}], "LW102", "uses", "database.find-damag"),
        ([RESTORE], "LW105", "with", "no step 'find'"),
        ([RESTORE, FIND], "LW105", "with", "has not run"),
        ([{"parallel": [[FIND], [RESTORE]]}], "LW105", "with", "has not run"),
        ([FIND, RESTORE | {"with": {"component": "nexus-db", "target": "${find.moment}"}}],
         "LW105", "with", "gives no 'moment'"),
        ([FIND | {"with": {"component": "nexus-db", "moment": "${run.when}"}}],
         "LW105", "with", "no field 'when'"),
        ([FIND | {"with": {"component": "nexus-db", "moment": "at ${run.moment}"}}],
         "LW105", "with", "not of the form"),
        ([FIND | {"with": {}}], "LW103", "with", "needs the input 'component'"),
        ([FIND | {"with": {"component": "nexus-db", "speed": 1}}], "LW103", "with", "'speed'"),
        ([FIND | {"approve": {"by": ["incident-commander"], "count": 9, "within": 60}}],
         "LW106", "approve", "9 approvals"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_found_where_it_stands(
    steps: list[Any], rule: str, where: str, message: str
) -> None:
    found = check_wiring(plan_with(steps))
    assert [(f.rule, f.path[-1], f.severity) for f in found] == [(rule, where, "error")]
    assert message in found[0].message
    assert found[0].hint


def test_a_role_that_may_not_approve_is_found() -> None:
    roles = {
        name: {"title": name, "may": may, "held_by": ["cto"]}
        for name, may in (("commander", ["approve"]), ("lead", ["execute"]))
    }
    step = FIND | {"approve": {"by": ["commander", "lead"], "within": 60}}
    [found] = check_wiring(plan_with([step], roles))
    assert (found.rule, found.path[-1]) == ("LW106", "approve")
    assert "'lead' may not approve" in found.message


@pytest.mark.parametrize("file", PLAN_FILES, ids=lambda f: f.stem)
def test_the_two_plans_are_wired(file: Path) -> None:
    assert check_wiring(load_plan(file).plan) == []


def test_the_explanation_names_planes_regions_and_undo() -> None:
    told = explain_scenario(NEXUS, "database-corruption")
    by_name = {step.name: step for step in told.steps}
    assert "postgres (data plane, us-east-1)" in by_name["stop-writes"].needs
    assert by_name["stop-writes"].undo
    assert told.takes_seconds is not None
    assert told.worst_seconds > told.takes_seconds
    assert told.rto_seconds == 4 * 3600
    assert json.loads(json.dumps(told.to_json())) == told.to_json()
    assert any("stop-writes" in line for line in told.on_failure)


def test_every_kind_of_step_fits_into_a_lambda() -> None:
    for kind in STEP_KINDS.values():
        assert 0 < kind.timeout_seconds <= 900, kind.uses
        assert bool(kind.changes) == bool(kind.undo), kind.uses


def test_what_needs_more_than_a_lambda_is_done_in_a_task_to_the_same_end() -> None:
    machine = compile_scenario("mine", plan_with([FIND, RESTORE, FENCE]).scenarios["mine"])
    restore, question = machine["States"]["Restore"], machine["States"]["Where to restore"]
    in_task = machine["States"]["Restore in a task"]
    assert (restore["Next"], question["Default"]) == ("Where to restore", "Stop writes")
    assert (question["Choices"][0]["Next"], in_task["Next"]) == ("Restore in a task", "Stop writes")
    asked = dict(in_task["Parameters"]["Payload"])
    assert asked.pop("token.$") == "$$.Task.Token"
    here = restore["Parameters"]["Payload"]
    assert asked == {name: it for name, it in here.items() if name != "within"}
    assert in_task["ResultPath"] == restore["ResultPath"]
    assert in_task["Catch"] == restore["Catch"]
    # One that gives no sign of life is lost, and another one begins.
    assert 0 < in_task["HeartbeatSeconds"] < in_task["TimeoutSeconds"]
    again = [rule["ErrorEquals"] for rule in in_task["Retry"]]
    assert again[:-1] == [rule["ErrorEquals"] for rule in restore["Retry"]]
    assert "States.HeartbeatTimeout" in again[-1]
    assert machine["TimeoutSeconds"] > in_task["TimeoutSeconds"]


def test_a_branch_ends_whether_its_last_step_ran_in_a_lambda_or_in_a_task() -> None:
    together = {"parallel": [[FIND], [FENCE, RESTORE | {"with": TO_THE_END}]]}
    machine = compile_scenario("mine", plan_with([together]).scenarios["mine"])
    branch = machine["States"][machine["StartAt"]]["Branches"][1]["States"]
    assert branch["Restore in a task"]["End"] is True
    assert branch[branch["Where to restore"]["Default"]]["Type"] == "Succeed"


def test_a_limit_of_the_plan_holds_in_a_task_too() -> None:
    machine = compile_scenario(
        "mine", plan_with([FIND, RESTORE | {"timeout": 600}]).scenarios["mine"]
    )
    assert machine["States"]["Restore in a task"]["TimeoutSeconds"] == 600


def test_a_drill_takes_back_what_it_did_the_last_first_and_a_real_run_nothing() -> None:
    load = RESTORE | {"name": "load", "uses": "database.load"}
    machine = compile_scenario("mine", plan_with([FIND, FENCE, load]).scenarios["mine"])
    states = machine["States"]
    assert states["Where to load"]["Default"] == "Was it a drill"
    assert states["Load in a task"]["Next"] == "Was it a drill"
    assert states["Find"]["Catch"][-1]["Next"] == "Was it a drill"
    question = states["Was it a drill"]
    assert question["Choices"][0]["BooleanEquals"] is True
    assert question["Default"] == "How it ended"
    assert question["Choices"][0]["Next"] == "Undo load"
    assert states["Undo load"]["Next"] == "Undo stop-writes"
    assert states["Undo stop-writes"]["Next"] == "How it ended"
    # One that fails keeps no other from being taken back, and the drill is a failed one.
    assert states["Undo load"]["Catch"][-1]["Next"] == "Undo stop-writes"
    assert states["How it ended"]["Choices"][0]["Next"] == "Record failure"
    assert states["How it ended"]["Default"] == "Close the run"
    payload = states["Undo load"]["Parameters"]["Payload"]
    assert payload["undo"] is True
    assert payload["inputs"] == {"component": "nexus-db"}


def test_every_kind_that_is_taken_back_has_code_for_it() -> None:
    assert set(UNDO) == {kind.uses for kind in STEP_KINDS.values() if kind.taken_back}
    assert set(CODE) == set(STEP_KINDS)
    for uses in STEP_KINDS:
        assert callable(work_of(uses))
    for uses in UNDO:
        assert callable(undo_of(uses))


LEADS = {"technical-lead": {"title": "Lead", "held_by": ["cto"], "may": ["approve"]}}


def unless(reference: str) -> list[dict[str, Any]]:
    approve = {"by": ["technical-lead"], "within": "15m", "unless": reference}
    return [FIND, RESTORE | {"approve": approve}]


def test_nobody_is_asked_while_an_output_says_so() -> None:
    plan = plan_with(unless("${find.damage}"), LEADS)
    assert check_wiring(plan) == []
    states = compile_scenario("mine", plan.scenarios["mine"])["States"]
    choice = states["Whether to approve restore"]
    assert states["Find"]["Next"] == "Whether to approve restore"
    [rule] = choice["Choices"]
    assert rule["And"][1] == {"Variable": "$.steps.find.outputs.damage", "BooleanEquals": True}
    assert (rule["Next"], choice["Default"]) == ("Restore", "Approve restore")
    assert "nobody while ${find.damage}" in str(explain_scenario(plan, "mine"))


@pytest.mark.parametrize("reference", ["true", "${find.nothing}", "${later.found}"])
def test_what_decides_whether_to_ask_must_be_there(reference: str) -> None:
    [finding] = check_wiring(plan_with(unless(reference), LEADS))
    assert (finding.rule, finding.path[-1]) == ("LW105", "approve")
