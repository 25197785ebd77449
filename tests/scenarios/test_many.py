"""A bucket with many objects synced shard by shard, by the deployed package in the local cloud."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.plan.inventory import read_lines
from chalicelib.plan.model import Plan
from leeward.local.cloud import LocalCloud
from leeward.local.deploy import Deployed, deploy
from leeward.local.locations import create_application_buckets
from leeward.packaging.many import ASK_EVERY_SECONDS
from leeward.packaging.package import build_package
from leeward.plan_file import load_plan
from tests.batch_server import BatchServer, batch_server
from tests.clouds import ended, wait_for
from tests.commands import run as run_command
from tests.contract.test_buckets import CANNOT, ODD_KEYS
from tests.scenarios.drills import PLAN
from tests.sync_world import unpack

COMPONENT = "nexus-uploads"
COMPARED = "copying/compared=primary"
OBJECTS = 1000
SHARDS = 10
PARTS = 4
KEPT = 60
FUNCTIONS = ("plan_shards", "copy_shard", "finish_shards", "batch_copy")
# What these tests do not need, and why it is granted all the same.
RARE = {
    "s3:AbortMultipartUpload": "an upload, or a copy in parts, that broke",
    "s3:GetObjectTagging": "S3 copies the tags of an object that has some",
    "s3:PutObjectTagging": "the same",
    "s3:ListBucket": "without it S3 says of a missing object that it may not be read",
    "secretsmanager:GetSecretValue": "a replica in another cloud",
    "kms:Encrypt": "the same",
    "iam:PassRole": "S3 asks for it itself when a job is made",
}
RARE_OF = {"finish_shards": {"s3:DeleteObject"}}  # what runs of more than 14 days ago left


@dataclass
class Stage:
    cloud: LocalCloud
    deployed: Deployed
    bucket: str
    jobs: BatchServer
    runs: int = 0

    @property
    def s3(self) -> Any:
        return self.cloud.client("s3")

    @property
    def replica(self) -> str:
        return self.deployed.names["ReplicaNexusUploads"]

    @property
    def store(self) -> S3ObjectStore:
        return S3ObjectStore(self.s3, self.deployed.names["BackupBucket"], f"{COMPONENT}/")

    def fill(self, keys: list[str], **more: Any) -> None:
        def put(key: str) -> None:
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=key.encode(), **more)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put, keys))

    def versions(self, bucket: str) -> Counter[str]:
        pages = self.s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
        return Counter(
            row["Key"]
            for page in pages
            for row in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
        )

    def keys(self, bucket: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [row["Key"] for page in pages for row in page.get("Contents", ())]

    def start(self, **job: Any) -> tuple[str, str]:
        """The run and its execution."""
        self.runs += 1
        run = f"run-{self.runs}"
        started = self.cloud.client("stepfunctions").start_execution(
            stateMachineArn=self.deployed.names["SyncNexusUploads"],
            name=run,
            input=json.dumps(job),
        )
        return run, started["executionArn"]

    def leeward(self, *words: str) -> subprocess.CompletedProcess[str]:
        named = ("sync", COMPONENT, "--plan", PLAN)
        return run_command(*named, *words, **self.cloud.environment())

    def wait(self, execution: str) -> str:
        found = wait_for(lambda: ended(self.cloud, execution), "the run did not end", seconds=120)
        return str(found["status"])

    def run(self, **job: Any) -> tuple[str, str]:
        """The run's name and how it ended."""
        name, execution = self.start(**job)
        return name, self.wait(execution)

    def shrink(self, objects: int) -> None:
        """Nobody's doing: both buckets have the first of their objects alone, as if always."""
        from moto.s3.models import s3_backends

        for name in (self.bucket, self.replica):
            held = s3_backends["123456789012"]["aws"].buckets[name].keys
            for key in sorted(held)[objects:]:
                del held[key]

    def told(self, run: str, name: str) -> Any:
        (key,) = (
            row.key
            for row in self.store.list(f"shards/{run}@")
            if row.key.split("/")[2:] == [f"{name}.json"]
        )
        return json.loads(self.store.get(key))

    def metric(self, name: str) -> list[float]:
        from moto.cloudwatch.models import cloudwatch_backends

        backend = cloudwatch_backends["123456789012"][self.deployed.region]
        return [it.value for it in backend.metric_data if it.name == name]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Nexus's plan, its uploads mirrored. The tests follow each other."""
    data = load_plan(PLAN).plan.to_json()
    data["components"][COMPONENT] |= {"mirror": True, "deletes_at_most": 0.2}
    plan = Plan.from_json(data)
    with ExitStack() as stack:
        package = build_package(plan, tmp_path_factory.mktemp("package"))
        jobs = stack.enter_context(batch_server())
        # The account stands before the host's name: no name that is known here.
        elsewhere = {
            "AWS_ENDPOINT_URL_S3_CONTROL": "http://s3-control.example",
            "HTTP_PROXY": jobs.url,
            "NO_PROXY": "127.0.0.1,localhost",
        }
        cloud = stack.enter_context(LocalCloud(schedules=False, sandbox_environment=elsewhere))
        jobs.s3, jobs.known_after_seconds = cloud.client("s3"), 0.5
        create_application_buckets(cloud, plan)
        deployed = deploy(cloud, package)
        # Its events are not what is tried here.
        cloud.client("events").disable_rule(Name=deployed.names["ChangedNexusUploads"])
        ask_often(cloud, deployed.names["SyncNexusUploads"])
        yield Stage(cloud, deployed, data["components"][COMPONENT]["bucket"], jobs)


