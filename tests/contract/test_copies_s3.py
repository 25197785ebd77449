"""Copies between two buckets of S3 in two regions: S3 moves the bytes and says what it stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.s3.store import MIB, S3ObjectStore, connect_s3
from chalicelib.backup.copies import CopyResult, apply_copies
from chalicelib.backup.copy_decision import decide_copies
from chalicelib.plan.records import RecoveryPoint
from tests.s3_recorded import recording_proxy


@pytest.fixture
def stores() -> Iterator[tuple[S3ObjectStore, S3ObjectStore, list[str]]]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with (
        pytest.MonkeyPatch.context() as patch,
        recording_proxy(port) as (proxy, asked),
    ):
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        made = []
        for region in ("us-east-1", "us-west-2"):
            client = connect_s3(region, f"http://{host}:{proxy.port}")
            there = {} if region == "us-east-1" else {"LocationConstraint": region}
            more = {"CreateBucketConfiguration": there} if there else {}
            client.create_bucket(Bucket=f"backups-{region}", **more)
            made.append(S3ObjectStore(client, f"backups-{region}", "db/", part_bytes=5 * MIB))
        yield made[0], made[1], asked
    server.stop()


def copy(source: S3ObjectStore, target: S3ObjectStore) -> CopyResult:
    catalogue = StoredCatalogue(source, "db")
    decision = decide_copies(catalogue.holdings(), source.list(), target.list())
    return apply_copies(decision, source, target, clock=SystemClock())


def test_no_byte_of_an_object_comes_here(
    stores: tuple[S3ObjectStore, S3ObjectStore, list[str]],
) -> None:
    source, target, asked = stores
    content = os.urandom(1 << 16) * 200  # in three parts
    with source.open_writer("points/p1/files.tar.zst") as writer:
        writer.write(content)
        stored = writer.commit()
    now = datetime.now(UTC)
    StoredCatalogue(source, "db").add(
        RecoveryPoint(
            id="p1",
            component="db",
            kind="archive",
            taken_at=now,
            finished_at=now,
            objects=(stored,),
            source_bytes=1,
            encryption="none",
        )  # fmt: skip
    )
    asked.clear()
    assert copy(source, target).complete

    assert asked.count("CopyObject") == 1
    # The manifest alone is read and written.
    assert asked.count("PutObject") == 2
    assert "UploadPart" not in asked
    assert target.get("points/p1/files.tar.zst") == content
    assert target.facts("points/p1/files.tar.zst").checksums["sha256"] == stored.sha256
    assert [it.point.id for it in StoredCatalogue(target, "db").holdings().standings] == ["p1"]
