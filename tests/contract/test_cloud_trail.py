"""The local cloud's trail says who did what, in the files and the words of CloudTrail."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from leeward.local.clients import open_client
from leeward.local.cloud import LocalCloud
from tests.clouds import wait_for

BUCKET, OTHER, TRAIL = "assets", "other", "audit"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as started:
        s3, trail = started.client("s3"), started.client("cloudtrail")
        for name in (BUCKET, OTHER, TRAIL):
            s3.create_bucket(Bucket=name)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        trail.create_trail(Name="studio", S3BucketName=TRAIL, S3KeyPrefix="logs")
        data = {"Type": "AWS::S3::Object", "Values": [f"arn:aws:s3:::{BUCKET}/"]}
        selector = {"ReadWriteType": "All", "DataResources": [data]}
        trail.put_event_selectors(TrailName="studio", EventSelectors=[selector])
        trail.start_logging(Name="studio")
        yield started


def records(cloud: LocalCloud) -> list[dict[str, Any]]:
    s3 = cloud.client("s3")
    rows = s3.list_objects_v2(Bucket=TRAIL, Prefix="logs/AWSLogs/123456789012/CloudTrail/")
    found: list[dict[str, Any]] = []
    for row in rows.get("Contents", ()):
        body = s3.get_object(Bucket=TRAIL, Key=row["Key"])["Body"].read()
        found += json.loads(gzip.decompress(body))["Records"]
    return found


def test_who_wrote_to_a_watched_bucket_from_where_and_what_was_refused(cloud: LocalCloud) -> None:
    iam = cloud.client("iam")
    iam.create_user(UserName="uploader")
    key = iam.create_access_key(UserName="uploader")["AccessKey"]
    theirs = open_client(cloud, "s3", key, source="203.0.113.66")
    written = theirs.put_object(Bucket=BUCKET, Key="a b/ä.txt", Body=b"1")["VersionId"]
    theirs.put_object(Bucket=OTHER, Key="k", Body=b"1")
    theirs.delete_objects(
        Bucket=BUCKET, Delete={"Objects": [{"Key": "a b/ä.txt", "VersionId": written}]}
    )
    iam.update_access_key(UserName="uploader", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    with pytest.raises(theirs.exceptions.ClientError, match="InvalidAccessKeyId"):
        theirs.delete_bucket_lifecycle(Bucket=BUCKET)

    def all_there() -> list[dict[str, Any]] | None:
        found = [it for it in records(cloud) if it["userIdentity"].get("userName") == "uploader"]
        return found if len(found) >= 4 else None

    found = wait_for(all_there, "the trail was not delivered", seconds=10)
    # As a trail's files have no order within a minute, neither have its records.
    assert len(found) == 4, "writes to a bucket that no selector names are not told"
    by_name = {it["eventName"]: it for it in found}
    assert {
        name: (it["eventCategory"], it.get("errorCode"), it["readOnly"])
        for name, it in by_name.items()
    } == {
        "PutObject": ("Data", None, False),
        "DeleteObjects": ("Data", None, False),
        "DeleteObject": ("Data", None, False),
        "DeleteBucketLifecycle": ("Management", "InvalidAccessKeyId", False),
    }
    put, deleted = by_name["PutObject"], by_name["DeleteObject"]
    assert put["userIdentity"]["accessKeyId"] == key["AccessKeyId"]
    assert put["userIdentity"]["arn"] == "arn:aws:iam::123456789012:user/uploader"
    assert put["sourceIPAddress"] == "203.0.113.66"
    assert put["requestParameters"]["key"] == "a b/ä.txt"
    assert put["responseElements"] == {"x-amz-version-id": written}
    assert deleted["requestParameters"]["versionId"] == written
    named = [it["eventName"] for it in records(cloud)]
    assert "UpdateAccessKey" in named, "management events are there without a selector"
