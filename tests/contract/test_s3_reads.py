"""S3 objects read in ranges or in one request: whole, resumed where a connection broke, never of
two. boto3's own view of them is compared."""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from chalicelib.adapters.read_ahead import MIB
from chalicelib.adapters.s3.access import S3Access
from chalicelib.adapters.s3.place import Patience
from chalicelib.adapters.s3.reader import PIECE_BYTES
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.errors import DigestMismatch, NotReady, Throttled, Truncated
from tests.http_faults import Fault, fault_proxy
from tests.s3_answers import answer, scripted_server
from tests.s3_servers import S3Server, moto_server

LARGE = os.urandom(3 * MIB + 7)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with moto_server() as running:
        yield running


@pytest.fixture
def bucket(server: S3Server) -> str:
    return server.create_bucket()


def store_of(server: S3Server, bucket: str, port: int = 0) -> S3ObjectStore:
    # Only who is behind a proxy that may be silent for ever needs to lose its patience.
    patience = Patience(attempts=5, first_pause_seconds=0.01, read_seconds=2 if port else 60)
    url = f"http://127.0.0.1:{port or server.port}"
    access = S3Access("us-east-1", url, server.credentials, patience)
    return S3ObjectStore(access, bucket, "p/", range_bytes=MIB)


def fed(store: S3ObjectStore, key: str) -> Iterator[bytes]:
    pieces: list[bytes] = []
    store.feed(key, lambda piece: pieces.append(bytes(piece)))
    return iter(pieces)


Read = Callable[[S3ObjectStore, str], Iterator[bytes]]
both_ways = pytest.mark.parametrize("read", [S3ObjectStore.read, fed], ids=["read", "fed"])


@both_ways
def test_objects_of_every_size_arrive_whole(server: S3Server, bucket: str, read: Read) -> None:
    store = store_of(server, bucket)
    for size in (0, 1, 256 << 10, (256 << 10) + 1, 1 << 20, (1 << 20) + 1, len(LARGE)):
        store.put("k", LARGE[:size])
        chunks = list(read(store, "k"))
        assert b"".join(chunks) == LARGE[:size]
        assert all(0 < len(chunk) <= MIB for chunk in chunks)


@both_ways
@pytest.mark.parametrize("fault", ["cut", "hang", "reset", "503"])
def test_a_broken_answer_is_resumed(
    server: S3Server, bucket: str, fault: Fault, read: Read
) -> None:
    store_of(server, bucket).put("k", LARGE)
    with fault_proxy(server.port, fault, times=1, when=lambda method, *_: method == "GET") as proxy:
        assert b"".join(read(store_of(server, bucket, proxy.port), "k")) == LARGE
    assert proxy.fired == 1


def test_who_is_fed_can_end_it(server: S3Server, bucket: str) -> None:
    store = store_of(server, bucket)
    store.put("k", LARGE)
    taken: list[int] = []

    def take(piece: memoryview) -> None:
        taken.append(len(piece))
        raise KeyError("enough")

    with pytest.raises(KeyError):
        store.feed("k", take)
    assert taken == [PIECE_BYTES]
    assert b"".join(fed(store, "k")) == LARGE


def test_a_store_that_stays_broken_is_an_error(server: S3Server, bucket: str) -> None:
    store_of(server, bucket).put("k", LARGE)
    with (
        fault_proxy(server.port, "503", times=99) as proxy,
        pytest.raises(Throttled),
    ):
        list(store_of(server, bucket, proxy.port).read("k"))


def test_an_object_replaced_while_it_is_read_is_refused(server: S3Server, bucket: str) -> None:
    store = store_of(server, bucket)
    store.put("k", LARGE)
    asked: list[str] = []

    def replaced_in_between(method: str, *_: object) -> bool:
        asked.append(method)
        if len(asked) == 2:
            store.put("k", LARGE[::-1])
        return len(asked) == 1

    with (
        fault_proxy(server.port, "cut", when=replaced_in_between) as proxy,
        pytest.raises(DigestMismatch) as caught,
    ):
        list(store_of(server, bucket, proxy.port).read("k"))
    assert caught.value.instance_code == "object-changed"


def test_a_missing_object_is_named(server: S3Server, bucket: str) -> None:
    with pytest.raises(Truncated) as caught:
        list(store_of(server, bucket).read("absent"))
    assert caught.value.instance_code == "object-missing"


