"""Names move by the deployed package, whatever becomes of the primary region."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from chalicelib.adapters.traffic.dns_client import NameServers
from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.model import Plan
from chalicelib.plan.records import EvidenceRecord
from leeward.local.cloud import STANDBY_REGION, LocalCloud
from leeward.local.damage import Injected
from leeward.local.drill import Drill, DrillOptions
from leeward.local.routing_control import RoutingCluster
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


CONTROLS = {
    site: f"arn:aws:route53-recovery-control::123456789012:controlpanel/panel/routingcontrol/{site}"
    for site in ("primary", "dr")
}
ANSWERS = {"primary": ["192.0.2.31"], "dr": ["198.51.100.31"]}
OLD, NEW = "127.0.0.1", "127.0.0.2"


class Stage(Drill):
    """The two stacks and the names, and beside them names that move in the other ways."""

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        # Each part is there before the plan that names it is packaged.
        self.cluster = stack.enter_context(RoutingCluster(CONTROLS.values()))
        self.cloud.clusters.append(self.cluster)
        self.ready.set()
        deploying.result()

    def _deploy(self) -> None:
        assert self.ready.wait(30)
        data = self.plan.to_json()
        data["components"] |= self._others()
        self.plan = Plan.from_json(data)
        super()._deploy()

    def _others(self) -> dict[str, Any]:
        client = self.cloud.client("route53")
        made = client.create_hosted_zone(Name=f"{ZONE}.", CallerReference="first")
        zone = made["HostedZone"]["Id"].rpartition("/")[2]
        common = {"kind": "names", "zone": ZONE, "provider": "route53"}
        return {
            "by-records": common
            | {
                "failover": "change-records",
                "hosted_zone": zone,
                "records": [{"name": f"changed.{ZONE}", "answers": ANSWERS}],
            },
            "by-controls": common
            | {
                "failover": "routing-control",
                "records": [{"name": f"controlled.{ZONE}", "answers": ANSWERS}],
                "routing_controls": CONTROLS,
                "routing_endpoints": self.cluster.endpoints,
            },
            "by-targets": common
            | {
                "failover": "load-balancer",
                "target_group": self._target_group(),
                "targets": {"primary": [OLD], "dr": [NEW]},
            },
        }

    def _target_group(self) -> str:
        self.web = Web()
        client = self.cloud.client("elbv2", STANDBY_REGION)
        vpc = self.cloud.client("ec2", STANDBY_REGION).create_vpc(CidrBlock="10.0.0.0/16")
        found = client.create_target_group(
            Name="web",
            Protocol="HTTP",
            Port=self.web.port,
            VpcId=vpc["Vpc"]["VpcId"],
            TargetType="ip",
        )
        return str(found["TargetGroups"][0]["TargetGroupArn"])

    def move(self, uses: str, component: str, **inputs: str) -> dict[str, Any]:
        """One step of a run that a person started, as its state machine calls the function."""
        event = {
            "run_id": RUN,
            "step": "-".join((uses, component, inputs.get("to") or inputs["site"])),
            "uses": uses,
            "does": "",
            "inputs": {"component": component, **inputs},
        }
        return self.ask_function(event)

    def ask_function(self, event: dict[str, Any]) -> dict[str, Any]:
        answer = self.cloud.client("lambda", STANDBY_REGION).invoke(
            FunctionName="leeward-standby-move_names", Payload=json.dumps(event)
        )
        found: dict[str, Any] = json.loads(answer["Payload"].read())
        return found

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


class Web:
    """Two servers of one page, on one port of two addresses."""

    def __init__(self) -> None:
        self.servers = [ThreadingHTTPServer((OLD, 0), Page)]
        self.port = self.servers[0].server_port
        self.servers.append(ThreadingHTTPServer((NEW, self.port), Page))
        for server in self.servers:
            Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


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
    made.ready = Event()
    with ExitStack() as stack:
        made.set_stage(stack)
        wait_for(lambda: made.values() == HOME, "the names never led home")
        yield made
        made.web.close()


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

    assert score.outcome == "partial"
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

    assert score.outcome == "partial"
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
    start_by_hand(stage)

    refused = stage.move("names.switch", "nexus-names", to="primary")

    assert refused["errorType"] == "Refused"
    assert "a person's reason" in refused["errorMessage"]
    assert stage.values() == AWAY

    done = stage.move("names.switch", "nexus-names", to="primary", reason="it is back and equal")

    assert done["site"] == "primary"
    assert stage.values() == HOME
    assert stage.move("names.verify", "nexus-names", site="primary")["answers"]
    elsewhere = stage.move("names.verify", "nexus-names", site="dr")
    assert elsewhere["errorType"] == "CheckFailed"


def test_the_other_ways_move_names_too(stage: Stage) -> None:
    start_by_hand(stage)
    client = stage.cloud.client("elbv2", STANDBY_REGION)
    group = stage.plan.components["by-targets"].target_group
    client.register_targets(TargetGroupArn=group, Targets=[{"Id": OLD}])
    stage.cluster.kill("us-east-1")

    for uses, component, name in (
        ("names.change-records", "by-records", f"changed.{ZONE}"),
        ("names.switch", "by-controls", f"controlled.{ZONE}"),
        ("names.retarget", "by-targets", ""),
    ):
        away = stage.move(uses, component, to="dr")
        assert away.get("site") == "dr", away
        assert not name or stage.values(name) == ("198.51.100.31",)
        back = stage.move(uses, component, to="primary", reason="it is back")
        assert back.get("site") == "primary", back
        assert not name or stage.values(name) == ("192.0.2.31",)

    wrong = stage.move("names.switch", "by-records", to="dr")
    assert wrong["errorType"] == "BadInput"
    assert "names.change-records" in stage.records.read(INCIDENT)[-1].body["hint"]


def test_a_second_scenario_does_not_move_names_that_another_run_holds(stage: Stage) -> None:
    """An outage and a lost data center at once: what the first did stays, the second says whose it
    is and changes nothing; once the first has ended, the next run goes on."""
    start_by_hand(stage)
    assert stage.move("names.switch", "nexus-names", to="dr", reason="the first")["site"] == "dr"
    before = (stage.values(), stage.switches())

    incident = stage.declare("the same region, seen by somebody else")
    score = stage.follow(incident)

    assert score.outcome == "failed"
    [failed] = [it.body for it in stage.chain(incident) if it.kind == "step-failed"]
    assert (failed["code"], failed["context"]["holder"]) == ("fenced", RUN)
    assert "nexus-names is held by run" in failed["message"]
    assert "start this one again" in failed["hint"]
    assert (stage.values(), stage.switches()) == before

    run = stage.state().get(f"run#{RUN}", "run")
    assert run
    ended = {key: it for key, it in run.items() if key != "sort"} | {"status": "finished"}
    assert stage.state().replace(f"run#{RUN}", "run", ended, expected={})
    again = stage.follow(stage.declare("once more, now that the first is over"))
    assert again.serves


def test_nothing_is_granted_that_no_way_needs(stage: Stage) -> None:
    """After the tests above, in which every way was gone."""
    found = stage.cloud.rights()["leeward-standby-move_names"]

    assert found.denied == ()
    assert found.unused == ()


RUN = "run-20261122T000000Z-by-hand"
INCIDENT = RUN.replace("run-", "inc-")


def start_by_hand(stage: Stage) -> None:
    item = {
        "run_id": RUN,
        "incident_id": INCIDENT,
        "scenario": SCENARIO,
        "component": "nexus-names",
        "alarm_at": "2026-11-22T00:00:00.000000Z",
        "moment": None,
        "drill": False,
        "site": "",
        "status": "running",
    }
    stage.state().create(f"run#{RUN}", "run", item)
