"""A plan with people who can be reached, the deployed package, and an inbox for each channel."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pyotp
import pytest
from moto.cloudwatch.models import cloudwatch_backends

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.evidence.records import StoredRecords
from chalicelib.plan.model import Plan
from chalicelib.plan.records import EvidenceRecord, format_time, parse_time
from leeward.cli import main
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION, LocalCloud
from leeward.local.deploy import Deployed, deploy
from leeward.local.iam import ACCOUNT
from leeward.local.inbox import Inbox
from leeward.packaging.package import build_package
from leeward.packaging.template import machine_id
from leeward.plan_file import load_plan
from tests.clouds import ended, wait_for
from tests.scenarios.drills import PLAN

SCENARIO = "fire-drill"


def people_alone(data: dict[str, Any]) -> dict[str, Any]:
    """The plan of nexus-studio with people who can be reached, and one scenario of people alone."""
    held = {
        "incident-commander": ["cto", "vp-engineering", "security-lead"],
        "infrastructure-engineer": ["dba-lead"],
    }
    for role, people in held.items():
        data["roles"][role]["held_by"] = people
    for person in ("cto", "vp-engineering", "security-lead", "dba-lead"):
        data["contacts"][person]["reach"] = {"slack": f"@{person}"}
        data["contacts"][person].pop("audience", None)
    # The first cannot be reached by the first way, nor by the second: the next is called at once.
    data["contacts"]["security-lead"]["reach"] = {"phone": "+1-xxx", "email": "nobody"}
    data["escalation"] = [
        {"who": "On call", "contact": "security-lead", "after": 0, "until": 3600},
        {"who": "Lead", "contact": "vp-engineering", "after": 3600, "until": 7200},
        {"who": "CTO", "contact": "cto", "after": 7200},
    ]
    approve = {"by": ["incident-commander"], "count": 2, "within": 900, "otherwise": "stop"}
    steps = [
        {"name": "tell", "says": "Tell customers", "uses": "people.tell",
         "with": {"audience": "customers"}, "approve": approve},
        {"name": "cables", "says": "Move <the> cables", "by": "infrastructure-engineer"},
    ]  # fmt: skip
    hurried = [
        {"name": "hurry", "says": "Decide at once", "uses": "people.tell",
         "with": {"audience": "customers"}, "approve": approve | {"within": 25}},
    ]  # fmt: skip
    unasked = [
        {"name": "go-on", "says": "Tell them anyway", "uses": "people.tell",
         "with": {"audience": "customers"},
         "approve": approve | {"within": 5, "otherwise": "proceed"}},
    ]  # fmt: skip
    # An application that is nowhere is asked again and again, for minutes.
    data["components"]["nexus-api"]["health"] = "http://127.0.0.1:9/health"
    late = [
        {"name": "look", "says": "See it serve", "uses": "health.verify",
         "with": {"component": "nexus-api"}, "timeout": 4},
    ]  # fmt: skip
    common: dict[str, Any] = {"severity": "SEV1", "personal_data": True}
    alarmed = common | {"component": "nexus-site", "alarms": ["nexus-db-checks-unable"]}
    data["scenarios"] = {
        SCENARIO: common | {"title": "Fire drill", "component": "nexus-db", "steps": steps},
        "hurry": common | {"title": "Hurry", "component": "nexus-uploads", "steps": hurried},
        "unasked": common | {"title": "Unasked", "component": "nexus-static", "steps": unasked},
        "late": common | {"title": "Late", "component": "nexus-config", "steps": late},
        "alarmed": alarmed | {"title": "Alarmed", "steps": late},
    }
    # Where it is the afternoon now: people are reminded from the morning on.
    hours = 14 - datetime.now(UTC).hour
    data["review"]["every"] = f"yearly on day 1 at 00:00 Etc/GMT{-hours:+d}"
    data["testing"] = [it for it in data["testing"] if it["kind"] == "communication"]
    data["verification"] = [{"kind": "integrity-check", "says": "Read all", "when": "weekly"}]
    return data


@dataclass
class Stage:
    cloud: LocalCloud
    deployed: Deployed
    inbox: Inbox
    plan: Path
    secrets: dict[str, str]

    def leeward(self, *words: str, status: int = 0) -> Any:
        """As from a terminal, in this process: forty starts of Python would take a minute."""
        said = io.StringIO()
        with redirect_stdout(said), pytest.raises(SystemExit) as end:
            main([*words, "--format", "json"])
        assert (end.value.code or 0) == status, said.getvalue()
        return json.loads(said.getvalue())

    def code(self, person: str) -> str:
        """The device's next code: each is good once, and for as long as a slow machine needs."""
        totp, used = pyotp.TOTP(self.secrets[person]), self.used.get(person, 0)
        while used > int(time.time()) // 30:
            time.sleep(0.5)
        self.used[person] = max(int(time.time()) // 30, used + 1)
        return totp.generate_otp(self.used[person])

    def __post_init__(self) -> None:
        self.used: dict[str, int] = {}

    def waits(self, incident: str, step: str) -> dict[str, Any]:
        def look() -> Any:
            shown = self.leeward("incident", "show", incident)
            return [it for it in shown["questions"] if it["step"] == step and not it["answered"]]

        [question] = wait_for(look, f"{step} was never asked", seconds=90)
        return dict(question)

    def ended(self, scenario: str, run: str) -> str:
        arn = self.deployed.names[machine_id(scenario)]
        execution = arn.replace(":stateMachine:", ":execution:") + f":{run}"
        found = wait_for(lambda: ended(self.cloud, execution), f"{run} did not end", seconds=120)
        return str(found["status"])

    def records(self, incident: str) -> list[EvidenceRecord]:
        bucket = self.deployed.names["EvidenceBucket"]
        store = S3ObjectStore(self.cloud.client("s3", PRIMARY_REGION), bucket)
        return StoredRecords(store, SystemClock()).read(incident)

    def measure(self, component: str, metric: str, value: float) -> None:
        """As if what was measured before were more than a period ago."""
        cloudwatch_backends[ACCOUNT][PRIMARY_REGION].metric_data.clear()
        dimensions = [{"Name": "Component", "Value": component}]
        data = {"MetricName": metric, "Dimensions": dimensions, "Value": value}
        client = self.cloud.client("cloudwatch")
        client.put_metric_data(Namespace="Leeward", MetricData=[data])
        assert self.cloud.wait_idle()

    def alert(self, alarm: str) -> str:
        """How the pager's alert stands that told of an alarm."""
        events = [it.body for it in self.inbox.got if it.kind == "pagerduty"]
        [key] = {it["dedup_key"] for it in events if alarm in it["payload"]["summary"]}
        return self.inbox.alerts()[key]

    def sweep(self) -> None:
        """The look at raised alarms, as each minute."""
        self.cloud.fire("alarms-sweep")
        assert self.cloud.wait_idle()

    def set_back(self, partition: str, sort: str, name: str, *, minutes: int) -> None:
        """As if what is kept were older."""
        item = self.state.get(partition, sort)
        assert item is not None
        earlier = format_time(parse_time(item[name]) - timedelta(minutes=minutes))
        assert self.state.replace(partition, sort, item | {name: earlier}, expected={})

    @property
    def state(self) -> DynamoDbState:
        return DynamoDbState(self.cloud.client("dynamodb"), self.deployed.names["StateTable"])

    def incidents_of(self, component: str) -> list[str]:
        listed = self.leeward("incident", "list")["incidents"]
        return [it["incident"] for it in listed if it["component"] == component]

    def tick(self) -> None:
        """The schedule of the outbox, as each minute."""
        self.cloud.fire("people-tell")
        assert self.cloud.wait_idle()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("people")
    plan = Plan.from_json(people_alone(load_plan(PLAN).plan.to_json()))
    file = folder / "plan.yaml"
    file.write_text(json.dumps(plan.to_json()))
    package = build_package(plan, folder / "package")
    with LocalCloud(schedules=False) as cloud, Inbox() as inbox:
        deployed = deploy(cloud, package, standby=True)
        for region in (PRIMARY_REGION, STANDBY_REGION):
            client = cloud.client("secretsmanager", region)
            inbox.store_logins(client, plan, cloud.client("sesv2", region))
        before = dict(os.environ)
        os.environ |= cloud.environment()
        boto3.DEFAULT_SESSION = None
        yield Stage(cloud, deployed, inbox, file, {})
        os.environ.clear()
        os.environ |= before
        boto3.DEFAULT_SESSION = None
