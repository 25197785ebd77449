"""Buckets of real servers are taken back to a moment: moto, and SeaweedFS where it can."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.adapters.s3.bucket import S3Buckets
from chalicelib.adapters.s3.place import Patience
from chalicelib.adapters.s3.rules import S3Control
from chalicelib.errors import NotReady
from chalicelib.ports.bucket_rules import BucketControl, BucketRules, Expiry
from chalicelib.recover.bucket.apply import apply_undo
from chalicelib.recover.bucket.elsewhere import apply_copy, require_target, survey_copy
from chalicelib.recover.bucket.outcome import UndoOutcome
from chalicelib.recover.bucket.proof import UndoProof, verify_copy, verify_undo
from chalicelib.recover.bucket.survey import UndoPlan, survey_undo
from chalicelib.recover.bucket.undo import UndoRules
from tests.gates import gate
from tests.s3_servers import S3Server, moto_server, seaweed_server

PATIENCE = Patience(attempts=9, first_pause_seconds=0.02)
ODD_KEYS = ["a b", "+plus", "tab\tk", "é/ü", "日本/😀", "%41", "&amp;<x>", "q?u=e#r", '"quote"']


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def seaweedfs() -> Iterator[S3Server]:
    with seaweed_server() as server:
        yield server


@dataclass
class Lab:
    """A versioned bucket, written to from outside, and the commands under test."""

    server: S3Server
    name: str
    url: str = ""
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.server.client

    def put(self, objects: dict[str, bytes]) -> None:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(self._put_one, objects.items()))

    def _put_one(self, pair: tuple[str, bytes]) -> None:
        self.client.put_object(Bucket=self.name, Key=pair[0], Body=pair[1])

    def delete(self, *keys: str) -> None:
        for start in range(0, len(keys), 1000):
            objects = [{"Key": key} for key in keys[start : start + 1000]]
            answer = self.client.delete_objects(Bucket=self.name, Delete={"Objects": objects})
            assert "Errors" not in answer

    def now(self) -> datetime:
        """The last moment of a second that is over: times are whole seconds, rounded down."""
        begun = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        time.sleep((begun - datetime.now(UTC)).total_seconds() + 0.01)
        return begun - timedelta(microseconds=1)

    def state(self, bucket: str = "") -> dict[str, bytes]:
        name = bucket or self.name
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=name)
        keys = [row["Key"] for page in pages for row in page.get("Contents", ())]
        bodies = (self.client.get_object(Bucket=name, Key=key)["Body"].read() for key in keys)
        return dict(zip(keys, bodies, strict=True))

    def versions(self) -> list[tuple[str, str]]:
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.name)
        return [
            (row["Key"], row["VersionId"]) for page in pages for row in page.get("Versions", ())
        ]

    def undo(
        self, rules: UndoRules, prefix: str = "", thaw: BucketControl | None = None
    ) -> tuple[UndoPlan, UndoOutcome, UndoProof]:
        async def run() -> tuple[UndoPlan, UndoOutcome, UndoProof]:
            async with S3Buckets(self.server.credentials, patience=PATIENCE) as buckets:
                url = self.url or self.server.url
                bucket = buckets.bucket(self.name, "us-east-1", endpoint_url=url)
                plan = await survey_undo(bucket, rules, prefix=prefix)
                held = plan if thaw is None else None
                outcome = await apply_undo(
                    bucket, rules, prefix=prefix, plan=held, thaw=thaw, in_flight=16
                )
                cuts = tuple(sorted({key for key, _ in self.versions()})[::7])
                proof = await verify_undo(bucket, rules, plan.state, prefix=prefix, cuts=cuts)
                return plan, outcome, proof

        return asyncio.run(run())

    def copy_to(
        self, target: str, rules: UndoRules, thaw: BucketControl | None = None
    ) -> tuple[UndoOutcome, UndoProof]:
        async def run() -> tuple[UndoOutcome, UndoProof]:
            async with S3Buckets(self.server.credentials, patience=PATIENCE) as buckets:
                url = self.server.url
                bucket = buckets.bucket(self.name, "us-east-1", endpoint_url=url)
                other = buckets.bucket(target, "us-east-1", endpoint_url=url)
                plan = await survey_copy(bucket, other, rules)
                require_target(plan)
                outcome = await apply_copy(bucket, other, rules, thaw=thaw)
                return outcome, await verify_copy(bucket, other, rules, plan.state)

        return asyncio.run(run())


@pytest.fixture(params=["moto", "seaweedfs"])
def lab(request: pytest.FixtureRequest) -> Lab:
    server: S3Server = request.getfixturevalue(str(request.param))
    return Lab(server, server.create_bucket(versioned=True))


@pytest.fixture
def moto_lab(moto: S3Server) -> Lab:
    return Lab(moto, moto.create_bucket(versioned=True))


@pytest.fixture
def seaweed_lab(seaweedfs: S3Server) -> Lab:
    return Lab(seaweedfs, seaweedfs.create_bucket(versioned=True))


def test_the_same_bytes_with_other_tags_go_back_too(moto_lab: Lab) -> None:
    """A lifecycle rule, or a policy, may go by what an overwritten object is tagged with."""

    def write(key: str, tags: str) -> None:
        moto_lab.client.put_object(Bucket=moto_lab.name, Key=key, Body=b"1", Tagging=tags)

    for key in ("changed", "same"):
        write(key, "keep=yes")
    then = moto_lab.now()
    write("changed", "keep=no")
    write("same", "keep=yes")
    _, outcome, proof = moto_lab.undo(UndoRules(then))
    assert (outcome.counts, proof.ok) == ({"copied": 1, "same": 1}, True)
    found = moto_lab.client.get_object_tagging(Bucket=moto_lab.name, Key="changed")
    assert found["TagSet"] == [{"Key": "keep", "Value": "yes"}]


def test_a_bucket_is_taken_back_and_forward_again(lab: Lab) -> None:
    objects = {f"dir{n % 3}/{n:03}": os.urandom(100 + n) for n in range(30)}
    objects |= {key: key.encode() for key in ODD_KEYS}
    lab.put(objects)
    gone = "was/deleted/before"
    lab.put({gone: b"1"})
    lab.now()  # moto cannot tell what came first within a second
    lab.delete(gone)
    moment = lab.now()
    lab.delete(*(f"dir{n % 3}/{n:03}" for n in range(10)), "a b", "日本/😀")
    lab.put({f"dir{n % 3}/{n:03}": b"encrypted" for n in range(10, 20)})
    lab.put({"+plus": b"encrypted", "%41": b"encrypted", gone: b"again"})
    lab.put({f"{n}/READ_ME.txt": b"pay" for n in range(5)})
    lab.now()
    lab.delete("dir0/012", "%41")
    ruined, versions, before_run = lab.state(), lab.versions(), lab.now()
    rules = UndoRules(moment, remove_markers=False)
    plan, outcome, proof = lab.undo(rules)
    assert lab.state() == objects
    assert plan.state.keys == len(objects)
    assert outcome.counts["copied"] == 10 + 2 + 12
    assert outcome.counts["marked"] == 6
    assert outcome.ok
    assert proof.ok
    assert set(versions) <= set(lab.versions())
    lab.now()
    _, _, proof = lab.undo(UndoRules(before_run, remove_markers=False))
    assert lab.state() == ruined
    assert proof.ok


def test_folders_are_told_also_where_nothing_is_left(lab: Lab) -> None:
    """What is not told here would not be read when a listing is cut into several."""
    lab.put({"a/1": b"1", "a/2": b"1", "gone/1": b"1", "top": b"1"})
    lab.delete("gone/1")

    async def level() -> list[str]:
        async with S3Buckets(lab.server.credentials, patience=PATIENCE) as buckets:
            bucket = buckets.bucket(lab.name, "us-east-1", endpoint_url=lab.server.url)
            found = [it async for it in bucket.version_level("")]
            return [it if isinstance(it, str) else it.key for it in found]

    assert sorted(asyncio.run(level())) == ["a/", "gone/", "top"]


def test_markers_are_removed_by_the_thousand(seaweed_lab: Lab) -> None:
    lab = seaweed_lab
    objects = {f"k{n:04}": b"%d" % n for n in range(1100)}
    lab.put(objects)
    moment = lab.now()
    lab.delete(*objects)
    versions = lab.versions()
    _, outcome, proof = lab.undo(UndoRules(moment))
    assert outcome.counts == {"unmarked": 1100}
    assert (proof.ok, proof.objects) == (True, 1100)
    assert lab.versions() == versions
    assert len(lab.client.list_objects_v2(Bucket=lab.name)["Contents"]) == 1000


def test_a_page_between_a_marker_and_its_version(seaweed_lab: Lab) -> None:
    """The listing's first page ends with the marker of a key that was deleted before."""
    lab = seaweed_lab
    lab.put({f"a{n:04}": b"1" for n in range(999)} | {"b": b"deleted long ago", "c": b"1"})
    lab.delete("b")
    moment = lab.now()
    lab.put({"c": b"encrypted"})
    _, outcome, proof = lab.undo(UndoRules(moment))
    assert outcome.counts == {"left": 1000, "copied": 1}
    assert proof.ok
    found = [row["Key"] for row in lab.client.list_objects_v2(Bucket=lab.name, Prefix="b").get(
        "Contents", ())]  # fmt: skip
    assert found == []


