"""What is promised less often than an alarm looks back: somebody looks at it for the alarm."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chalicelib.plan.model import Plan
from leeward.packaging.limits import LONGEST_INPUT
from leeward.packaging.template import plan_resources
from leeward.plan_file import load_plan
from tests.unit.test_rules import SOUND, plan_with

PLANS = Path(__file__).parents[2] / "policies" / "plans"
NEXUS, ARTIST = (load_plan(PLANS / f"{it}.yaml").plan for it in ("nexus-studio", "artist-tech"))


def alarms(plan: Plan) -> dict[str, dict[str, Any]]:
    found = (
        it for it in plan_resources(plan).values() if it.get("Type") == "AWS::CloudWatch::Alarm"
    )
    return {it["Properties"]["AlarmName"]: it["Properties"] for it in found}


def looks(plan: Plan) -> list[dict[str, Any]]:
    """What `tell` is asked, a schedule each."""
    rules = [
        it["Properties"]
        for it in plan_resources(plan).values()
        if it.get("Type") == "AWS::Events::Rule" and "-seldom-" in it["Properties"].get("Name", "")
    ]
    for rule in rules:
        assert rule["ScheduleExpression"] == "rate(10 minutes)"
        assert rule["Targets"][0]["Arn"] == {"Fn::GetAtt": ["Tell", "Arn"]}
        assert len(rule["Targets"][0]["Input"]) <= LONGEST_INPUT
    return [json.loads(it["Targets"][0]["Input"]) for it in rules]


def full_backups(when: str) -> Plan:
    backups = SOUND["components"]["db"]["backups"]
    changed = [it | ({"when": when} if it["kind"] == "full" else {}) for it in backups]
    return plan_with({"components": {"db": {"backups": changed}}})


def test_a_weekly_spot_check_is_looked_at_and_the_alarm_watches_that() -> None:
    [look] = looks(ARTIST)
    two_weeks = int(timedelta(days=14).total_seconds())
    components = {it.removesuffix("-spot-check-silent") for it in alarms(ARTIST) if "spot" in it}
    assert components == {"artist-db", "user-files", "redis", "configuration", "code"}
    promised = {it: {"SpotChecked": [two_weeks]} for it in components}
    assert look == {"verb": "seldom", "part": "look-1", "promises": promised}
    alarm = alarms(ARTIST)["redis-spot-check-silent"]
    assert alarm["MetricName"] == "SpotChecked.within-336h"
    assert (alarm["Period"], alarm["EvaluationPeriods"]) == (3600, 1)
    assert (alarm["TreatMissingData"], alarm["ComparisonOperator"]) == (
        "breaching", "LessThanThreshold",
    )  # fmt: skip
    assert alarm["AlarmDescription"] == (
        "redis: no point was drawn and restored when the plan says so, "
        "or nobody can tell whether it was"
    )


def test_a_plan_that_promises_nothing_seldom_has_nobody_look() -> None:
    assert looks(NEXUS) == []


@pytest.mark.parametrize(
    ("when", "watched"),
    [
        ("daily at 02:00", "Taken.full"),
        ("rate(84 hours)", "Taken.full"),
        ("rate(85 hours)", "Taken.full.within-170h"),
        ("weekly on sunday at 02:00", "Taken.full.within-336h"),
        ("monthly on day 1 at 02:00", "Taken.full.within-1488h"),
        ("yearly on day 1 at 02:00", "Taken.full.within-17568h"),
    ],
)
def test_what_an_alarm_can_see_by_itself_it_watches_itself(when: str, watched: str) -> None:
    plan = full_backups(when)
    alarm = alarms(plan)["db-full-silent"]
    assert alarm["MetricName"] == watched
    promised = [it["promises"]["db"].get("Taken.full") for it in looks(plan)]
    assert bool(promised) == ("within" in watched)


@pytest.mark.parametrize("plan", [NEXUS, ARTIST, full_backups("monthly on day 1 at 02:00")])
def test_no_alarm_looks_back_further_than_cloudwatch_lets_it(plan: Plan) -> None:
    """Source: PutMetricAlarm: seven days, and one day where periods are shorter than an hour."""
    for name, it in alarms(plan).items():
        longest = 7 * 86400 if it["Period"] >= 3600 else 86400
        assert it["Period"] * it["EvaluationPeriods"] <= longest, name


def test_many_promises_are_looked_at_by_several_schedules_and_none_is_left_out() -> None:
    data = ARTIST.to_json()
    server = data["components"]["configuration"]
    for number in range(300):
        data["components"][f"configuration-of-the-server-{number}"] = server
    plan = Plan.from_json(data)
    asked = looks(plan)
    assert [it["part"] for it in asked] == [f"look-{number + 1}" for number in range(len(asked))]
    assert len(asked) > 1
    told = [
        (component, f"{metric}.within-{seconds // 3600}h")
        for look in asked
        for component, metrics in look["promises"].items()
        for metric, each in metrics.items()
        for seconds in each
    ]
    watched = {
        (it["Dimensions"][0]["Value"], it["MetricName"])
        for it in alarms(plan).values()
        if ".within-" in it["MetricName"]
    }
    assert len(told) == len(set(told)) > 300
    assert set(told) == watched
