"""What is done less often than an alarm looks back: red when it is late, and not a moment before.

The plan's own template tells what is looked at and what the alarms watch; metrics lie in a real
store of them, by a clock that can be put forward.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws
from moto.cloudwatch.models import cloudwatch_backends

from chalicelib.adapters.metric_history import CloudWatchHistory
from chalicelib.errors import LeewardError
from chalicelib.services import build, tell
from leeward.local.iam import ACCOUNT
from leeward.local.shims.cloudwatch import evaluate
from leeward.packaging.parts import SELDOM_LOOKED_AT
from leeward.packaging.template import plan_resources
from tests.contract.test_people_door import NAMES
from tests.fakes_state import ManualClock
from tests.unit.test_rules import SOUND, plan_with

REGION = "us-east-1"
DEPLOYED_AT = datetime(2026, 1, 1, 2, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
CACHED = [it for it in vars(build).values() if hasattr(it, "cache_clear")]
MONTHLY, WEEKLY = "db-full-silent", "db-spot-check-silent"
TAKEN, DRAWN = "Taken.full", "SpotChecked"


class Deployment:
    """The alarms of a plan with a monthly full backup and a weekly spot check, and their look."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        backups = [{**it, "when": "monthly on day 1 at 02:00"} if it["kind"] == "full" else it
                   for it in SOUND["components"]["db"]["backups"]]  # fmt: skip
        spot = {"kind": "spot-check", "says": "Draw one", "when": "weekly on sunday at 03:00"}
        plan = plan_with({
            "components": {"db": {"backups": backups}},
            "verification": [*SOUND.get("verification", []), spot],
        })  # fmt: skip
        resources = plan_resources(plan)
        [look] = [it for name, it in resources.items() if name.startswith("ScheduleSeldom")
                  and it["Type"] == "AWS::Events::Rule"]  # fmt: skip
        self.asked = json.loads(look["Properties"]["Targets"][0]["Input"])
        of_name = {
            it["Properties"]["AlarmName"]: it["Properties"]
            for it in resources.values()
            if it.get("Type") == "AWS::CloudWatch::Alarm"
        }
        for name in (MONTHLY, WEEKLY):
            boto3.client("cloudwatch").put_metric_alarm(**of_name[name])
            self._alarm(name).configuration_updated_timestamp = clock.now() - DAY

    def done(self, metric: str, *, ago: timedelta = timedelta()) -> None:
        self.put(metric, 1.0, ago=ago)

    def put(self, metric: str, value: float, *, ago: timedelta = timedelta()) -> None:
        at = self.clock.now() - ago
        dimensions = [{"Name": "Component", "Value": "db"}]
        data = {"MetricName": metric, "Dimensions": dimensions, "Value": value, "Timestamp": at}
        boto3.client("cloudwatch").put_metric_data(Namespace="Leeward", MetricData=[data])

    def look(self) -> None:
        tell(self.asked)

    def after(self, time: timedelta) -> Deployment:
        """So much later: the look is made, as it is made every ten minutes."""
        self.clock.sleep(time.total_seconds())
        self.look()
        return self

    def red(self) -> set[str]:
        """The alarms that are raised."""
        backend = cloudwatch_backends[ACCOUNT][REGION]
        states = {
            it: evaluate(self._alarm(it), backend.metric_data, now=self.clock.now())[0]
            for it in (MONTHLY, WEEKLY)
        }
        return {name for name, state in states.items() if state == "ALARM"}

    def _alarm(self, name: str) -> Any:
        return cloudwatch_backends[ACCOUNT][REGION].alarms[name]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name, value in NAMES.items():
        monkeypatch.setenv(name, value)
    clock = ManualClock(DEPLOYED_AT)
    with mock_aws():
        keys = [{"AttributeName": name, "KeyType": kind}
                for name, kind in (("pk", "HASH"), ("sk", "RANGE"))]  # fmt: skip
        boto3.client("dynamodb").create_table(
            TableName="state", BillingMode="PAY_PER_REQUEST", KeySchema=keys,
            AttributeDefinitions=[
                {"AttributeName": it["AttributeName"], "AttributeType": "S"} for it in keys
            ],
        )  # fmt: skip
        for it in CACHED:
            it.cache_clear()
        monkeypatch.setattr(build, "clock", lambda: clock)
        # What is put without a time is put now.
        now = "moto.cloudwatch.models.utcnow"
        monkeypatch.setattr(now, lambda: clock.now().replace(tzinfo=None))
        yield Deployment(clock)
    for it in CACHED:
        it.cache_clear()


def test_a_monthly_backup_is_missed_after_two_months_and_not_after_a_week(
    here: Deployment,
) -> None:
    here.done(TAKEN)
    for days in (1, 7, 32, 22):  # to the 62nd day, less an hour
        assert MONTHLY not in here.after(days * DAY - HOUR / 4).red()
    assert MONTHLY in here.after(2 * HOUR).red()
    here.done(TAKEN)
    assert MONTHLY not in here.after(SELDOM_LOOKED_AT).red()


