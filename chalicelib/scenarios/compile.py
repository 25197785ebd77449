"""One state machine (Amazon States Language, JSONPath) from one scenario.

Contract: every state has a Comment; every Task a TimeoutSeconds, a Retry for what is worth another
try and a Catch to the one recorder; a machine ends in `Recovered` or in `Not recovered`, and in
both cases the record says so first. Function names are `${Logical}` placeholders that the template
substitutes.

A drill takes back what its steps did, the last first, whether they succeeded or not:

    steps -> Close the run | caught -> Was it a drill -- yes --> Undo C, Undo B, Undo A --+
    (with steps to take back)                        -- no ------------------------------+
                                        -> How it ended -> Close the run / Record failure

A step that may need more than a Lambda has is asked of its Lambda first, which does it or says that
it needs a task; then the same Lambda is asked with a token, finds a worker, and the state waits:

    Restore -> Where to restore -- outputs are there --> next
                                -- runs_in: task -----> Restore in a task --> next
"""

from __future__ import annotations

from typing import Any

from chalicelib.plan.scenario import Scenario, Step, Together
from chalicelib.scenarios.layout import Placed, place_steps, snake, visible_path
from chalicelib.scenarios.states import INVOKE, RECORDER, catch, choice, retry
from chalicelib.scenarios.states import SANDBOX_ERRORS as SANDBOX_ERRORS
from chalicelib.scenarios.states import logical_id as logical_id
from chalicelib.scenarios.states import task_state as task_state
from chalicelib.scenarios.steps import STEP_KINDS
from chalicelib.scenarios.wiring import parse_reference

# Of a state's name. Source: Amazon States Language, "States".
NAME_CHARS = 80
CLOSER = "Close the run"
DRILL_ENDS = "Was it a drill"
HOW_IT_ENDED = "How it ended"
RECORD_SECONDS = 120
# A Lambda may take so long to begin, and is ended by Lambda after 900 s.
# Source: "Lambda quotas" and the init phase of "Lambda execution environment lifecycle".
START_SECONDS = 10
WORKER_SECONDS = 890
WHETHER = "Whether to approve"
# A person's step without a limit in the plan: Step Functions would wait for a year.
PERSON_SECONDS = 24 * 3600
# As far ahead as a window may lie (recover/sites/failback.py, FARTHEST).
LONGEST_WAIT_SECONDS = 14 * 24 * 3600

# How long a state waits for one step in a task, and for a sign of life. The first takes a minute or
# two: Fargate fetches the image and the code before.
TASK_SECONDS = 24 * 3600
HEARTBEAT_SECONDS = 300
# Step Functions tells a missing heartbeat by either name.
# Source: "Error names", AWS Step Functions developer guide.
NO_SIGN_OF_LIFE = ["States.HeartbeatTimeout", "States.Timeout"]
NEEDS_A_TASK = "task"


def compile_scenario(name: str, scenario: Scenario) -> dict[str, Any]:
    """The machine of a scenario whose wiring was found good (scenarios/wiring.py).

    Input of an execution: {"run": {every field of RUN_FIELDS}, "steps": {}, "stages": {}}.
    """
    placed = place_steps(name, scenario)
    undone = [one for one in reversed(placed) if _is_taken_back(one.step)]
    after = DRILL_ENDS if undone else CLOSER
    states: dict[str, Any] = {}
    names = [_stage_entry(item) for item in scenario.steps]
    for stage, item in enumerate(scenario.steps):
        following = names[stage + 1] if stage + 1 < len(names) else after
        here = [one for one in placed if one.stage == stage]
        if isinstance(item, Step):
            states |= _step_states(here[0], placed, following)
        else:
            states |= _parallel_state(item, here, placed, following)
    states |= _undo_states(undone) | _ending_states()
    if undone:
        states = {key: _caught_by(DRILL_ENDS, key, state) for key, state in states.items()}
    return {
        "Comment": f"{scenario.title} ({name})",
        "StartAt": names[0],
        "TimeoutSeconds": sum(limit_seconds(one.step) for one in placed) * 3
        + 3600
        + (LONGEST_WAIT_SECONDS if any(_wait_state(one) for one in placed) else 0)
        + sum(task_seconds(one.step) for one in placed if _may_need_a_task(one)),
        "States": states,
    }


