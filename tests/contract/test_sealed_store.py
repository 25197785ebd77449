"""Copies sealed for KMS in two regions and an offline key: with real stores, and what is lost."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.s3.store import MIB, S3ObjectStore
from chalicelib.adapters.sealing.envelope import HEADER_BYTES, SEALED_FRAME_BYTES, sealed_size
from chalicelib.adapters.sealing.key_ring import KeyRing
from chalicelib.adapters.sealing.kms_keys import KmsKey, connect_kms, region_of
from chalicelib.adapters.sealing.offline_keys import OfflinePublicKey
from chalicelib.adapters.sealing.store import SealedStore
from chalicelib.errors import (
    BadInput,
    LeewardError,
    NotReady,
    Refused,
    Tampered,
    Truncated,
)
from chalicelib.ports import ObjectStore
from leeward.local.cloud import LocalCloud
from tests.fakes_keys import (
    PASSPHRASE,
    PRIVATE_PEM,
    PUBLIC_PEM,
    make_key_in_two_regions,
    offline_opener,
)

BIG = os.urandom(1 << 16) * 200 + b"end"  # 12.5 MiB and a bit
LOCATION = "gcs-us-central1/nexus-db"
CLOCK = SystemClock()


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud() as started:
        yield started


@pytest.fixture(scope="module")
def kms(cloud: LocalCloud) -> list[KmsKey]:
    arns = make_key_in_two_regions(cloud.client)
    return [KmsKey(cloud.client("kms", region_of(arn)), arn) for arn in arns]


@pytest.fixture(params=["folder", "s3"])
def inner(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return FolderObjectStore(tmp_path / "store")
    client = request.getfixturevalue("cloud").client("s3")
    bucket = f"b-{os.urandom(6).hex()}"
    client.create_bucket(Bucket=bucket)
    return S3ObjectStore(client, bucket, "a/", part_bytes=5 * MIB)


def ring(store: ObjectStore, recipients: Any = (), openers: Any = ()) -> KeyRing:
    return KeyRing(store, LOCATION, clock=CLOCK, recipients=recipients, openers=openers)


@pytest.fixture
def sealed(inner: ObjectStore, kms: list[KmsKey]) -> SealedStore:
    return SealedStore(inner, ring(inner, kms, kms))


def caught_by(act: Callable[[], Any]) -> LeewardError:
    with pytest.raises(LeewardError) as caught:
        act()
    return caught.value


def test_sizes_and_digests_are_those_of_the_content(sealed: SealedStore) -> None:
    with sealed.open_writer("large") as writer:
        for start in range(0, len(BIG), 300_000):
            writer.write(memoryview(BIG)[start : start + 300_000])
        assert list(sealed.list()) == []
        stored = writer.commit()
    assert (stored.key, stored.size_bytes) == ("large", len(BIG))
    assert stored.sha256 == hashlib.sha256(BIG).hexdigest()
    assert [(row.key, row.size_bytes) for row in sealed.list()] == [("large", len(BIG))]
    assert sealed.facts("large").size_bytes == len(BIG)
    assert b"".join(sealed.read("large")) == BIG
    assert sealed.get("large") == BIG


def test_nothing_of_the_content_is_in_the_store(sealed: SealedStore, inner: ObjectStore) -> None:
    sealed.put("secret", b"the moon is made of cheese")
    stored = {row.key: inner.get(row.key) for row in inner.list()}
    assert stored["secret"].startswith(b"LWSEAL01")
    assert len(stored) == 2
    assert not any(b"moon" in data for data in stored.values())


def test_checksums_of_sealed_bytes_are_not_taken_for_those_of_the_content(
    sealed: SealedStore, inner: ObjectStore
) -> None:
    sealed.put("object", b"data")
    facts = sealed.facts("object")
    assert facts.size_bytes == 4
    assert all(name.startswith("sealed-") for name in facts.checksums)
    assert list(facts.checksums.values()) == list(inner.facts("object").checksums.values())


def test_the_manifest_can_name_the_data_key(sealed: SealedStore, inner: ObjectStore) -> None:
    assert "data key" not in sealed.encryption
    sealed.put("object", b"data")
    [key_id] = ring(inner).key_ids()
    assert key_id in sealed.encryption


def test_an_object_in_anothers_place_is_refused(sealed: SealedStore, inner: ObjectStore) -> None:
    sealed.put("points/one/base.tar.zst", b"one")
    sealed.put("points/two/base.tar.zst", b"two")
    inner.put("points/two/base.tar.zst", inner.get("points/one/base.tar.zst"))
    error = caught_by(lambda: sealed.get("points/two/base.tar.zst"))
    assert error.instance_code == "seal-broken"
    assert "points/two/base.tar.zst" in error.message


def test_damage_is_found_by_reading_and_short_objects_by_listing(
    sealed: SealedStore, inner: ObjectStore
) -> None:
    with sealed.open_writer("large") as writer:
        writer.write(BIG)
        writer.commit()
    whole = inner.get("large")
    middle = HEADER_BYTES + 3 * SEALED_FRAME_BYTES
    for damaged in (whole[:-1], whole[:middle], whole[:middle] + b"!" + whole[middle + 1 :], b""):
        inner.put("large", damaged)
        assert isinstance(caught_by(lambda: b"".join(sealed.read("large"))), Tampered)
        assert isinstance(caught_by(lambda: sealed.get("large")), Tampered)
        [row] = sealed.list()
        assert (row.size_bytes == len(BIG)) == (len(damaged) == len(whole))


def test_what_was_put_there_unsealed_has_no_size_and_cannot_be_read(
    sealed: SealedStore, inner: ObjectStore
) -> None:
    inner.put("stray", b"not sealed")
    assert [(row.key, row.size_bytes) for row in sealed.list()] == [("stray", -1)]
    assert sealed.facts("stray").size_bytes == -1
    assert caught_by(lambda: sealed.get("stray")).instance_code == "not-sealed"


def test_key_sets_are_hidden_and_cannot_be_overwritten(
    sealed: SealedStore, inner: ObjectStore
) -> None:
    sealed.put("keysmith", b"fine")
    key = f"keys/{ring(inner).key_ids()[0]}.json"
    before = inner.get(key)
    for act in (
        lambda: sealed.put(key, b""),
        lambda: sealed.open_writer(key).__enter__(),
        lambda: sealed.get(key),
        lambda: list(sealed.read(key)),
        lambda: sealed.delete(key),
        lambda: sealed.facts(key),
    ):
        error = caught_by(act)
        assert isinstance(error, BadInput)
        assert error.instance_code == "reserved-name"
    assert [row.key for row in sealed.list()] == ["keysmith"]
    assert list(sealed.list("keys/")) == []
    assert inner.get(key) == before


def test_an_object_is_created_once(sealed: SealedStore) -> None:
    sealed.put("once", b"first", if_absent=True)
    with pytest.raises(Refused):
        sealed.put("once", b"second", if_absent=True)
    assert sealed.get("once") == b"first"


def test_a_missing_object_and_a_missing_key_set_are_told_apart(
    sealed: SealedStore, inner: ObjectStore
) -> None:
    sealed.put("object", b"data")
    missing = caught_by(lambda: sealed.get("absent"))
    assert isinstance(missing, Truncated)
    assert missing.instance_code == "object-missing"
    for key_id in ring(inner).key_ids():
        inner.delete(f"keys/{key_id}.json")
    reader = SealedStore(inner, ring(inner))
    assert caught_by(lambda: reader.get("object")).instance_code == "key-missing"


@pytest.mark.parametrize("wraps", [0, 1])
def test_each_region_opens_what_the_other_has_wrapped(
    tmp_path: Path, kms: list[KmsKey], wraps: int
) -> None:
    store = FolderObjectStore(tmp_path)
    key = ring(store, [kms[wraps]]).sealing_key()
    assert ring(store, openers=[kms[1 - wraps]]).opening_key(key.id) == key


def test_keys_of_one_region_are_not_taken_for_replicas(tmp_path: Path, cloud: LocalCloud) -> None:
    one, other = (
        KmsKey(cloud.client("kms"), cloud.client("kms").create_key()["KeyMetadata"]["Arn"])
        for _ in range(2)
    )
    store = FolderObjectStore(tmp_path)
    key = ring(store, [one]).sealing_key()
    error = caught_by(lambda: ring(store, openers=[other]).opening_key(key.id))
    assert isinstance(error, NotReady)
    assert error.instance_code == "no-key-fits"
    assert one.name in error.message
    assert other.name in error.message


def test_kms_opens_for_the_location_that_it_wrapped_for(tmp_path: Path, kms: list[KmsKey]) -> None:
    store = FolderObjectStore(tmp_path)
    key = ring(store, kms).sealing_key()
    path = tmp_path / "keys" / f"{key.id}.json"
    path.write_text(path.read_text().replace(LOCATION, "azure-eastus/nexus-db"))
    elsewhere = KeyRing(store, "azure-eastus/nexus-db", clock=CLOCK, openers=kms)
    error = caught_by(lambda: elsewhere.opening_key(key.id))
    assert isinstance(error, Tampered)
    assert error.instance_code == "wrong-key"


def test_a_key_that_is_gone_from_kms(tmp_path: Path, cloud: LocalCloud, kms: list[KmsKey]) -> None:
    absent = KmsKey(cloud.client("kms"), kms[0].name[:-4] + "0000")
    store = FolderObjectStore(tmp_path)
    with pytest.raises(NotReady):
        ring(store, [absent]).sealing_key()
    assert list(store.list()) == []


@pytest.mark.parametrize("name", ["alias/leeward", "mrk-0123", "arn:aws:kms:us-east-1:1:alias/a"])
def test_a_recipient_must_be_a_key_itself(name: str) -> None:
    assert caught_by(lambda: KmsKey(None, name)).instance_code == "not-a-key-arn"


def unreachable_kms(arn: str) -> KmsKey:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return KmsKey(connect_kms(region_of(arn), f"http://127.0.0.1:{port}"), arn)


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


@pytest.mark.usefixtures("_credentials")
def test_one_region_lost_the_other_seals_and_opens(tmp_path: Path, kms: list[KmsKey]) -> None:
    store = FolderObjectStore(tmp_path)
    SealedStore(store, ring(store, kms)).put("before", b"before")
    left = [unreachable_kms(kms[0].name), kms[1]]
    during = SealedStore(store, ring(store, left, left))
    during.put("during", b"during")
    assert during.get("before") == b"before"
    after = SealedStore(store, ring(store, openers=[kms[0]]))
    assert after.get("during") == b"during"


def test_recipients_change_without_an_upload(tmp_path: Path, kms: list[KmsKey]) -> None:
    store = FolderObjectStore(tmp_path)
    SealedStore(store, ring(store, kms, kms)).put("object", b"data")
    before = store.get("object")
    offline = OfflinePublicKey(PUBLIC_PEM)
    changed = ring(store, [kms[1], offline], [kms[0]])
    changed.apply_rewrap(changed.decide_rewrap())
    assert store.get("object") == before
    opener = offline_opener()
    assert SealedStore(store, ring(store, openers=[opener])).get("object") == b"data"


def test_the_openssl_command_unwraps_a_data_key(tmp_path: Path) -> None:
    from base64 import b64decode

    store = FolderObjectStore(tmp_path)
    made = ring(store, [OfflinePublicKey(PUBLIC_PEM)])
    key = made.sealing_key()
    [entry] = made.key_set(key.id).recipients
    (tmp_path / "private.pem").write_bytes(PRIVATE_PEM)
    unwrapped = subprocess.run(
        ["openssl", "pkeyutl", "-decrypt", "-inkey", "private.pem", "-passin", f"pass:{PASSPHRASE}",
         "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256"],
        cwd=tmp_path, input=b64decode(entry["wrapped"]), capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert unwrapped == key.secret


def test_the_openssl_command_wraps_a_data_key_for_leeward(tmp_path: Path) -> None:
    from base64 import b64encode

    (tmp_path / "public.pem").write_bytes(PUBLIC_PEM)
    secret = os.urandom(32)
    wrapped = subprocess.run(
        ["openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", "public.pem",
         "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256"],
        cwd=tmp_path, input=secret, capture_output=True, check=True,
    ).stdout  # fmt: skip
    opener = offline_opener()
    entry = {"kind": "offline", "recipient": opener.name, "wrapped": b64encode(wrapped).decode()}
    assert opener.unwrap(entry, {}) == secret


def test_a_sealed_object_is_a_little_longer() -> None:
    assert sealed_size(0) == 88
    assert sealed_size(1 << 30) == (1 << 30) + 72 + 1024 * 16
