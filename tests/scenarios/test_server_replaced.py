"""A server makes room for its successor: what pg_upgrade, or a move by dump, does to a plan."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.s3.store import S3ObjectStore
from leeward.local.production import APPLICATION, OPERATOR, Production
from leeward.local.sample_app import create_schema
from leeward.packaging.parts import rule_name
from tests.clouds import wait_for
from tests.commands import run
from tests.scenarios.drills import PLAN
from tests.scenarios.stages import COMPONENT, Stage, stage

# Nothing of the second was ever taken.
SUCCESSOR, UNTOUCHED = "nexus-db-18", "nexus-db-staging"


@pytest.fixture(scope="module")
def replaced(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Its secret leads to another cluster of the same data."""
    with stage(tmp_path_factory.mktemp("replaced")) as here:
        successor = Production(here.cloud.folder / "successor", here.cloud.reaper).start()
        try:
            create_schema(successor.dsn(APPLICATION), projects=10)
            here.cloud.client("secretsmanager").put_secret_value(
                SecretId=here.database.operator_secret,
                SecretString=json.dumps({"dsn": successor.dsn(OPERATOR)}),
            )
            yield here
        finally:
            successor.stop()


def test_nothing_of_another_cluster_is_stored_and_people_are_told(replaced: Stage) -> None:
    before = sorted(row.key for row in replaced.backups.list())
    replaced.cloud.fire(rule_name(replaced.plan, COMPONENT, "wal"))
    assert replaced.cloud.wait_idle()
    states = alarms(replaced)
    assert states[f"{COMPONENT}-replaced"] == "ALARM"
    assert states[f"{COMPONENT}-wal-gap"] != "ALARM", "no backup is being taken for it"
    assert sorted(row.key for row in replaced.backups.list()) == before
    told = wait_for(
        lambda: [it for it in replaced.inbox.slack("#incident-response") if "-replaced" in it],
        "nobody was told",
    )
    assert "docs/operator-role.md" in told[0]


def test_its_points_are_restored_and_pruned_when_it_is_retired(
    replaced: Stage, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(with_successor(PLAN.read_text()))
    environment = replaced.cloud.environment()
    proven = run(
        "restore", "point", COMPONENT, "--plan", plan, "--prove", "--format", "json",
        **environment,
    )  # fmt: skip
    assert proven.returncode == 0, proven.stdout + proven.stderr
    words = ("--dry-run", "--component", COMPONENT, "--location", "primary", "--format", "json")
    pruned = run("prune", plan, *words, **environment)
    assert pruned.returncode == 0, pruned.stdout + pruned.stderr
    [told] = json.loads(pruned.stdout)["components"]
    assert len(told["keep"]) == 3, "the points of the cluster that is gone"


def test_the_first_fetch_takes_what_wal_is_replayed_on(replaced: Stage) -> None:
    secrets = replaced.cloud.client("secretsmanager")
    component = replaced.plan.components[UNTOUCHED]
    assert component.kind == "postgres"
    login = secrets.get_secret_value(SecretId=replaced.database.operator_secret)["SecretString"]
    for name in (component.operator_secret, component.application_secret):
        secrets.create_secret(Name=name, SecretString=login)
    fetched = replaced.invoke("fetch_wal", {"component": UNTOUCHED})
    assert "the first full backup" in fetched["found"]
    assert "the first" not in replaced.invoke("fetch_wal", {"component": UNTOUCHED})["found"]
    bucket = replaced.deployed.names["BackupBucket"]
    store = S3ObjectStore(replaced.cloud.client("s3"), bucket, f"{UNTOUCHED}/")
    [point] = StoredCatalogue(store, UNTOUCHED).inventory().points
    assert point.kind == "full"


def with_successor(plan: str) -> str:
    """As a person edits it: another name everywhere, and the old one retired."""
    changed = yaml.safe_load(re.sub(rf"{COMPONENT}(?![\w-])", SUCCESSOR, plan))
    before = yaml.safe_load(plan)["components"][COMPONENT]
    changed["components"][COMPONENT] = before | {"retired": datetime.now(UTC).date()}
    return str(yaml.safe_dump(changed, sort_keys=False, allow_unicode=True))


def alarms(here: Stage) -> dict[str, str]:
    pages = here.cloud.client("cloudwatch").get_paginator("describe_alarms").paginate()
    return {it["AlarmName"]: it["StateValue"] for page in pages for it in page["MetricAlarms"]}
