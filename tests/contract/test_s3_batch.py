"""Jobs of S3 Batch Operations: against botocore's own model, and a server with the API's XML.

AWS itself was never called: moto has no CreateJob.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import ANY, Stubber

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.s3.batch import (
    BATCH_CLASSES,
    BATCH_LARGEST_BYTES,
    BatchCopy,
    S3BatchJobs,
    manifest_line,
)
from chalicelib.adapters.s3.bucket import S3Buckets
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.backup.bucket.batch_manifests import manifest_key, write_manifests
from chalicelib.backup.bucket.replicas import BucketReplica
from chalicelib.backup.bucket.shard_plan import Limits, plan_shards
from chalicelib.backup.bucket.shards import count_results, do_shard
from chalicelib.backup.bucket.sync import SyncResult
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.errors import CheckFailed, NotReady, Throttled
from chalicelib.plan.shards import ShardPlan
from tests.batch_server import BatchServer, batch_server
from tests.contract.test_buckets import CANNOT, ODD_KEYS
from tests.contract.test_sync_buckets import contents, fill
from tests.s3_servers import S3Server, moto_server

ROLE = "arn:aws:iam::123456789012:role/leeward-BatchRole"
POLICY = SyncPolicy(margin=timedelta(0), in_flight=16)
RUN = "run"


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture
def server(moto: S3Server) -> Iterator[BatchServer]:
    with batch_server(moto.client) as started:
        yield started


def control(url: str) -> Any:
    """The account stands before the host's name, which loopback has no name for."""
    client = boto3.client(
        "s3control",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="k",
        aws_secret_access_key="s",
        config=Config(retries={"total_max_attempts": 1}),
    )

    def to_loopback(request: Any, **_: Any) -> None:
        request.url = request.url.replace("//123456789012.", "//")

    client.meta.events.register("before-send.s3-control", to_loopback)
    return client


class Here:
    """A bucket, its replica and the component's store, all on one server; jobs on another."""

    def __init__(self, moto: S3Server, server: BatchServer) -> None:
        self.moto, self.server = moto, server
        self.source, self.replica = moto.create_bucket(), moto.create_bucket(versioned=True)
        self.backups = moto.create_bucket()
        encrypted = {"SSEAlgorithm": "aws:kms"}
        moto.client.put_bucket_encryption(
            Bucket=self.backups,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": encrypted}]
            },
        )
        self.store = S3ObjectStore(moto.client, self.backups, "uploads/")
        self.manifests = S3ObjectStore(moto.client, self.backups, "uploads/", s3_key=True)
        self.jobs = S3BatchJobs(control(server.url), moto.client, ROLE)

    def plan(self) -> ShardPlan:
        async def work() -> ShardPlan:
            async with S3Buckets(self.moto.credentials) as buckets:
                one, two = (
                    buckets.bucket(name, "us-east-1", endpoint_url=self.moto.url)
                    for name in (self.source, self.replica)
                )
                return await plan_shards(
                    one, BucketReplica(two), POLICY, self.store, RUN,
                    clock=SystemClock(), batch_above=1, limits=Limits(objects=5),
                )  # fmt: skip

        return asyncio.run(work())

    def start(self, plan: ShardPlan) -> dict[str, str]:
        counts = write_manifests(
            self.store,
            self.manifests,
            plan,
            manifest_line,
            classes=BATCH_CLASSES,
            largest_bytes=1000,
        )
        return {name: self.jobs.start(self.copy(name)) for name in counts}

    def copy(self, storage_class: str) -> BatchCopy:
        return BatchCopy(
            token=f"uploads/{RUN}/{storage_class}",
            bucket=self.backups,
            manifest=f"uploads/{manifest_key(RUN, storage_class)}",
            report=f"uploads/shards/{RUN}/report",
            replica=self.replica,
            storage_class=storage_class,
        )

    def settle(self, plan: ShardPlan) -> SyncResult:
        async def work() -> None:
            async with S3Buckets(self.moto.credentials) as buckets:
                one, two = (
                    buckets.bucket(name, "us-east-1", endpoint_url=self.moto.url)
                    for name in (self.source, self.replica)
                )
                for shard in plan.shards:
                    await do_shard(
                        one, BucketReplica(two), POLICY, self.store, RUN, shard,
                        clock=SystemClock(), recheck=True,
                    )  # fmt: skip

        asyncio.run(work())
        return count_results(plan, self.store, finished_at=SystemClock().now())


