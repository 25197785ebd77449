"""The documents in policies/iam/ allow what the functions really do, and no more.

Here on a small run of the deployed package: backups, WAL, and an alarm that starts a scenario.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from leeward.local.cloud import LocalCloud
from leeward.local.deploy import deploy
from leeward.local.iam import Rights
from leeward.local.production import APPLICATION, Production, store_secrets
from leeward.local.sample_app import create_schema
from leeward.package import Package
from tests.clouds import wait_for

COMPONENT = "nexus-db"
RARE = {
    "s3:AbortMultipartUpload": "an upload that broke",
    "kms:GenerateDataKey": "a store that is told to write with the bucket's own key",
    "kms:Decrypt": "the same",
}


@pytest.fixture(scope="module")
def rights(package: Package) -> Iterator[dict[str, Rights]]:
    with (
        LocalCloud(schedules=False) as cloud,
        Production(cloud.folder / "production", cloud.reaper) as production,
    ):
        create_schema(production.dsn(APPLICATION), projects=200)
        store_secrets(
            cloud.client("secretsmanager"),
            production,
            operator="nexus/db/operator",
            application="nexus/db/application",
        )
        deploy(cloud, package)
        for kind in ("full", "incremental"):
            run(cloud, "back_up", kind=kind)
            run(cloud, "fetch_wal")
        raise_alarm(cloud)
        yield cloud.rights()


def run(cloud: LocalCloud, function: str, **event: str) -> None:
    answer = cloud.client("lambda").invoke(
        FunctionName=f"leeward-primary-{function}",
        Payload=json.dumps({"component": COMPONENT} | event),
    )
    assert "FunctionError" not in answer, answer["Payload"].read()


def raise_alarm(cloud: LocalCloud) -> None:
    """Twice, as alarms are; returns when the scenario that the plan names for it has ended."""
    for state in ("ALARM", "OK", "ALARM"):
        cloud.client("cloudwatch").set_alarm_state(
            AlarmName=f"{COMPONENT}-checks-failing", StateValue=state, StateReason="a test"
        )
    assert cloud.wait_idle(60)
    assert not cloud.lost
    client = cloud.client("stepfunctions")
    machines = [it["stateMachineArn"] for it in client.list_state_machines()["stateMachines"]]

    def ended() -> list[str]:
        found = [client.list_executions(stateMachineArn=arn)["executions"] for arn in machines]
        return [it["name"] for runs in found for it in runs if it["status"] != "RUNNING"]

    wait_for(ended, "no scenario ran to its end", seconds=120)


def test_no_function_lacked_a_right(rights: dict[str, Rights]) -> None:
    assert {name: it.denied for name, it in rights.items() if it.denied} == {}


@pytest.mark.parametrize("function", ["on_alarm", "back_up", "fetch_wal"])
def test_nothing_is_granted_that_is_not_needed(rights: dict[str, Rights], function: str) -> None:
    unused = set(rights[f"leeward-primary-{function}"].unused)
    assert unused <= set(RARE)


def test_each_function_has_its_document() -> None:
    root = Path(__file__).parents[2]
    config = json.loads((root / ".chalice" / "config.json").read_text())
    functions = config["stages"]["primary"]["lambda_functions"]
    named = {Path(it["iam_policy_file"]).stem for it in functions.values()}
    assert named == set(functions) == {it.stem for it in (root / "policies" / "iam").iterdir()}