def ask_often(cloud: LocalCloud, machine: str) -> None:
    """S3's jobs are asked for each second instead of each minute."""
    client = cloud.client("stepfunctions")
    definition = client.describe_state_machine(stateMachineArn=machine)["definition"]
    quick = definition.replace(f'"Seconds": {ASK_EVERY_SECONDS}', '"Seconds": 1')
    assert quick != definition
    client.update_state_machine(stateMachineArn=machine, definition=quick)


def test_a_killed_worker_is_followed_by_another_and_nothing_is_copied_twice(here: Stage) -> None:
    odd = [key for key in ODD_KEYS if key not in CANNOT["moto"]]
    here.fill([*odd, *(f"{n % 40:02}/{n:05}" for n in range(OBJECTS - len(odd)))])
    time.sleep(3.1)  # a copy is told from its source by times with whole seconds
    run, execution = here.start(shard_objects=OBJECTS // SHARDS, part_objects=OBJECTS // PARTS)
    # Not before some of a shard is copied.
    begun = lambda: here.s3.list_objects_v2(Bucket=here.replica)["KeyCount"]  # noqa: E731
    wait_for(begun, "nothing is copied", seconds=90)
    killed = threading.Thread(target=here.cloud.kill_worker, args=("copy_shard",))
    killed.start()
    assert here.wait(execution) == "SUCCEEDED", here.told(run, "failure")
    killed.join()
    copied = here.versions(here.replica)
    assert len(copied) == OBJECTS
    assert here.keys(here.replica) == here.keys(here.bucket)
    assert set(copied.values()) == {1}, "nothing is copied twice"
    plan, done = here.told(run, "plan"), here.told(run, "done")
    assert [it["objects"] for it in plan["shards"]] == [OBJECTS // SHARDS] * SHARDS
    assert done["failed"] == 0
    assert datetime.now(UTC) > datetime.fromisoformat(done["finished_at"])


def test_the_point_names_every_object_of_the_replica(here: Stage) -> None:
    points = [row.key for row in here.store.list("points/") if "inventory" in row.key]
    assert len(points) == PARTS + 1, "each between two cuts, the last one open"
    entries = list(read_lines([unpack(here.store.get(key)) for key in points]))
    assert [it.key for it in entries] == sorted(here.keys(here.bucket), key=str.encode)
    assert here.metric("Synced.primary") == [1.0]


def test_the_next_run_has_nothing_to_do(here: Stage) -> None:
    here.shrink(KEPT)
    run, status = here.run()
    assert status == "SUCCEEDED"
    assert here.told(run, "plan")["shards"] == []


def test_an_upload_in_parts_that_no_run_compared_is_told_by_its_versions(here: Stage) -> None:
    """Its time proves nothing; that it is the only version does."""
    begun = {"Bucket": here.bucket, "Key": "in/parts"}
    upload = begun | {"UploadId": here.s3.create_multipart_upload(**begun)["UploadId"]}
    part = here.s3.upload_part(**upload, PartNumber=1, Body=b"in/parts")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    here.s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    time.sleep(3.1)  # a copy is told from its source by times with whole seconds
    assert here.run()[1] == "SUCCEEDED"
    note = here.store.get(COMPARED)
    here.store.delete(COMPARED)
    run, status = here.run()
    assert status == "SUCCEEDED"
    assert here.store.get(COMPARED) == note
    assert here.told(run, "plan")["shards"] == []
    assert here.versions(here.replica)["in/parts"] == 1
    for bucket in (here.bucket, here.replica):
        here.s3.delete_object(Bucket=bucket, Key="in/parts")


def test_a_shard_that_fails_for_good_makes_the_run_red_and_the_others_are_done(
    here: Stage,
) -> None:
    here.fill(["00/new", "01/new", "02/new"])
    here.fill(["01/archived"], StorageClass="GLACIER")
    key = here.keys(here.replica)[-1]
    here.s3.delete_object(Bucket=here.bucket, Key=key)
    points = len(list(here.store.list("points/")))
    run, status = here.run(shard_objects=1)
    assert status == "FAILED"
    assert {"00/new", "01/new", "02/new"} <= set(here.keys(here.replica))
    assert key not in here.keys(here.replica)
    done = here.told(run, "done")
    assert (done["failed"], [it["key"] for it in done["failures"]]) == (1, ["01/archived"])
    assert "01/archived" in json.dumps(here.told(run, "failure"))
    assert here.metric("SyncFailures.primary")[-1] == 1
    assert len(list(here.store.list("points/"))) == points, "no point of what is not in step"
    here.s3.delete_object(Bucket=here.bucket, Key="01/archived")
    run, status = here.run()
    assert status == "SUCCEEDED", "the next run goes on"
    assert here.told(run, "plan")["shards"] == []


def test_a_person_starts_such_a_run_and_is_told_how_it_ended(here: Stage) -> None:
    here.fill([f"by-hand/{n}" for n in range(7)])
    done = here.leeward("--shards")
    assert done.returncode == 0, done.stderr
    assert ": SUCCEEDED; " in done.stdout
    assert ", 7 copied, 0 deleted, 0 failed" in done.stdout
    assert here.keys(here.replica) == here.keys(here.bucket)
    here.fill(["by-hand/archived"], StorageClass="GLACIER")
    red = here.leeward("--shards", "--format", "json")
    told = json.loads(red.stdout)
    assert (red.returncode, told["status"]) == (1, "FAILED")
    assert [it["key"] for it in told["done"]["failures"]] == ["by-hand/archived"]
    here.s3.delete_object(Bucket=here.bucket, Key="by-hand/archived")
    again = here.leeward("--shards", "--dry-run")
    assert (again.returncode, again.stdout) == (2, "")
    assert "--shards or --dry-run" in again.stderr


def test_a_map_that_calls_itself_a_success_is_red_when_a_shard_has_no_result(
    here: Stage,
) -> None:
    """Every child of the Map fails; this cloud's Map, unlike AWS's, succeeds all the same."""
    here.fill(["lost/1", "lost/2"])
    with without_rights(here, "leeward-primary-copy_shard"):
        run, status = here.run(shard_objects=1)
    assert status == "FAILED"
    done = here.told(run, "done")
    assert done["failed"] == 2
    assert {it["code"] for it in done["failures"]} == {"shard-without-result"}
    assert here.run()[1] == "SUCCEEDED"


def test_s3_copies_first_when_there_is_very_much_and_the_shards_look_at_all(here: Stage) -> None:
    keys = [f"batch/{n}" for n in range(40)]
    here.fill(keys)
    time.sleep(3.1)
    run, status = here.run(batch_above=40, shard_objects=20)
    assert status == "SUCCEEDED"
    (job,) = here.jobs.jobs.values()
    assert len(job.lines) == 40
    assert job.text("RoleArn").endswith("/leeward-BatchRole")
    assert here.told(run, "plan")["batch"]
    assert here.told(run, "done")["copied"] == 0, "the shards found all of it done"
    assert {here.versions(here.replica)[key] for key in keys} == {1}
    assert here.keys(here.replica) == here.keys(here.bucket)


def test_too_many_deletions_are_refused_before_anything_is_done(here: Stage) -> None:
    keys = here.keys(here.bucket)
    rows = [{"Key": key} for key in keys[1::2]]
    here.s3.delete_objects(Bucket=here.bucket, Delete={"Objects": rows})
    here.s3.put_object(Bucket=here.bucket, Key=keys[0], Body=b"written again")
    before = here.versions(here.replica)
    run, status = here.run()
    assert status == "FAILED"
    assert "objects to be deleted" in here.told(run, "failure")["Cause"]
    assert here.versions(here.replica) == before
    assert here.run(approved=True)[1] == "SUCCEEDED"
    assert here.keys(here.replica) == here.keys(here.bucket)


@contextmanager
def without_rights(here: Stage, function: str) -> Iterator[None]:
    """The function's role allows nothing for a while."""
    iam = here.cloud.client("iam")
    role = here.cloud.client("lambda").get_function_configuration(FunctionName=function)["Role"]
    name = role.rpartition("/")[2]
    policy = iam.list_role_policies(RoleName=name)["PolicyNames"][0]
    document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
    nothing = document | {"Statement": document["Statement"][:1]}
    iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(nothing))
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_has_the_rights_that_it_needs_and_no_more(here: Stage, function: str) -> None:
    rights = here.cloud.rights()[f"leeward-primary-{function}"]
    assert set(rights.unused) <= set(RARE) | RARE_OF.get(function, set())
