"""Evidence without a cloud: records in memory, and stores that fail as real ones do."""

from __future__ import annotations

import hashlib
import threading
from base64 import b64encode
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chalicelib.errors import Unavailable
from chalicelib.evidence.records import StoredRecords
from chalicelib.plan.records import Signature, StoredObject
from tests.fakes import InMemoryObjectStore

START = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)


class SteppingClock:
    """Every look at it is `step` later than the one before; sleeping costs no time."""

    def __init__(self, start: datetime = START, step: timedelta = timedelta(seconds=1)) -> None:
        self.at = start
        self.step = step

    def now(self) -> datetime:
        now, self.at = self.at, self.at + self.step
        return now

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class AtomicObjectStore(InMemoryObjectStore):
    """Its conditional writes are atomic, as S3's are."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        with self._lock:
            return super().put(key, data, if_absent=if_absent)


class LosesAnswers(AtomicObjectStore):
    """Each write arrives, and the first `losses` of them are answered with an error."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses = losses

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        stored = super().put(key, data, if_absent=if_absent)
        if self.losses:
            self.losses -= 1
            raise Unavailable("the connection broke after the request was sent")
        return stored


class InMemoryRecords(StoredRecords):
    """The `Records` port, with `objects` to look at and to tamper with."""

    def __init__(self, clock: SteppingClock | None = None) -> None:
        self.store = AtomicObjectStore()
        super().__init__(self.store, clock or SteppingClock())

    @property
    def objects(self) -> dict[str, bytes]:
        return self.store.objects


class KeySigner:
    """The `Signer` port with a key in memory, as KMS would sign."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.fingerprint = hashlib.sha256(der).hexdigest()
        self.pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> Signature:
        value = self._key.sign(message, ec.ECDSA(SHA256()))
        return Signature(
            algorithm="ECDSA_SHA_256",
            key_id="a key in memory",
            public_key=self.pem.decode(),
            fingerprint=self.fingerprint,
            value=b64encode(value).decode(),
        )