def test_a_missing_bucket_is_named(server: S3Server) -> None:
    with pytest.raises(NotReady) as caught:
        store_of(server, "no-such-bucket").facts("k")
    assert caught.value.instance_code == "no-bucket"


def test_facts_are_those_that_boto3_gives(server: S3Server, bucket: str) -> None:
    store = store_of(server, bucket)
    store.put("one piece", LARGE)
    with store.open_writer("parts") as writer:
        for _ in range(6):
            writer.write(LARGE)
        writer.commit()
    for key, checksum in (("one piece", "sha256"), ("parts", "sha256-of-parts")):
        facts = store.facts(key)
        told = server.client.head_object(Bucket=bucket, Key=f"p/{key}", ChecksumMode="ENABLED")
        assert (facts.size_bytes, facts.modified_at) == (
            told["ContentLength"], told["LastModified"],
        )  # fmt: skip
        assert facts.version == told.get("VersionId", told["ETag"].strip('"'))
        digits = b64decode(told["ChecksumSHA256"].partition("-")[0]).hex()
        assert facts.checksums[checksum].partition("-")[0] == digits
        assert store.feed(key, lambda piece: None) == facts
    with pytest.raises(Truncated) as caught:
        store.facts("absent")
    assert caught.value.instance_code == "object-missing"


@pytest.mark.parametrize("fault", ["hang", "reset", "503"])
def test_facts_are_asked_for_again(server: S3Server, bucket: str, fault: Fault) -> None:
    store_of(server, bucket).put("k", b"k")
    with fault_proxy(server.port, fault, times=1) as proxy:
        assert store_of(server, bucket, proxy.port).facts("k").size_bytes == 1
    assert proxy.fired == 1


def test_many_threads_read_over_connections_that_are_kept(server: S3Server, bucket: str) -> None:
    store = store_of(server, bucket)
    for number in range(8):
        store.put(f"k{number}", LARGE[number:])
    keys = [f"k{number % 8}" for number in range(40)]
    with ThreadPoolExecutor(4) as threads:
        read = list(threads.map(lambda key: b"".join(store.read(key)), keys))
    assert read == [LARGE[int(key[1:]) :] for key in keys]


def test_a_listing_is_the_one_that_boto3_gives(server: S3Server, bucket: str) -> None:
    store = store_of(server, bucket)
    for key in ("a b+c%", "points/1", "x\ny", "zoë"):
        store.put(key, key.encode())
    listed = list(store.list())
    assert [row.key for row in listed] == ["a b+c%", "points/1", "x\ny", "zoë"]
    by_boto3 = server.client.list_objects_v2(Bucket=bucket, Prefix="p/points")["Contents"]
    assert [(row["Key"], row["Size"]) for row in by_boto3] == [
        (f"p/{row.key}", row.size_bytes) for row in listed if row.key == "points/1"
    ]
    assert [row.key for row in store.list("points/")] == ["points/1"]


def test_a_listing_of_two_pages_is_whole() -> None:
    row = "<Contents><Key>p/{}</Key><Size>1</Size><LastModified>{}</LastModified></Contents>"
    rows = [row.format(key, "2026-11-22T00:00:00.000Z") for key in ("a", "b")]
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t/1</NextContinuationToken>"
    # That of odd names is asked for between its pages.
    contents = [more + rows[0], "", rows[1]]
    pages = [f"<ListBucketResult>{it}</ListBucketResult>".encode() for it in contents]
    with scripted_server([answer(200, page) for page in pages]) as server:
        store = store_of(S3Server("scripted", server.url, "key", "secret"), "b")
        assert [(row.key, row.size_bytes) for row in store.list()] == [("a", 1), ("b", 1)]
    assert ["continuation-token=t%2F1" in head for head in server.asked] == [False, False, True]


@pytest.mark.parametrize("fault", ["cut", "hang", "reset", "503"])
def test_a_listing_is_asked_for_again(server: S3Server, bucket: str, fault: Fault) -> None:
    store_of(server, bucket).put("k", b"k")
    with fault_proxy(server.port, fault, times=1) as proxy:
        assert [row.key for row in store_of(server, bucket, proxy.port).list()] == ["k"]
    assert proxy.fired == 1


def test_a_listing_of_a_missing_bucket_is_an_error(server: S3Server) -> None:
    with pytest.raises(NotReady) as caught:
        list(store_of(server, "no-such-bucket").list())
    assert caught.value.instance_code == "no-bucket"