def test_pages_that_hold_markers_alone(seaweed_lab: Lab) -> None:
    """moto cannot: it recurses once for each marker of a key."""
    lab = seaweed_lab
    lab.put({"a": b"1", "z": b"1"})
    moment = lab.now()
    for _ in range(1001):
        lab.client.delete_object(Bucket=lab.name, Key="a")
    plan, outcome, proof = lab.undo(UndoRules(moment))
    assert plan.markers == 1001
    assert outcome.counts == {"left": 1, "unmarked": 1}
    assert proof.ok
    assert lab.state() == {"a": b"1", "z": b"1"}


def test_put_and_deleted_within_a_second(lab: Lab) -> None:
    lab.put({"kept": b"1"})
    lab.now()
    lab.client.put_object(Bucket=lab.name, Key="brief", Body=b"1")
    lab.client.delete_object(Bucket=lab.name, Key="brief")
    moment = lab.now()
    lab.put({"kept": b"encrypted"})
    _, _, proof = lab.undo(UndoRules(moment))
    assert lab.state() == {"kept": b"1"}
    assert proof.ok


def test_objects_sent_in_parts_are_compared_by_their_checksums(lab: Lab) -> None:
    body = os.urandom((5 << 20) + 1)
    send_in_parts(lab, "large", body)
    moment = lab.now()
    lab.put({"large": b"encrypted"})
    _, outcome, proof = lab.undo(UndoRules(moment))
    assert outcome.counts == {"copied": 1}
    assert lab.state() == {"large": body}
    assert proof.ok
    _, outcome, proof = lab.undo(UndoRules(moment))
    assert lab.state() == {"large": body}
    assert proof.ok