@pytest.fixture
def here(moto: S3Server, server: BatchServer) -> Here:
    return Here(moto, server)


def follow(here: Here, job: str) -> list[str]:
    seen = []
    while not (progress := here.jobs.follow(job)).complete:
        seen.append(progress.status)
    return seen


def test_a_job_copies_every_odd_key_and_the_shards_find_all_done(here: Here) -> None:
    keys = [key for key in ODD_KEYS if key not in CANNOT["moto"]]
    objects = {key: key.encode()[:900] for key in keys}
    fill(here.moto, here.source, objects)
    here.moto.client.put_object(
        Bucket=here.source, Key="cold", Body=b"c", StorageClass="GLACIER_IR", Metadata={"a": "b"}
    )
    here.moto.client.put_object(Bucket=here.source, Key="large", Body=b"x" * 1001)
    time.sleep(1.1)  # times have whole seconds
    plan = here.plan()
    assert plan.batch
    jobs = here.start(plan)
    assert set(jobs) == {"STANDARD", "GLACIER_IR"}
    for job in jobs.values():
        assert follow(here, job) == ["New", "Preparing", "Active"]
    progress = here.jobs.follow(jobs["STANDARD"])
    assert (progress.total, progress.succeeded, progress.failed) == (len(keys), len(keys), 0)
    assert "large" not in contents(here.moto, here.replica)
    cold = here.moto.client.head_object(Bucket=here.replica, Key="cold")
    assert (cold["StorageClass"], cold["Metadata"]) == ("GLACIER_IR", {"a": "b"})
    time.sleep(1.1)
    result = here.settle(plan)
    assert result.ok
    assert result.copied == 1, "what no job may copy, and nothing else, is left to the shards"
    assert contents(here.moto, here.replica) == contents(here.moto, here.source)
    assert here.server.accounts == {"123456789012"}


def test_what_a_job_did_not_copy_is_named_and_brought_by_the_shards(here: Here) -> None:
    fill(here.moto, here.source, {"a b": b"1", "gone": b"2", "changed": b"3"})
    plan = here.plan()
    (job,) = here.start(plan).values()
    assert here.jobs.follow(job).status == "New"
    here.moto.client.delete_object(Bucket=here.source, Key="gone")
    follow(here, job)
    failures = list(here.jobs.failures(here.backups, here.copy("STANDARD").report, job))
    assert [(it.key, it.code) for it in failures] == [("gone", "NoSuchKey")]
    here.moto.client.delete_object(Bucket=here.replica, Key="a b")
    fill(here.moto, here.source, {"changed": b"33"})
    result = here.settle(plan)
    assert (result.ok, result.vanished) == (True, 1)
    assert contents(here.moto, here.replica) == {"a b": b"1", "changed": b"33"}


def test_asking_twice_makes_one_job(here: Here) -> None:
    fill(here.moto, here.source, {"a": b"1"})
    plan = here.plan()
    assert here.start(plan) == here.start(plan)
    assert len(here.server.jobs) == 1


def test_a_manifest_is_encrypted_as_jobs_read_it_whatever_the_bucket_does(here: Here) -> None:
    """By a KMS key the job fails, and each time that it is written its ETag is another one."""
    fill(here.moto, here.source, {"a": b"1"})
    key = f"uploads/{manifest_key(RUN, 'STANDARD')}"
    here.start(here.plan())
    found = here.moto.client.head_object(Bucket=here.backups, Key=key)
    assert found["ServerSideEncryption"] == "AES256"
    here.store.put("beside", b"1")
    beside = here.moto.client.head_object(Bucket=here.backups, Key="uploads/beside")
    assert beside["ServerSideEncryption"] == "aws:kms"


