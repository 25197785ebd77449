"""Evidence on S3 and KMS as a server speaks them: races, locks, 503s, signatures."""

from __future__ import annotations

import hashlib
import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.kms_signer import KmsSigner
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.errors import NotReady, Unavailable
from chalicelib.evidence.bundle import copy_evidence, seal
from chalicelib.evidence.chain import verify_chain
from chalicelib.evidence.records import StoredRecords, record_key
from chalicelib.ports import ObjectStore
from leeward.commands.evidence import command
from tests.fakes_records import SteppingClock

STREAM = "inc-20261122T084500Z-nexus-db"
SEVEN_YEARS = 7


class Faults:
    """Refuses the next requests with 503, or answers 503 to writes that it has carried out."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.refuse = 0
        self.lose_answers = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if self.refuse:
            self.refuse -= 1
            return self._unavailable(start_response)
        if self.lose_answers and environ["REQUEST_METHOD"] == "PUT":
            self.lose_answers -= 1
            list(self._app(environ, lambda *_: None))
            return self._unavailable(start_response)
        return self._app(environ, start_response)

    @staticmethod
    def _unavailable(start_response: Any) -> list[bytes]:
        start_response("503 Slow Down", [("Content-Type", "application/xml")])
        return [b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"]


@pytest.fixture(scope="module")
def faults() -> Faults:
    return Faults(DomainDispatcherApplication(create_backend_app))


@pytest.fixture(scope="module")
def endpoint(faults: Faults) -> Iterator[str]:
    # One request at a time: moto checks If-None-Match and writes in two steps, S3 in one.
    server = make_server("127.0.0.1", 0, faults, threaded=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


def client(service: str, endpoint: str, attempts: int = 5) -> Any:
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"mode": "standard", "max_attempts": attempts}),
    )


@pytest.fixture
def bucket(endpoint: str, request: pytest.FixtureRequest) -> str:
    """A bucket of its own with Object Lock, seven years by default."""
    name = f"evidence-{abs(hash(request.node.nodeid)):x}"
    s3 = client("s3", endpoint)
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    retention = {"Mode": "COMPLIANCE", "Years": SEVEN_YEARS}
    s3.put_object_lock_configuration(
        Bucket=name,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": retention},
        },
    )
    return name


def s3_store(endpoint: str, bucket: str, attempts: int = 5) -> S3ObjectStore:
    return S3ObjectStore(client("s3", endpoint, attempts), bucket)


@pytest.fixture(params=["s3", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return FolderObjectStore(tmp_path / "evidence")
    return s3_store(request.getfixturevalue("endpoint"), request.getfixturevalue("bucket"))


def test_records_are_read_back_as_they_were_appended(store):
    records = StoredRecords(store, SteppingClock())
    say = {"actor": "leeward", "run_id": "run-1", "step": "restore"}
    written = [
        records.append(STREAM, "step-finished", {"found": "ü 📦", "seconds": 1.25}, **say),
        records.append(STREAM, "run-finished", {"outcome": "recovered"}, **say),
    ]
    assert StoredRecords(store, SteppingClock()).read(STREAM) == written
    assert StoredRecords(store, SteppingClock()).read("inc-other") == []


def test_appenders_at_once_make_one_chain_and_double_nothing(store):
    together = threading.Barrier(4)

    def append(worker: int) -> None:
        records = StoredRecords(store, SteppingClock())
        together.wait()
        records.append(STREAM, "incident-opened", {"alarm": "a"}, actor="leeward", key="opened")
        for number in range(4):
            records.append(STREAM, "decision", {"by": worker, "n": number}, actor="leeward")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(4)))
    chain = StoredRecords(store, SteppingClock()).read(STREAM)
    assert verify_chain(STREAM, chain) == []
    assert len(chain) == 1 + 4 * 4


@pytest.mark.parametrize("junk", [b"not json", b'{"version": 2}\n'])
def test_what_somebody_writes_in_a_records_place_silences_nobody(store, junk):
    """The bucket lets nobody replace a record, and whoever may write add one."""
    alive = StoredRecords(store, SteppingClock())
    alive.append(STREAM, "decision", {"n": 1}, actor="leeward")
    store.put(record_key(STREAM, 2), junk, if_absent=True)
    alive.append(STREAM, "decision", {"n": 2}, actor="leeward")
    StoredRecords(store, SteppingClock()).append(STREAM, "decision", {"n": 3}, actor="leeward")
    chain = StoredRecords(store, SteppingClock()).read(STREAM)
    assert [(it.seq, it.kind) for it in chain] == [
        (1, "decision"), (3, "foreign-object"), (4, "decision"), (5, "decision")
    ]  # fmt: skip
    [named] = chain[1].body["objects"]
    assert (named["place"], named["sha256"]) == (2, hashlib.sha256(junk).hexdigest())


def test_appenders_at_once_step_over_it_together(store):
    StoredRecords(store, SteppingClock()).append(STREAM, "decision", {"n": 0}, actor="leeward")
    store.put(record_key(STREAM, 2), b"junk", if_absent=True)
    together = threading.Barrier(4)

    def append(worker: int) -> None:
        records = StoredRecords(store, SteppingClock())
        together.wait()
        for number in range(3):
            records.append(STREAM, "decision", {"by": worker, "n": number}, actor="leeward")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(4)))
    chain = StoredRecords(store, SteppingClock()).read(STREAM)
    assert [it.kind for it in chain].count("foreign-object") == 1
    assert len(chain) == 1 + 1 + 4 * 3


def test_a_while_of_503_costs_no_record(endpoint, bucket, faults):
    records = StoredRecords(s3_store(endpoint, bucket), SteppingClock())
    faults.refuse = 2
    records.append(STREAM, "decision", {"n": 1}, actor="leeward")
    assert len(StoredRecords(s3_store(endpoint, bucket), SteppingClock()).read(STREAM)) == 1


def test_write_that_arrived_but_was_answered_503_is_recorded_once(endpoint, bucket, faults):
    records = StoredRecords(s3_store(endpoint, bucket), SteppingClock())
    records.append(STREAM, "decision", {"n": 1}, actor="leeward")
    faults.lose_answers = 1
    assert records.append(STREAM, "decision", {"n": 2}, actor="leeward").seq == 2
    assert [record.body["n"] for record in records.read(STREAM)] == [1, 2]


def test_store_that_stays_away_is_an_error_that_may_be_retried(endpoint, bucket, faults):
    records = StoredRecords(s3_store(endpoint, bucket, attempts=1), SteppingClock())
    faults.refuse = 2
    with pytest.raises(Unavailable):
        records.append(STREAM, "decision", {"n": 1}, actor="leeward")
    faults.refuse = 0
    assert records.append(STREAM, "decision", {"n": 1}, actor="leeward").seq == 1


def test_record_is_locked_for_seven_years_from_its_writing(endpoint, bucket):
    StoredRecords(s3_store(endpoint, bucket), SteppingClock()).append(
        STREAM, "decision", {}, actor="leeward"
    )
    s3 = client("s3", endpoint)
    (version,) = s3.list_object_versions(Bucket=bucket)["Versions"]
    facts = s3.head_object(Bucket=bucket, Key=version["Key"])
    assert facts["ObjectLockMode"] == "COMPLIANCE"
    kept = facts["ObjectLockRetainUntilDate"] - datetime.now(UTC)
    assert kept > timedelta(days=SEVEN_YEARS * 365 - 1)
    with pytest.raises(ClientError):
        s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


@pytest.fixture
def key_id(endpoint: str) -> str:
    answer = client("kms", endpoint).create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
    return answer["KeyMetadata"]["KeyId"]


def test_bundle_signed_by_kms_is_verified_offline(endpoint, bucket, key_id, tmp_path):
    store = s3_store(endpoint, bucket)
    records = StoredRecords(store, SteppingClock())
    for number in range(3):
        records.append(STREAM, "decision", {"n": number}, actor="leeward")
    store.put(f"{STREAM}/report.md", b"# recovered\n")
    signer = KmsSigner(client("kms", endpoint), key_id)
    say = {"store": store, "records": records, "signer": signer, "tool": "leeward 0.1.0"}
    seal(STREAM, **say, now=datetime(2026, 11, 22, 9, tzinfo=UTC))
    folder = copy_evidence(STREAM, store, tmp_path / "evidence")

    result = CliRunner().invoke(command, ["verify", str(folder), "--format", "json"])
    verdict = json.loads(result.output)
    assert (result.exit_code, verdict["signature"]) == (0, "key-not-given")
    named = ["verify", str(folder), "--fingerprint", verdict["fingerprint"]]
    assert CliRunner().invoke(command, named).exit_code == 0

    other = client("kms", endpoint).create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
    stranger = KmsSigner(client("kms", endpoint), other["KeyMetadata"]["KeyId"]).sign(b"x")
    named[-1] = stranger.fingerprint
    assert CliRunner().invoke(command, named).exit_code == 1


def test_kms_itself_confirms_the_signature_and_the_key(endpoint, key_id):
    kms = client("kms", endpoint)
    signature = KmsSigner(kms, key_id).sign(b"a statement\n")
    assert kms.verify(
        KeyId=key_id,
        Message=b"a statement\n",
        Signature=b64decode(signature.value),
        SigningAlgorithm=signature.algorithm,
    )["SignatureValid"]
    assert load_pem_public_key(signature.public_key.encode())


def test_signing_with_a_key_that_is_not_there_says_so(endpoint):
    with pytest.raises(NotReady, match="kms"):
        KmsSigner(client("kms", endpoint), "00000000-0000-0000-0000-000000000000").sign(b"x")