def send_in_parts(lab: Lab, key: str, body: bytes) -> None:
    where = {"Bucket": lab.name, "Key": key}
    upload = lab.client.create_multipart_upload(**where)["UploadId"]
    parts = []
    for number, part in enumerate((body[: 5 << 20], body[5 << 20 :]), start=1):
        sent = lab.client.upload_part(**where, UploadId=upload, PartNumber=number, Body=part)
        parts.append({"PartNumber": number, "ETag": sent["ETag"]})
    lab.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})


def test_a_moment_is_copied_into_another_bucket(lab: Lab) -> None:
    objects = {key: key.encode() for key in ODD_KEYS}
    lab.put(objects)
    moment = lab.now()
    lab.delete("a b")
    lab.put({"+plus": b"encrypted", "new": b"1"})
    target = lab.server.create_bucket()
    for counts in ({"copied": len(ODD_KEYS)}, {"same": len(ODD_KEYS)}):
        outcome, proof = lab.copy_to(target, UndoRules(moment))
        assert {k: n for k, n in outcome.counts.items() if k != "left"} == counts
        assert proof.ok
        assert lab.state(target) == objects


def test_answers_of_503_in_the_middle_change_nothing(moto_lab: Lab) -> None:
    lab = moto_lab
    objects = {f"k{n:02}": b"%d" % n for n in range(40)}
    lab.put(objects)
    moment = lab.now()
    lab.put({f"k{n:02}": b"encrypted" for n in range(30)})
    lab.delete(*(f"k{n:02}" for n in range(20, 40)))
    seen = [0]

    def judge(method: str, path: str) -> Any:
        seen[0] += 1
        return "503" if seen[0] % 3 == 0 else "pass"

    with gate(lab.server.url, judge) as between:
        lab.url = between.url
        _, outcome, proof = lab.undo(UndoRules(moment))
        assert between.stopped > 10
    assert outcome.ok
    assert proof.ok
    assert lab.state() == objects


