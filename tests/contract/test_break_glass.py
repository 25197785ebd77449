"""A failover from a laptop: the primary region gone, no Lambda, Step Functions or DynamoDB left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.adapters.traffic.dns_client import NameServers
from chalicelib.adapters.traffic.switch_history import StoredSwitches
from chalicelib.evidence.records import StoredRecords
from leeward.break_glass_merge import read_chain
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION, LocalCloud
from leeward.local.deploy import Stack
from leeward.packaging.names import check_outputs, names_template, switch_resources
from leeward.plan_file import load_plan
from tests.answering import Answering, answering
from tests.clouds import wait_for

PLAN = Path(__file__).parents[2] / "policies/plans/nexus-studio.yaml"
OUTAGE, COMPONENT, ZONE, NAME = (
    "regional-outage", "nexus-names", "nexus-studio.io", "api.nexus-studio.io",
)  # fmt: skip
MAIN, SPARE = ("192.0.2.11",), ("198.51.100.11",)
EVIDENCE = "evidence-standby"


@dataclass
class Scene:
    cloud: LocalCloud
    bucket: str
    plan: Path
    here: Answering
    there: Answering

    def leeward(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("leeward")), "break-glass", *arguments]
        environment = os.environ | self.cloud.environment(STANDBY_REGION)
        environment["LEEWARD_SWITCH_BUCKET"] = self.bucket
        return subprocess.run(
            [*command, "--plan", str(self.plan)], env=environment, capture_output=True, text=True
        )

    def fail_over(self, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
        return self.leeward(
            OUTAGE, "--reason", "the region is gone", "--out", str(out), "--format", "json", *more
        )

    def values(self) -> tuple[str, ...]:
        [answer] = NameServers(self.cloud.dns_address).ask(ZONE, NAME, "A")
        return answer.values

    @property
    def s3(self) -> Any:
        return self.cloud.outside("s3", STANDBY_REGION)

    def written(self) -> list[str]:
        """Every version of every object of the bucket: what anybody ever wrote."""
        found = self.s3.list_object_versions(Bucket=self.bucket)
        return [it["Key"] for it in found.get("Versions", [])]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    data = load_plan(PLAN).plan
    with ExitStack() as stack:
        here, there = (stack.enter_context(answering()) for _ in range(2))
        cloud = stack.enter_context(LocalCloud(schedules=False))
        cloud.client("route53").create_hosted_zone(Name=f"{ZONE}.", CallerReference="test")
        template = {"Resources": switch_resources(data), "Outputs": check_outputs(data)}
        standby = Stack(cloud, template, STANDBY_REGION).apply()
        names = names_template(data)
        assert names
        Stack(cloud, names, STANDBY_REGION, standby.outputs).apply()
        plan = tmp_path_factory.mktemp("plan") / "plan.yaml"
        text = PLAN.read_text()
        for name, server in (("api", here), ("api-dr", there)):
            text = text.replace(f"https://{name}.nexus-studio.io/health", server.address)
        plan.write_text(text)
        elsewhere = {"LocationConstraint": STANDBY_REGION}
        cloud.client("s3", STANDBY_REGION).create_bucket(
            Bucket=EVIDENCE, CreateBucketConfiguration=elsewhere
        )
        # What the command must do without: every API of the lost region, and these of the other.
        cloud.fail(region=PRIMARY_REGION, how="hang")
        cloud.fail(region=STANDBY_REGION, services=("lambda", "states", "dynamodb", "sts"))
        yield Scene(cloud, standby.names["SwitchBucket"], plan, here, there)


@pytest.fixture
def scene(running: Scene) -> Scene:
    running.here.status = running.there.status = 200
    for found in running.s3.list_object_versions(Bucket=running.bucket).get("Versions", []):
        running.s3.delete_object(
            Bucket=running.bucket, Key=found["Key"], VersionId=found["VersionId"]
        )
    wait_for(lambda: running.values() == MAIN, "the names are not at home")
    return running


def test_one_object_write_moves_the_names_and_leaves_evidence_that_is_merged_later(
    scene: Scene, tmp_path: Path
) -> None:
    scene.here.status = 503
    out = tmp_path / "records"
    done = scene.fail_over(out)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert scene.values() == SPARE
    assert scene.written() == [f"switch/{COMPONENT}"]
    assert sum(scene.cloud.faults.fired.values()) == 0, "it called what is lost"

    assert told["site"] == "dr"
    assert told["seconds"] < 60
    assert told["left"][0] == "fence"
    assert "update-dns" not in told["left"]
    assert "no-credentials" in told["copies"]["nexus-db"]

    chain = read_chain(out, SystemClock())
    steps = [it.step for it in chain if it.kind == "step-finished"]
    assert steps == ["assess", "copies", "switch", "resolve", "verify"]
    assert chain[0].body["reason"] == "the region is gone"
    assert chain[-1].body["outcome"] == "stopped"
    assert "left to do: fence, restore" in chain[-1].body["why"]

    for _ in range(2):  # safe to repeat
        merged = scene.leeward("merge", str(out), "--evidence-bucket", EVIDENCE)
        assert merged.returncode == 0, merged.stderr
    records = StoredRecords(S3ObjectStore(scene.s3, EVIDENCE), SystemClock())
    kept = records.read(told["incident"])
    assert [it.body["record"]["digest"] for it in kept] == [it.digest for it in chain]
    history = StoredSwitches(S3ObjectStore(scene.s3, scene.bucket), COMPONENT).past()
    assert [(it.came_from, it.to, it.reason) for it in history] == [
        ("primary", "dr", "the region is gone")
    ]


def test_it_does_not_leave_what_serves_nor_go_where_nothing_does(
    scene: Scene, tmp_path: Path
) -> None:
    refused = scene.fail_over(tmp_path / "one")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "site-answers"
    scene.here.status = scene.there.status = 503
    refused = scene.fail_over(tmp_path / "two")
    assert json.loads(refused.stdout)["error"]["code"] == "standby-silent"
    assert scene.written() == []
    assert scene.values() == MAIN
    chain = read_chain(tmp_path / "two", SystemClock())
    assert chain[-1].body["outcome"] == "failed"

    insisted = scene.fail_over(tmp_path / "three", "--insist", "--dry-run")
    assert insisted.returncode == 0
    assert scene.written() == []


def test_what_cannot_be_used_changes_nothing(scene: Scene, tmp_path: Path) -> None:
    cases = {
        ("database-corruption", "--reason", "x"): ("not-a-failover", 2),
        ("regional-outrage", "--reason", "x"): ("unknown-scenario", 2),
        (OUTAGE, "--reason", " "): ("no-reason", 2),
        (OUTAGE, "--reason", "x", "--switch-bucket", ""): ("no-switch-bucket", 1),
    }
    for arguments, (code, status) in cases.items():
        out = str(tmp_path / "never")
        done = scene.leeward(*arguments, "--out", out, "--format", "json")
        assert json.loads(done.stdout)["error"]["code"] == code
        assert done.returncode == status
    empty = tmp_path / "empty"
    empty.mkdir()
    done = scene.leeward("merge", str(empty), "--evidence-bucket", EVIDENCE, "--format", "json")
    assert json.loads(done.stdout)["error"]["code"] == "no-records"
    assert scene.written() == []


def test_a_record_that_was_altered_is_not_merged(scene: Scene, tmp_path: Path) -> None:
    scene.here.status = 503
    out = tmp_path / "records"
    before = scene.s3.list_objects_v2(Bucket=EVIDENCE)["KeyCount"]
    assert scene.fail_over(out, "--dry-run").returncode == 0
    file = sorted(out.rglob("records/*.json"))[1]
    file.write_text(file.read_text().replace("the region is gone", "nothing happened"))
    file = sorted(out.rglob("records/*.json"))[0]
    file.write_text(file.read_text().replace("the region is gone", "nothing happened"))
    done = scene.leeward("merge", str(out), "--evidence-bucket", EVIDENCE, "--format", "json")
    assert json.loads(done.stdout)["error"]["code"] == "record-altered"
    assert scene.s3.list_objects_v2(Bucket=EVIDENCE)["KeyCount"] == before
