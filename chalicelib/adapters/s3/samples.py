"""Beginnings of objects of one bucket and of the versions before them, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.adapters.s3.config import read_settings
from chalicelib.ports.samples import Problem, Sample, SampledWrite, SampleReader, Settings

THREADS = 8
# Of a key most have a version right below; a page takes at most PAGE (S3 API reference).
FEW_ROWS, PAGE = 5, 1000
# A canary is a few KiB; what was put in its place may be anything.
WHOLE_BYTES = 8 << 20
# InvalidRequest: S3 asks a plain GET for the customer's key. MethodNotAllowed: a delete marker.
_PROBLEMS: dict[str, Problem] = {
    "NoSuchKey": "gone",
    "NoSuchVersion": "gone",
    "MethodNotAllowed": "gone",
    "InvalidRequest": "sse-c",
    "InvalidObjectState": "archived",
}


class S3Samples(SampleReader):
    """The port SampleReader. `client` is boto3's for S3, with at least `THREADS` connections."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def read_writes(
        self, writes: Sequence[tuple[str, str]], sample_bytes: int
    ) -> Iterator[SampledWrite]:
        read = partial(self._read_write, sample_bytes=sample_bytes)
        with ThreadPoolExecutor(THREADS) as threads:
            yield from threads.map(read, writes)

    def read_object(self, key: str) -> Sample:
        return self._read(key, "", WHOLE_BYTES)

    def settings(self, taken_at: datetime) -> Settings:
        return read_settings(self._client, self._bucket, taken_at)

    def _read_write(self, write: tuple[str, str], sample_bytes: int) -> SampledWrite:
        key, version_id = write
        now = self._read(key, version_id, sample_bytes)
        before = self._version_before(key, version_id) if version_id else ""
        return SampledWrite(now, self._read(key, before, sample_bytes) if before else None)

    def _version_before(self, key: str, version_id: str) -> str:
        """The newest version below this one; "" when there is none. Delete markers are passed,
        however many: whoever puts some below what he writes would hide what it replaces."""
        below, rows = version_id, FEW_ROWS
        while below:
            with mapped("s3", bucket=self._bucket, key=key):
                answer = self._client.list_object_versions(
                    Bucket=self._bucket, Prefix=key, KeyMarker=key, VersionIdMarker=below,
                    MaxKeys=rows,
                )  # fmt: skip
            for row in answer.get("Versions", ()):
                if row["Key"] == key:
                    return str(row["VersionId"])
            goes_on = answer.get("IsTruncated") and answer.get("NextKeyMarker") == key
            below, rows = str(answer.get("NextVersionIdMarker", "")) if goes_on else "", PAGE
        return ""

    def _read(self, key: str, version_id: str, most_bytes: int) -> Sample:
        which = {"VersionId": version_id} if version_id else {}
        with mapped("s3", bucket=self._bucket, key=key):
            try:
                answer = self._client.get_object(
                    Bucket=self._bucket, Key=key, Range=f"bytes=0-{most_bytes - 1}", **which
                )
            except ClientError as error:
                return self._unread(key, version_id, error)
            data = answer["Body"].read()
        return _sample(key, answer, data, _size(answer, len(data)))

    def _unread(self, key: str, version_id: str, error: ClientError) -> Sample:
        """What it means that an object was not read. Other errors are raised again."""
        code = error_code(error)
        if code == "InvalidRange":
            return Sample(key, version_id)
        if code == "AccessDenied" or code.startswith("KMS."):
            return self._denied(key, version_id)
        problem = _PROBLEMS.get(code)
        if problem is None:
            raise error
        return Sample(key, version_id, problem=problem)

    def _denied(self, key: str, version_id: str) -> Sample:
        """A HEAD needs no right to decrypt, and tells under which key the object is."""
        which = {"VersionId": version_id} if version_id else {}
        try:
            facts = self._client.head_object(Bucket=self._bucket, Key=key, **which)
        except ClientError:
            return Sample(key, version_id, problem="denied")
        return Sample(
            key, version_id, problem="denied", kms_key_id=str(facts.get("SSEKMSKeyId", "")),
            encryption=str(facts.get("ServerSideEncryption", "")),
        )  # fmt: skip


def _sample(key: str, answer: dict[str, Any], data: bytes, size: int) -> Sample:
    return Sample(
        key, str(answer.get("VersionId", "")), data, size,
        encryption=str(answer.get("ServerSideEncryption", "")),
        kms_key_id=str(answer.get("SSEKMSKeyId", "")),
    )  # fmt: skip


def _size(answer: dict[str, Any], read: int) -> int:
    """Of the whole object: "bytes 0-65535/1048576" names it last."""
    total = str(answer.get("ContentRange", "")).rpartition("/")[2]
    return int(total) if total.isdigit() else read