KILLED = """
import asyncio, sys
from datetime import datetime
from chalicelib.adapters.s3.bucket import S3Buckets
from chalicelib.adapters.s3.signing import Credentials
from chalicelib.recover.bucket.undo import UndoRules
from chalicelib.recover.bucket.apply import apply_undo

async def main(url, name, moment):
    async with S3Buckets(lambda: Credentials("testing", "testing")) as buckets:
        bucket = buckets.bucket(name, "us-east-1", endpoint_url=url)
        rules = UndoRules(datetime.fromisoformat(moment))
        await apply_undo(bucket, rules, in_flight=2, tell=lambda done: print(done, flush=True))

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_killed_run_is_finished_by_the_next(moto_lab: Lab) -> None:
    lab = moto_lab
    objects = {f"k{n:03}": b"%03d" % n for n in range(120)}
    lab.put(objects)
    moment = lab.now()
    lab.put(dict.fromkeys(objects, b"encrypted"))
    words = [sys.executable, "-c", KILLED, lab.server.url, lab.name, moment.isoformat()]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) >= 20:
                process.send_signal(signal.SIGKILL)
                break
    copied = len(lab.versions()) - 240
    assert 20 <= copied < 120
    _, outcome, proof = lab.undo(UndoRules(moment))
    assert outcome.counts == {"same": copied, "copied": 120 - copied}
    assert len(lab.versions()) == 360
    assert proof.ok
    assert lab.state() == objects


def test_what_is_archived_is_asked_back_and_copied_later(moto_lab: Lab) -> None:
    """Into another bucket: moto restores the current version alone."""
    lab = moto_lab
    lab.client.put_object(Bucket=lab.name, Key="old", Body=b"cold", StorageClass="GLACIER")
    moment, target = lab.now(), lab.server.create_bucket()
    control = S3Control(lab.client, lab.name)
    outcome, proof = lab.copy_to(target, UndoRules(moment))
    assert outcome.counts == {"archived": 1}
    assert not proof.ok
    outcome, proof = lab.copy_to(target, UndoRules(moment), control)
    assert outcome.counts == {"thawing": 1}
    assert not proof.ok
    outcome, proof = lab.copy_to(target, UndoRules(moment), control)
    assert outcome.counts == {"copied": 1}
    assert proof.ok
    assert lab.state(target) == {"old": b"cold"}
    lab.put({"warm": b"1"})
    assert control.thaw([("warm", "")], days=1) == {("warm", ""): "InvalidObjectState"}


def rules_by_boto3(lab: Lab, name: str) -> BucketRules:
    return S3Control(lab.client, name).rules()


def rules_directly(lab: Lab, name: str) -> BucketRules:
    async def read() -> BucketRules:
        async with S3Buckets(lab.server.credentials, patience=PATIENCE) as buckets:
            return await buckets.bucket(name, "us-east-1", endpoint_url=lab.server.url).rules()

    return asyncio.run(read())


@pytest.mark.parametrize("read", [rules_by_boto3, rules_directly])
def test_the_rules_of_a_bucket_are_read(
    moto_lab: Lab, read: Callable[[Lab, str], BucketRules]
) -> None:
    lab = moto_lab
    assert read(lab, lab.name) == BucketRules("Enabled")
    month = {"NoncurrentVersionExpiration": {"NoncurrentDays": 30}}
    rules = [
        {"ID": "1", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, **month},
        {"ID": "2", "Status": "Disabled", "Filter": {}, **month},
    ]
    lab.client.put_bucket_lifecycle_configuration(
        Bucket=lab.name, LifecycleConfiguration={"Rules": rules}
    )
    assert read(lab, lab.name).expiries == (Expiry("logs/", 30),)
    lab.client.put_bucket_versioning(
        Bucket=lab.name, VersioningConfiguration={"Status": "Suspended"}
    )
    assert read(lab, lab.name).versioning == "Suspended"
    assert read(lab, lab.server.create_bucket()).versioning == ""
    with pytest.raises(NotReady) as caught:
        read(lab, "no-such-bucket-here")
    assert caught.value.instance_code == "no-bucket"


def test_how_long_a_replica_keeps_versions_stands_on_it(moto_lab: Lab) -> None:
    lab = moto_lab
    tags = [{"Key": "team", "Value": "7"}, {"Key": "leeward:versions-days", "Value": "30"}]
    lab.client.put_bucket_tagging(Bucket=lab.name, Tagging={"TagSet": tags})
    assert rules_directly(lab, lab.name).expiries == (Expiry("", 30, of_plan=True),)


def test_a_locked_bucket_is_taken_back(seaweedfs: S3Server) -> None:
    """Not on moto, which demands of a copy what S3 demands of an upload alone."""
    client, name = seaweedfs.client, "locked-bucket"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    retention = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket=name,
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": retention},
    )
    lab = Lab(seaweedfs, name)
    lab.put({"a": b"1", "b": b"2"})
    moment = lab.now()
    lab.delete("a")
    lab.put({"b": b"encrypted", "c": b"pay"})
    assert rules_by_boto3(lab, name).lock_days == rules_directly(lab, name).lock_days == 1
    _, outcome, proof = lab.undo(UndoRules(moment))
    assert outcome.counts == {"unmarked": 1, "copied": 1, "marked": 1}
    assert proof.ok
    assert lab.state() == {"a": b"1", "b": b"2"}
