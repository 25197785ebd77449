"""Whoever may write evidence can add to it, and can neither replace a record nor hide anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.adapters.s3.access import reach_s3
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.evidence.chain import verify_chain
from chalicelib.evidence.records import StoredRecords
from chalicelib.evidence.review_seal import seal_version
from leeward.local.clients import open_client
from leeward.local.cloud import LocalCloud
from tests.fakes_records import KeySigner, SteppingClock

ROOT = Path(__file__).parents[2]
BUCKET, STREAM = "evidence", "inc-20261122T084500Z-nexus-db"
REVIEW = f"review-{STREAM}"
FIRST = f"{STREAM}/records/000001.json"


def statements() -> list[dict[str, Any]]:
    """Of the deployed bucket's policy, but for the one that demands TLS."""
    resources = json.loads((ROOT / "infra" / "storage.json").read_text())["Resources"]
    document = resources["EvidenceBucketPolicy"]["Properties"]["PolicyDocument"]
    kept = [it for it in document["Statement"] if it["Sid"] != "OnlyOverTls"]
    text = json.dumps(kept).replace("${EvidenceBucket.Arn}", f"arn:aws:s3:::{BUCKET}")
    found: list[dict[str, Any]] = json.loads(text)
    return [it | {"Resource": it["Resource"]["Fn::Sub"]} for it in found]


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(schedules=False) as started:
        s3 = started.client("s3")
        s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        policy = {"Version": "2012-10-17", "Statement": statements()}
        s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
        started.client("iam").create_user(UserName="function")
        yield started


@pytest.fixture
def key(cloud: LocalCloud) -> Iterator[dict[str, str]]:
    iam = cloud.client("iam")
    made = iam.create_access_key(UserName="function")["AccessKey"]
    yield made
    iam.delete_access_key(UserName="function", AccessKeyId=made["AccessKeyId"])


@pytest.fixture
def store(cloud: LocalCloud, key: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> S3ObjectStore:
    """As a function has it, with a key that the bucket's policy counts for."""
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    return S3ObjectStore(reach_s3(), BUCKET)


def test_records_are_appended_and_none_is_replaced_or_hidden(
    cloud: LocalCloud, key: dict[str, str], store: S3ObjectStore
) -> None:
    records = StoredRecords(store, SteppingClock())
    for number in range(3):
        records.append(STREAM, "decision", {"what": str(number)}, actor="leeward")
    s3 = open_client(cloud, "s3", key)
    for call, more in (
        ("put_object", {"Body": b"{}"}),
        ("copy_object", {"CopySource": f"{BUCKET}/{STREAM}/records/000002.json"}),
        ("delete_object", {}),
        ("put_object", {"Body": b"{}", "IfNoneMatch": "*"}),
    ):
        with pytest.raises(ClientError) as caught:
            getattr(s3, call)(Bucket=BUCKET, Key=FIRST, **more)
        refused = "PreconditionFailed" if "IfNoneMatch" in more else "AccessDenied"
        assert caught.value.response["Error"]["Code"] == refused, call
    chain = StoredRecords(store, SteppingClock()).read(STREAM)
    assert [it.body["what"] for it in chain] == ["0", "1", "2"]
    assert verify_chain(STREAM, chain) == []


def test_reports_are_written_again_and_a_review_whose_maker_died_is_finished(
    store: S3ObjectStore,
) -> None:
    records, signer = StoredRecords(store, SteppingClock()), KeySigner()
    chain = [records.append(REVIEW, "review-finished", {"version": 1}, actor="cto")]
    files = {"report.md": b"one", "incident/records/000001.json": b"{}\n"}
    for number in range(2):
        store.put(f"{STREAM}/report.html", f"made {number}".encode())
    # Of the first maker all but the seal is there.
    for name, data in files.items():
        store.put(f"{REVIEW}/versions/1/{name}", data, if_absent=True)
    args: dict[str, Any] = {"store": store, "signer": signer, "tool": "leeward test"}
    files["report.md"] = b"two"
    assert seal_version(REVIEW, 1, files, chain, **args, made_at=chain[0].at)
    assert store.get(f"{REVIEW}/versions/1/report.md") == b"two"
