"""Every kind of copy is restored by the deployed package when the schedule says so, and proven."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.folder.tree import FolderTree
from chalicelib.adapters.git.repository import GitRepository
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.backup.take_files import take_files
from chalicelib.backup.take_git import take_git
from chalicelib.plan.model import Plan
from chalicelib.plan.records import PointStanding
from chalicelib.ports import ObjectStore
from leeward.local.cloud import LocalCloud
from leeward.local.deploy import Deployed, deploy
from leeward.packaging.package import build_package
from leeward.packaging.parts import alarm_name, rule_name
from leeward.plan_file import load_plan
from tests.commands import ARTIST
from tests.redises import running_redis

KINDS = ("redis", "user-files", "code")


@dataclass
class Stage:
    cloud: LocalCloud
    deployed: Deployed
    plan: Plan

    def store(self, component: str) -> ObjectStore:
        bucket = self.deployed.names["BackupBucket"]
        return S3ObjectStore(self.cloud.client("s3"), bucket, f"{component}/")

    def catalogue(self, component: str) -> StoredCatalogue:
        index = DynamoDbState(self.cloud.client("dynamodb"), self.deployed.names["StateTable"])
        return StoredCatalogue(self.store(component), component, index=index)

    def standings(self, component: str) -> tuple[PointStanding, ...]:
        return self.catalogue(component).holdings().standings

    def fire(self, component: str, what: str = "prove-remote") -> None:
        self.cloud.fire(rule_name(self.plan, component, what))
        assert self.cloud.wait_idle()

    def alarm(self, component: str, what: str) -> str:
        name = alarm_name(component, what)
        client = self.cloud.client("cloudwatch")
        return str(client.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"])

    def kept(self, component: str) -> list[dict[str, Any]]:
        store = S3ObjectStore(self.cloud.client("s3"), self.deployed.names["EvidenceBucket"])
        rows = [it.key for it in store.list(f"restore-tests/{component}/")]
        rows.sort(key=lambda it: it.split("/")[-1])
        return [json.loads(store.get(key)) for key in rows]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The plan deployed, a dump, an archive and a bundle taken. The tests follow each other."""
    data = load_plan(ARTIST).plan.to_json()
    left = {"retired": "2026-11-20", "retention": {"all": 365 * 86400}}
    data["components"]["old-code"] = data["components"]["code"] | left
    plan = Plan.from_json(data)
    with running_redis() as server, LocalCloud(schedules=False) as cloud:
        server.client.set("greeting", "hello")
        deployed = deploy(cloud, build_package(plan, tmp_path_factory.mktemp("package")))
        secret = json.dumps({"url": server.url})
        cloud.client("secretsmanager").create_secret(Name="artisttech/redis", SecretString=secret)
        made = Stage(cloud, deployed, plan)
        made.fire("redis", "dump")
        _take(made, tmp_path_factory.mktemp("host"))
        yield made


