"""A function that is asked to make ready has done beforehand what its step would wait for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from leeward.local.cloud import LocalCloud
from leeward.local.deploy import deploy
from leeward.packaging.package import Package

WARM = {"warm": True, "run_id": "run-x"}


@pytest.fixture(scope="module")
def cloud(package: Package) -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as started:
        deploy(started, package)
        yield started


def invoked(cloud: LocalCloud, function: str, event: dict[str, Any]) -> Any:
    client = cloud.client("lambda")
    name = f"leeward-primary-{function}"
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event))
    return json.loads(answer["Payload"].read())


@pytest.mark.parametrize("function", ["fence", "record", "tell"])
def test_it_has_asked_for_its_run(cloud: LocalCloud, function: str) -> None:
    assert invoked(cloud, function, WARM) == {"found": "warm"}
    asked = [(it.operation, it.parameters["LeadingKey"]) for it in cloud.calls(function)]
    assert asked == [("Query", "run#run-x")]


def test_it_is_ready_also_when_the_state_cannot_be_read(cloud: LocalCloud) -> None:
    cloud.fail(region="us-east-1", services=("dynamodb",), how="error")
    try:
        assert invoked(cloud, "rebuild", WARM) == {"found": "warm"}
    finally:
        cloud.heal()
