"""Checks and repairs of copies in real stores: S3 (moto), a sealed copy in Google's emulator."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import boto3
import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.read_ahead import MIB
from chalicelib.adapters.s3.access import S3Access
from chalicelib.adapters.s3.place import Patience
from chalicelib.adapters.s3.signing import Credentials
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.errors import LeewardError
from chalicelib.plan.records import RecoveryPoint, StoredObject
from chalicelib.ports import ObjectStore
from chalicelib.verify.copies.integrity import CheckResult
from chalicelib.verify.copies.location import verify_location
from chalicelib.verify.copies.locations import compare_locations, view_location
from chalicelib.verify.copies.mending import decide_mending
from chalicelib.verify.copies.repair import decide_repair
from chalicelib.verify.copies.repair_run import apply_repair
from chalicelib.verify.copies.rotation import CheckPolicy
from tests.fakes import InMemoryObjectStore
from tests.fakes_keys import sealed
from tests.fakes_state import InMemoryState
from tests.http_faults import Fault, fault_proxy
from tests.stores import Backend, running_backend

CLOCK = SystemClock()
AT = CLOCK.now() - timedelta(days=1)
POLICY = CheckPolicy()
UNREAD = CheckPolicy(read_bytes=0)
POINT = "20261122T000000Z-files"
SMALL = b"small" * 1000
LARGE = os.urandom(12 * MIB)  # three parts of the test's stores


@pytest.fixture(scope="module")
def s3() -> Iterator[Backend]:
    with running_backend("moto") as backend:
        yield backend


@pytest.fixture(scope="module")
def gcs() -> Iterator[Backend]:
    with running_backend("gcs") as backend:
        yield backend


@dataclass
class Component:
    """One recovery point of a small and a large object, in the locations that a test names."""

    stores: dict[str, ObjectStore]
    index: InMemoryState = field(default_factory=InMemoryState)
    ledgers: InMemoryObjectStore = field(default_factory=InMemoryObjectStore)

    def __post_init__(self) -> None:
        for number, store in enumerate(self.stores.values()):
            catalogue = StoredCatalogue(store, "db", index=None if number else self.index)
            catalogue.add(self._point(store))

    def _point(self, store: ObjectStore) -> RecoveryPoint:
        first = store.put("points/20261122T000000Z-files/small", SMALL)
        with store.open_writer("points/20261122T000000Z-files/large") as writer:
            for start in range(0, len(LARGE), MIB):
                writer.write(LARGE[start : start + MIB])
            second = writer.commit()
        self.small, self.large = first.key, second.key
        return point_of(first, second)

    def catalogue(self, name: str) -> StoredCatalogue:
        return StoredCatalogue(self.stores[name], "db", index=self.index)

    def check(
        self, name: str, policy: CheckPolicy = POLICY, seconds: float | None = None
    ) -> CheckResult:
        until = None if seconds is None else CLOCK.now() + timedelta(seconds=seconds)
        return verify_location(
            self.stores[name], self.catalogue(name), location=name, component="db",
            policy=policy, ledgers=self.ledgers, clock=CLOCK, until=until,
        )  # fmt: skip

    def views(self) -> list[Any]:
        return [
            view_location(
                store, self.catalogue(name), location=name, component="db", policy=POLICY,
                ledgers=self.ledgers, clock=CLOCK,
            )
            for name, store in self.stores.items()
        ]  # fmt: skip

    def repair(self) -> list[tuple[str, str, str]]:
        catalogues = {name: self.catalogue(name) for name in self.stores}
        result = apply_repair(decide_repair(self.views()), self.stores, catalogues, clock=CLOCK)
        return [(item.outcome, item.action.location, item.action.key) for item in result.repaired]

    def quarantine(self, name: str, code: str = "digest-mismatch") -> None:
        own = StoredCatalogue(self.stores[name], "db")
        own.quarantine(POINT, code=code, reason="found so", at=CLOCK.now())

    def quarantined(self, name: str) -> bool:
        return bool(StoredCatalogue(self.stores[name], "db").quarantine_of(POINT)[0])

    def mend(self) -> list[tuple[str, str]]:
        own = {name: StoredCatalogue(store, "db") for name, store in self.stores.items()}
        damaged = {name: [POINT] for name in own if self.quarantined(name)}
        actions = decide_mending(self.views(), damaged)
        result = apply_repair(actions, self.stores, own, clock=CLOCK)
        return [(item.outcome, item.action.location) for item in result.repaired]


def point_of(*objects: StoredObject) -> RecoveryPoint:
    return RecoveryPoint(
        id="20261122T000000Z-files", component="db", kind="archive", taken_at=AT, finished_at=AT,
        objects=objects, source_bytes=1, encryption="none",
    )  # fmt: skip


def codes(result: CheckResult) -> set[tuple[str, str]]:
    return {(item.code, item.key) for item in result.findings}


def test_what_s3_keeps_settles_small_objects_and_reading_settles_those_of_parts(
    s3: Backend,
) -> None:
    component = Component({"primary": s3.store(s3.bucket())})
    assert component.check("primary", UNREAD).ok
    store = component.stores["primary"]
    store.put(component.small, SMALL[:-1] + b"!")
    with store.open_writer(component.large) as writer:
        writer.write(LARGE[:-1] + b"!")
        writer.commit()
    # The checksum of parts says nothing about a whole that has the same size and was never read.
    assert codes(component.check("primary", UNREAD)) == {("damaged", component.small)}
    assert codes(component.check("primary")) == {
        ("damaged", component.small), ("damaged", component.large),
    }  # fmt: skip


def test_copies_in_two_clouds_are_proven_equal_and_mend_each_other(
    s3: Backend, gcs: Backend
) -> None:
    component = Component(
        {"primary": s3.store(s3.bucket()), "gcs": sealed(gcs.store(gcs.bucket()))}
    )
    assert component.check("primary").ok
    assert component.check("gcs").ok
    compared = compare_locations(component.views(), POLICY, now=CLOCK.now())
    assert compared.equal, compared
    component.stores["primary"].put(component.small, b"?")
    component.stores["primary"].delete(component.large)
    assert codes(component.check("primary")) == {
        ("truncated", component.small), ("missing", component.large),
    }  # fmt: skip
    assert sorted(component.repair()) == [
        ("copied", "primary", component.large), ("copied", "primary", component.small),
    ]  # fmt: skip
    assert component.check("primary").ok
    assert component.stores["primary"].get(component.large) == LARGE
    assert component.repair() == []


def test_a_sealed_object_put_under_another_name_is_not_believed(gcs: Backend) -> None:
    inner = gcs.store(gcs.bucket())
    component = Component({"gcs": sealed(inner)})
    inner.put(component.large, inner.get(component.small))
    result = component.check("gcs")
    assert not result.ok
    assert {key for _, key in codes(result)} == {component.large}
    inner.put(component.small, b"never sealed")
    assert {key for _, key in codes(component.check("gcs"))} == {component.small, component.large}


def test_without_a_good_copy_every_location_quarantines_the_point(s3: Backend) -> None:
    bucket = s3.bucket()
    component = Component({"primary": s3.store(bucket, "one/"), "other": s3.store(bucket, "two/")})
    for store in component.stores.values():
        store.put(component.small, b"?")
    assert component.repair() == [("quarantined", "", component.small)]
    for name in component.stores:
        held = component.catalogue(name).holdings()
        assert [bool(item.quarantined) for item in held.standings] == [True]


def test_a_quarantined_copy_is_mended_from_another_cloud_and_free_then(
    s3: Backend, gcs: Backend
) -> None:
    component = Component(
        {"primary": s3.store(s3.bucket()), "gcs": sealed(gcs.store(gcs.bucket()))}
    )
    component.stores["primary"].put(component.large, LARGE[:-1] + b"!")
    component.stores["primary"].delete(component.small)
    component.quarantine("primary")
    assert component.repair() == [], "no check looks at it"
    assert component.mend() == [("mended", "primary")]
    assert not component.quarantined("primary")
    assert component.stores["primary"].get(component.large) == LARGE
    [standing] = StoredCatalogue(component.stores["primary"], "db").holdings().standings
    assert standing.read_at
    assert "2 of 2 objects copied back" in standing.unquarantined
    assert component.check("primary").ok
    assert component.mend() == []


def test_a_copy_that_cannot_be_mended_stays_quarantined(s3: Backend) -> None:
    bucket = s3.bucket()
    component = Component({"primary": s3.store(bucket, "one/"), "other": s3.store(bucket, "two/")})
    component.quarantine("primary")
    assert component.mend() == [("left", "primary")], "nothing is wrong with its bytes"
    for store in component.stores.values():
        store.put(component.small, b"?")
    assert component.mend() == [("left", "primary")]
    assert component.quarantined("primary")
    assert not component.quarantined("other"), "its own check finds it"
    component.stores["other"].put(component.small, SMALL)
    component.stores["other"].delete("points/20261122T000000Z-files/manifest.json")
    assert component.mend() == [("left", "primary")]
    assert component.quarantined("primary")


def test_two_damaged_copies_mend_each_other(s3: Backend) -> None:
    bucket = s3.bucket()
    component = Component({"primary": s3.store(bucket, "one/"), "other": s3.store(bucket, "two/")})
    component.stores["primary"].put(component.small, b"?")
    component.stores["other"].delete(component.large)
    for name in component.stores:
        component.quarantine(name)
    assert component.mend() == [("mended", "primary"), ("mended", "other")]
    assert all(component.check(name).ok for name in component.stores)


def test_a_version_under_object_lock_stays_below_the_good_one(s3: Backend) -> None:
    bucket = f"b-{os.urandom(6).hex()}"
    client = boto3.client(
        "s3", "us-east-1", endpoint_url=f"http://127.0.0.1:{s3.port}",
        aws_access_key_id="testing", aws_secret_access_key="testing",
    )  # fmt: skip
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    component = Component({"primary": s3.store(bucket, "one/"), "other": s3.store(bucket, "two/")})
    client.put_object(
        Bucket=bucket, Key=f"one/{component.small}", Body=b"?", ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate=CLOCK.now() + timedelta(days=1), ChecksumAlgorithm="SHA256",
    )  # fmt: skip
    assert component.repair() == [("copied", "primary", component.small)]
    versions = client.list_object_versions(Bucket=bucket, Prefix=f"one/{component.small}")
    assert len(versions["Versions"]) == 3
    assert component.check("primary").ok


def test_an_object_that_is_to_be_read_is_asked_for_once(s3: Backend) -> None:
    bucket = s3.bucket()
    component = Component({"primary": s3.store(bucket)})
    asked: list[tuple[str, str]] = []

    def note(method: str, path: str, _: int) -> bool:
        asked.append((method, path.rpartition("/")[2]))
        return False

    with fault_proxy(s3.port, "503", when=note) as proxy:
        component.stores["primary"] = impatient(bucket, proxy.port)
        assert component.check("primary").ok
        of_objects = [it for it in asked if it[1] in ("small", "large")]
        assert sorted(of_objects) == [("GET", "large"), ("GET", "small")]
        asked.clear()
        result = component.check("primary", UNREAD)
        assert (result.ok, result.looked, result.read) == (True, 2, 0)
        assert ("GET", "small") not in asked


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_a_small_object_that_cannot_be_read_is_never_green(s3: Backend, fault: Fault) -> None:
    bucket = s3.bucket()
    component = Component({"primary": s3.store(bucket)})

    def reads_small(method: str, path: str, _: int) -> bool:
        return method == "GET" and path.endswith("/small")

    with fault_proxy(s3.port, fault, times=10_000, when=reads_small) as proxy:
        component.stores["primary"] = impatient(bucket, proxy.port)
        result = component.check("primary")
    assert proxy.fired
    named = {*(it.key for it in result.findings), *(it.key for it in result.unreached)}
    assert (result.ok, named) == (False, {component.small})
    assert (result.looked, result.read) == (2, 1)
    assert "damaged" not in {item.code for item in result.findings}


@pytest.mark.parametrize(
    ("content", "code"),
    [(SMALL[:-1] + b"!", "damaged"), (SMALL[:-1], "truncated"), (None, "missing")],
    ids=["damaged", "truncated", "missing"],
)
def test_what_is_wrong_with_a_small_object_that_is_read_is_named(
    s3: Backend, content: bytes | None, code: str
) -> None:
    bucket = s3.bucket()
    component = Component({"primary": s3.store(bucket)})
    if content is None:
        component.stores["primary"].delete(component.small)
    else:
        component.stores["primary"].put(component.small, content)
    component.stores["primary"] = impatient(bucket, s3.port)
    result = component.check("primary")
    assert codes(result) == {(code, component.small)}
    assert result.read == (1 if content is None else 2)


def impatient(bucket: str, port: int) -> S3ObjectStore:
    patience = Patience(attempts=2, first_pause_seconds=0.01)
    login = Credentials("testing", "testing")
    return S3ObjectStore(
        S3Access("us-east-1", f"http://127.0.0.1:{port}", lambda: login, patience), bucket, "first/"
    )


@pytest.mark.parametrize("fault", ["503", "hang", "cut", "reset"])
def test_a_store_that_fails_is_never_green_and_the_next_check_goes_on(
    s3: Backend, fault: Fault
) -> None:
    bucket = s3.bucket()
    component = Component({"primary": s3.store(bucket)})

    def reads_large(method: str, path: str, _: int) -> bool:
        return method == "GET" and path.endswith("/large")

    direct = component.stores["primary"]
    with fault_proxy(s3.port, fault, times=10_000, when=reads_large) as proxy:
        component.stores["primary"] = impatient(bucket, proxy.port)
        begun = time.monotonic()
        result = component.check("primary", seconds=2)
        assert time.monotonic() - begun < 8
    assert proxy.fired
    assert not result.ok
    found, unreached = result.findings, result.unreached
    assert component.large in {*(item.key for item in found), *(item.key for item in unreached)}
    assert "damaged" not in {item.code for item in result.findings}
    component.stores["primary"] = direct
    again = component.check("primary")
    assert (again.ok, again.looked) == (True, 2)


def test_a_location_that_cannot_be_listed_is_an_error(s3: Backend) -> None:
    component = Component({"primary": s3.store(s3.bucket())})
    component.stores["primary"] = s3.store("no-such-bucket")
    with pytest.raises(LeewardError) as caught:
        component.check("primary")
    assert caught.value.instance_code == "no-bucket"