def _take(here: Stage, host: Path) -> None:
    """As `leeward take` does on the host."""
    (host / "uploads").mkdir()
    (host / "uploads/a.jpg").write_bytes(b"\xff\xd8" + bytes(range(256)) * 64)
    (host / "uploads/secret.txt").write_text("kept out")
    (host / "uploads/secret.txt").chmod(0)
    repository = host / "repository"
    git = ("git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", "init", "-q", "-b", "main", repository], check=True)
    (repository / "app.py").write_text("print('hello')\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "Say hello"], check=True)
    store, clock = here.store("user-files"), SystemClock()
    catalogue = here.catalogue("user-files")
    take_files(FolderTree(host / "uploads"), store, catalogue, component="user-files", clock=clock)
    source = GitRepository(repository.as_uri(), inherited={})
    for name in ("code", "old-code"):
        take_git(source, here.store(name), here.catalogue(name), component=name, clock=clock)


def test_each_kind_is_restored_and_the_proof_lies_beside_its_point(here: Stage) -> None:
    for component in KINDS:
        here.fire(component)
        [standing] = here.standings(component)
        assert standing.proven_at is not None, str(here.kept(component)[-1:])
        key = f"points/{standing.point.id}/proof.json"
        proof = json.loads(here.store(component).get(key))
        assert {check["ok"] for check in proof["checks"]} == {True}
        assert (proof["component"], proof["point_id"]) == (component, standing.point.id)
        assert [it["ok"] for it in here.kept(component)] == [True]
        assert here.alarm(component, "unproven-remote") == "OK"
    assert "2 files read from the disk" in json.dumps(here.kept("user-files"))
    assert "each of 1 was found" in json.dumps(here.kept("redis"))


def test_what_is_kept_of_a_retired_component_is_restored_as_well(here: Stage) -> None:
    assert here.alarm("old-code", "unproven-remote") != "OK"
    here.fire("old-code")
    [standing] = here.standings("old-code")
    assert standing.proven_at is not None, str(here.kept("old-code"))
    assert here.alarm("old-code", "unproven-remote") == "OK"
    assert here.alarm("old-code", "prove-remote-silent") == "OK"


def test_what_is_taken_on_a_host_is_heard_of_checked_and_pruned(here: Stage) -> None:
    """No function takes it: that its schedule stayed silent is told by what did not arrive."""
    assert here.cloud.wait_idle()
    assert here.alarm("user-files", "full-silent") == "OK"
    assert here.alarm("configuration", "full-silent") != "OK", "nothing of it arrived"
    for component in ("user-files", "code", "configuration"):
        here.fire(component, "check-remote")
    assert here.alarm("user-files", "copy-remote-damaged") == "OK"
    assert here.alarm("code", "check-remote-silent") == "OK"
    assert here.alarm("configuration", "copy-remote-damaged") == "ALARM", "there is nothing"
    here.fire("user-files", "prune")
    assert here.alarm("user-files", "prune-silent") == "OK"
    assert len(here.standings("user-files")) == 1


def test_a_component_that_was_never_backed_up_is_unproven(here: Stage) -> None:
    here.fire("configuration")
    assert here.alarm("configuration", "unproven-remote") == "ALARM"
    assert here.alarm("configuration", "restore-test-failing") == "ALARM"
    assert here.kept("configuration")[0]["error"]["code"] == "no-point"


def test_a_point_that_does_not_restore_is_no_proof_and_an_alarm(here: Stage) -> None:
    [before] = here.standings("user-files")
    [archive] = [it for it in before.point.objects if it.key.endswith("files.tar.zst")]
    content = bytearray(here.store("user-files").get(archive.key))
    content[len(content) // 2] ^= 1
    here.store("user-files").put(archive.key, bytes(content))
    here.fire("user-files", "spot-check")
    assert here.alarm("user-files", "restore-test-failing") == "ALARM"
    first, *later = [it["ok"] for it in here.kept("user-files")]
    assert (first, set(later)) == (True, {False})  # Lambda tries again
    [after] = here.standings("user-files")
    assert after.proven_at == before.proven_at


def prove_in_exercise(here: Stage, component: str, *, month: int = 12) -> dict[str, Any]:
    """As the exercise begins it; what it left for the exercise to read."""
    due = f"restore-test-monthly/2026-{month}-01T00:00:00Z"
    event = {"component": component, "location": "", "exercise": due}
    answer = here.cloud.client("lambda").invoke(
        FunctionName="leeward-primary-prove", Payload=json.dumps(event)
    )
    assert "FunctionError" not in answer, answer["Payload"].read()
    store = S3ObjectStore(here.cloud.client("s3"), here.deployed.names["EvidenceBucket"])
    told: dict[str, Any] = json.loads(store.get(f"restore-tests/exercises/{due}/{component}.json"))
    return told


def test_an_exercise_is_told_what_each_component_came_to(here: Stage) -> None:
    assert prove_in_exercise(here, "redis")["outcome"] == "sound"
    damaged = prove_in_exercise(here, "user-files")
    assert (damaged["outcome"], bool(damaged["found"])) == ("failed", True)
    here.cloud.sandbox_environment["LEEWARD_REDIS"] = "/nowhere/redis-server"
    here.cloud.client("lambda").update_function_configuration(
        FunctionName="leeward-primary-prove", Timeout=600
    )
    without = prove_in_exercise(here, "redis", month=11)
    assert without["outcome"] == "not-tried"
    assert "/nowhere/redis-server" in without["found"]
    assert prove_in_exercise(here, "code")["outcome"] == "sound"


def test_it_may_do_what_it_does(here: Stage) -> None:
    rights = here.cloud.rights()["leeward-primary-prove"]
    assert rights.denied == ()
    assert "hello" not in here.cloud.logs("prove")
