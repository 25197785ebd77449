"""An attack through the S3 API on a real versioned bucket is judged one; honest work is not."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.s3.config import read_settings
from chalicelib.adapters.s3.samples import S3Samples
from chalicelib.adapters.s3.store import S3ObjectStore, connect_s3
from chalicelib.errors import Refused
from chalicelib.plan.signs import BucketEvent, Watched
from chalicelib.ports import StateStore
from chalicelib.verify.canaries import plant_canaries
from chalicelib.verify.ransomware import note_events, watch_bucket, watch_noted
from chalicelib.verify.signs.events import bucket_of, read_event
from tests.fakes_state import InMemoryState, ManualClock
from tests.noise import noise

NOTE = (
    b"All your files have been encrypted with AES-256. To decrypt them, pay 2 bitcoin to the "
    b"wallet below. Install Tor Browser. The private key is destroyed at the deadline."
)


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        yield connect_s3("us-east-1", f"http://{host}:{port}")
    server.stop()


class Bucket:
    """A versioned bucket; its writes go through the S3 API and bring EventBridge's events."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = f"files-{os.urandom(4).hex()}"
        self.clock = ManualClock(datetime(2026, 3, 2, 9, tzinfo=UTC))
        self.state: StateStore = InMemoryState()
        self.reader = S3Samples(client, self.name)
        self._sequence = itertools.count(1)
        self.events: list[BucketEvent] = []
        client.create_bucket(Bucket=self.name)
        client.put_bucket_versioning(
            Bucket=self.name, VersioningConfiguration={"Status": "Enabled"}
        )

    def put(self, key: str, body: bytes, **more: Any) -> datetime:
        answer = self.client.put_object(Bucket=self.name, Key=key, Body=body, **more)
        return self._tell("Created", key, answer["VersionId"], size=len(body))

    def delete(self, key: str) -> datetime:
        answer = self.client.delete_object(Bucket=self.name, Key=key)
        return self._tell("Deleted", key, answer["VersionId"])

    def _tell(self, what: str, key: str, version: str, **more: Any) -> datetime:
        """Source: S3's event message structure for EventBridge."""
        self.clock.sleep(7)
        found = {
            "detail-type": f"Object {what}",
            "source": "aws.s3",
            "time": self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "detail": {
                "bucket": {"name": self.name},
                "object": {
                    "key": key,
                    "version-id": version,
                    "sequencer": f"{next(self._sequence):018X}",
                    **more,
                },
                "reason": "PutObject" if what == "Created" else "DeleteObject",
            },
        }
        assert bucket_of(found) == self.name
        event = read_event(json.loads(json.dumps(found)))
        self.events.append(event)
        return event.at

    def look(self) -> Watched:
        """As a schedule does: what was noted since, some of it delivered twice."""
        note_events(self.name, [*self.events, *self.events[:5]], self.state)
        self.events = []
        self.clock.sleep(60)
        return watch_noted(self.name, state=self.state, reader=self.reader, clock=self.clock)

    def fill(self, count: int = 40) -> dict[str, bytes]:
        """Documents as people have them; the time of each write is some seconds later."""
        files = dict(itertools.islice(documents(), count))
        for key, body in files.items():
            self.put(key, body)
        return files


def documents() -> Iterator[tuple[str, bytes]]:
    """Pages of text, tables, archives and pictures, without end."""
    draw = random.Random(7)
    words = Path(zipfile.__file__ or "").read_text().split()
    for number in itertools.count():
        text = " ".join(draw.choices(words, k=3000)).encode()
        folder = f"clients/{number % 4}"
        yield f"{folder}/letter-{number}.txt", text
        yield f"{folder}/table-{number}.csv", text.replace(b" ", b",")
        yield f"{folder}/report-{number}.zip", zipped(text)
        yield f"{folder}/photo-{number}.png", png(draw.randbytes(30000))


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("page.txt", data)
    return buffer.getvalue()


