"""Points larger than one copy of S3 takes, copied part by part, by S3 alone, and proven by it."""

from __future__ import annotations

import hashlib
import os
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.s3.access import S3Access
from chalicelib.adapters.s3.store import MIB, S3ObjectStore
from chalicelib.backup.copies import CopyResult, apply_copies
from chalicelib.backup.copy_decision import decide_copies
from chalicelib.backup.long_copies import LongPlace, give_up_old
from chalicelib.errors import DigestMismatch, Unavailable
from chalicelib.plan.records import RecoveryPoint
from chalicelib.ports.lasting import pack, unpack
from tests.http_faults import Headers, fault_proxy
from tests.s3_recorded import operation_of, recording_proxy
from tests.s3_servers import S3Server, moto_server, seaweed_server

POINT = "20261122T084500Z-archive"
KEY = f"points/{POINT}/files.tar.zst"
DATA = os.urandom(1 << 16) * 272 + b"and a rest"  # 17 MiB: four parts
SERVERS = {"moto": moto_server, "seaweedfs": seaweed_server}
READ_OR_SENT = {"GetObject", "PutObject", "UploadPart"}


@dataclass
class Pair:
    source: S3ObjectStore
    target: S3ObjectStore
    server: S3Server
    asked: list[str] = field(default_factory=list)

    def add_point(self) -> None:
        with self.source.open_writer(KEY) as writer:
            for start in range(0, len(DATA), MIB):
                writer.write(DATA[start : start + MIB])
            stored = writer.commit()
        at = datetime.now(UTC)
        time.sleep(1.1)  # moto tells whole seconds
        StoredCatalogue(self.source, "files").add(
            RecoveryPoint(
                id=POINT,
                component="files",
                kind="archive",
                taken_at=at,
                finished_at=at,
                objects=(stored,),
                source_bytes=len(DATA),
                encryption="none",
            )  # fmt: skip
        )

    def copy(self) -> CopyResult:
        self.asked.clear()
        holdings = StoredCatalogue(self.source, "files").holdings()
        decision = decide_copies(holdings, self.source.list(), self.target.list())
        return apply_copies(decision, self.source, self.target, clock=SystemClock())


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], S3Server]]:
    with ExitStack() as running:
        yield cache(lambda name: running.enter_context(SERVERS[name]()))


@pytest.fixture(params=list(SERVERS))
def pair(request: pytest.FixtureRequest, servers: Callable[[str], S3Server]) -> Iterator[Pair]:
    server = servers(request.param)
    with recording_proxy(server.port) as (proxy, asked):
        stores = [_store(server, server.create_bucket(), proxy.port) for _ in range(2)]
        made = Pair(*stores, server, asked)
        made.add_point()
        yield made


def _store(server: S3Server, bucket: str, port: int, *, part_bytes: int = 5 * MIB) -> S3ObjectStore:
    access = S3Access("us-east-1", f"http://127.0.0.1:{port}", server.credentials)
    return S3ObjectStore(access, bucket, "f/", part_bytes=part_bytes, copy_bytes=6 * MIB)


@pytest.fixture
def listed(pair: Pair) -> Iterator[Pair]:
    """ListParts tells each part's SHA-256, as S3's does and neither of the two servers'."""

    def tell(headers: Headers, body: bytes) -> tuple[Headers, bytes]:
        return headers, re.sub(rb"<PartNumber>(\d+)</PartNumber>", _with_checksum, body)

    def lists_parts(method: str, path: str, size: int) -> bool:
        return operation_of(method, path, size) == "ListParts"

    with (
        fault_proxy(pair.server.port, "lie", times=9, when=lists_parts, lie=tell) as telling,
        recording_proxy(telling.port) as (proxy, asked),
    ):
        target = _store(pair.server, pair.target.bucket, proxy.port)
        yield Pair(pair.source, target, pair.server, asked)