def _is_taken_back(step: Step) -> bool:
    return step.uses is not None and STEP_KINDS[step.uses].taken_back


def _caught_by(name: str, key: str, state: dict[str, Any]) -> dict[str, Any]:
    """The state with what it catches for the recorder sent to `name` first."""
    if key in (CLOSER, RECORDER) or "Catch" not in state:
        return state
    caught = [it | {"Next": name} if it["Next"] == RECORDER else it for it in state["Catch"]]
    return state | {"Catch": caught}


def _undo_states(undone: list[Placed]) -> dict[str, Any]:
    """What a drill did is taken back; what cannot be makes the drill a failed one."""
    if not undone:
        return {}
    is_drill = {"Variable": "$.run.drill", "BooleanEquals": True, "Next": _undo_name(undone[0])}
    failed = {"Variable": "$.failure", "IsPresent": True, "Next": RECORDER}
    states: dict[str, Any] = {DRILL_ENDS: choice("a drill cleans up", is_drill, HOW_IT_ENDED)}
    following = [*(_undo_name(one) for one in undone[1:]), HOW_IT_ENDED]
    for one, then in zip(undone, following, strict=True):
        states[_undo_name(one)] = _undo_state(one) | {"Next": then, "Catch": catch(then)}
    return states | {HOW_IT_ENDED: choice("recovered, or not", failed, CLOSER)}


def _undo_name(one: Placed) -> str:
    return f"Undo {one.step.name}"


def _undo_state(one: Placed) -> dict[str, Any]:
    kind = STEP_KINDS[one.step.uses or ""]
    known = {k: v for k, v in one.step.inputs.items() if parse_reference(v) is None}
    payload = {
        "run_id.$": "$.run.run_id",
        "step": one.step.name,
        "uses": kind.uses,
        "undo": True,
        "inputs": known,
    }
    return _bounded_state(one.step, f"takes back: {one.step.says}", payload) | {"ResultPath": None}


def state_name(step: Step) -> str:
    """ "stop-writes" -> "Stop writes"."""
    return step.name.replace("-", " ").capitalize()


def _stage_entry(item: Step | Together) -> str:
    if isinstance(item, Step):
        if item.approve is None:
            return state_name(item)
        return f"{WHETHER} {item.name}" if item.approve.unless else f"Approve {item.name}"
    first, *others = (steps[0].name for steps in item.parallel)
    whole = "Together: " + ", ".join((first, *others))
    return whole if len(whole) <= NAME_CHARS else f"Together: {first} and {len(others)} more"


def _step_states(one: Placed, placed: list[Placed], following: str) -> dict[str, Any]:
    states: dict[str, Any] = {}
    if one.step.approve:
        if one.step.approve.unless:
            states[_stage_entry(one.step)] = _unless_state(one, placed, one.step.approve.unless)
        states[f"Approve {one.step.name}"] = _approval_state(one.step)
    work = _person_state(one) if one.step.by else _task_state(one, placed)
    wait = _wait_state(one)
    then = f"Wait after {one.step.name}" if wait else following
    if _may_need_a_task(one):
        question, in_task = f"Where to {one.step.name}", f"{state_name(one.step)} in a task"
        states[state_name(one.step)] = work | {"Next": question}
        states[question] = _where_state(one, in_task, then)
        states[in_task] = _in_task_state(one, placed) | {"Next": then}
    else:
        states[state_name(one.step)] = work | {"Next": then}
    if wait:
        states[then] = wait | {"Next": following}
    return states


def _may_need_a_task(one: Placed) -> bool:
    return one.step.uses is not None and STEP_KINDS[one.step.uses].in_task


def _where_state(one: Placed, in_task: str, otherwise: str) -> dict[str, Any]:
    path = f"{one.local_path}.outputs.runs_in"
    known = {"Variable": path, "IsPresent": True}
    rule = {"And": [known, {"Variable": path, "StringEquals": NEEDS_A_TASK}], "Next": in_task}
    return choice("it is done, or needs more than a Lambda has", rule, otherwise)


