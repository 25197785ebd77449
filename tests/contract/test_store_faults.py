"""Object stores that answer 503, hang, reset, lose answers, cut them, or change what they get."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from chalicelib.adapters.azure.access import connect_azure
from chalicelib.adapters.azure.store import AzureObjectStore
from chalicelib.adapters.gcs.access import connect_gcs
from chalicelib.adapters.gcs.store import GcsObjectStore
from chalicelib.errors import (
    DigestMismatch,
    LeewardError,
    NotReady,
    Refused,
    Throttled,
    Unavailable,
)
from chalicelib.ports import ObjectStore
from tests.http_faults import Fault, fault_proxy
from tests.s3_answers import answer, scripted_server
from tests.stores import QUICK, Backend, running_backend

BIG = os.urandom(7 << 20) + b"end"  # several parts, blocks and chunks; several ranges


@pytest.fixture(scope="module", params=["seaweedfs", "gcs", "azure"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with running_backend(request.param) as started:
        yield started


def write(store: ObjectStore, key: str, data: bytes) -> None:
    with store.open_writer(key) as writer:
        for start in range(0, len(data), 300_000):
            writer.write(memoryview(data)[start : start + 300_000])
        writer.commit()


def is_data(method: str, path: str, size: int) -> bool:
    return method in ("PUT", "POST") and size > 500_000


def is_read(method: str, path: str, size: int) -> bool:
    return method == "GET" and "prefix=" not in path


def keys(store: ObjectStore) -> list[str]:
    return [row.key for row in store.list()]


@pytest.mark.parametrize("fault", ["503", "429", "reset", "hang"])
def test_a_write_waits_for_a_store_that_fails(backend: Backend, fault: Fault) -> None:
    bucket = backend.bucket()
    times = 1 if fault == "hang" else 2
    with fault_proxy(backend.port, fault, times=times, when=is_data) as proxy:
        write(backend.store(bucket, port=proxy.port), "k", BIG)
        assert proxy.fired == times
    with fault_proxy(backend.port, fault, times=1) as proxy:
        backend.store(bucket, port=proxy.port).put("small", b"content")
        assert proxy.fired == 1
    direct = backend.store(bucket)
    assert keys(direct) == ["k", "small"]
    assert b"".join(direct.read("k")) == BIG
    assert direct.get("small") == b"content"


@pytest.mark.parametrize("fault", ["503", "reset", "cut", "hang"])
def test_a_read_goes_on_where_it_broke(backend: Backend, fault: Fault) -> None:
    bucket = backend.bucket()
    backend.store(bucket).put("k", BIG)
    times = 1 if fault == "hang" else 2
    with fault_proxy(backend.port, fault, times=times, when=is_read) as proxy:
        assert b"".join(backend.store(bucket, port=proxy.port).read("k")) == BIG
        assert proxy.fired == times
    with fault_proxy(backend.port, fault, times=1, when=is_read) as proxy:
        assert backend.store(bucket, port=proxy.port).get("k") == BIG
        assert proxy.fired == 1


@pytest.mark.parametrize("fault", ["503", "cut"])
def test_a_listing_waits_for_a_store_that_fails(backend: Backend, fault: Fault) -> None:
    bucket = backend.bucket()
    for key in ("a", "b//c"):
        backend.store(bucket).put(key, b"1")
    with fault_proxy(backend.port, fault, times=2) as proxy:
        assert keys(backend.store(bucket, port=proxy.port)) == ["a", "b//c"]
        assert proxy.fired == 2


def test_an_answer_that_was_lost_is_no_second_writer(backend: Backend) -> None:
    """Who sends the same bytes is one all the same: for a lock they are two."""
    bucket = backend.bucket()
    with fault_proxy(backend.port, "lost", times=1) as proxy:
        backend.store(bucket, port=proxy.port).put("k", b"mine", if_absent=True)
    with fault_proxy(backend.port, "lost", times=1) as proxy, pytest.raises(Refused) as caught:
        backend.store(bucket, port=proxy.port).put("k", b"mine", if_absent=True)
    assert caught.value.instance_code == "exists"


@pytest.mark.parametrize("large", [False, True], ids=["put", "writer"])
def test_bytes_that_change_on_the_way_are_never_an_object(backend: Backend, large: bool) -> None:
    bucket = backend.bucket()
    data = BIG if large else BIG[:1_000_000]
    with fault_proxy(backend.port, "change", times=1, when=is_data) as proxy:
        store = backend.store(bucket, port=proxy.port)
        with pytest.raises(DigestMismatch):
            write(store, "k", data) if large else store.put("k", data)
        assert proxy.fired == 1
    assert keys(backend.store(bucket)) == []


@pytest.mark.parametrize("backend", ["gcs"], indirect=True)
def test_an_upload_that_lost_its_place_is_never_an_object(backend: Backend) -> None:
    """This emulator keeps a chunk twice when it is sent twice; Google would not. Parts of S3 and
    blocks of Azure have numbers."""
    bucket = backend.bucket()
    with (
        fault_proxy(backend.port, "lost", times=1, when=is_data) as proxy,
        suppress(DigestMismatch),
    ):
        write(backend.store(bucket, port=proxy.port), "k", BIG)
    direct = backend.store(bucket)
    assert [b"".join(direct.read(key)) == BIG for key in keys(direct)] in ([], [True])


@pytest.mark.parametrize("fault", ["503", "hang", "reset"])
def test_a_store_that_fails_for_good_is_one_error_in_time(backend: Backend, fault: Fault) -> None:
    bucket = backend.bucket()
    started = time.monotonic()
    with fault_proxy(backend.port, fault, times=1000) as proxy:
        store = backend.store(bucket, port=proxy.port)
        with pytest.raises(Throttled if fault == "503" else Unavailable) as caught:
            store.get("k")
        assert caught.value.retryable
    assert time.monotonic() - started < 40


def test_nothing_remains_when_the_store_fails_in_the_middle(backend: Backend) -> None:
    bucket = backend.bucket()
    with (
        fault_proxy(backend.port, "503", times=1000, when=is_data) as proxy,
        pytest.raises(Throttled),
    ):
        write(backend.store(bucket, port=proxy.port), "k", BIG)
    assert keys(backend.store(bucket)) == []


@pytest.mark.parametrize("backend", ["gcs", "azure"], indirect=True)
def test_a_missing_bucket_is_named(backend: Backend) -> None:
    """SeaweedFS makes the bucket; S3 as moto plays it is in the suite of the port."""
    store = backend.store("b-no-such-bucket")
    for act in (
        lambda: store.put("k", b""),
        lambda: write(store, "k", BIG),
        lambda: store.get("k"),
        lambda: list(store.read("k")),
        lambda: keys(store),
        lambda: store.facts("k"),
    ):
        with pytest.raises(NotReady) as caught:
            act()
        assert caught.value.instance_code == "no-bucket"


def test_a_wrong_login_is_refused(backend: Backend) -> None:
    bucket = backend.bucket()
    backend.store(bucket).put("k", b"1")
    with fault_proxy(backend.port, "401", times=1000) as proxy:
        through = proxy.port if backend.name == "gcs" else backend.port  # that emulator asks nobody
        store = backend.store(bucket, port=through, wrong_login=True)
        for act in (lambda: store.get("k"), lambda: store.put("k", b"2"), lambda: keys(store)):
            with pytest.raises(Refused) as caught:
                act()
            assert caught.value.instance_code == "access-denied"
    assert backend.store(bucket).get("k") == b"1"


@pytest.mark.parametrize(
    "connect",
    [
        lambda: connect_gcs(None),
        lambda: connect_gcs({"type": "service_account", "client_email": "x"}),
        lambda: connect_gcs({"type": "of-no-kind"}),
        lambda: connect_azure(None),
        lambda: connect_azure({"account": "a"}),
        lambda: connect_azure({"account": "a", "client_secret": "s"}),
        lambda: connect_azure({"account": "a", "account_key": "no base64"}),
    ],
)
def test_no_login_is_no_login(connect: object) -> None:
    with pytest.raises(NotReady) as caught:
        connect()  # type: ignore[operator]
    assert caught.value.instance_code == "no-credentials"


def test_nobody_there_is_one_error() -> None:
    service = connect_gcs({"endpoint_url": "http://127.0.0.1:9"}, patience=QUICK)
    store = GcsObjectStore(service, "bucket")
    with pytest.raises(LeewardError) as caught:
        store.get("k")
    assert isinstance(caught.value, Unavailable)


@pytest.mark.parametrize("page", [b"<html><body>Log in</body></html>", b"[]", b"Log in"])
def test_a_page_of_somebody_else_is_no_empty_listing(page: bytes) -> None:
    """What stands in between answers 200: then nothing is known of what the store holds."""
    with scripted_server([answer(200, page)]) as portal:
        login = {
            "account": "devstoreaccount1",
            "account_key": "d3Jvbmc=",
            "endpoint_url": portal.url,
        }
        azure = AzureObjectStore(connect_azure(login, patience=QUICK), "backups")
        gcs = GcsObjectStore(connect_gcs({"endpoint_url": portal.url}, patience=QUICK), "backups")
        for store in (azure, gcs):
            with pytest.raises(Unavailable) as caught:
                keys(store)
            assert caught.value.instance_code == "answer-unreadable"
