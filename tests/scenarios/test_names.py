"""Names move by the deployed package, whatever becomes of the primary region."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.traffic.dns_client import NameServers
from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.model import Plan
from chalicelib.plan.records import EvidenceRecord
from leeward.local.cloud import STANDBY_REGION, LocalCloud
from leeward.local.damage import Injected
from leeward.local.drill import Drill, DrillOptions
from leeward.plan_file import load_plan
from tests.clouds import wait_for

PLAN = Path(__file__).parents[2] / "policies" / "plans" / "nexus-studio.yaml"
SCENARIO = "regional-outage"
ZONE, NAME, DRILL_NAME = "nexus-studio.io", "api.nexus-studio.io", "drill.nexus-studio.io"
HOME, AWAY = ("192.0.2.11",), ("198.51.100.11",)
DRILL_HOME, DRILL_AWAY = ("192.0.2.12",), ("198.51.100.12",)
STEPS = [
    {
        "name": "update-dns",
        "says": "Update DNS to point to secondary",
        "uses": "names.switch",
        "with": {"component": "nexus-dns"},
    },
    {
        "name": "verify",
        "says": "Verify where names lead",
        "uses": "names.verify",
        "with": {"component": "nexus-dns"},
    },
]


class Stage(Drill):
    """The two stacks and the names, nothing else."""

    def harm(self) -> tuple[Injected, ...]:
        return ()

    def values(self, name: str = NAME) -> tuple[str, ...]:
        [answer] = NameServers(self.cloud.dns_address).ask(ZONE, name, "A")
        return answer.values

    def switches(self) -> list[str]:
        client = self.cloud.outside("s3", STANDBY_REGION)
        bucket = "leeward-switch-123456789012-us-west-2"
        return [it["Key"] for it in client.list_objects_v2(Bucket=bucket).get("Contents", ())]

    def chain(self, incident: str) -> list[EvidenceRecord]:
        return self.records.read(incident)


def only_names() -> Plan:
    data = load_plan(PLAN).plan.to_json()
    scenario = data["scenarios"][SCENARIO]
    scenario["steps"] = STEPS
    scenario.pop("trigger", None)
    return Plan.from_json(data)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    options = DrillOptions(SCENARIO, "", "", tmp_path_factory.mktemp("names"))
    made = Stage(only_names(), options, lambda told: None)
    with ExitStack() as stack:
        made.set_stage(stack)
        wait_for(lambda: made.values() == HOME, "the names never led home")
        yield made


def outputs(stage: Stage, incident: str, step: str) -> dict[str, Any]:
    [body] = [
        it.body for it in stage.chain(incident) if it.kind == "step-finished" and it.step == step
    ]
    found: dict[str, Any] = body["outputs"]
    return found


def follow(stage: Stage, incident: str) -> Scorecard:
    score = stage.follow(incident)
    lacked = {name: it.denied for name, it in stage.cloud.rights().items() if it.denied}
    assert lacked == {}
    return score


def test_a_drill_moves_names_of_its_own_and_takes_them_back(stage: Stage) -> None:
    seen: set[tuple[str, ...]] = set()
    incident = stage.declare("a drill", drill=True)
    wait_for(
        lambda: stage.values(DRILL_NAME) == DRILL_AWAY, "the drill's names did not move", seconds=60
    )
    seen.add(stage.values())

    score = follow(stage, incident)

    assert score.outcome == "recovered"
    assert outputs(stage, incident, "update-dns")["answers"] == {f"{DRILL_NAME} A": [*DRILL_AWAY]}
    assert stage.values(DRILL_NAME) == DRILL_HOME
    assert seen | {stage.values()} == {HOME}
    assert stage.switches() == []


def test_names_move_while_the_primary_region_is_gone_and_the_worker_dies(stage: Stage) -> None:
    cloud: LocalCloud = stage.cloud
    cloud.fail(region="us-east-1")
    incident = stage.declare("the primary region is gone")
    wait_for(lambda: "switch/nexus-names" in stage.switches(), "nothing was switched", seconds=60)
    cloud.kill_worker("move_names")  # between the act and what it would have recorded

    score = follow(stage, incident)

    assert score.outcome == "recovered"
    assert stage.values() == AWAY
    assert stage.values(ZONE) == ("198.51.100.10",)
    found = outputs(stage, incident, "update-dns")
    assert found["site"] == "dr"
    assert found["switched_at"] < found["resolved_at"]
    began = [it for it in stage.chain(incident) if it.kind == "step-started"]
    assert [it.body["attempt"] for it in began if it.step == "update-dns"] == [1, 2]
    history = [it for it in stage.switches() if it.startswith("history/")]
    assert len(history) == 1
    called = {(it.service, it.operation) for it in cloud.calls("move_names")}
    assert {service for service, _ in called} <= {"s3", "dynamodb", "kms"}
    cloud.heal()


def test_names_do_not_go_home_by_themselves(stage: Stage) -> None:
    """The step of a failback without a person's reason, as a machine would start it."""
    run_id = "run-20261122T000000Z-by-hand"
    start_by_hand(stage, run_id)
    event = {
        "run_id": run_id,
        "step": "names",
        "uses": "names.switch",
        "does": "",
        "inputs": {"component": "nexus-names", "to": "primary"},
    }
    client = stage.cloud.client("lambda", STANDBY_REGION)

    answer = client.invoke(FunctionName="leeward-standby-move_names", Payload=json.dumps(event))
    refused = json.loads(answer["Payload"].read())

    assert refused["errorType"] == "Refused"
    assert "a person's reason" in refused["errorMessage"]
    assert stage.values() == AWAY

    event["inputs"] = event["inputs"] | {"reason": "the region is back and equal"}
    done = json.loads(
        client.invoke(FunctionName="leeward-standby-move_names", Payload=json.dumps(event))[
            "Payload"
        ].read()
    )
    assert done["site"] == "primary"
    assert stage.values() == HOME


def start_by_hand(stage: Stage, run_id: str) -> None:
    item = {
        "run_id": run_id,
        "incident_id": run_id.replace("run-", "inc-"),
        "scenario": SCENARIO,
        "component": "nexus-names",
        "alarm_at": "2026-11-22T00:00:00.000000Z",
        "moment": None,
        "drill": False,
        "site": "",
        "status": "running",
    }
    assert stage.state().create(f"run#{run_id}", "run", item)
