"""A sync between real servers: every odd key, killed in the middle, and a server that fails."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.s3.bucket import S3Buckets
from chalicelib.adapters.s3.place import Patience
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.backup.bucket.replicas import BucketReplica, StoreReplica
from chalicelib.backup.bucket.sync import SyncResult, sync_buckets
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from chalicelib.backup.bucket.take_inventory import bucket_entries, take_inventory
from chalicelib.errors import Unavailable
from chalicelib.plan.inventory import read_lines
from chalicelib.ports import ObjectStore
from tests.contract.test_buckets import CANNOT, ODD_KEYS
from tests.fakes import FailingObjectStore, InMemoryObjectStore
from tests.faults import failing_http_proxy, stalling_proxy
from tests.s3_servers import S3Server, moto_server, seaweed_server
from tests.sync_world import unpack

ROOT = Path(__file__).parents[2]
PATIENCE = Patience(attempts=5, first_pause_seconds=0.02, read_seconds=1)
POLICY = SyncPolicy(in_flight=32, margin=timedelta(0))


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def seaweedfs() -> Iterator[S3Server]:
    with seaweed_server() as server:
        yield server


def sync(
    server: S3Server, source: str, replica: str | ObjectStore, url: str = "", **how: Any
) -> SyncResult:
    async def work() -> SyncResult:
        async with S3Buckets(server.credentials, patience=PATIENCE) as buckets:
            one = buckets.bucket(source, "us-east-1", endpoint_url=url or server.url)
            target: Any
            if isinstance(replica, str):
                two = buckets.bucket(replica, "us-east-1", endpoint_url=url or server.url)
                target = BucketReplica(two)
            else:
                target = StoreReplica(replica, "elsewhere", threads=4)
            return await sync_buckets(one, target, POLICY, clock=SystemClock(), **how)

    return asyncio.run(work())


def fill(server: S3Server, bucket: str, objects: dict[str, bytes]) -> None:
    client = server.client
    with ThreadPoolExecutor(8) as threads:
        list(
            threads.map(lambda o: client.put_object(Bucket=bucket, Key=o[0], Body=o[1]),
                        objects.items())
        )  # fmt: skip


def contents(server: S3Server, bucket: str) -> dict[str, bytes]:
    """As boto3 reads it."""
    client = server.client
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [row["Key"] for page in pages for row in page.get("Contents", ())]
    with ThreadPoolExecutor(8) as threads:
        bodies = threads.map(lambda k: client.get_object(Bucket=bucket, Key=k)["Body"].read(), keys)
        return dict(zip(keys, bodies, strict=True))


def test_every_odd_key_arrives_once_and_stays(moto: S3Server, tmp_path: Path) -> None:
    objects = {key: key.encode() for key in ODD_KEYS if key not in CANNOT["moto"] - {"cr\rx"}}
    source, replica = moto.create_bucket(), moto.create_bucket(versioned=True)
    fill(moto, source, objects)
    first = sync(moto, source, replica)
    assert first.ok
    assert first.copied == len(objects)
    assert contents(moto, replica) == objects
    again = sync(moto, source, replica)
    assert again.reasons == {"leave same-etag": len(objects)}
    store = FolderObjectStore(tmp_path)
    elsewhere = sync(moto, source, store)
    assert elsewhere.ok
    assert elsewhere.copied == len(objects)
    assert [row.key for row in store.list()] == sorted(
        (row.key for row in store.list()), key=str.encode
    )
    time.sleep(1.1)  # times are compared, and moto's have whole seconds
    sync(moto, source, store)
    assert sync(moto, source, store).copied == 0


@pytest.mark.parametrize("name", ["moto", "seaweedfs"])
def test_a_listing_cut_among_walkers_gives_every_key_once(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Where a walker begins and ends is the server's to say: folders, and keys after a key."""
    server: S3Server = request.getfixturevalue(name)
    keys = [f"{n % 5}/{n % 7}/{n:03}" for n in range(210)] + ["flat", "~"]
    keys += ["3/", "3/4/"] if name == "moto" else []
    source, replica = server.create_bucket(), server.create_bucket()
    fill(server, source, dict.fromkeys(keys, b"1"))
    told: list[str] = []
    done = sync(
        server, source, replica, dry_run=True, split_after=20,
        on_decision=lambda one: told.append(one.key),
    )  # fmt: skip
    assert sorted(told) == sorted(keys)
    assert done.reasons == {"copy new": len(keys)}


