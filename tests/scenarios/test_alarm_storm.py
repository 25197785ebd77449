"""A region's worth of alarms in the middle of the night: few messages, one alert, nothing lost."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from email import message_from_bytes, policy
from typing import Any

import boto3
import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.evidence.records import StoredRecords
from chalicelib.incidents.alarm_bursts import NAMED
from chalicelib.incidents.streams import people_stream
from chalicelib.plan.model import Plan
from chalicelib.plan.records import format_time, parse_time
from leeward.cli import main
from leeward.local.cloud import PRIMARY_REGION, LocalCloud
from leeward.local.deploy import Deployed, deploy
from leeward.local.iam import ACCOUNT
from leeward.local.inbox import SENDER, Inbox
from leeward.local.runner import Call
from leeward.packaging.package import build_package
from leeward.plan_file import load_plan
from tests.clouds import wait_for
from tests.receivers import Mailbox, mail_server
from tests.scenarios.drills import PLAN

CHANNEL = "#incident-response"
STORM = [f"nexus-storm-{number:03}-check-that-failed" for number in range(100)]


@dataclass
class Stage:
    cloud: LocalCloud
    deployed: Deployed
    inbox: Inbox
    mailbox: Mailbox

    @property
    def state(self) -> DynamoDbState:
        return DynamoDbState(self.cloud.client("dynamodb"), self.deployed.names["StateTable"])

    def make(self, names: list[str]) -> None:
        for name in names:
            self.cloud.client("cloudwatch").put_metric_alarm(
                AlarmName=name,
                AlarmDescription=f"{name}: something is wrong with it",
                Namespace="Leeward",
                MetricName=name,
                Statistic="Sum",
                Period=60,
                EvaluationPeriods=1,
                Threshold=1.0,
                ComparisonOperator="GreaterThanOrEqualToThreshold",
                TreatMissingData="ignore",
            )

    def turn(self, state: str, names: list[str]) -> None:
        for name in names:
            self.cloud.client("cloudwatch").set_alarm_state(
                AlarmName=name, StateValue=state, StateReason=f"turned {state}"
            )

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """No event of an alarm arrives: it is the look of each minute that sees them."""
        events = self.cloud.client("events")
        [rule] = [
            it["Name"]
            for it in events.list_rules()["Rules"]
            if "CloudWatch Alarm State Change" in it.get("EventPattern", "")
        ]
        events.disable_rule(Name=rule)
        try:
            yield
        finally:
            events.enable_rule(Name=rule)

    def look(self) -> None:
        """As each minute: at the alarms, then at the outbox."""
        for rule in ("alarms-sweep", "people-tell"):
            self.cloud.fire(rule)
            assert self.cloud.wait_idle()

    def pass_minutes(self, minutes: int, *kinds: str) -> None:
        """As if what the bursts keep were older."""
        for kind in kinds:
            item = self.state.get("alarm-bursts", kind)
            assert item is not None
            earlier = {
                name: format_time(parse_time(item[name]) - timedelta(minutes=minutes))
                for name in ("told_at", "next_at")
            }
            assert self.state.replace("alarm-bursts", kind, item | earlier, expected={})

    def end(self, names: list[str]) -> None:
        """They are OK, and have been for long enough to be over."""
        with self.unheard():
            self.turn("OK", names)
        for name in names:
            item = self.state.get("alarms", name)
            assert item is not None, name
            seen = format_time(parse_time(item["seen_at"]) - timedelta(minutes=16))
            assert self.state.replace("alarms", name, item | {"seen_at": seen}, expected={})

    def heard(self) -> list[dict[str, Any]]:
        return [it.body for it in self.inbox.got if it.kind == "slack"]

    def texts(self) -> list[str]:
        return [str(it["text"]) for it in self.heard()]

    def subjects(self) -> list[str]:
        mails = [message_from_bytes(it, policy=policy.default) for it in self.mailbox.mails]
        return [str(it["Subject"]) for it in mails]

    def recorded(self) -> set[str]:
        """The alarms that are in the records of those told."""
        [incident] = {it["burst"] for it in self.state.query("alarms") if it["burst"]}
        bucket = self.deployed.names["EvidenceBucket"]
        store = S3ObjectStore(self.cloud.client("s3", PRIMARY_REGION), bucket)
        records = StoredRecords(store, SystemClock()).read(people_stream(incident))
        of_alarms = [it.body["alarms"] for it in records if it.kind == "alarms"]
        return {str(one["alarm"]) for alarms in of_alarms for one in alarms}

    def forget(self) -> None:
        """The next test begins with a quiet night."""
        with self.unheard():
            self.turn("OK", [it["alarm"]["name"] for it in self.state.query("alarms")])
        for partition in ("alarms", "alarm-bursts"):
            for item in list(self.state.query(partition)):
                assert self.state.remove(partition, item["sort"], expected={})
        self.inbox.got.clear()
        self.mailbox.mails.clear()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    plan = load_plan(PLAN).plan
    tell = {"name": "tell", "says": "Tell customers", "uses": "people.tell",
            "with": {"audience": "customers"}}  # fmt: skip
    scenario = {"title": "Tell", "severity": "SEV2", "component": "nexus-db", "steps": [tell]}
    less = {"scenarios": {"tell": scenario}, "testing": [], "verification": []}
    plan = Plan.from_json(plan.to_json() | less)
    package = build_package(plan, tmp_path_factory.mktemp("storm") / "package")
    with LocalCloud(schedules=False) as cloud, Inbox() as inbox, mail_server() as mailbox:
        deployed = deploy(cloud, package)
        smtp = {"host": "127.0.0.1", "port": mailbox.port, "tls": False}
        logins = inbox.logins() | {"email": {"from": SENDER, "smtp": smtp}}
        cloud.client("secretsmanager").create_secret(
            Name=str(plan.communication.secret), SecretString=json.dumps(logins)
        )
        before = dict(os.environ)
        os.environ |= cloud.environment()
        boto3.DEFAULT_SESSION = None
        here = Stage(cloud, deployed, inbox, mailbox)
        here.make(STORM)
        # Looked at once, so that none is taken for one of before the deployment.
        here.look()
        yield here
        os.environ.clear()
        os.environ |= before
        boto3.DEFAULT_SESSION = None


@pytest.fixture(autouse=True)
def quiet(stage: Stage) -> None:
    stage.forget()


def test_a_hundred_alarms_are_two_messages_and_one_alert(stage: Stage) -> None:
    first, short, rest = STORM[0], STORM[1], STORM[1:]
    stage.turn("ALARM", [first])
    assert stage.cloud.wait_idle()
    wait_for(stage.heard, "the first was not told at once")
    assert stage.texts()[0].startswith(f"*Raised: {first}*")

    with stage.unheard():
        stage.turn("ALARM", rest)
        stage.look()
        stage.turn("OK", [short])
        stage.look()
        assert len(stage.heard()) == 1, "the others wait for the next message"
        stage.pass_minutes(3, "new")
        stage.look()
        stage.look()
    told = stage.heard()
    assert len(told) == 2
    assert told[1]["text"].startswith(f"*Raised: {short} and 98 more, 100 in all*")
    assert told[1]["thread_ts"], "in the thread of the first"
    line = next(it for it in told[1]["text"].splitlines() if short in it and it[:1] == "-")
    assert "not any more since" in line
    assert f"and {99 - NAMED} more." in told[1]["text"]
    assert stage.subjects() == [f"Raised: {first}", f"Raised: {short} and 98 more, 100 in all"]
    assert list(stage.inbox.alerts().values()) == ["triggered"]
    assert stage.recorded() == set(STORM)
    shown = _leeward("alarms", status=1)
    assert {it["alarm"] for it in shown["alarms"]} == set(STORM)

    stage.end(STORM[1:])
    stage.look()
    assert stage.texts()[2].startswith(f"*Over: {short} and 98 more; 1 still raised*")
    assert list(stage.inbox.alerts().values()) == ["triggered"], "one of it still is"
    stage.end([first])
    stage.look()
    assert len(stage.heard()) == 3, "it may wait as well"
    stage.pass_minutes(3, "known")
    stage.look()
    assert stage.texts()[3].startswith(f"*Over: {first}*")
    assert list(stage.inbox.alerts().values()) == ["resolved"]
    assert len({it.get("thread_ts") for it in stage.heard()[1:]}) == 1
    assert len(stage.subjects()) == 4
    assert _leeward("alarms")["alarms"] == []


def test_alarms_that_come_side_by_side_and_twice_are_told_once_each(stage: Stage) -> None:
    """Each starts a function of its own; EventBridge delivers at least once."""
    some = STORM[:8]
    with ThreadPoolExecutor(8) as side_by_side:
        list(side_by_side.map(lambda name: stage.turn("ALARM", [name]), some))
    assert stage.cloud.wait_idle()
    event = {
        "version": "0",
        "id": "again",
        "account": ACCOUNT,
        "resources": [],
        "source": "aws.cloudwatch",
        "detail-type": "CloudWatch Alarm State Change",
        "time": format_time(SystemClock().now()),
        "region": PRIMARY_REGION,
        "detail": {"alarmName": some[0], "state": {"value": "ALARM", "reason": "again",
                   "timestamp": format_time(SystemClock().now())},
                   "configuration": {"metrics": [
                       {"metricStat": {"metric": {"namespace": "Leeward"}}}]}},
    }  # fmt: skip
    for _ in range(2):
        answer = stage.cloud.client("lambda").invoke(
            FunctionName="leeward-primary-on_alarm", Payload=json.dumps(event)
        )
        assert "FunctionError" not in answer, answer["Payload"].read()
    stage.pass_minutes(3, "new")
    stage.look()
    stage.look()
    lines = [line for text in stage.texts() for line in text.splitlines()]
    for name in some:
        told = [it for it in lines if it.startswith((f"- {name}:", f"*Raised: {name}*"))]
        assert len(told) == 1, (name, stage.texts())
    assert len(stage.heard()) <= 3
    assert len(stage.inbox.alerts()) == 1
    assert stage.recorded() == set(some)


def test_whoever_tells_dies_and_another_tells(stage: Stage) -> None:
    """Right after the outbox has the message, before anything says that it was told."""
    some, died = STORM[:5], list[str]()

    def strikes(call: Call, _event: Any) -> bool:
        if died or not call.parameters.get("Key", "").startswith("people-alarm-"):
            return False
        died.append(call.function)
        return True

    with stage.unheard():
        stage.turn("ALARM", some)
        stage.cloud.strike(strikes)
        try:
            stage.cloud.fire("alarms-sweep")
            assert stage.cloud.wait_idle()
        finally:
            stage.cloud.strike(lambda call, event: False)
        assert died == ["leeward-primary-on_alarm"]
        stage.pass_minutes(1, "new")
        stage.look()
        stage.pass_minutes(3, "new")
        stage.look()
    assert 1 <= len(stage.heard()) <= 2, "twice at most, as nobody knows that it was told"
    assert all(any(name in text for text in stage.texts()) for name in some)
    assert len(stage.inbox.alerts()) == 1
    assert stage.recorded() == set(some)


def test_when_they_cannot_be_told_together_each_is_told_alone(stage: Stage) -> None:
    """Nobody may write whose turn it is."""
    some = STORM[:3]
    iam, role = stage.cloud.client("iam"), stage.deployed.names["OnAlarmRole"]
    [name] = iam.list_role_policies(RoleName=role)["PolicyNames"]
    kept = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    text = json.dumps(kept).replace('"factor#*"', '"factor#*", "alarm-bursts"')
    assert text != json.dumps(kept)
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=text)
    try:
        with stage.unheard():
            stage.turn("ALARM", some)
            stage.look()
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(kept))
    assert {it.splitlines()[0] for it in stage.texts()} == {f"*Raised: {it}*" for it in some}
    assert set(stage.inbox.alerts()) == {f"leeward/alarm-{it}" for it in some}
    stage.end(some)
    with stage.unheard():
        stage.look()
    assert set(stage.inbox.alerts().values()) == {"resolved"}


def test_a_warning_wakes_nobody_until_something_worse_joins_it(stage: Stage) -> None:
    warning, worse = "nexus-storm-lag-warning", STORM[0]
    stage.make([warning])
    with stage.unheard():
        stage.turn("ALARM", [warning])
        stage.look()
        assert (len(stage.heard()), stage.inbox.alerts()) == (1, {})
        stage.turn("ALARM", [worse])
        stage.look()
        assert len(stage.heard()) == 2, "it does not wait"
        assert list(stage.inbox.alerts().values()) == ["triggered"]
        stage.end([worse])
        stage.look()
        assert list(stage.inbox.alerts().values()) == ["resolved"], "a warning keeps nobody awake"


def _leeward(*words: str, status: int = 0) -> Any:
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit) as end:
        main([*words, "--format", "json"])
    assert (end.value.code or 0) == status, said.getvalue()
    return json.loads(said.getvalue())
