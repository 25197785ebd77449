"""What does not fit into a Lambda runs in a task: to the same end, also when the task dies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from chalicelib.adapters.fargate import FargateWorkers
from chalicelib.incidents.orders import Order, give_order
from chalicelib.plan.model import Plan
from leeward.commands.drill import load_runnable
from leeward.local.drill import Drill, DrillOptions, DrillResult
from leeward.local.iam import compare_rights
from leeward.local.tasks import EXITED
from tests.scenarios.drills import PLAN, SCENARIO

FAMILY = "leeward-primary-rebuild"
IN_TASK = ("restore", "replay", "verify", "load")
# Two workers begin anew, on a machine that may have much else to do.
RECOVERY_SECONDS = 1500.0


@dataclass
class Seen:
    """What a drill left behind. tasks: status, exit code and why it stopped, of each. attempts: how
    many of each step were begun."""

    result: DrillResult
    tasks: list[tuple[str, int | None, tuple[str, str]]]
    attempts: dict[str, int]
    denied: tuple[str, ...]
    unused: tuple[str, ...]
    log: str
    invoked: list[str] = field(default_factory=list)
    cancelled: int | None = None


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """One drill: the first task is lost in the middle of the restore, the second one is stopped by
    ECS in the middle of the verification."""
    plan, stage = load_runnable(PLAN, SCENARIO)
    data = plan.to_json()
    data["components"]["nexus-db"]["runs_in"] = "task"
    out = tmp_path_factory.mktemp("task")
    options = DrillOptions(SCENARIO, "nexus-db", "update-without-where", out, projects=2000)
    drill = stage(Plan.from_json(data), options, lambda told: None)
    kept: list[Seen] = []
    notice = drill.notice

    drill.recovery_seconds = RECOVERY_SECONDS  # type: ignore[misc]
    over = threading.Event()
    striker = threading.Thread(target=strike, args=(drill, over))

    def and_strike() -> str:
        striker.start()
        return notice()

    def linger(result: DrillResult) -> None:
        over.set()
        striker.join()
        kept.append(look(drill, result))
        kept[0].cancelled = do_for_nobody(drill, result)

    drill.notice = and_strike  # type: ignore[method-assign]
    try:
        drill.run(linger=linger)
    finally:
        over.set()
    return kept[0]


def strike(drill: Drill, over: threading.Event) -> None:
    when_doing(drill, "restore", lambda: lose(drill), over)
    when_doing(drill, "verify", lambda: stop_all(drill), over)


def lose(drill: Drill) -> None:
    """Its machine is gone. Step Functions would try again after five minutes without a sign of life
    (tests/contract/test_cloud_machines.py); here it does at once."""
    drill.cloud.tasks.kill()
    order = drill.state().get(f"run#{started_run(drill)}", "order")
    assert order is not None
    drill.cloud.client("stepfunctions").send_task_failure(
        taskToken=order["token"], error="Unavailable", cause="no sign of life"
    )


def when_doing(drill: Drill, step: str, then: Callable[[], Any], over: threading.Event) -> None:
    """As soon as a task has begun the step: it asks this process for all that it needs, which is
    slower than to look at the state here."""
    while not over.is_set():
        run = started_run(drill)
        order = drill.state().get(f"run#{run}", "order") if run else None
        begun = order and order["standing"] == "taken" and order["order"]["event"]["step"] == step
        if begun and drill.state().get(f"run#{run}", f"attempts#{step}"):
            then()
            return
        time.sleep(0.01)


def started_run(drill: Drill) -> str:
    """Its id, "" before it is started."""
    found = drill.state().get("incidents", "open#nexus-db")
    return str(found["id"]).replace("inc-", "run-", 1) if found else ""


def stop_all(drill: Drill) -> None:
    client = drill.cloud.client("ecs")
    for arn in client.list_tasks(cluster=FAMILY)["taskArns"]:
        client.stop_task(cluster=FAMILY, task=arn, reason="Fargate retires the machine")


def look(drill: Drill, result: DrillResult) -> Seen:
    run = result.score.incident.replace("inc-", "run-", 1)
    items = list(drill.state().query(f"run#{run}", "attempts#"))
    attempts = {it["sort"].partition("#")[2]: int(it["count"]) for it in items}
    calls, tasks = drill.cloud.calls("rebuild-task"), drill.cloud.tasks.all
    rights = compare_rights(tasks[0].definition["taskRoleArn"], calls)
    logs = drill.cloud.client("logs").filter_log_events(logGroupName=f"/aws/ecs/{FAMILY}")
    log = "\n".join(it["message"] for it in logs["events"])
    invoked = [it.operation for it in drill.cloud.calls("rebuild")]
    ends = [(it.status, it.exit_code, it.stop) for it in tasks]
    return Seen(result, ends, attempts, rights.denied, rights.unused, log, invoked)


def do_for_nobody(drill: Drill, result: DrillResult) -> int | None:
    """The exit status of the task that is there, when the run of its next order was ended."""
    client, run = drill.cloud.client("ecs"), result.score.incident.replace("inc-", "run-", 1)
    [task] = [it for it in drill.cloud.tasks.all if it.status == "RUNNING"]
    step = {"run_id": run, "step": "verify-late", "uses": "database.verify", "does": "again"}
    step["inputs"] = {"component": "nexus-db", "target": "end"}  # type: ignore[assignment]
    order, workers = Order(step, "of a run that was ended"), FargateWorkers(client, FAMILY, {})
    assert not give_order(run, order, state=drill.state(), workers=workers)
    task.ended.wait(120)
    return task.exit_code


def test_the_database_recovers_although_its_workers_die(seen: Seen) -> None:
    assert seen.result.problems == [], seen.log


def test_one_task_is_lost_one_stopped_and_a_third_does_the_rest(seen: Seen) -> None:
    lost, stopped, last = seen.tasks
    assert lost == ("STOPPED", 131, EXITED)
    assert stopped == ("STOPPED", 143, ("UserInitiated", "Fargate retires the machine"))
    assert last[:2] == ("RUNNING", None)


def test_each_step_is_done_in_a_task_and_only_what_was_interrupted_twice(seen: Seen) -> None:
    assert {name: seen.attempts[name] for name in IN_TASK} == {
        "restore": 2,
        "replay": 1,
        "verify": 2,
        "load": 1,
    }
    for step in IN_TASK:
        assert f"{step} is done" in seen.log


def test_the_record_says_where_each_step_ran_and_why(seen: Seen) -> None:
    said = [
        json.loads(file.read_text())["body"]
        for file in sorted((seen.result.folder / "records").glob("*.json"))
    ]
    why = {it["what"]: it["why"] for it in said if "what" in it}
    for step in IN_TASK:
        assert why[f"{step} runs in a task"] == "the plan says so (runs_in: task)"


def test_a_task_has_the_rights_it_needs_and_no_others(seen: Seen) -> None:
    assert seen.denied == ()
    # An upload that broke; partial WAL that was superseded.
    assert set(seen.unused) <= {"s3:AbortMultipartUpload", "s3:DeleteObject"}


def test_a_task_that_nobody_waits_for_ends_itself(seen: Seen) -> None:
    assert seen.cancelled == 143


def test_the_lambda_does_nothing_but_hand_over(seen: Seen) -> None:
    assert "RunTask" in seen.invoked
    assert "ListTasks" in seen.invoked
