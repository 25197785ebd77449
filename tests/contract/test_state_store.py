"""StateStore, in memory and on DynamoDB: one suite, the fake is no kinder than the table."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.ports import StateStore
from tests.fakes_state import InMemoryState

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table() -> Iterator[Any]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "dynamodb",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_table(
        TableName="state",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
    )
    yield client
    server.stop()


@pytest.fixture(params=["memory", "dynamodb"])
def state(request: pytest.FixtureRequest) -> StateStore:
    if request.param == "memory":
        return InMemoryState()
    return DynamoDbState(request.getfixturevalue("table"), "state")


@pytest.fixture
def part(request: pytest.FixtureRequest) -> str:
    return request.node.name


def test_an_item_comes_back_as_it_was(state: StateStore, part: str) -> None:
    item = {
        "text": "ü\n",
        "whole": 2**53,
        "share": 0.1,
        "none": None,
        "yes": True,
        "list": [1, "a", {"b": 1.5}],
        "empty": {},
    }
    assert state.create(part, "one", item)
    assert state.get(part, "one") == item | {"sort": "one"}


def test_what_is_good_for_a_time_says_so_where_the_table_looks(table: Any) -> None:
    """DynamoDB removes by `expires_at`; which attribute that is, the template says."""
    state, until = DynamoDbState(table, "state"), "2026-11-22T09:00:00.000000Z"
    state.create("short", "one", {"good_until": until, "used": False})
    assert state.replace("short", "one", {"good_until": until, "used": True}, expected={})
    state.create("short", "two", {"used": False})

    def attribute(sort: str) -> Any:
        key = {"pk": {"S": "short"}, "sk": {"S": sort}}
        return table.get_item(TableName="state", Key=key)["Item"].get("expires_at")

    template = json.loads((ROOT / "infra" / "storage.json").read_text())
    ttl = template["Resources"]["StateTable"]["Properties"]["TimeToLiveSpecification"]
    assert ttl == {"AttributeName": "expires_at", "Enabled": True}
    a_day_later = datetime(2026, 11, 23, 9, tzinfo=UTC).timestamp()
    assert attribute("one") == {"N": str(int(a_day_later))}
    assert attribute("two") is None
    assert state.get("short", "one") == {"good_until": until, "used": True, "sort": "one"}


def test_nothing_is_none(state: StateStore, part: str) -> None:
    assert state.get(part, "absent") is None


def test_the_first_to_create_wins(state: StateStore, part: str) -> None:
    assert state.create(part, "one", {"by": "first"})
    assert not state.create(part, "one", {"by": "second"})
    found = state.get(part, "one")
    assert found is not None
    assert found["by"] == "first"


def test_a_replacement_needs_what_was_expected(state: StateStore, part: str) -> None:
    state.create(part, "one", {"token": 1, "run": "a"})
    assert not state.replace(part, "one", {"token": 9}, expected={"token": 1, "run": "b"})
    assert state.replace(part, "one", {"token": 2, "run": "b"}, expected={"token": 1, "run": "a"})
    assert state.get(part, "one") == {"token": 2, "run": "b", "sort": "one"}
    assert not state.replace(part, "absent", {"token": 1}, expected={})


def test_a_removal_needs_what_was_expected(state: StateStore, part: str) -> None:
    state.create(part, "one", {"token": 1})
    assert not state.remove(part, "one", expected={"token": 2})
    assert state.remove(part, "one", expected={"token": 1})
    assert not state.remove(part, "one", expected={})
    assert state.get(part, "one") is None


def test_a_query_gives_its_part_in_order(state: StateStore, part: str) -> None:
    for name in ("step#b", "run", "step#a", "step#é"):
        state.create(part, name, {"name": name})
    state.create(part + "x", "step#c", {})
    assert [item["sort"] for item in state.query(part, "step#")] == ["step#a", "step#b", "step#é"]
    assert len(list(state.query(part))) == 4


def test_a_query_reads_on_past_a_page(state: StateStore, part: str) -> None:
    # One page of a query holds 1 MiB.
    for number in range(12):
        state.create(part, f"{number:03}", {"text": "x" * 200_000})
    assert [item["sort"] for item in state.query(part)] == [f"{n:03}" for n in range(12)]


def test_of_many_replacing_at_once_one_wins_each_round(part: str) -> None:
    state = InMemoryState()
    state.create(part, "count", {"value": 0})
    start = threading.Barrier(8)

    def bump(_: int) -> None:
        start.wait()
        for _ in range(20):
            while True:
                value = (state.get(part, "count") or {})["value"]
                if state.replace(part, "count", {"value": value + 1}, expected={"value": value}):
                    break

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bump, range(8)))
    found = state.get(part, "count")
    assert found is not None
    assert found["value"] == 160