def png(noise: bytes) -> bytes:
    """One row after the other of what a sensor saw."""
    width = 100
    rows = b"".join(b"\0" + noise[at : at + 3 * width] for at in range(0, 30000, 3 * width))
    header = (width).to_bytes(4) + (100).to_bytes(4) + b"\x08\x02\x00\x00\x00"
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = (
        len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def encrypt(data: bytes) -> bytes:
    """Under the same key each time: `tests.noise` says why."""
    cipher = Cipher(algorithms.AES(noise(32)), modes.CTR(noise(16)))
    return cipher.encryptor().update(data)


def test_an_attack_is_judged_one_and_its_start_is_exact(s3: Any) -> None:
    bucket = Bucket(s3)
    files = bucket.fill()
    quiet = bucket.look()
    assert not quiet.judgement.infected
    assert quiet.sampled == len(files)

    bucket.clock.sleep(3600)
    honest = bucket.put("clients/1/offer.txt", b"We offer twelve chairs. " * 200)
    first = [bucket.put(key, encrypt(body)) for key, body in list(files.items())[:16]][0]
    for key in list(files)[16:22]:
        bucket.delete(key)
    for folder in range(4):
        bucket.put(f"clients/{folder}/HOW_TO_DECRYPT.txt", NOTE)

    found = bucket.look().judgement
    assert found.infected
    assert found.started_at is not None
    assert honest < found.started_at <= first
    assert {sign.family for sign in found.signs} >= {"content", "names"}


def test_an_attack_by_new_names_is_judged_one_when_the_originals_go(s3: Any) -> None:
    """A copy under another ending, then the deletion: no key is ever overwritten."""
    bucket = Bucket(s3)
    files = bucket.fill(20)
    bucket.look()
    bucket.clock.sleep(8 * 86400)
    last = bucket.put("clients/2/minutes.txt", b"Present: all. Absent: nobody. " * 100)
    firsts = []
    for key, body in files.items():
        firsts.append(bucket.put(f"{key}.locked", encrypt(body)))
        bucket.delete(key)
    found = bucket.look().judgement
    assert found.infected
    assert found.started_at is not None
    assert last < found.started_at <= firsts[0]


def test_honest_work_is_not_an_attack(s3: Any) -> None:
    """A bulk upload of archives and pictures, and a job that rewrites its files each night."""
    bucket = Bucket(s3)
    files = bucket.fill(12)
    bucket.look()
    tables = [key for key in files if key.endswith(".csv")]
    for night in range(8):
        bucket.clock.sleep(86400)
        for key in tables:
            bucket.put(key, files[key] + f"\n{night},carried,over".encode())
        looked = bucket.look().judgement
        assert not looked.infected
    for number in range(60):
        name, body = (
            ("zip", zipped(noise(4000) + bytes(9000)))
            if number % 2
            else ("png", png(random.Random(number).randbytes(30000)))
        )
        bucket.put(f"import/2026/{number}.{name}", body)
    found = bucket.look().judgement
    assert not found.infected
    assert found.suspicion < 0.8


def test_a_deleted_and_a_rewritten_canary_are_found(s3: Any) -> None:
    bucket = Bucket(s3)
    bucket.fill(8)
    store = S3ObjectStore(s3, bucket.name)
    planted = plant_canaries(
        bucket.name, ["clients/1", ""], seed=b"k" * 32, store=store,
        state=bucket.state, clock=bucket.clock,
    )  # fmt: skip
    again = plant_canaries(
        bucket.name, ["clients/1", ""], seed=b"k" * 32, store=store,
        state=bucket.state, clock=bucket.clock,
    )  # fmt: skip
    assert planted == again
    assert bucket.look().judgement.suspicion < 0.5

    s3.delete_object(Bucket=bucket.name, Key=planted[0].key)
    suspected = bucket.look().judgement
    assert not suspected.infected
    assert suspected.suspicion == 0.8

    s3.put_object(Bucket=bucket.name, Key=planted[2].key, Body=encrypt(b"x" * 9000))
    found = bucket.look().judgement
    assert found.infected
    assert planted[2].key in found.why


def test_a_canary_never_replaces_what_somebody_has_under_its_name(s3: Any) -> None:
    bucket = Bucket(s3)
    [key] = {
        plant_canaries(
            name.name, ["a"], seed=b"k" * 32, store=S3ObjectStore(s3, name.name),
            state=name.state, clock=name.clock,
        )[0].key
        for name in (Bucket(s3),)
    }  # fmt: skip
    bucket.put(key, b"somebody's")
    with pytest.raises(Refused) as refused:
        plant_canaries(
            bucket.name, ["a"], seed=b"k" * 32, store=S3ObjectStore(s3, bucket.name),
            state=bucket.state, clock=bucket.clock,
        )  # fmt: skip
    assert refused.value.instance_code == "canary-name-taken"


def test_settings_that_are_turned_against_the_data_are_found(s3: Any) -> None:
    """Versioning suspended is a suspicion; with a rule that deletes everything it is an attack."""
    bucket = Bucket(s3)
    bucket.fill(4)
    before = bucket.clock.now()
    assert bucket.look().judgement.suspicion < 0.5
    s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Suspended"})
    suspected = bucket.look()
    assert not suspected.judgement.infected
    assert suspected.judgement.suspicion == 0.85
    assert any("keeps none" in it for it in suspected.blind)
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket.name,
        LifecycleConfiguration={
            "Rules": [{"ID": "go", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1}}]
        },
    )
    found = bucket.look().judgement
    assert found.infected
    assert found.started_at is not None
    assert before < found.started_at < bucket.clock.now() - timedelta(seconds=60)