def test_a_manifest_that_was_changed_since_is_a_failed_job_with_its_reason(here: Here) -> None:
    fill(here.moto, here.source, {"a": b"1"})
    (job,) = here.start(here.plan()).values()
    here.jobs.follow(job)
    here.manifests.put(manifest_key(RUN, "STANDARD"), manifest_line(here.source, "b"))
    with pytest.raises(CheckFailed) as failed:
        here.jobs.follow(job)
    assert failed.value.instance_code == "batch-job-failed"
    assert "Manifest ETag mismatch" in failed.value.message
    assert contents(here.moto, here.replica) == {}


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (429, "TooManyRequestsException", Throttled),
        (503, "SlowDown", Throttled),
        (400, "BadRequestException", NotReady),
    ],
)
def test_what_s3_refuses_is_one_clear_error(
    here: Here, status: int, code: str, error: type[Exception]
) -> None:
    fill(here.moto, here.source, {"a": b"1"})
    plan = here.plan()
    here.server.refusals = [(status, code)]
    with pytest.raises(error, match=code):
        here.start(plan)
    with pytest.raises(NotReady, match="HeadObject"):
        here.jobs.start(BatchCopy("t", here.backups, "no such", "r", here.replica, "STANDARD"))


def test_the_request_is_one_that_aws_s_own_model_accepts(moto: S3Server) -> None:
    """Names, types, enumerations and lengths, as botocore has them from AWS."""
    client, bucket = control("http://127.0.0.1:9"), moto.create_bucket()
    moto.client.put_object(Bucket=bucket, Key="m.csv", Body=b"b,k\n")
    etag = moto.client.head_object(Bucket=bucket, Key="m.csv")["ETag"].strip('"')
    expected = {
        "AccountId": "123456789012", "ConfirmationRequired": False, "ClientRequestToken": ANY,
        "Description": ANY, "Priority": 10, "RoleArn": ROLE, "Operation": ANY,
        "Manifest": {
            "Spec": {
                "Format": "S3BatchOperations_CSV_20180820",
                "Fields": ["Bucket", "Key"],
            },
            "Location": {"ObjectArn": f"arn:aws:s3:::{bucket}/m.csv", "ETag": etag},
        },
        "Report": {
            "Enabled": True, "Bucket": f"arn:aws:s3:::{bucket}", "Prefix": "report",
            "Format": "Report_CSV_20180820", "ReportScope": "FailedTasksOnly",
        },
    }  # fmt: skip
    for storage_class in sorted(BATCH_CLASSES):
        with Stubber(client) as stub:
            stub.add_response("create_job", {"JobId": "job-1"}, expected)
            stub.add_response(
                "describe_job",
                {"Job": {"Status": "Paused", "StatusUpdateReason": "by a person"}},
                {"AccountId": "123456789012", "JobId": "job-1"},
            )
            jobs = S3BatchJobs(client, moto.client, ROLE)
            copy = BatchCopy("t" * 300, bucket, "m.csv", "report", "replica", storage_class)
            assert jobs.start(copy) == "job-1"
            with pytest.raises(CheckFailed, match="Paused .* by a person"):
                jobs.follow("job-1")
    model = client.meta.service_model
    classes = set(model.shape_for("S3CopyObjectOperation").members["StorageClass"].enum)
    assert classes >= BATCH_CLASSES
    known = set(model.shape_for("JobStatus").enum)
    assert known >= {"Complete", "Failed", "Cancelled", "Suspended", "Paused"}


def test_a_line_is_what_s3_reads_as_bucket_and_key() -> None:
    assert manifest_line("b", 'a b/é,\n"c') == b"b,a+b/%C3%A9%2C%0A%22c\n"
    assert BATCH_LARGEST_BYTES <= 5 << 30