def _in_task_state(one: Placed, placed: list[Placed]) -> dict[str, Any]:
    """Tried again, with a new worker, when the one before gives no sign of life."""
    seconds = task_seconds(one.step)
    payload = _payload(one, placed) | {"token.$": "$$.Task.Token"}
    kind = STEP_KINDS[one.step.uses or ""]
    state = task_state(f"in a task: {one.step.says}", kind.function, payload, seconds)
    lost = retry(NO_SIGN_OF_LIFE, interval_seconds=1, attempts=3)
    return state | {
        "Resource": f"{INVOKE}.waitForTaskToken",
        "HeartbeatSeconds": min(HEARTBEAT_SECONDS, seconds - 1),
        "Retry": [*state["Retry"], lost],
        "ResultSelector": {"outputs.$": "$"},
        "ResultPath": one.local_path,
        "Catch": catch(),
    }


def _wait_state(one: Placed) -> dict[str, Any]:
    """Waits for the time that a step found; {} after all other steps."""
    until = STEP_KINDS[one.step.uses].waits_until if one.step.uses else ""
    path = f"{one.local_path}.outputs.{until}"
    comment = f"waits for the time that {one.step.name} found"
    return {"Type": "Wait", "Comment": comment, "TimestampPath": path} if until else {}


def _parallel_state(
    item: Together, here: list[Placed], placed: list[Placed], following: str
) -> dict[str, Any]:
    branches = []
    for branch, steps in enumerate(item.parallel):
        mine = [one for one in here if one.branch == branch]
        entries = [_stage_entry(step) for step in steps] + [""]
        states: dict[str, Any] = {}
        for index, one in enumerate(mine):
            states |= _step_states(one, placed, entries[index + 1])
        _end_branch(states, last=mine[-1].step.name)
        branches.append({"StartAt": entries[0], "States": _without_catch(states)})
    selector = {
        f"{snake(one.step.name)}.$": f"$[{one.branch}].steps.{snake(one.step.name)}" for one in here
    }
    state = {
        "Type": "Parallel",
        "Comment": "steps that do not wait for each other",
        "Branches": branches,
        "ResultSelector": selector,
        "ResultPath": f"$.stages.s{here[0].stage}",
        "Catch": catch(),
        "Next": following,
    }
    return {_stage_entry(item): state}


def _end_branch(states: dict[str, Any], *, last: str) -> None:
    """A state that goes on at nothing ends the branch; a choice cannot, and has one after it."""
    for state in [it for it in states.values() if it.get("Next") == ""]:
        del state["Next"]
        state["End"] = True
    for state in [it for it in states.values() if it.get("Default") == ""]:
        state["Default"] = f"After {last}"
        states[state["Default"]] = {"Type": "Succeed", "Comment": "the branch is done"}


def _without_catch(states: dict[str, Any]) -> dict[str, Any]:
    """The recorder lies outside the branch: there the parallel state catches for all."""
    return {name: {k: v for k, v in s.items() if k != "Catch"} for name, s in states.items()}


def _task_state(one: Placed, placed: list[Placed]) -> dict[str, Any]:
    return _bounded_state(one.step, one.step.says, _payload(one, placed)) | {
        "ResultSelector": {"outputs.$": "$.Payload"},
        "ResultPath": one.local_path,
        "Catch": catch(),
    }