def test_every_part_of_a_bucket_is_read_and_absent_ones_are_none(s3: Any) -> None:
    bucket = Bucket(s3)
    policy = {"Version": "2012-10-17", "Statement": []}
    s3.put_bucket_policy(Bucket=bucket.name, Policy=json.dumps(policy))
    found = read_settings(s3, bucket.name, bucket.clock.now())
    assert found.unknown == {}
    assert found.parts["policy"] == policy
    assert found.parts["versioning"] == {"Status": "Enabled"}
    assert found.parts["lifecycle"] is None
    json.dumps(found.parts)


@pytest.mark.parametrize("markers", [1, 7])
def test_delete_markers_do_not_hide_what_a_write_replaced(s3: Any, markers: int) -> None:
    """An attacker may put as many as he likes before he writes; the key after it has a version."""
    bucket = Bucket(s3)
    bucket.put("plan.txt", b"first" * 300)
    bucket.put("plan.txt.old", b"other" * 300)
    for _ in range(markers):
        s3.delete_object(Bucket=bucket.name, Key="plan.txt")
    bucket.put("plan.txt", noise(2000, "a"))
    written = bucket.events[-1]
    [write] = bucket.reader.read_writes([(written.key, written.version_id)], 1024)
    assert write.before is not None
    assert write.before.data == (b"first" * 300)[:1024]


def test_a_sample_of_an_odd_key_and_the_version_before_it(s3: Any) -> None:
    bucket = Bucket(s3)
    for key in ("a//b", "dir/", "x+y %26?.txt", "näme", "prefix", "prefix-longer"):
        for body in (b"first" * 300, b"second" * 300):
            s3.put_object(Bucket=bucket.name, Key=key, Body=body)
        newest = s3.head_object(Bucket=bucket.name, Key=key)["VersionId"]
        [write] = bucket.reader.read_writes([(key, newest)], 1024)
        assert write.now.data == (b"second" * 300)[:1024]
        assert write.now.size_bytes == 1800
        assert write.before is not None
        assert write.before.data == (b"first" * 300)[:1024]
    [gone] = bucket.reader.read_writes([("nothing", "")], 1024)
    assert gone.now.problem == "gone"


def test_what_is_remembered_lives_in_dynamodb(s3: Any) -> None:
    client = boto3.client("dynamodb", region_name="us-east-1", endpoint_url=s3.meta.endpoint_url)
    table = f"state-{os.urandom(4).hex()}"
    client.create_table(
        TableName=table, BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}
        ],
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk")],
    )  # fmt: skip
    bucket = Bucket(s3)
    bucket.state = DynamoDbState(client, table)
    files = bucket.fill(12)
    assert not bucket.look().judgement.infected
    first = [bucket.put(key, encrypt(body)) for key, body in files.items()][0]
    bucket.put("README_DECRYPT.txt", NOTE)
    found = bucket.look()
    assert (found.events, found.judgement.infected) == (13, True)
    assert found.judgement.started_at == first
    assert bucket.look().judgement == found.judgement


def test_a_batch_of_a_queue_is_looked_at_without_being_noted(s3: Any) -> None:
    bucket = Bucket(s3)
    files = bucket.fill(16)
    for key, body in files.items():
        bucket.put(key, encrypt(body))
    found = watch_bucket(
        bucket.name, bucket.events, state=bucket.state, reader=bucket.reader, clock=bucket.clock
    )
    assert found.events == 32
    assert found.judgement.infected
