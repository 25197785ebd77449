"""CloudTrail's log files in their bucket.

    <prefix>/AWSLogs/[<organisation>/]<account>/CloudTrail/<region>/<yyyy>/<mm>/<dd>/<name>.json.gz

Source: user guide of CloudTrail, "CloudTrail log file names" and "CloudTrail record contents".
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.errors import Damaged, NotReady
from chalicelib.plan.records import parse_time
from chalicelib.ports.trail import Trail, TrailEvent, TrailFile

# A file may be delivered this long after its events. Source: "on average within 5 minutes".
LATE = timedelta(hours=1)


class TrailFiles(Trail):
    """`client`: boto3's for S3. `prefix`: the trail's own, "" without one."""

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._root = f"{prefix.strip('/')}/AWSLogs/" if prefix.strip("/") else "AWSLogs/"

    def files(self, since: datetime, until: datetime) -> Iterator[TrailFile]:
        for folder in self._folders():
            for day in _days(since, until + LATE):
                yield from (
                    it for it in self._list(f"{folder}{day:%Y/%m/%d}/") if it.stored_at >= since
                )

    def read(
        self, since: datetime, until: datetime, keep: Callable[[TrailEvent], bool]
    ) -> Iterator[TrailEvent]:
        for file in self.files(since, until):
            for record in _records(file.key, self.content(file.key)):
                event = read_record(record)
                if event is not None and since <= event.at <= until and keep(event):
                    yield event

    def content(self, key: str) -> bytes:
        with mapped("s3", bucket=self._bucket, key=key):
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return body

    def _folders(self) -> list[str]:
        """ ".../CloudTrail/<region>/" of every account. Raises NotReady (code "no-trail")."""
        accounts = self._below(self._root)
        organisations = [it for it in accounts if it.split("/")[-2].startswith("o-")]
        accounts += [it for one in organisations for it in self._below(one)]
        found = [it for one in accounts for it in self._below(f"{one}CloudTrail/")]
        if not found:
            raise NotReady(
                f"expected CloudTrail's files below {self._root} in {self._bucket}, found none",
                hint="correct `trail` in the plan, or let CloudTrail write there",
                code="no-trail",
            )
        return found

    def _below(self, prefix: str) -> list[str]:
        with mapped("s3", bucket=self._bucket):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, Delimiter="/"
            )
            return [str(it["Prefix"]) for page in pages for it in page.get("CommonPrefixes", ())]

    def _list(self, prefix: str) -> Iterator[TrailFile]:
        with mapped("s3", bucket=self._bucket):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            for page in pages:
                for it in page.get("Contents", ()):
                    yield TrailFile(it["Key"], it["Size"], it["LastModified"])


def read_record(record: dict[str, Any]) -> TrailEvent | None:
    """None for a record that is no call of anybody (an insight, a digest)."""
    who = record.get("userIdentity") or {}
    if "eventName" not in record or "eventTime" not in record:
        return None
    asked = record.get("requestParameters") or {}
    answered = record.get("responseElements") or {}
    # What a deletion answers is its marker: only what it asked for tells whether a version went.
    made = "" if record["eventName"].startswith("Delete") else answered.get("x-amz-version-id")
    version = asked.get("versionId") or made or ""
    return TrailEvent(
        at=parse_time(record["eventTime"]),
        name=record["eventName"],
        service=str(record.get("eventSource", "")).removesuffix(".amazonaws.com"),
        principal=str(who.get("arn") or who.get("invokedBy") or who.get("type", "")),
        identity=_identity(who),
        key_id=str(who.get("accessKeyId", "")),
        address=str(record.get("sourceIPAddress", "")),
        read_only=bool(record.get("readOnly", False)),
        bucket=str(asked.get("bucketName", "")),
        key=str(asked.get("key", "")),
        version_id=str(version),
        error=str(record.get("errorCode", "")),
        target=_target(asked),
        made_key=str((answered.get("accessKey") or {}).get("accessKeyId", "")),
        id=str(record.get("eventID", "")),
    )


def _identity(who: dict[str, Any]) -> str:
    if who.get("type") == "IAMUser":
        return f"user/{who.get('userName', '')}"
    issuer = (who.get("sessionContext") or {}).get("sessionIssuer") or {}
    if issuer.get("type") in ("Role", "User"):
        return f"{issuer['type'].lower()}/{issuer.get('userName', '')}"
    return ""


def _target(asked: dict[str, Any]) -> str:
    for name, kind in (("userName", "user"), ("roleName", "role")):
        if asked.get(name):
            return f"{kind}/{asked[name]}"
    return ""


def _records(key: str, body: bytes) -> list[dict[str, Any]]:
    try:
        found = json.loads(gzip.decompress(body) if key.endswith(".gz") else body)
        return list(found.get("Records", ()))
    except (OSError, EOFError, zlib.error, ValueError, AttributeError) as error:
        raise Damaged(
            f"expected a log file of CloudTrail in {key}, it cannot be read",
            hint="somebody may have written over it; look at its versions and its digest file",
            code="trail-unreadable",
        ) from error


def _days(since: datetime, until: datetime) -> Iterator[datetime]:
    day = since.replace(hour=0, minute=0, second=0, microsecond=0)
    while day <= until:
        yield day
        day += timedelta(days=1)