def _bounded_state(step: Step, comment: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The worker ends itself before its state gives it up: services/steps/late.py."""
    seconds, kind = limit_seconds(step), STEP_KINDS[step.uses or ""]
    within = {"within": min(seconds, WORKER_SECONDS)}
    return task_state(comment, kind.function, payload | within, seconds + START_SECONDS)


def _payload(one: Placed, placed: list[Placed]) -> dict[str, Any]:
    return {
        "run_id.$": "$.run.run_id",
        "step": one.step.name,
        "uses": one.step.uses,
        "does": one.step.says,
        "inputs": _inputs(one, placed),
    }


def _inputs(one: Placed, placed: list[Placed]) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for name, value in one.step.inputs.items():
        reference = parse_reference(value)
        if reference is None:
            inputs[name] = value
            continue
        inputs[f"{name}.$"] = _reference_path(reference, one, placed)
    return inputs


def _reference_path(reference: tuple[str, str], one: Placed, placed: list[Placed]) -> str:
    owner, output = reference
    if owner == "run":
        return f"$.run.{output}"
    source = next(item for item in placed if item.step.name == owner)
    return f"{visible_path(source, one)}.outputs.{output}"


def _person_state(one: Placed) -> dict[str, Any]:
    question = {"role": one.step.by, "says": one.step.says, "commands": one.step.commands}
    state = _waiting_state(one.step, "do", question, limit_seconds(one.step))
    return state | {"ResultSelector": {"outputs.$": "$"}, "ResultPath": one.local_path}


def _unless_state(one: Placed, placed: list[Placed], unless: str) -> dict[str, Any]:
    """Asks nobody while the output is true: what is not known to be, is asked."""
    reference = parse_reference(unless)
    assert reference is not None, "scenarios/wiring.py has looked"
    path = _reference_path(reference, one, placed)
    known = {"Variable": path, "IsPresent": True}
    rule = {"And": [known, {"Variable": path, "BooleanEquals": True}]}
    go_on = rule | {"Next": state_name(one.step)}
    return choice("within what may be done unasked, or not", go_on, f"Approve {one.step.name}")


def _approval_state(step: Step) -> dict[str, Any]:
    approval = step.approve
    assert approval is not None
    question = {
        "roles": list(approval.by),
        "count": approval.count,
        "says": step.says,
        "otherwise": approval.otherwise,
    }
    state = _waiting_state(step, "approve", question, int(approval.within.total_seconds()))
    state |= {"ResultPath": None, "Next": state_name(step)}
    if approval.otherwise == "proceed":
        proceed = {"ErrorEquals": ["States.Timeout"], "ResultPath": None, "Next": state_name(step)}
        state["Catch"] = [proceed, *catch()]
    return state


def _waiting_state(step: Step, ask: str, question: dict[str, Any], seconds: int) -> dict[str, Any]:
    payload = {
        "run_id.$": "$.run.run_id",
        "step": step.name,
        "uses": f"people.{ask}",
        "inputs": question | {"within_seconds": seconds},
        "token.$": "$$.Task.Token",
    }
    state = task_state(f"waits for a person: {step.says}", "ask", payload, seconds)
    return state | {"Resource": f"{INVOKE}.waitForTaskToken", "Catch": catch()}


def _ending_states() -> dict[str, Any]:
    failed = {"ErrorEquals": ["States.ALL"], "ResultPath": "$.unrecorded", "Next": "Not recovered"}
    return {
        CLOSER: _record_state("run.close", {}, "write the report and the evidence")
        | {"Catch": catch(), "Next": "Recovered"},
        RECORDER: _record_state("run.fail", {"failure.$": "$.failure"}, "record what failed")
        | {"Catch": [failed], "Next": "Not recovered"},
        "Recovered": {"Type": "Succeed", "Comment": "recovered, verified and recorded"},
        "Not recovered": {
            "Type": "Fail",
            "Comment": "the record says which step failed and what is still in effect",
            "Error": "NotRecovered",
            "Cause": "see the run's record",
        },
    }


def _record_state(uses: str, inputs: dict[str, Any], comment: str) -> dict[str, Any]:
    step = uses.replace(".", "-")
    payload = {"run_id.$": "$.run.run_id", "step": step, "uses": uses, "inputs": inputs}
    return task_state(comment, "record", payload, RECORD_SECONDS) | {"ResultPath": None}


def limit_seconds(step: Step) -> int:
    """The longest that one attempt of a step may take."""
    if step.timeout is not None:
        return int(step.timeout.total_seconds())
    return PERSON_SECONDS if step.by else STEP_KINDS[step.uses or ""].timeout_seconds


def task_seconds(step: Step) -> int:
    """The same in a task: what the plan says, else a day."""
    return TASK_SECONDS if step.timeout is None else limit_seconds(step)
