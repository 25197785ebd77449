"""A keeper of keys in memory, behind the same door as KMS and the offline key."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.sealing.key_ring import KeyRing
from chalicelib.adapters.sealing.key_sets import Entry
from chalicelib.adapters.sealing.offline_keys import OfflinePrivateKey, OfflinePublicKey
from chalicelib.adapters.sealing.store import SealedStore
from chalicelib.errors import LeewardError, Tampered
from chalicelib.plan.records import canonical_json
from chalicelib.ports import ObjectStore

GOLDEN = Path(__file__).parent / "golden/sealed"
PRIVATE_PEM = (GOLDEN / "offline-private.pem").read_bytes()
PUBLIC_PEM = (GOLDEN / "offline-public.pem").read_bytes()
PASSPHRASE = "known to everybody"


class InMemoryKeeper:
    """Recipient and Opener. While `refuses` is set, every call raises it. `calls` counts."""

    def __init__(self, name: str, refuses: LeewardError | None = None) -> None:
        self.name, self.refuses, self.calls = name, refuses, 0
        self._cipher = AESGCM(os.urandom(32))

    def wrap(self, secret: bytes, bound_to: Mapping[str, str]) -> dict[str, Any]:
        self._called()
        wrapped = self._cipher.encrypt(bytes(12), secret, canonical_json(bound_to))
        return {"kind": "memory", "recipient": self.name, "wrapped": b64encode(wrapped).decode()}

    def fits(self, entry: Entry) -> bool:
        return bool(entry["recipient"] == self.name)

    def unwrap(self, entry: Entry, bound_to: Mapping[str, str]) -> bytes:
        self._called()
        try:
            wrapped = b64decode(entry["wrapped"])
            return self._cipher.decrypt(bytes(12), wrapped, canonical_json(bound_to))
        except InvalidTag as error:
            raise Tampered("not wrapped here", code="wrong-key", hint="Look.") from error

    def _called(self) -> None:
        self.calls += 1
        if self.refuses:
            raise self.refuses


def make_key_in_two_regions(client: Callable[[str, str], Any]) -> list[str]:
    """ARNs of a new multi-Region key and its replica; `client` makes one for service, region."""
    kms = client("kms", "us-east-1")
    made = kms.create_key(MultiRegion=True)["KeyMetadata"]
    # moto takes the id alone here.
    replica = kms.replicate_key(KeyId=made["KeyId"], ReplicaRegion="us-west-2")
    return [made["Arn"], replica["ReplicaKeyMetadata"]["Arn"]]


def sealed(inner: ObjectStore) -> SealedStore:
    """Over `inner`, for the offline key of the tests."""
    ring = KeyRing(
        inner,
        "elsewhere/db",
        clock=SystemClock(),
        recipients=[OfflinePublicKey(PUBLIC_PEM)],
        openers=[offline_opener()],
    )
    return SealedStore(inner, ring)


@cache
def offline_opener() -> OfflinePrivateKey:
    """Of the tests' key: to check that it is one takes a third of a second."""
    return OfflinePrivateKey(PRIVATE_PEM, PASSPHRASE)
