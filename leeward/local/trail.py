"""CloudTrail: a trail that is logging writes who did what into its bucket, as AWS does.

    create_trail, put_event_selectors, start_logging (moto keeps them) -> each call -> one record
    every DELIVER_SECONDS: AWSLogs/<account>/CloudTrail/<region>/<day>/<name>.json.gz

Management events that write are always in it (moto's default), data events of the buckets that the
trail's selectors name. AWS delivers within some five minutes, and here so much sooner.
Source: "CloudTrail record contents" and "Finding your CloudTrail log files", user guide.
"""

from __future__ import annotations

import gzip
import json
import secrets
import sys
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from leeward.local.callers import Asked, Caller
from leeward.local.iam import ACCOUNT

DELIVER_SECONDS = 1.0
READS = ("Get", "List", "Head", "Describe", "BatchGet", "Query", "Scan")
# What CloudTrail calls data events; everything else is a management event.
UNLOGGED = frozenset(("dynamodb", "lambda", "logs", "monitoring"))
"""Services most of whose calls are data events of a kind that no trail here asks for."""
OBJECT_EVENTS = frozenset(
    (
        "AbortMultipartUpload", "CompleteMultipartUpload", "CopyObject", "CreateMultipartUpload",
        "DeleteObject", "DeleteObjects", "DeleteObjectTagging", "GetObject", "HeadObject",
        "ListObjects", "ListObjectVersions", "PutObject", "PutObjectAcl", "PutObjectLegalHold",
        "PutObjectRetention", "PutObjectTagging", "RestoreObject", "UploadPart",
    )
)  # fmt: skip


class Trails:
    """All trails of this cloud. `deliver` writes at once what has not been written yet."""

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    @property
    def logging(self) -> bool:
        return bool(self._active())

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def write(
        self,
        asked: Asked,
        *,
        status: int = 0,
        headers: dict[str, str] | None = None,
        error: str = "",
    ) -> None:
        """One request as one record; each object of a DeleteObjects has a record of its own."""
        if not self.logging or asked.service in UNLOGGED:
            return
        made = [_record(asked, status, headers or {}, error)]
        for key, version in asked.deleted:
            made.append(_deleted(made[0], asked, key, version))
        with self._lock:
            self._records += made

    def deliver(self) -> None:
        with self._lock:
            records, self._records = self._records, []
        for trail in self._active() if records else ():
            wanted = [it for it in records if _is_wanted(trail, it)]
            if wanted:
                _store(trail, wanted)

    def _run(self) -> None:
        while not self._stopping.wait(DELIVER_SECONDS):
            self.deliver()

    def _active(self) -> list[Any]:
        if "moto.cloudtrail.models" not in sys.modules:
            return []
        from moto.cloudtrail.models import cloudtrail_backends

        backends = list(cloudtrail_backends[ACCOUNT].values())
        trails = [it for backend in backends for it in list(backend.trails.values())]
        return [it for it in trails if it.status.is_logging]


def _record(asked: Asked, status: int, headers: dict[str, str], error: str) -> dict[str, Any]:
    data = asked.service == "s3" and asked.event in OBJECT_EVENTS
    record: dict[str, Any] = {
        "eventVersion": "1.10",
        "userIdentity": _identity(asked.caller),
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": f"{asked.service}.amazonaws.com",
        "eventName": asked.event,
        "awsRegion": asked.region,
        "sourceIPAddress": asked.source,
        "userAgent": f"[{asked.agent}]",
        "requestParameters": _parameters(asked),
        "responseElements": None,
        "requestID": uuid.uuid4().hex[:16].upper(),
        "eventID": str(uuid.uuid4()),
        "readOnly": asked.event.startswith(READS),
        "eventType": "AwsApiCall",
        "managementEvent": not data,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Data" if data else "Management",
    }
    if version := headers.get("x-amz-version-id"):
        record["responseElements"] = {"x-amz-version-id": version}
    if error or status >= 400:
        record["errorCode"] = error or str(status)
    if asked.bucket:
        record["resources"] = _resources(asked.bucket, asked.key)
    return record


def _deleted(whole: dict[str, Any], asked: Asked, key: str, version: str) -> dict[str, Any]:
    parameters = {"bucketName": asked.bucket, "key": key}
    return whole | {
        "eventName": "DeleteObject",
        "eventID": str(uuid.uuid4()),
        "requestParameters": parameters | ({"versionId": version} if version else {}),
        "resources": _resources(asked.bucket, key),
    }


def _resources(bucket: str, key: str) -> list[dict[str, str]]:
    arn = f"arn:aws:s3:::{bucket}"
    named = [{"type": "AWS::S3::Object", "ARN": f"{arn}/{key}"}] if key else []
    return [*named, {"type": "AWS::S3::Bucket", "ARN": arn, "accountId": ACCOUNT}]


def _parameters(asked: Asked) -> dict[str, str] | None:
    found = dict(asked.parameters)
    for name, value in (
        ("bucketName", asked.bucket), ("key", asked.key), ("versionId", asked.version_id)
    ):  # fmt: skip
        if value:
            found[name] = value
    return found or None


def _identity(caller: Caller) -> dict[str, Any]:
    """Source: "CloudTrail userIdentity element"."""
    common = {"arn": caller.arn, "accountId": ACCOUNT, "accessKeyId": caller.key}
    if caller.kind == "user":
        return {"type": "IAMUser", "principalId": f"AIDA{caller.name}", "userName": caller.name,
                **common}  # fmt: skip
    issuer = {"type": "Role", "arn": caller.role_arn, "accountId": ACCOUNT,
              "userName": caller.role_arn.rpartition("/")[2]}  # fmt: skip
    return {
        "type": "AssumedRole",
        "principalId": f"AROA{issuer['userName']}:{caller.name}",
        **common,
        "sessionContext": {"sessionIssuer": issuer},
    }


def _is_wanted(trail: Any, record: dict[str, Any]) -> bool:
    if record["eventCategory"] == "Management":
        return True
    arn = f"{record['resources'][0]['ARN']}/"
    return any(arn.startswith(prefix) for prefix in _data_prefixes(trail))


def _data_prefixes(trail: Any) -> list[str]:
    """ARNs of S3 that the trail's event selectors name: "arn:aws:s3:::bucket/"."""
    found: list[str] = []
    for selector in trail.event_selectors or ():
        for resource in selector.get("DataResources", ()):
            if resource.get("Type") == "AWS::S3::Object":
                found += resource.get("Values", ())
    for advanced in trail.advanced_event_selectors or ():
        for one in advanced.get("FieldSelectors", ()):
            if one.get("Field") == "resources.ARN":
                found += one.get("StartsWith", ())
    return found


def _store(trail: Any, records: list[dict[str, Any]]) -> None:
    """Straight into moto's store: a delivery is no request, and must not be in the trail."""
    from moto.s3.models import s3_backends

    now, region = datetime.now(UTC), trail.region_name
    folder = f"AWSLogs/{ACCOUNT}/CloudTrail/{region}/{now:%Y/%m/%d}"
    name = f"{ACCOUNT}_CloudTrail_{region}_{now:%Y%m%dT%H%MZ}_{secrets.token_hex(8)}.json.gz"
    prefix = f"{trail.s3_key_prefix.strip('/')}/" if trail.s3_key_prefix else ""
    body = gzip.compress(json.dumps({"Records": records}).encode())
    s3_backends[ACCOUNT]["aws"].put_object(trail.bucket_name, f"{prefix}{folder}/{name}", body)
