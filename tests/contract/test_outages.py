"""Two great outages of us-east-1, replayed in the local cloud."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import BadInput
from chalicelib.plan.records import parse_time
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION, LocalCloud
from leeward.local.outages import load_outage, replay, set_to

FOLDER = Path(__file__).parents[1] / "outages"
DECEMBER, OCTOBER = (load_outage(FOLDER / f"{it}.json") for it in ("2021-12-07", "2025-10-20"))


@pytest.fixture(scope="module")
def running() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as started:
        for service, operation in (*ASKED.items(), ("ec2", "run_instances")):
            assert answers(started, service, operation, seconds=20)  # imported before it is timed
        yield started


@pytest.fixture
def cloud(running: LocalCloud) -> Iterator[LocalCloud]:
    yield running
    running.heal()


def answers(
    cloud: LocalCloud,
    service: str,
    operation: str,
    region: str = PRIMARY_REGION,
    seconds: float = 1.0,
) -> bool:
    config = Config(retries={"total_max_attempts": 1}, read_timeout=seconds)
    client: Any = boto3.client(
        service,
        region_name=region,
        endpoint_url=cloud.url,
        config=config,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    wanted = {"run_instances": {"MinCount": 1, "MaxCount": 1, "ImageId": "ami-12c6146b"}}
    try:
        getattr(client, operation)(**wanted.get(operation, {}))
    except (ClientError, BotoCoreError):
        return False
    return True


ASKED = {
    "dynamodb": "list_tables",
    "sts": "get_caller_identity",
    "route53": "list_hosted_zones",
    "lambda": "list_functions",
    "cloudwatch": "list_metrics",
    "s3": "list_buckets",
}


def failing(cloud: LocalCloud, region: str = PRIMARY_REGION) -> set[str]:
    return {name for name, call in ASKED.items() if not answers(cloud, name, call, region)}


def test_december_takes_the_api_of_names_and_the_eyes_but_not_the_data(cloud: LocalCloud) -> None:
    set_to(cloud, DECEMBER, parse_time("2021-12-07T10:00:00-08:00"))
    assert failing(cloud) == {"route53", "sts", "cloudwatch"}
    # Regional STS and everything else of the standby answers; Route 53's one API does not.
    assert failing(cloud, STANDBY_REGION) == {"route53"}
    set_to(cloud, DECEMBER, parse_time("2021-12-07T14:31:00-08:00"))
    assert failing(cloud) == set()


def test_october_takes_the_state_first_and_launches_longest(cloud: LocalCloud) -> None:
    seen = {}
    for at in ("00:30:00", "02:10:00", "03:00:00", "09:00:00", "14:30:00"):
        set_to(cloud, OCTOBER, parse_time(f"2025-10-20T{at}-07:00"))
        launched = answers(cloud, "ec2", "run_instances")
        seen[at] = failing(cloud) | (set() if launched else {"launch"})
        assert failing(cloud, STANDBY_REGION) == set()
    assert seen == {
        "00:30:00": {"dynamodb", "sts", "lambda", "launch"},
        "02:10:00": {"dynamodb", "lambda", "launch"},
        "03:00:00": {"launch"},
        "09:00:00": {"sts", "launch"},
        "14:30:00": set(),
    }


def test_a_replay_passes_faster_than_the_outage_and_leaves_nothing_behind(
    cloud: LocalCloud,
) -> None:
    own = cloud.fail(region=PRIMARY_REGION, services=("kms",), how="error")
    minutes = 2 * 3600 + 52 * 60  # of DynamoDB
    with replay(
        cloud, OCTOBER, speed=minutes / 4.0, start=OCTOBER.begins_at + timedelta(minutes=3)
    ):
        assert not answers(cloud, "dynamodb", "list_tables")
        deadline = time.monotonic() + 30
        while not answers(cloud, "dynamodb", "list_tables"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert OCTOBER.periods[0].fault not in cloud.faults.active
        assert not answers(cloud, "ec2", "run_instances")
    assert cloud.faults.active == (own,)


@pytest.mark.parametrize("outage", [DECEMBER, OCTOBER], ids=lambda it: it.name)
def test_nothing_fails_before_and_after(outage: Any) -> None:
    assert outage.faults_at(outage.begins_at - timedelta(seconds=1)) == ()
    assert outage.faults_at(outage.begins_at)
    assert outage.faults_at(outage.ends_at) == ()
    assert outage.moments()[0] == outage.begins_at


def test_a_file_that_is_no_outage_says_why(tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    item = {"services": ["s3"], "how": "hang", "says": "odd",
            "from": "2025-10-20T02:00:00-07:00", "to": "2025-10-20T01:00:00-07:00"}  # fmt: skip
    path.write_text(json.dumps({"name": "odd", "says": "", "region": "r", "faults": [item]}))
    with pytest.raises(BadInput, match="'odd' ends before it begins"):
        load_outage(path)
