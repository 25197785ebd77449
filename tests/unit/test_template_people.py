"""What the template has for people: the escalation's machine, the outbox's clock, its alarms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leeward.packaging.people import escalation_machine, people_resources
from leeward.plan_file import load_plan
from tests.contract.test_asl_judges import JUDGES, judge

PLANS = Path(__file__).parents[2] / "policies" / "plans"


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return people_resources(load_plan(PLANS / "nexus-studio.yaml").plan)


@pytest.mark.parametrize("name", JUDGES)
def test_judges_take_the_machine_of_the_escalation(name: str, tmp_path: Path) -> None:
    file = tmp_path / "escalation.asl.json"
    arn = "arn:aws:lambda:us-east-1:123456789012:function:escalate"
    file.write_text(json.dumps(escalation_machine()).replace("${Escalate}", arn))
    assert judge(name, file) == (0, judge(name, file)[1])


def test_a_call_that_fails_for_good_does_not_end_the_escalation() -> None:
    states = escalation_machine()["States"]
    assert states["Call"]["Catch"][0]["Next"] == "Try again"
    assert states["Try again"]["Next"] == "Call"
    assert [name for name, it in states.items() if it["Type"] == "Fail"] == []


def test_the_outbox_is_looked_at_each_minute_and_its_silence_is_an_alarm(
    resources: dict[str, Any],
) -> None:
    rules = [it["Properties"] for it in resources.values() if it["Type"] == "AWS::Events::Rule"]
    said = {it["Name"]: (it["ScheduleExpression"], it["Targets"][0].get("Input")) for it in rules}
    assert said == {
        "leeward-nexus-studio-people-tell": ("rate(1 minute)", "{}"),
        "leeward-nexus-studio-people-reminders": ("cron(10 * * * ? *)", '{"verb": "remind"}'),
        "leeward-nexus-studio-alarms-sweep": ("rate(1 minute)", None),
    }
    alarms = {
        it["Properties"]["AlarmName"]: it["Properties"]
        for it in resources.values()
        if it["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert alarms["people-tell-silent"]["TreatMissingData"] == "breaching"
    assert alarms["alarms-sweep-silent"]["TreatMissingData"] == "breaching"
    mail = [{"Protocol": "email", "Endpoint": "incident@nexus-studio.io"}]
    assert resources["SilenceTopic"]["Properties"] == {"Subscription": mail}
    by_cloudwatch = {name for name, it in alarms.items() if "AlarmActions" in it}
    assert by_cloudwatch == {"alarms-sweep-silent", "people-tell-silent"}
    assert alarms["people-untold"]["MetricName"] == "Untold"


def test_no_scenario_can_have_the_name_of_the_machine(resources: dict[str, Any]) -> None:
    name = resources["Escalation"]["Properties"]["StateMachineName"]
    assert name == "leeward-nexus-studio-_escalation"
