"""Events, alarms and schedules of the local cloud reach the functions and machines they name."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.errors import BadInput
from leeward.local.cloud import LocalCloud
from leeward.local.schedules import next_due
from tests.clouds import create_function, create_role, wait_for

ALARM_PATTERN = {
    "source": ["aws.cloudwatch"],
    "detail-type": ["CloudWatch Alarm State Change"],
    "detail": {"state": {"value": ["ALARM"]}},
}


@pytest.fixture
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud() as started:
        yield started


@pytest.fixture
def echo(cloud: LocalCloud) -> str:
    return create_function(cloud, "echo", create_role(cloud, "any"))


def connect(cloud: LocalCloud, rule: str, target: str, *, allow: bool = True, **what: Any) -> None:
    events = cloud.client("events")
    arn = events.put_rule(Name=rule, **what)["RuleArn"]
    events.put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": target}])
    if allow and ":lambda:" in target:
        cloud.client("lambda").add_permission(
            FunctionName=target,
            StatementId=rule,
            Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
            SourceArn=arn,
        )


def put_event(cloud: LocalCloud, source: str, detail: dict[str, Any]) -> None:
    entry = {"Source": source, "DetailType": "test", "Detail": json.dumps(detail)}
    assert cloud.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0


def raise_alarm(cloud: LocalCloud, **changes: Any) -> None:
    settings = {
        "AlarmName": "rows-missing",
        "Namespace": "Leeward",
        "MetricName": "FailedChecks",
        "Dimensions": [{"Name": "Component", "Value": "postgres"}],
        "Statistic": "Maximum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
    }
    cloud.client("cloudwatch").put_metric_alarm(**(settings | changes))


def put_metric(cloud: LocalCloud, value: float, component: str = "postgres") -> None:
    datum = {
        "MetricName": "FailedChecks",
        "Dimensions": [{"Name": "Component", "Value": component}],
        "Value": value,
    }
    cloud.client("cloudwatch").put_metric_data(Namespace="Leeward", MetricData=[datum])


def state_of(cloud: LocalCloud, alarm: str = "rows-missing") -> str:
    found = cloud.client("cloudwatch").describe_alarms(AlarmNames=[alarm])
    return str(found["MetricAlarms"][0]["StateValue"])


def test_an_event_reaches_the_function_whose_pattern_it_matches(
    cloud: LocalCloud, echo: str
) -> None:
    connect(cloud, "wanted", echo, EventPattern=json.dumps({"source": ["mine"]}))
    put_event(cloud, "other", {"n": 1})
    put_event(cloud, "mine", {"n": 2})
    assert cloud.wait_idle()
    assert "'detail': {'n': 2}" in cloud.logs("echo")
    assert "'detail': {'n': 1}" not in cloud.logs("echo")
    assert not cloud.lost


def test_a_disabled_rule_and_a_schedule_take_no_event(cloud: LocalCloud, echo: str) -> None:
    connect(cloud, "off", echo, EventPattern='{"source": ["mine"]}', State="DISABLED")
    connect(cloud, "hourly", echo, ScheduleExpression="rate(1 hour)")
    put_event(cloud, "mine", {"n": 1})
    assert cloud.wait_idle()
    assert cloud.logs("echo") == ""


def test_an_event_is_lost_when_the_function_does_not_allow_eventbridge(
    cloud: LocalCloud, echo: str
) -> None:
    connect(cloud, "forbidden", echo, allow=False, EventPattern='{"source": ["mine"]}')
    put_event(cloud, "mine", {})
    assert cloud.logs("echo") == ""
    assert "may not invoke it" in cloud.lost[0][2]


def test_an_event_starts_a_state_machine(cloud: LocalCloud) -> None:
    client = cloud.client("stepfunctions")
    definition = {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}
    machine = client.create_state_machine(
        name="m", definition=json.dumps(definition), roleArn="arn:aws:iam::123456789012:role/r"
    )["stateMachineArn"]
    connect(cloud, "start", machine, EventPattern='{"source": ["mine"]}')
    put_event(cloud, "mine", {"n": 7})
    runs = client.list_executions(stateMachineArn=machine)["executions"]
    described = client.describe_execution(executionArn=runs[0]["executionArn"])
    assert json.loads(described["input"])["detail"] == {"n": 7}


def test_an_alarm_goes_off_when_its_own_metric_breaches(cloud: LocalCloud, echo: str) -> None:
    connect(cloud, "alarms", echo, EventPattern=json.dumps(ALARM_PATTERN))
    raise_alarm(cloud)
    assert state_of(cloud) == "INSUFFICIENT_DATA"
    put_metric(cloud, 5, component="another")
    put_metric(cloud, 0)
    assert state_of(cloud) == "OK"
    put_metric(cloud, 2)
    assert state_of(cloud) == "ALARM"
    assert cloud.wait_idle()
    assert cloud.logs("echo").count("'alarmName': 'rows-missing'") == 1


def test_setting_an_alarm_by_hand_is_the_same_event(cloud: LocalCloud, echo: str) -> None:
    connect(cloud, "alarms", echo, EventPattern=json.dumps(ALARM_PATTERN))
    raise_alarm(cloud)
    cloud.client("cloudwatch").set_alarm_state(
        AlarmName="rows-missing", StateValue="ALARM", StateReason="a drill"
    )
    assert cloud.wait_idle()
    assert "'reason': 'a drill'" in cloud.logs("echo")


def test_two_of_three_windows_must_breach_when_the_alarm_says_so(cloud: LocalCloud) -> None:
    raise_alarm(cloud, EvaluationPeriods=3, DatapointsToAlarm=2)
    now = datetime.now(UTC)
    for minutes, expected in ((2, "OK"), (0, "ALARM")):
        datum = {
            "MetricName": "FailedChecks",
            "Dimensions": [{"Name": "Component", "Value": "postgres"}],
            "Value": 1,
            "Timestamp": now - timedelta(minutes=minutes, seconds=5),
        }
        cloud.client("cloudwatch").put_metric_data(Namespace="Leeward", MetricData=[datum])
        assert state_of(cloud) == expected


def test_silence_raises_a_dead_mans_switch(cloud: LocalCloud) -> None:
    raise_alarm(cloud, Period=1, TreatMissingData="breaching")
    put_metric(cloud, 0)
    assert state_of(cloud) == "OK"
    wait_for(lambda: state_of(cloud) == "ALARM", "silence went unnoticed", seconds=5)


def test_fire_sends_one_schedule_now(cloud: LocalCloud, echo: str) -> None:
    connect(cloud, "leeward-fetch", echo, ScheduleExpression="rate(1 hour)")
    cloud.fire("fetch")
    assert cloud.wait_idle()
    assert cloud.logs("echo").count("'detail-type': 'Scheduled Event'") == 1
    with pytest.raises(BadInput):
        cloud.fire("absent")


def test_a_schedule_fires_by_the_clock() -> None:
    with LocalCloud(speed=60) as cloud:
        echo = create_function(cloud, "echo", create_role(cloud, "any"))
        connect(cloud, "each-minute", echo, ScheduleExpression="rate(1 minute)")
        wait_for(lambda: "Scheduled Event" in cloud.logs("echo"), "no schedule fired", seconds=8)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rate(5 minutes)", "2026-11-22T08:35:10"),
        ("rate(1 day)", "2026-11-23T08:30:10"),
        ("cron(0 2 * * ? *)", "2026-11-23T02:00:00"),
        ("cron(0/15 * * * ? *)", "2026-11-22T08:45:00"),
        ("cron(0 3 ? * 1 *)", "2026-11-29T03:00:00"),
        ("cron(0 3 ? * MON-FRI *)", "2026-11-23T03:00:00"),
        ("cron(0 4 1 * ? *)", "2026-12-01T04:00:00"),
    ],
)
def test_the_next_moment_of_a_schedule(expression: str, expected: str) -> None:
    sunday = datetime(2026, 11, 22, 8, 30, 10, tzinfo=UTC)
    assert next_due(expression, sunday) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize("expression", ["rate(0.5 hours)", "cron(0 2 * * *)", "every day", ""])
def test_what_is_no_schedule_is_refused(expression: str) -> None:
    with pytest.raises(BadInput):
        next_due(expression, datetime.now(UTC))


def test_a_bucket_tells_what_was_written_and_deleted(cloud: LocalCloud, echo: str) -> None:
    storage = cloud.client("s3")
    storage.create_bucket(Bucket="assets")
    storage.put_bucket_versioning(Bucket="assets", VersioningConfiguration={"Status": "Enabled"})
    storage.put_bucket_notification_configuration(
        Bucket="assets", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    connect(cloud, "assets", echo, EventPattern=json.dumps({"source": ["aws.s3"]}))
    version = storage.put_object(Bucket="assets", Key="a b/ü", Body=b"one")["VersionId"]
    storage.copy_object(Bucket="assets", Key="c", CopySource={"Bucket": "assets", "Key": "a b/ü"})
    marker = storage.delete_object(Bucket="assets", Key="a b/ü")["VersionId"]
    storage.delete_object(Bucket="assets", Key="a b/ü", VersionId=version)

    assert cloud.wait_idle()
    printed = [line for line in cloud.logs("echo").splitlines() if line.startswith("echo {")]
    events = [ast.literal_eval(line.removeprefix("echo ")) for line in printed]
    events.sort(key=lambda it: it["detail"]["object"]["sequencer"])
    told = [
        (it["detail-type"], it["detail"]["reason"], it["detail"].get("deletion-type"))
        for it in events
    ]
    assert told == [
        ("Object Created", "PutObject", None),
        ("Object Created", "CopyObject", None),
        ("Object Deleted", "DeleteObject", "Delete Marker Created"),
        ("Object Deleted", "DeleteObject", "Permanently Deleted"),
    ]
    objects = [it["detail"]["object"] for it in events]
    assert [it["key"] for it in objects] == ["a b/ü", "c", "a b/ü", "a b/ü"]
    assert (objects[0]["version-id"], objects[0]["size"]) == (version, 3)
    assert [it["version-id"] for it in objects[2:]] == [marker, version]
