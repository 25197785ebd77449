"""S3 Batch Operations: one job copies the objects of a manifest, any number, at S3's own pace.

A job is told by its status alone: `Complete` says that every line was tried, not that every one
was copied. Never called against AWS by the tests: botocore's model and a server that speaks the
API reference's XML stand for it.

Source: S3 User Guide, "Copy objects" with Batch Operations: the source in one bucket, jobs are
created in the region of the copies, at most 5 GB an object; "Specifying a manifest": CSV without a
header, keys URL-encoded.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from chalicelib.adapters.aws_errors import mapped
from chalicelib.errors import CheckFailed

# The classes that a job may write and from which S3 reads at once.
BATCH_CLASSES = frozenset(
    {"STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"}
)
BATCH_LARGEST_BYTES = 5_000_000_000
ENDED_BADLY = frozenset({"Failed", "Cancelled", "Suspended", "Paused"})


@dataclass(frozen=True)
class BatchCopy:
    """A job to be made. `token`: the same one makes the same job once, whoever asks again.

    `manifest` and `report` are keys of `bucket`.
    """

    token: str
    bucket: str
    manifest: str
    report: str
    replica: str
    storage_class: str


@dataclass(frozen=True)
class BatchProgress:
    """Of a job as S3 tells it; the numbers are 0 until S3 has read the manifest."""

    job: str
    status: str
    total: int
    succeeded: int
    failed: int

    @property
    def complete(self) -> bool:
        return self.status == "Complete"


@dataclass(frozen=True)
class BatchFailure:
    """One line of a job's report."""

    key: str
    code: str
    message: str


def manifest_line(bucket: str, key: str) -> bytes:
    """A line of a manifest: of whatever is the object when the job comes to it."""
    return f"{bucket},{quote_plus(key, safe='/')}\n".encode()


class S3BatchJobs:
    """Jobs of one account in one region, run by `role`. Clients are boto3's s3control and s3."""

    def __init__(self, control: Any, s3: Any, role: str) -> None:
        self._control, self._s3, self._role = control, s3, role
        self._account = role.split(":")[4]

    def start(self, copy: BatchCopy) -> str:
        """Make the job, or find the one made with this token; its id. It starts by itself.

        Raises:
            NotReady: the manifest is not there, or S3 takes it for no manifest.
        """
        with mapped("s3", key=copy.manifest):
            etag = self._s3.head_object(Bucket=copy.bucket, Key=copy.manifest)["ETag"]
        request = self._request(copy, etag.strip('"'))
        with mapped("s3control", key=copy.manifest):
            return str(self._control.create_job(**request)["JobId"])

    def follow(self, job: str) -> BatchProgress:
        """Where the job is.

        Raises:
            CheckFailed: code "batch-job-failed", with S3's reasons.
        """
        with mapped("s3control", job=job):
            answer = self._control.describe_job(AccountId=self._account, JobId=job)["Job"]
        counts = answer.get("ProgressSummary", {})
        found = BatchProgress(
            job,
            answer["Status"],
            counts.get("TotalNumberOfTasks", 0),
            counts.get("NumberOfTasksSucceeded", 0),
            counts.get("NumberOfTasksFailed", 0),
        )
        if found.status in ENDED_BADLY:
            raise _ended_badly(found, answer)
        return found

    def failures(self, bucket: str, report: str, job: str) -> Iterator[BatchFailure]:
        """The lines of the job's report; it is there once the job is complete and some failed."""
        manifest = self._read(bucket, f"{report}/job-{job}/manifest.json")
        for part in json.loads(manifest)["Results"]:
            text = self._read(bucket, part["Key"]).decode()
            for row in csv.reader(io.StringIO(text)):
                _, key, _, _, code, _, message = row
                yield BatchFailure(unquote_plus(key), code, message)

    def _read(self, bucket: str, key: str) -> bytes:
        with mapped("s3", key=key):
            content: bytes = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def _request(self, copy: BatchCopy, etag: str) -> dict[str, Any]:
        return {
            "AccountId": self._account,
            "ConfirmationRequired": False,
            "ClientRequestToken": hashlib.sha256(copy.token.encode()).hexdigest(),
            "Description": f"leeward: {copy.manifest}"[:256],
            "Priority": 10,
            "RoleArn": self._role,
            "Operation": {
                "S3PutObjectCopy": {
                    "TargetResource": f"arn:aws:s3:::{copy.replica}",
                    "MetadataDirective": "COPY",
                    "StorageClass": copy.storage_class,
                    "ChecksumAlgorithm": "SHA256",
                    "BucketKeyEnabled": True,
                }
            },
            "Manifest": {
                "Spec": {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key"]},
                "Location": {
                    "ObjectArn": f"arn:aws:s3:::{copy.bucket}/{copy.manifest}",
                    "ETag": etag,
                },
            },
            "Report": {
                "Enabled": True,
                "Bucket": f"arn:aws:s3:::{copy.bucket}",
                "Prefix": copy.report,
                "Format": "Report_CSV_20180820",
                "ReportScope": "FailedTasksOnly",
            },
        }


def _ended_badly(found: BatchProgress, answer: dict[str, Any]) -> CheckFailed:
    told = [f"{it.get('FailureCode')}: {it.get('FailureReason')}" for it in
            answer.get("FailureReasons", ())]  # fmt: skip
    why = "; ".join(told) or answer.get("StatusUpdateReason") or "S3 gives no reason"
    return CheckFailed(
        f"expected job {found.job} of S3 Batch Operations to complete, found {found.status} after "
        f"{found.succeeded} of {found.total} objects: {why}",
        code="batch-job-failed",
        hint="What was copied stays; mend what S3 names, and run the sync again.",
        job=found.job,
    )
