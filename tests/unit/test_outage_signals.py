"""What alarms and AWS Health say of a site, as the events come."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from chalicelib.errors import BadInput
from chalicelib.plan.model import Plan
from chalicelib.services import build
from chalicelib.services.jobs import outage
from leeward.plan_file import load_plan

PLAN = Path(__file__).parents[2] / "policies/plans/nexus-studio.yaml"
AT = "2026-11-22T08:45:00+00:00"


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    found = load_plan(PLAN).plan
    monkeypatch.setattr(build, "plan", lambda: found)
    return found


def alarm(name: str, value: str) -> dict[str, Any]:
    return {
        "source": "aws.cloudwatch",
        "detail": {"alarmName": name, "state": {"value": value, "timestamp": AT}},
    }


def issue(**changes: Any) -> dict[str, Any]:
    detail = {
        "eventTypeCategory": "issue",
        "eventTypeCode": "AWS_EC2_OPERATIONAL_ISSUE",
        "eventRegion": "us-east-1",
        "statusCode": "open",
    }
    return {
        "source": "aws.health",
        "region": "us-west-2",
        "time": AT,
        "detail": {key: it for key, it in (detail | changes).items() if it is not None},
    }


@pytest.mark.parametrize(
    ("event", "bad"),
    [
        (issue(), True),
        (issue(statusCode="closed"), False),
        (issue(statusCode=None), True),
        (issue(eventRegion=None), None),  # then it is of the region that it came from
        (issue(eventRegion=None) | {"region": "us-east-1"}, True),
        (issue(eventRegion="eu-west-1"), None),
        (issue(eventTypeCategory="scheduledChange"), None),
    ],
)
@pytest.mark.usefixtures("plan")
def test_an_issue_of_the_site_s_region_is_a_sign_and_nothing_else_is(
    event: dict[str, Any], bad: bool | None
) -> None:
    signs = outage._of_health(event, "primary")
    assert [sign.bad for sign in signs] == ([] if bad is None else [bad])
    assert {sign.observed_at for sign in signs} <= {datetime.fromisoformat(AT)}


def test_an_alarm_counts_when_the_scenario_names_it(plan: Plan) -> None:
    named = plan.scenarios["regional-outage"].model_copy(update={"alarms": ("site-down",)})
    told = {
        value: [it.bad for it in outage._of_alarm(alarm("site-down", value), named)]
        for value in ("ALARM", "OK", "INSUFFICIENT_DATA")
    }
    assert told == {"ALARM": [True], "OK": [False], "INSUFFICIENT_DATA": []}
    assert outage._of_alarm(alarm("another", "ALARM"), named) == []


def test_an_event_that_is_none_is_refused(plan: Plan) -> None:
    broken = issue()
    del broken["time"]
    with pytest.raises(BadInput, match="expected an event of AWS Health"):
        outage._of_health(broken, "primary")
    with pytest.raises(BadInput, match="expected an alarm"):
        outage._of_alarm({"detail": {}}, plan.scenarios["regional-outage"])