def test_a_large_object_is_streamed_into_another_cloud_or_leaves_nothing(
    moto: S3Server, seaweedfs: S3Server
) -> None:
    """Read through a connection that breaks off, written in parts by another client."""
    objects = {"large": os.urandom(13 << 20), "small": b"x"}
    source, elsewhere = seaweedfs.create_bucket(), moto.create_bucket()
    fill(seaweedfs, source, objects)
    store = S3ObjectStore(moto.client, elsewhere, "copies/", part_bytes=5 << 20)
    with stalling_proxy(seaweedfs.port, after_bytes=3 << 20) as proxy:
        done = sync(seaweedfs, source, store, f"http://127.0.0.1:{proxy}")
    assert done.ok
    assert {row.key for row in store.list()} == {"objects/large", "objects/small"}
    for key, content in objects.items():
        assert store.get(f"objects/{key}") == content
    kept = InMemoryObjectStore()
    once = Unavailable("no answer", hint="Wait.")
    done = sync(seaweedfs, source, FailingObjectStore(kept, once, fail_at=1))
    assert done.ok, "one failure is tried again"
    assert sorted(kept.objects) == ["objects/large", "objects/small"]


def test_what_changed_is_copied_and_an_inventory_tells_the_versions(moto: S3Server) -> None:
    source, replica = moto.create_bucket(), moto.create_bucket(versioned=True)
    fill(moto, source, {"a": b"1", "b": b"1"})
    sync(moto, source, replica)
    fill(moto, source, {"b": b"2", "c": b"333"})
    done = sync(moto, source, replica)
    assert done.reasons == {"copy etag": 1, "copy new": 1, "leave same-etag": 1}
    store = InMemoryObjectStore()

    async def work() -> None:
        async with S3Buckets(moto.credentials) as buckets:
            bucket = buckets.bucket(replica, "us-east-1", endpoint_url=moto.url)
            await take_inventory(bucket_entries(bucket), store, "p")

    asyncio.run(work())
    entries = list(read_lines(map(unpack, store.objects.values())))
    for entry in entries:
        found = moto.client.get_object(Bucket=replica, Key=entry.key, VersionId=entry.version)
        body = found["Body"].read()
        assert len(body) == entry.size_bytes
        assert found["ETag"].strip('"') == entry.etag
    assert [entry.key for entry in entries] == ["a", "b", "c"]


def test_a_sync_that_was_killed_goes_on_where_it_was(seaweedfs: S3Server) -> None:
    objects = {f"{n % 3}/{n:04}": os.urandom(2000) for n in range(120)}
    objects["large"] = os.urandom(9 << 20)
    source, replica = seaweedfs.create_bucket(), seaweedfs.create_bucket()
    fill(seaweedfs, source, objects)
    process = _begin(seaweedfs, source, replica)
    while len(_keys(seaweedfs, replica)) < 15:
        assert process.poll() is None, process.stderr and process.stderr.read()
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    time.sleep(0.5)  # what the server is still doing
    there = contents(seaweedfs, replica)
    assert 0 < len(there) < len(objects), "it was not killed in the middle"
    assert there.items() <= objects.items()
    done = sync(seaweedfs, source, replica)
    assert done.ok
    left = done.reasons["leave same-etag"]
    assert len(there) <= left < len(objects)
    assert done.copied == len(objects) - left
    assert contents(seaweedfs, replica) == objects
    last = _begin(seaweedfs, source, replica)
    said = json.loads(last.communicate(timeout=30)[0])
    assert (last.returncode, said["copied"]) == (0, 0)


def test_a_server_that_fails_for_a_while_is_waited_for(moto: S3Server) -> None:
    objects = {f"k{number}": b"x" * number for number in range(40)}
    for reset in (False, True):
        source, replica = moto.create_bucket(), moto.create_bucket()
        fill(moto, source, objects)
        with failing_http_proxy(moto.port, failures=8, reset=reset) as proxy:
            done = sync(moto, source, replica, f"http://127.0.0.1:{proxy}")
        assert done.ok
        assert contents(moto, replica) == objects
        for_good = failing_http_proxy(moto.port, failures=10_000, reset=reset)
        with for_good as proxy, pytest.raises(Unavailable):
            sync(moto, source, replica, f"http://127.0.0.1:{proxy}")


def _begin(server: S3Server, source: str, replica: str) -> subprocess.Popen[bytes]:
    keys = {"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret}
    return subprocess.Popen(
        [sys.executable, "-m", "bench.sync_subject", source, replica, os.devnull, "4"],
        cwd=ROOT, env={**os.environ, **keys, "AWS_ENDPOINT_URL": server.url},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _keys(server: S3Server, bucket: str) -> list[str]:
    rows = server.client.list_objects_v2(Bucket=bucket).get("Contents", ())
    return [row["Key"] for row in rows]