def _with_checksum(part: re.Match[bytes]) -> bytes:
    start = (int(part[1]) - 1) * 5 * MIB
    told = b64encode(hashlib.sha256(DATA[start : start + 5 * MIB]).digest())
    return part[0] + b"<ChecksumSHA256>" + told + b"</ChecksumSHA256>"


def uploads(pair: Pair) -> list[Any]:
    found = pair.server.client.list_multipart_uploads(Bucket=pair.target.bucket)
    return list(found.get("Uploads", ()))


def test_no_byte_of_a_large_object_comes_here(pair: Pair) -> None:
    result = pair.copy()
    assert result.complete, result.failures
    assert pair.asked.count("UploadPartCopy") == 4
    # The manifest, its note of encryption; nothing of the object.
    assert pair.asked.count("PutObject") == 2
    assert "UploadPart" not in pair.asked
    assert pair.target.get(KEY) == DATA
    both = pair.source.facts(KEY), pair.target.facts(KEY)
    assert both[0].checksums == both[1].checksums
    assert StoredCatalogue(pair.target, "files").holdings().standings


def test_parts_that_are_copied_are_not_copied_again(listed: Pair) -> None:
    pair = listed
    sha256 = StoredCatalogue(pair.source, "files").holdings().standings[0].point.objects[0].sha256
    asked = iter([False, False] + [True] * 9)
    with pytest.raises(Unavailable) as down:
        pair.target.copy_from(pair.source, KEY, vouched=sha256, over=lambda: next(asked))
    assert down.value.instance_code == "put-down"
    assert len(uploads(pair)) == 1
    result = pair.copy()
    assert result.complete, result.failures
    assert pair.asked.count("UploadPartCopy") == 2
    assert "CreateMultipartUpload" not in pair.asked
    assert not uploads(pair)
    assert pair.target.get(KEY) == DATA


def test_a_server_that_tells_no_checksums_of_parts_copies_them_again(pair: Pair) -> None:
    asked = iter([False, False] + [True] * 9)
    with pytest.raises(Unavailable):
        pair.target.copy_from(pair.source, KEY, vouched="a" * 64, over=lambda: next(asked))
    assert pair.copy().complete
    assert pair.asked.count("UploadPartCopy") == 4
    assert pair.target.get(KEY) == DATA


@pytest.mark.parametrize("pair", ["moto"], indirect=True)
def test_a_wrong_part_does_not_become_an_object(listed: Pair) -> None:
    """Somebody else puts other bytes of the same size into the upload."""
    pair = listed
    asked = iter([False, False] + [True] * 9)
    with pytest.raises(Unavailable):
        pair.target.copy_from(pair.source, KEY, vouched="a" * 64, over=lambda: next(asked))
    [upload] = uploads(pair)
    pair.server.client.upload_part(
        Bucket=pair.target.bucket, Key=f"f/{KEY}", UploadId=upload["UploadId"], PartNumber=1,
        Body=bytes(5 * MIB), ChecksumAlgorithm="SHA256",
    )  # fmt: skip
    with pytest.raises(DigestMismatch):
        pair.target.copy_from(pair.source, KEY, vouched="a" * 64)
    assert not list(pair.target.list("points/"))
    assert pair.copy().complete
    assert pair.target.get(KEY) == DATA


def test_what_was_written_after_its_manifest_is_read_and_compared(pair: Pair) -> None:
    """S3 would vouch for the other bytes just as well."""
    time.sleep(1.1)
    with pair.source.open_writer(KEY) as writer:
        writer.write(DATA[::-1])
        writer.commit()
    result = pair.copy()
    assert [it.code for it in result.failures] == ["digest-mismatch"]
    assert "UploadPartCopy" not in pair.asked
    assert not any("/manifest.json" in row.key for row in pair.target.list())
    assert not any(row.key == KEY for row in pair.target.list())


