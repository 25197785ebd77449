"""One suite for the port ObjectStore: memory, a folder, two S3 servers, Google's and Azure's."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import google_crc32c
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from chalicelib.adapters.azure.access import connect_azure
from chalicelib.adapters.azure.store import AzureObjectStore
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.gcs.access import connect_gcs
from chalicelib.adapters.gcs.store import GcsObjectStore
from chalicelib.adapters.s3.store import MIB, PART_BYTES, S3ObjectStore, connect_s3
from chalicelib.errors import (
    BadInput,
    DigestMismatch,
    NotReady,
    Refused,
    Throttled,
    Truncated,
    Unavailable,
)
from chalicelib.ports import ObjectStore, ReadsOn
from tests.fakes import InMemoryObjectStore
from tests.fakes_keys import sealed
from tests.faults import failing_http_proxy
from tests.http_faults import FaultProxy, Headers, fault_proxy
from tests.s3_answers import answer, scripted_server
from tests.stores import Backend, running_backend

BIG = os.urandom(1 << 16) * 400  # 25 MiB: several parts and several ranges


@pytest.fixture(scope="module")
def s3_client() -> Iterator[Any]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        yield connect_s3("us-east-1", f"http://{host}:{port}")
    server.stop()


@pytest.fixture(scope="module")
def backends() -> Iterator[Callable[[str], Backend]]:
    """Each server is started once, when the first test asks for it."""
    with ExitStack() as running:
        yield cache(lambda name: running.enter_context(running_backend(name)))


IN_BYTE_ORDER = ["memory", "folder", "sealed", "s3", "s3-prefix-kms", "gcs", "azure"]


@pytest.fixture(params=[*IN_BYTE_ORDER, "seaweedfs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "memory":
        return InMemoryObjectStore()
    if request.param == "folder":
        return FolderObjectStore(tmp_path / "store")
    if request.param == "sealed":
        return sealed(FolderObjectStore(tmp_path / "store"))
    if request.param in ("seaweedfs", "gcs", "azure"):
        backend: Backend = request.getfixturevalue("backends")(request.param)
        bucket = backend.bucket()
        backend.store(bucket, "").put("elsewhere", b"not ours")
        return backend.store(bucket)
    client = request.getfixturevalue("s3_client")
    bucket = f"b-{os.urandom(6).hex()}"
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="elsewhere", Body=b"not ours")
    if request.param == "s3":
        return S3ObjectStore(client, bucket, "first/", part_bytes=5 * MIB)
    kms = boto3.client(
        "kms", region_name="us-east-1", endpoint_url=client.meta.endpoint_url
    ).create_key()
    return S3ObjectStore(client, bucket, "a/b/", kms_key_id=kms["KeyMetadata"]["Arn"])


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [row.key for row in store.list(prefix)]


def test_what_was_put_is_read_back(store: ObjectStore) -> None:
    stored = store.put("points/one/manifest.json", b"{}")
    assert store.get("points/one/manifest.json") == b"{}"
    assert stored.size_bytes == 2
    assert stored.sha256 == hashlib.sha256(b"{}").hexdigest()
    assert store.encryption


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert list(store.read("empty")) in ([], [b""])
    assert keys(store) == ["empty"]


def test_put_replaces_unless_told_not_to(store: ObjectStore) -> None:
    store.put("k", b"1")
    store.put("k", b"2")
    with pytest.raises(Refused) as caught:
        store.put("k", b"3", if_absent=True)
    assert caught.value.instance_code == "exists"
    assert store.get("k") == b"2"
    store.put("new", b"4", if_absent=True)
    assert store.get("new") == b"4"


def test_a_large_object_streams_in_and_out(store: ObjectStore) -> None:
    with store.open_writer("large") as writer:
        for start in range(0, len(BIG), 100_000):
            writer.write(memoryview(BIG)[start : start + 100_000])
        assert keys(store) == []
        stored = writer.commit()
    assert stored.size_bytes == len(BIG)
    assert stored.sha256 == hashlib.sha256(BIG).hexdigest()
    chunks = list(store.read("large"))
    assert max(map(len, chunks)) <= MIB
    assert b"".join(chunks) == BIG
    assert store.get("large") == BIG


def test_an_object_is_read_on_from_anywhere(store: ObjectStore) -> None:
    assert isinstance(store, ReadsOn)
    store.put("wal/long", BIG)
    version = store.facts("wal/long").version
    for start in (1, 1 << 20, (9 << 20) + 5, len(BIG) - 1):
        assert b"".join(store.read_on("wal/long", start, version=version)) == BIG[start:]
    store.put("wal/long", BIG[::-1])
    with pytest.raises(DigestMismatch) as refused:
        list(store.read_on("wal/long", 1 << 20, version=version))
    assert refused.value.instance_code == "object-changed"


def test_a_small_object_through_a_writer(store: ObjectStore) -> None:
    with store.open_writer("small") as writer:
        writer.write(b"ab")
        writer.write(bytearray(b"cd"))
        stored = writer.commit()
    assert store.get("small") == b"abcd"
    assert stored.sha256 == hashlib.sha256(b"abcd").hexdigest()


def test_two_writers_of_one_key_do_not_mix(store: ObjectStore) -> None:
    first, second = os.urandom(6 * MIB + 1), os.urandom(6 * MIB)
    with store.open_writer("k") as one, store.open_writer("k") as other:
        for start in range(0, len(first), MIB):
            one.write(first[start : start + MIB])
            other.write(second[start : start + MIB])
        one.commit()
        assert b"".join(store.read("k")) == first
        with suppress(Unavailable):  # Azure forgets others' blocks when it commits a list
            other.commit()
            assert b"".join(store.read("k")) == second
    assert b"".join(store.read("k")) in (first, second)


def leave_half_written(store: ObjectStore) -> None:
    with suppress(KeyboardInterrupt), store.open_writer("half") as writer:
        writer.write(BIG)
        raise KeyboardInterrupt


def test_nothing_remains_of_a_writer_that_was_left(store: ObjectStore) -> None:
    leave_half_written(store)
    assert keys(store) == []
    with pytest.raises(Truncated):
        store.get("half")


def test_a_missing_object_is_named(store: ObjectStore) -> None:
    for read in (store.get, lambda key: list(store.read(key))):
        with pytest.raises(Truncated) as caught:
            read("absent/one")
        assert caught.value.instance_code == "object-missing"
        assert "absent/one" in caught.value.message


def test_a_listing_folder_by_folder_is_refused(backends: Callable[[str], Backend]) -> None:
    """SeaweedFS lists b/c/d before b/c.d; who joins listings would take objects to be missing."""
    backend = backends("seaweedfs")
    store = backend.store(backend.bucket())
    for key in ("b/c/d", "b/c.d"):
        store.put(key, b"")
    with pytest.raises(NotReady) as caught:
        keys(store)
    assert caught.value.instance_code == "listing-unordered"


@pytest.mark.parametrize("store", IN_BYTE_ORDER, indirect=True)
def test_lists_in_byte_order_below_a_prefix(store: ObjectStore) -> None:
    names = ["b/c/d", "b.c", "b/c.d", "a", "b-", "b/c/a", "é", "Z", "wal/1", "wal/10", "wal/2"]
    for name in names:
        store.put(name, name.encode())
    assert keys(store) == sorted(names, key=str.encode)
    assert keys(store, "b/c") == ["b/c.d", "b/c/a", "b/c/d"]
    assert keys(store, "wal/1") == ["wal/1", "wal/10"]
    assert keys(store, "none/at/all") == []
    row = next(iter(store.list("é")))
    assert row.size_bytes == len("é".encode())
    assert row.modified_at.tzinfo is not None


ODD_KEYS = (
    "a//b", "./z", "x/../y", "tab\tk", "/lead", "dir/", "n\nl", "cr\rl", "q?x", "h#x", "dot.",
    "b\\s", " a", "a ", "a+b", "a%2Fb", "a%b", "a&b=c", "<&>\"'", "e\u0301", "é", "日本",
    "\U0001d4b3", "..", "*", "\x01", "odd-names/61.key", ".incoming/x", "é" * 100 + "//",
    ("k" * 200 + "/") * 4 + "k",
)  # fmt: skip


def test_every_odd_key_comes_back_as_it_was(store: ObjectStore) -> None:
    for key in ODD_KEYS:
        store.put(key, key.encode())
    assert keys(store) == sorted(ODD_KEYS, key=str.encode)
    for key in ODD_KEYS:
        assert store.get(key) == key.encode()
        assert store.facts(key).size_bytes == len(key.encode())
        assert next(iter(store.list(key))).key == key
    write(store, "w//\n", b"1")
    assert b"".join(store.read("w//\n")) == b"1"
    for key in (*ODD_KEYS, "w//\n"):
        store.delete(key)
    assert keys(store) == []


@pytest.mark.parametrize("key", ["", "\udcff", "k" * 3001, "\n" * 1600], ids=ascii)
def test_a_key_that_no_store_can_hold_is_refused(store: ObjectStore, key: str) -> None:
    if isinstance(store, InMemoryObjectStore):
        return
    for act in (store.get, store.delete, store.facts, lambda k: store.put(k, b"")):
        with pytest.raises(BadInput):
            act(key)
    with pytest.raises(BadInput):
        write(store, key, b"1")


@pytest.mark.parametrize("key", ["k" * 1018, "k/" * 509, "\n" * 500, "日" * 300], ids=ascii)
def test_a_long_key_is_kept_or_refused(store: ObjectStore, key: str) -> None:
    with suppress(BadInput):
        store.put(key, b"1")
        assert store.get(key) == b"1"
        assert keys(store) == [key]
        return
    with pytest.raises(BadInput) as caught:
        store.put(key, b"1")
    assert caught.value.instance_code == "key-too-long"
    assert keys(store) == []


def test_facts_are_those_of_the_bytes(store: ObjectStore) -> None:
    small = store.facts(store.put("small", b"content").key)
    write(store, "large", BIG)
    large = store.facts("large")
    for facts, data in ((small, b"content"), (large, BIG)):
        assert facts.size_bytes == len(data)
        assert abs((datetime.now(UTC) - facts.modified_at).total_seconds()) < 60
        assert facts.locked_until is None
        for name, found in facts.checksums.items():
            assert found in DIGESTS[name](data), name
    assert small.version != large.version
    store.put("small", b"changed")
    assert store.facts("small").version != small.version
    with pytest.raises(Truncated) as caught:
        store.facts("absent")
    assert caught.value.instance_code == "object-missing"


def of_parts(data: bytes) -> set[str]:
    """As S3 does it, of parts of 5 MiB (as these tests have it) and of the size that is usual."""
    return {_of_parts_of(data, size) for size in (5 * MIB, PART_BYTES)}


def _of_parts_of(data: bytes, size: int) -> str:
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    whole = b"".join(hashlib.sha256(part).digest() for part in parts)
    return f"{hashlib.sha256(whole).hexdigest()}-{len(parts)}"


DIGESTS: dict[str, Callable[[bytes], set[str]]] = {
    "sha256": lambda data: {hashlib.sha256(data).hexdigest()},
    "sha256-of-parts": of_parts,
    "md5": lambda data: {hashlib.md5(data).hexdigest()},
    "crc32c": lambda data: {f"{google_crc32c.value(data):08x}"},
}


@pytest.mark.parametrize(
    ("name", "small", "large", "noted"),
    [
        ("moto", {"sha256"}, {"sha256-of-parts"}, set()),
        ("seaweedfs", {"sha256"}, {"sha256-of-parts"}, set()),
        ("gcs", {"sha256", "md5", "crc32c"}, {"sha256", "md5", "crc32c"}, {"sha256"}),
        ("azure", {"sha256", "md5"}, {"sha256", "md5"}, {"sha256", "md5"}),
    ],
)
def test_which_checksums_a_store_has(
    backends: Callable[[str], Backend], name: str, small: set[str], large: set[str], noted: set[str]
) -> None:
    backend = backends(name)
    store = backend.store(backend.bucket())
    store.put("small", b"1")
    write_large(store)
    for key, wanted in (("small", small), ("large", large)):
        facts = store.facts(key)
        assert (set(facts.checksums), set(facts.noted)) == (wanted, noted)


def test_a_lock_is_told(s3_client: Any) -> None:
    s3_client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    store = S3ObjectStore(s3_client, "locked")
    store.put("k", b"1")
    assert store.facts("k").locked_until is None
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)
    lock = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
    s3_client.put_object_retention(Bucket="locked", Key="k", Retention=lock)
    assert store.facts("k").locked_until == until


def test_a_lock_of_another_cloud_is_told() -> None:
    """No emulator has locks; these are the answers of the real services."""
    until = datetime(2033, 11, 22, 8, 30, tzinfo=UTC)
    resource = {
        "size": "1", "updated": "2026-11-22T08:30:00Z", "generation": "7",
        "retentionExpirationTime": "2030-01-01T00:00:00Z",
        "retention": {"mode": "Locked", "retainUntilTime": until.isoformat()},
    }  # fmt: skip
    with scripted_server([answer(200, json.dumps(resource).encode())]) as google:
        facts = GcsObjectStore(connect_gcs({"endpoint_url": google.url}), "bucket").facts("k")
        assert (facts.locked_until, facts.version) == (until, "7")
    headers = [
        'ETag: "0x8D"',
        "Last-Modified: Sun, 22 Nov 2026 08:30:00 GMT",
        "x-ms-immutability-policy-until-date: Tue, 22 Nov 2033 08:30:00 GMT",
    ]
    with scripted_server([answer(200, b"", *headers)]) as azure:
        login = {"account": "a", "account_key": "a2V5", "endpoint_url": azure.url}
        facts = AzureObjectStore(connect_azure(login), "container").facts("k")
        assert (facts.locked_until, facts.version) == (until, "0x8D")


def test_delete_is_repeatable(store: ObjectStore) -> None:
    store.put("x/y", b"1")
    store.delete("x/y")
    store.delete("x/y")
    assert keys(store) == []


def test_one_of_many_creators_wins(store: ObjectStore) -> None:
    if isinstance(store, InMemoryObjectStore):
        return
    outcomes: list[str] = []

    def create(name: bytes) -> None:
        try:
            store.put("race", name, if_absent=True)
            outcomes.append(name.decode())
        except Refused:
            pass

    threads = [threading.Thread(target=create, args=(b"%d" % n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("race").decode() in outcomes
    if isinstance(store, FolderObjectStore):
        assert len(outcomes) == 1


@pytest.mark.parametrize("name", ["gcs", "azure"])
def test_more_objects_than_one_page_elsewhere(
    backends: Callable[[str], Backend], name: str
) -> None:
    """Their pages have 20 rows here."""
    backend = backends(name)
    store = backend.store(backend.bucket())
    wanted = [f"k{number:05}" for number in range(45)] + [f"odd//{n:05}" for n in range(21)]
    for key in wanted:
        store.put(key, b"")
    assert keys(store) == wanted


def test_more_objects_than_one_page(s3_client: Any) -> None:
    s3_client.create_bucket(Bucket="paged")
    store = S3ObjectStore(s3_client, "paged")
    for number in range(1005):
        s3_client.put_object(Bucket="paged", Key=f"k{number:05}", Body=b"")
    assert len(keys(store)) == 1005


def through(proxy: FaultProxy, bucket: str) -> S3ObjectStore:
    client = connect_s3("us-east-1", f"http://127.0.0.1:{proxy.port}")
    return S3ObjectStore(client, bucket, part_bytes=5 * MIB)


def test_a_broken_connection_is_resumed_where_it_broke(s3_client: Any) -> None:
    s3_client.create_bucket(Bucket="resumed")
    S3ObjectStore(s3_client, "resumed").put("k", BIG)
    port = int(s3_client.meta.endpoint_url.rpartition(":")[2])
    with fault_proxy(port, "cut", times=4) as proxy:
        assert b"".join(through(proxy, "resumed").read("k")) == BIG
        assert proxy.fired == 4
    with fault_proxy(port, "cut", times=1) as proxy:
        assert through(proxy, "resumed").get("k") == BIG


@pytest.mark.parametrize("name", ["moto", "seaweedfs", "gcs", "azure"])
def test_an_object_replaced_while_it_is_read_is_refused(
    backends: Callable[[str], Backend], name: str
) -> None:
    backend = backends(name)
    store = backend.store(backend.bucket())
    store.put("k", BIG)
    reading = store.read("k")
    next(reading)
    store.put("k", BIG[::-1])
    with pytest.raises(DigestMismatch) as caught:
        b"".join(reading)
    assert caught.value.instance_code == "object-changed"


def other_checksum(headers: Headers, body: bytes) -> tuple[Headers, bytes]:
    named = "x-amz-checksum-sha256"
    changed = [(name, "AAAA" if name.lower() == named else value) for name, value in headers]
    told = b"<ChecksumSHA256>AAAA-2</ChecksumSHA256></CompleteMultipartUploadResult>"
    return changed, body.replace(b"</CompleteMultipartUploadResult>", told)


def test_what_s3_says_it_holds_is_compared(s3_client: Any) -> None:
    s3_client.create_bucket(Bucket="compared")
    port = int(s3_client.meta.endpoint_url.rpartition(":")[2])

    def completes(method: str, path: str, _: int) -> bool:
        return method == "POST" and "uploadId" in path

    with fault_proxy(port, "lie", times=1, when=completes, lie=other_checksum) as proxy:
        with through(proxy, "compared").open_writer("k") as writer:
            writer.write(BIG)
            with pytest.raises(DigestMismatch):
                writer.commit()
        assert proxy.fired == 1
    with (
        fault_proxy(port, "lie", times=1, lie=other_checksum) as proxy,
        pytest.raises(DigestMismatch),
    ):
        through(proxy, "compared").put("k", b"1")


def test_no_part_is_left_behind(s3_client: Any) -> None:
    s3_client.create_bucket(Bucket="parts")
    store = S3ObjectStore(s3_client, "parts", part_bytes=5 * MIB)
    leave_half_written(store)
    assert not s3_client.list_multipart_uploads(Bucket="parts").get("Uploads")


def test_a_missing_bucket_and_a_full_disk_are_named(s3_client: Any, tmp_path: Path) -> None:
    store = S3ObjectStore(s3_client, "no-such-bucket-here", part_bytes=5 * MIB)
    for act in (
        lambda: store.put("k", b""),
        lambda: write_large(store),
        lambda: store.get("k"),
        lambda: list(store.read("k")),
        lambda: list(store.list()),
        lambda: store.facts("k"),
        lambda: store.delete("k"),
    ):
        with pytest.raises(NotReady) as missing:
            act()
        assert missing.value.instance_code == "no-bucket"
    full = FolderObjectStore(tmp_path)
    with full.open_writer("k") as writer:
        writer._file = FullFile()
        with pytest.raises(NotReady) as caught:
            writer.write(b"content")
    assert caught.value.instance_code == "no-disk-space"
    assert list(full.list()) == []


class FullFile:
    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_does_not_answer_is_not_one_without_the_object(tmp_path: Path) -> None:
    """Else a note that cannot be read would say that nobody holds, or distrusts, a point."""
    store = FolderObjectStore(tmp_path)
    store.put("points/p/hold.json", b"{}")
    looping = tmp_path / "points/p/hold.json"
    looping.unlink()
    looping.symlink_to(looping)
    for act in (
        lambda: store.get("points/p/hold.json"),
        lambda: store.facts("points/p/hold.json"),
        lambda: list(store.list("points/")),
    ):
        with pytest.raises(Unavailable) as caught:
            act()
        assert caught.value.instance_code == "disk-silent"
    assert store.put("points/p/hold.json", b"{}").size_bytes == 2, "it is written over"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_of_somebody_else_refuses_and_lacks_nothing(tmp_path: Path) -> None:
    FolderObjectStore(tmp_path / "theirs").put("k", b"content")
    (tmp_path / "theirs").chmod(0o700)
    # In a process of its own: who it is, is that of all threads, and to be told so interrupts them.
    child = multiprocessing.get_context("fork").Process(
        target=_is_refused_everything, args=(tmp_path / "theirs",)
    )
    child.start()
    child.join(60)
    assert child.exitcode == 0


def _is_refused_everything(folder: Path) -> None:
    os.seteuid(65534)
    store = FolderObjectStore(folder)
    for act in (
        lambda: store.get("k"),
        lambda: list(store.list()),
        lambda: store.put("k", b""),
    ):
        with pytest.raises(Refused) as caught:
            act()
        assert caught.value.instance_code == "access-denied"


@pytest.mark.parametrize("reset", [False, True], ids=["503", "reset"])
def test_a_store_that_fails_for_a_while_is_waited_for(s3_client: Any, reset: bool) -> None:
    bucket = f"waited-for-{reset}".lower()
    s3_client.create_bucket(Bucket=bucket)
    port = int(s3_client.meta.endpoint_url.rpartition(":")[2])
    for act in (
        lambda store: store.put("k", b"content"),
        lambda store: write_large(store),
        lambda store: store.get("k"),
        lambda store: b"".join(store.read("large")) == BIG or pytest.fail("changed"),
        lambda store: list(store.list()),
    ):
        with failing_http_proxy(port, failures=2, reset=reset) as proxy:
            client = connect_s3("us-east-1", f"http://127.0.0.1:{proxy}")
            act(S3ObjectStore(client, bucket, part_bytes=5 * MIB))


def write(store: ObjectStore, key: str, data: bytes) -> None:
    with store.open_writer(key) as writer:
        writer.write(data)
        writer.commit()


def write_large(store: ObjectStore) -> None:
    write(store, "large", BIG)


def test_a_store_that_fails_for_good_is_throttled(s3_client: Any) -> None:
    port = int(s3_client.meta.endpoint_url.rpartition(":")[2])
    with failing_http_proxy(port, failures=1000, reset=False) as proxy:
        client = connect_s3("us-east-1", f"http://127.0.0.1:{proxy}", attempts=2)
        with pytest.raises(Throttled):
            S3ObjectStore(client, "any").put("k", b"")