def test_a_weekly_check_is_not_missed_in_the_moments_before_each_one(here: Deployment) -> None:
    for _ in range(4):
        here.done(DRAWN)
        for part in (DAY, 5 * DAY, 23 * HOUR, HOUR, HOUR / 2):  # half an hour late
            assert WEEKLY not in here.after(part).red()
    assert WEEKLY not in here.after(6 * DAY).red()
    assert WEEKLY in here.after(DAY).red()


def test_a_fresh_deployment_has_the_time_that_the_plan_promises(here: Deployment) -> None:
    assert here.red() == {MONTHLY, WEEKLY}, "nobody has looked yet"
    assert here.after(SELDOM_LOOKED_AT).red() == set()
    assert here.after(13 * DAY).red() == set()
    assert here.after(2 * DAY).red() == {WEEKLY}
    assert here.after(46 * DAY).red() == {WEEKLY}
    assert here.after(2 * DAY).red() == {WEEKLY, MONTHLY}


def test_what_was_late_before_anybody_looked_is_late_at_once(here: Deployment) -> None:
    here.done(TAKEN, ago=100 * DAY)
    here.done(DRAWN, ago=10 * DAY)
    assert here.after(SELDOM_LOOKED_AT).red() == {MONTHLY}
    assert here.after(4 * DAY).red() == {MONTHLY, WEEKLY}


def test_it_is_late_when_the_function_that_looks_has_stopped(here: Deployment) -> None:
    here.done(TAKEN)
    here.done(DRAWN)
    assert here.after(HOUR).red() == set()
    here.clock.sleep(3700)
    assert here.red() == {MONTHLY, WEEKLY}


def denied(**_: Any) -> Any:
    error = {"Code": "AccessDenied", "Message": "no"}
    answer = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 403, "RetryAttempts": 0}}
    return AWSResponse("", 403, {}, None), answer


def one_failed(parsed: dict[str, Any], **_: Any) -> None:
    parsed["MetricDataResults"][0] |= {
        "StatusCode": "InternalError", "Timestamps": [], "Values": [],
    }  # fmt: skip


@pytest.mark.parametrize(("stage", "spoil"), [("before-call", denied), ("after-call", one_failed)])
@pytest.mark.parametrize("known", [True, False])
def test_nothing_is_green_when_the_history_cannot_be_read(
    here: Deployment, stage: str, spoil: Callable[..., Any], known: bool
) -> None:
    here.done(TAKEN)
    here.done(DRAWN)
    if known:
        here.look()
    here.clock.sleep(3700)
    build.client("cloudwatch").meta.events.register(f"{stage}.cloudwatch.GetMetricData", spoil)
    with pytest.raises(LeewardError):
        here.look()
    assert here.red() == {MONTHLY, WEEKLY}


def test_what_is_promised_again_is_new(here: Deployment) -> None:
    """A promise that the plan took back has not been late ever since."""
    here.after(SELDOM_LOOKED_AT)
    both = here.asked
    here.asked = both | {"promises": {"db": {DRAWN: both["promises"]["db"][DRAWN]}}}
    here.after(40 * DAY)
    here.asked = both
    assert MONTHLY not in here.after(40 * DAY).red()
    assert MONTHLY not in here.after(60 * DAY).red()
    assert MONTHLY in here.after(3 * DAY).red()


def test_when_it_was_done_last_is_told_to_the_hour_and_never_later(here: Deployment) -> None:
    """An hour that began before the asked time is told as a whole: CloudWatch drops it else."""
    history = CloudWatchHistory(build.client("cloudwatch"))
    here.clock.sleep(1200)
    here.done(TAKEN)
    here.put(DRAWN, 0.0)
    here.clock.sleep(3600)
    now = here.clock.now()
    asked = [("db", TAKEN), ("db", DRAWN)]
    assert history.latest(asked, start=now - timedelta(minutes=50), end=now) == {
        ("db", TAKEN): DEPLOYED_AT
    }
    a_year_ago = now - 400 * DAY
    assert history.latest(asked, start=a_year_ago, end=now) == {
        ("db", TAKEN): DEPLOYED_AT.replace(hour=0)
    }


def test_one_metric_may_be_promised_twice(here: Deployment) -> None:
    """As a weekly dump and a monthly full backup are, of one database."""
    here.asked = {"verb": "seldom", "part": "look-1",
                  "promises": {"db": {TAKEN: [14 * 86400, 62 * 86400]}}}  # fmt: skip
    here.done(TAKEN)
    assert here.after(20 * DAY).red() == {WEEKLY}
    put = {it["MetricName"] for it in boto3.client("cloudwatch").list_metrics()["Metrics"]}
    assert put == {TAKEN, f"{TAKEN}.within-1488h"}
