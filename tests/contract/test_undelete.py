"""Objects deleted by accident, on real servers: moto, and SeaweedFS where it can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.adapters.s3.bucket import S3Bucket, S3Buckets
from chalicelib.adapters.s3.place import Patience
from chalicelib.recover.bucket.apply import apply_undo
from chalicelib.recover.bucket.deleted_objects import GoneObjects, survey_deleted, verify_undelete
from chalicelib.recover.bucket.fill import Filled, fill_bucket
from chalicelib.recover.bucket.outcome import UndoOutcome
from chalicelib.recover.bucket.survey import survey_undo
from chalicelib.recover.bucket.undo import UndoRules
from chalicelib.recover.deletion_scope import decide_burst, find_bursts
from chalicelib.services.steps.deletion.objects import undelete_rules
from tests.s3_servers import S3Server, moto_server, seaweed_server

PATIENCE = Patience(attempts=9, first_pause_seconds=0.02)
# SeaweedFS lists versions of names outside ASCII before all others: no order to read two by.
ODD_KEYS = ["a b", "+plus", "%41", "&amp;<x>", "q?u=e#r"]


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def seaweedfs() -> Iterator[S3Server]:
    with seaweed_server() as server:
        yield server


@dataclass
class Uploads:
    """A versioned bucket, its replica, and an empty one."""

    server: S3Server

    def __post_init__(self) -> None:
        self.bucket, self.replica, self.target = (
            self.server.create_bucket(versioned=True) for _ in range(3)
        )

    def put(self, *keys: str, body: bytes = b"1", bucket: str = "") -> None:
        for key in keys:
            self.server.client.put_object(Bucket=bucket or self.bucket, Key=key, Body=body)

    def delete(self, *keys: str) -> None:
        for key in keys:
            self.server.client.delete_object(Bucket=self.bucket, Key=key)

    def remove(self, key: str) -> None:
        """Every version: nothing of it is left."""
        answer = self.server.client.list_object_versions(Bucket=self.bucket, Prefix=key)
        for row in (*answer.get("Versions", ()), *answer.get("DeleteMarkers", ())):
            self.server.client.delete_object(
                Bucket=self.bucket, Key=row["Key"], VersionId=row["VersionId"]
            )

    def state(self, bucket: str = "") -> dict[str, bytes]:
        name = bucket or self.bucket
        rows = self.server.client.list_objects_v2(Bucket=name).get("Contents", ())
        get = self.server.client.get_object
        return {it["Key"]: get(Bucket=name, Key=it["Key"])["Body"].read() for it in rows}

    def open(self, buckets: S3Buckets, name: str) -> S3Bucket:
        return buckets.bucket(name, "us-east-1", endpoint_url=self.server.url)

    def survey(self, since: datetime) -> GoneObjects:
        async def run() -> GoneObjects:
            async with S3Buckets(self.server.credentials, patience=PATIENCE) as buckets:
                replica = self.open(buckets, self.replica)
                return await survey_deleted(self.open(buckets, self.bucket), replica, since)

        return asyncio.run(run())

    def undelete(self, rules: UndoRules) -> tuple[UndoOutcome, bool, bool]:
        """What was done, and whether it was proven before and after."""

        async def run() -> tuple[UndoOutcome, bool, bool]:
            async with S3Buckets(self.server.credentials, patience=PATIENCE) as buckets:
                bucket = self.open(buckets, self.bucket)
                before = await verify_undelete(bucket, rules)
                outcome = await apply_undo(bucket, rules, plan=await survey_undo(bucket, rules))
                return outcome, before.ok, (await verify_undelete(bucket, rules)).ok

        return asyncio.run(run())

    def fill(self) -> Filled:
        async def run() -> Filled:
            async with S3Buckets(self.server.credentials, patience=PATIENCE) as buckets:
                names = (self.bucket, self.replica, self.target)
                opened = [self.open(buckets, name) for name in names]
                return await fill_bucket(*opened, datetime.now(UTC) + timedelta(seconds=1))

        return asyncio.run(run())


@pytest.fixture(params=["moto", "seaweedfs"])
def uploads(request: pytest.FixtureRequest) -> Uploads:
    return Uploads(request.getfixturevalue(str(request.param)))


def next_second() -> datetime:
    """Times are whole seconds: what comes now has another than what was before."""
    begun = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    time.sleep((begun - datetime.now(UTC)).total_seconds() + 0.01)
    return begun


def test_a_deletion_is_found_and_undone(uploads: Uploads) -> None:
    keys = [*ODD_KEYS, *(f"dir/{n:02}" for n in range(30))]
    uploads.put(*keys, "before")
    uploads.put(*keys, "before", bucket=uploads.replica)
    uploads.delete("before")
    since = next_second()
    uploads.delete(*keys[:25])
    uploads.put("new", body=b"2")
    uploads.put(keys[0], body=b"again")
    gone = uploads.survey(since - timedelta(microseconds=1))
    assert (gone.removed, gone.deleted.total()) == (0, 24)
    burst = decide_burst(find_bursts(gone.deleted), since=None)
    assert burst
    assert burst.objects == 24
    rules = undelete_rules(burst.from_at, burst.until_at)
    outcome, before, after = uploads.undelete(rules)
    assert (outcome.counts["unmarked"], before, after) == (24, False, True)
    assert uploads.state() == dict.fromkeys(keys, b"1") | {keys[0]: b"again", "new": b"2"}


def test_what_is_gone_for_good_comes_from_the_replica(uploads: Uploads) -> None:
    uploads.put(*ODD_KEYS, "kept", "deleted")
    uploads.put(*ODD_KEYS, "kept", "deleted", bucket=uploads.replica)
    for key in ODD_KEYS:
        uploads.remove(key)
    uploads.delete("deleted")
    uploads.put("new", body=b"2")
    gone = uploads.survey(datetime.now(UTC) - timedelta(hours=1))
    assert gone.removed == len(ODD_KEYS)
    filled = uploads.fill()
    assert (filled.ok, filled.objects, filled.from_replica) == (True, 7, 5)
    assert uploads.state(uploads.target) == dict.fromkeys([*ODD_KEYS, "kept"], b"1") | {"new": b"2"}
    assert uploads.fill().outcome.counts == {"same": 7}
    uploads.put("kept", body=b"somebody else's", bucket=uploads.target)
    assert not uploads.fill().ok