def test_how_an_object_was_cut_is_asked_of_the_object(pair: Pair) -> None:
    """Whatever the parts are today that this or that store is sent."""
    sevens = _store(pair.server, pair.source.bucket, pair.server.port, part_bytes=7 * MIB)
    with sevens.open_writer(KEY) as writer:
        writer.write(DATA)
        writer.commit()
    assert pair.target.copy_from(pair.source, KEY, vouched="a" * 64)
    assert pair.asked.count("UploadPartCopy") == 3
    assert pair.target.facts(KEY).checksums == pair.source.facts(KEY).checksums
    onward = _store(pair.server, pair.server.create_bucket(), pair.server.port)
    assert onward.copy_from(pair.target, KEY, vouched="a" * 64), "the copy tells it too"
    assert pair.target.copy_from(pair.source, KEY) is None, "nobody vouches"
    assert not uploads(pair)


def test_what_was_sent_before_objects_told_their_cut_is_copied_by_s3_too(pair: Pair) -> None:
    _send(pair, 16 * MIB, {})
    assert pair.target.copy_from(pair.source, KEY, vouched="a" * 64)
    assert pair.asked.count("UploadPartCopy") == 2
    assert pair.target.get(KEY) == DATA


@pytest.mark.parametrize("pair", ["moto"], indirect=True)
def test_what_was_begun_with_other_parts_is_gone_on_with(pair: Pair) -> None:
    """A checkpoint of before tells no cut."""
    larger = _store(pair.server, pair.target.bucket, pair.server.port, part_bytes=16 * MIB)
    with larger.open_lasting("long") as writer:
        writer.write(DATA)
        facts, rest = unpack(writer.checkpoint())
    del facts["cut"]
    pair.asked.clear()
    with pair.target.open_lasting("long", pack(facts, rest)) as writer:
        writer.write(DATA)
        writer.commit()
    assert pair.asked.count("UploadPart") == 2, "16 MiB and the rest"
    assert pair.target.get("long") == DATA + DATA


@pytest.mark.parametrize("told", [None, "5242880/1000", "1/1000", "0/0", "parts"])
@pytest.mark.parametrize("pair", ["moto"], indirect=True)
def test_an_object_that_is_cut_in_no_known_way_is_read_and_sent(
    pair: Pair, told: str | None
) -> None:
    """Another program sent it."""
    _send(pair, 6 * MIB, {"leeward-cut": told} if told else {})
    assert pair.target.copy_from(pair.source, KEY, vouched="a" * 64) is None
    assert "UploadPartCopy" not in pair.asked
    assert not uploads(pair)


def _send(pair: Pair, part_bytes: int, metadata: dict[str, str]) -> None:
    """With Amazon's own library."""
    where = {"Bucket": pair.source.bucket, "Key": f"f/{KEY}"}
    client, kind = pair.server.client, {"ChecksumAlgorithm": "SHA256"}
    begun = client.create_multipart_upload(**where, **kind, Metadata=metadata)
    where["UploadId"] = begun["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(DATA), part_bytes), 1):
        body = DATA[start : start + part_bytes]
        sent = client.upload_part(**where, **kind, PartNumber=number, Body=body)
        told = {name: sent[name] for name in ("ETag", "ChecksumSHA256")}
        parts.append({"PartNumber": number, **told})
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})


@pytest.mark.parametrize("pair", ["seaweedfs"], indirect=True)
def test_what_a_dead_copy_left_is_removed_and_told(pair: Pair) -> None:
    asked = iter([False, False] + [True] * 9)
    with pytest.raises(Unavailable):
        pair.target.copy_from(pair.source, KEY, vouched="a" * 64, over=lambda: next(asked))
    place = LongPlace(pair.source, "there", SystemClock())
    assert give_up_old(place, pair.target) == ()
    [told] = give_up_old(place, pair.target, kept=timedelta(seconds=-60))
    assert (told.key, told.sent_bytes) == (KEY, 10 * MIB)
    assert not uploads(pair)
