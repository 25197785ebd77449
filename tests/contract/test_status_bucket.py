"""The status page in real buckets: written by two at once, read by a browser's means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.config import Config

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.notify.status_object import StatusBucket
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.errors import BadInput, Truncated
from chalicelib.evidence.records import StoredRecords
from chalicelib.incidents.status.desk import StatusDesk
from chalicelib.incidents.status.page import Shown
from chalicelib.incidents.status.sources import Update, key_of_day, key_of_update
from leeward.status_by_hand import Operator, add_words
from tests.s3_servers import S3Server, moto_server, seaweed_server

NOW = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)
SHOWN = Shown("nexus", "Nexus Studio", {"api": "API"}, "https://status.example.org/")
INCIDENT = "inc-20261122T080000Z-db"
BUCKET = "status-page"


@pytest.fixture(scope="module", params=["moto", "seaweedfs"])
def server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    with moto_server() if request.param == "moto" else seaweed_server() as server:
        server.client.create_bucket(Bucket=BUCKET)
        yield server


def patient(server: S3Server) -> StatusBucket:
    """Asks again after a 500, as what is deployed does: moto answers so when two write one key at
    once, for it throws away what the first one is still counting the digest of."""
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
        config=Config(
            s3={"addressing_style": "path"}, retries={"mode": "standard", "total_max_attempts": 9}
        ),
    )
    return StatusBucket(client, BUCKET)


def say(store: StatusBucket, number: int) -> None:
    update = Update(f"m-{number}", INCIDENT, NOW + timedelta(seconds=number), "identified", "SEV1",
                    "Service disruption", f"Words {number}.", ("api",))  # fmt: skip
    store.note(key_of_update(update, drill=False), json.dumps(update.to_json()).encode())


def test_what_two_writers_say_at_once_is_all_on_the_page_that_either_would_write(
    server: S3Server,
) -> None:
    store = patient(server)
    primary, standby = (StatusDesk(patient(server), SHOWN) for _ in range(2))
    primary.look({"api": True}, now=NOW)

    def write(desk: StatusDesk, numbers: range) -> None:
        for number in numbers:
            say(store, number)
            desk.publish()

    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(write, primary, range(3)), pool.submit(write, standby, range(3, 6))]
        for one in done:
            one.result()
    front = store.read("index.html").decode()
    assert [f"Words {number}." in front for number in range(6)] == [True] * 6
    before = {key: store.read(key) for key in ("index.html", "status.json", "feed.atom")}
    StatusDesk(store, SHOWN).publish()
    assert {key: store.read(key) for key in before} == before


def test_of_two_looks_at_once_the_second_takes_in_the_first(server: S3Server) -> None:
    """Both read the day before either writes it, whether it was there or not."""
    store, later = StatusBucket(server.client, BUCKET), NOW + timedelta(days=1)
    key = key_of_day(later)
    assert store.read_tagged(key) is None
    assert store.replace(key, b"first", tag="")
    assert not store.replace(key, b"second", tag="")
    found = store.read_tagged(key)
    assert found is not None
    assert store.replace(key, b"third", tag=found[1])
    assert not store.replace(key, b"fourth", tag=found[1])
    assert store.read(key) == b"third"
    assert not store.replace(f"{key}.gone", b"fifth", tag=found[1])
    server.client.delete_object(Bucket=BUCKET, Key=key)


def test_a_browser_is_told_what_each_file_is_and_to_ask_again_soon(server: S3Server) -> None:
    StatusDesk(StatusBucket(server.client, BUCKET), SHOWN).publish()
    kinds = {"index.html": "text/html; charset=utf-8", "status.json": "application/json",
             "feed.atom": "application/atom+xml"}  # fmt: skip
    for key, kind in kinds.items():
        found = server.client.head_object(Bucket=BUCKET, Key=key)
        assert (found["ContentType"], found["CacheControl"]) == (kind, "public, max-age=30")


def test_an_incident_whose_stack_is_lost_is_ended_by_hand(server: S3Server) -> None:
    store, at = StatusBucket(server.client, BUCKET), NOW + timedelta(hours=1)
    say(store, 1)
    records = StoredRecords(S3ObjectStore(server.client, server.create_bucket()), SystemClock())
    operator = Operator("cto", "arn:aws:iam::123456789012:user/operator")

    def end(incident: str, text: str) -> None:
        add_words(incident, text, "resolved", operator, bucket=store, records=records, now=at)

    end(INCIDENT, "We serve from <another> region.")
    page = StatusDesk(store, SHOWN).publish()
    assert [(it.id, it.services) for it in page.past] == [(INCIDENT, ("api",))]
    assert page.open == ()
    assert "We serve from &lt;another&gt; region." in store.read("index.html").decode()
    for incident, text, code in (("inc-other", "Words", "unknown-incident"),
                                 (INCIDENT, " ", "bad-post")):  # fmt: skip
        with pytest.raises(BadInput) as refused:
            end(incident, text)
        assert refused.value.instance_code == code
    [record] = records.read(f"people-{INCIDENT}")
    assert (record.kind, record.actor) == ("status-posted", "cto")
    assert record.body == {
        "by": "cto",
        "identity": "arn:aws:iam::123456789012:user/operator",
        "state": "resolved",
        "text": "We serve from <another> region.",
    }
    assert records.read("people-inc-other") == [], "of what was refused there is no record"


def test_what_is_not_there_is_no_page(server: S3Server) -> None:
    with pytest.raises(Truncated):
        StatusBucket(server.client, BUCKET).read("nothing.html")
