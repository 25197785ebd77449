"""Object Lock on real servers: SeaweedFS, and moto as the local cloud repairs it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.adapters.s3.locks import S3Locks
from chalicelib.errors import NotReady, Truncated
from leeward.local.shims import object_lock
from tests.s3_servers import S3Server, moto_server, seaweed_server

SOON = datetime(2036, 1, 1, tzinfo=UTC)
LATER = SOON + timedelta(days=366)


@pytest.fixture(scope="module", params=["moto", "seaweedfs"])
def server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    with ExitStack() as stack:
        stack.enter_context(object_lock.repaired())
        if request.param == "moto":
            yield stack.enter_context(moto_server())
        else:
            yield stack.enter_context(seaweed_server())


class Locked:
    """A bucket with Object Lock, an object in it, and its locks."""

    def __init__(self, server: S3Server) -> None:
        self.client: Any = server.client
        self.bucket = f"b-{secrets.token_hex(6)}"
        self.client.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=True)
        self.client.put_object(Bucket=self.bucket, Key="db/k", Body=b"data")
        self.locks = S3Locks(self.client, self.bucket, "db/")


@pytest.fixture
def locked(server: S3Server) -> Locked:
    return Locked(server)


def test_a_lock_is_made_and_extended_and_never_shortened(locked: Locked) -> None:
    assert locked.locks.locked_until("k") is None
    assert locked.locks.extend("k", SOON)
    assert locked.locks.locked_until("k") == SOON
    assert locked.locks.extend("k", LATER)
    assert locked.locks.locked_until("k") == LATER
    assert not locked.locks.extend("k", SOON)
    assert not locked.locks.extend("k", LATER)
    assert locked.locks.locked_until("k") == LATER


def test_the_server_itself_refuses_to_shorten_and_to_delete(locked: Locked) -> None:
    """What a program that forgot to only extend would meet in AWS."""
    locked.locks.extend("k", LATER)
    shorter = {"Mode": "COMPLIANCE", "RetainUntilDate": SOON}
    with pytest.raises(ClientError):
        locked.client.put_object_retention(Bucket=locked.bucket, Key="db/k", Retention=shorter)
    (version,) = locked.client.list_object_versions(Bucket=locked.bucket)["Versions"]
    with pytest.raises(ClientError):
        locked.client.delete_object(
            Bucket=locked.bucket, Key="db/k", VersionId=version["VersionId"]
        )


def test_an_object_that_is_gone(locked: Locked) -> None:
    for call in (locked.locks.locked_until, lambda key: locked.locks.extend(key, SOON)):
        with pytest.raises(Truncated) as caught:
            call("nowhere")
        assert caught.value.instance_code == "object-missing"


def test_a_bucket_without_locks(server: S3Server) -> None:
    bucket = server.create_bucket()
    server.client.put_object(Bucket=bucket, Key="k", Body=b"data")
    locks = S3Locks(server.client, bucket)
    assert locks.locked_until("k") is None
    with pytest.raises(NotReady) as caught:
        locks.extend("k", SOON)
    assert caught.value.instance_code == "no-object-lock"
