"""Requests about Leeward's objects in S3: what they say, and what is made of odd answers."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import CredentialRetrievalError

from chalicelib.adapters.read_ahead import MIB
from chalicelib.adapters.s3.access import S3Access, access_of, reach_s3
from chalicelib.adapters.s3.place import Patience
from chalicelib.adapters.s3.signing import Credentials, credentials_of
from chalicelib.adapters.s3.store import S3ObjectStore, connect_s3
from chalicelib.errors import DigestMismatch, LeewardError, NotReady, Refused, Throttled
from tests.s3_answers import Scripted, answer, error, scripted_server
from tests.s3_servers import S3Server, moto_server

QUICK = Patience(attempts=3, first_pause_seconds=0.01, read_seconds=60)
EMPTY_SHA256 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
LISTED = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
COPIED = b"<CopyObjectResult><ETag>&quot;e&quot;</ETag></CopyObjectResult>"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with moto_server() as running:
        yield running


def login() -> Credentials:
    return Credentials("key", "secret")


def store_at(url: str, credentials: Callable[[], Credentials] = login) -> S3ObjectStore:
    return S3ObjectStore(S3Access("us-east-1", url, credentials, QUICK), "b", "p/")


def put_answer(*headers: str) -> bytes:
    return answer(200, b"", f"x-amz-checksum-sha256: {EMPTY_SHA256}", 'ETag: "e"', *headers)


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[S3ObjectStore, Scripted]]:
    with scripted_server(answers) as script:
        yield store_at(script.url), script


def header(head: str, name: str) -> str:
    found = re.search(rf"^{name}: (.*)$", head, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


def test_nothing_about_objects_imports_boto3(server: S3Server) -> None:
    """Its import and its client take longer than a short command's whole work."""
    words = """
import sys
from chalicelib.adapters.s3.access import reach_s3
from chalicelib.adapters.s3.store import S3ObjectStore
store = S3ObjectStore(reach_s3(), sys.argv[1], "p/", part_bytes=5 << 20, copy_bytes=6 << 20)
other = S3ObjectStore(reach_s3(), sys.argv[2], "q/", part_bytes=5 << 20, copy_bytes=6 << 20)
data = bytes(range(256)) * (44 << 10)
store.put("small", data[:1000])
with store.open_writer("large") as writer:
    writer.write(data)
    stored = writer.commit()
assert b"".join(store.read("large")) == store.get("large") == data
assert other.copy_from(store, "small")
assert other.copy_from(store, "large", vouched=stored.sha256)
assert [row.key for row in other.list()] == ["large", "small"]
assert other.facts("large").checksums == store.facts("large").checksums
store.delete("small")
print(sorted(it for it in sys.modules if it.split(".")[0] in ("boto3", "botocore")))
"""
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret,
        "AWS_ENDPOINT_URL": server.url,
    }  # fmt: skip
    buckets = [server.create_bucket(), server.create_bucket()]
    done = subprocess.run(
        [sys.executable, "-c", words, *buckets], env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_what_is_written_is_encrypted_by_the_key_and_checked(server: S3Server) -> None:
    bucket = server.create_bucket()
    access = S3Access("us-east-1", server.url, server.credentials)
    key = "arn:aws:kms:us-east-1:123456789012:key/0d9e5bc5-4e5d-4c3c-9f0b-3a5d6f0f6f6e"
    store = S3ObjectStore(access, bucket, kms_key_id=key, part_bytes=5 * MIB)
    store.put("one", b"1")
    with store.open_writer("parts") as writer:
        writer.write(bytes(6 * MIB))
        writer.commit()
    other = S3ObjectStore(access, bucket, "copy/", kms_key_id=key)
    assert other.copy_from(S3ObjectStore(access, bucket), "one")
    for name in ("one", "parts", "copy/one"):
        told = server.client.head_object(Bucket=bucket, Key=name, ChecksumMode="ENABLED")
        assert (told["ServerSideEncryption"], told["SSEKMSKeyId"]) == ("aws:kms", key), name
        assert told["ChecksumSHA256"], name


def test_a_body_is_signed_and_named_by_its_digest() -> None:
    with answering(put_answer()) as (store, script):
        store.put("k", b"", if_absent=True)
    [head] = script.asked
    assert head.startswith("PUT /b/p/k HTTP/1.1")
    assert header(head, "x-amz-checksum-sha256") == EMPTY_SHA256
    assert header(head, "x-amz-content-sha256").startswith("e3b0c44298fc1c14")
    assert header(head, "If-None-Match") == "*"
    for name in ("x-amz-checksum-sha256", "x-amz-content-sha256", "if-none-match"):
        assert name in header(head, "Authorization")


def test_a_clock_that_is_off_is_corrected_by_what_s3_says() -> None:
    """As botocore does. Both clocks are trusted no further than to sign the next request."""
    at = datetime.now(UTC) + timedelta(hours=1)
    skewed = error(403, "RequestTimeTooSkewed", f"Date: {format_datetime(at, usegmt=True)}")
    with answering(skewed, put_answer(), put_answer()) as (store, script):
        store.put("k", b"")
        store.put("k", b"")
    signed = [header(head, "x-amz-date") for head in script.asked]
    times = [datetime.strptime(it, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) for it in signed]
    assert at - times[0] > timedelta(minutes=59)
    assert all(abs(at - it) < timedelta(minutes=5) for it in times[1:])


def test_a_clock_that_stays_off_is_an_error() -> None:
    date = f"Date: {format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)}"
    with (
        answering(error(403, "RequestTimeTooSkewed", date)) as (store, script),
        pytest.raises(NotReady) as caught,
    ):
        store.put("k", b"")
    assert caught.value.instance_code == "clock-skewed"
    assert len(script.asked) == 2


def test_a_bucket_of_another_region_is_asked_there() -> None:
    there = "x-amz-bucket-region: eu-west-1"
    with answering(
        error(400, "AuthorizationHeaderMalformed", there), put_answer(), put_answer()
    ) as (store, script):
        store.put("k", b"")
        store.put("k", b"")
    regions = [header(head, "Authorization").split("/")[2] for head in script.asked]
    assert regions == ["us-east-1", "eu-west-1", "eu-west-1"]


@pytest.mark.parametrize("status", [301, 400])
def test_a_head_without_a_reason_is_asked_again_for_it(status: int) -> None:
    """An answer to HEAD has no body, and not always the header that says where the bucket is."""
    found = ["Last-Modified: Sun, 22 Nov 2026 08:30:00 GMT", 'ETag: "e"']
    body = b"<Error><Code>PermanentRedirect</Code><Region>eu-west-1</Region></Error>"
    elsewhere = answer(status, body)
    head = answer(status)
    with answering(head, elsewhere, answer(200, b"", *found)) as (store, script):
        assert store.facts("k").version == "e"
    assert [it.partition(" ")[0] for it in script.asked] == ["HEAD", "GET", "HEAD"]


@pytest.mark.parametrize("code", ["SlowDown", "InternalError"])
def test_an_error_in_a_good_answer_is_none(code: str) -> None:
    """S3 says 200 before it copies; what comes of it stands in the body."""
    facts = ["Last-Modified: Sun, 22 Nov 2026 08:30:00 GMT", 'ETag: "e"', "Content-Length: 0"]
    whole = answer(200, b"", *facts[:2], f"x-amz-checksum-sha256: {EMPTY_SHA256}")
    with answering(whole, error(200, code), answer(200, COPIED), whole) as (store, script):
        copied = store.copy_from(store_at(script.url), "k")
    assert copied is not None
    assert [it.partition(" ")[0] for it in script.asked] == ["HEAD", "PUT", "PUT", "HEAD"]


def test_a_copy_that_only_fails_is_no_copy() -> None:
    whole = answer(200, b"", "Last-Modified: Sun, 22 Nov 2026 08:30:00 GMT", 'ETag: "e"')
    with answering(whole, error(200, "SlowDown")) as (store, script), pytest.raises(Throttled):
        store.copy_from(store_at(script.url), "k")
    assert len(script.asked) == 1 + QUICK.attempts


def test_credentials_are_asked_for_at_every_request() -> None:
    """Those of a role expire, and are others then."""
    numbers = count()
    with scripted_server([put_answer()]) as script:
        store = store_at(script.url, lambda: Credentials(f"key-{next(numbers)}", "s", "token"))
        store.put("k", b"")
        store.put("k", b"")
    used = [header(head, "Authorization").partition("Credential=")[2] for head in script.asked]
    assert [it.partition("/")[0] for it in used] == ["key-0", "key-1"]
    assert header(script.asked[0], "x-amz-security-token") == "token"


@pytest.mark.parametrize(
    ("status", "said", "kind", "code"),
    [
        (400, "ExpiredToken", NotReady, "credentials-rejected"),
        (403, "SignatureDoesNotMatch", Refused, "access-denied"),
        (403, "AccessDenied", Refused, "access-denied"),
        (404, "NoSuchBucket", NotReady, "no-bucket"),
        (400, "BadDigest", DigestMismatch, "digest-mismatch"),
        (400, "XAmzContentSHA256Mismatch", DigestMismatch, "digest-mismatch"),
    ],
)
def test_a_refusal_is_said_in_the_words_of_every_store(
    status: int, said: str, kind: type[LeewardError], code: str
) -> None:
    with answering(error(status, said)) as (store, script), pytest.raises(kind) as caught:
        store.put("k", b"", if_absent=True)
    assert caught.value.instance_code == code
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    "refused",
    [error(412, "PreconditionFailed"), error(409, "ConditionalRequestConflict")],
    ids=["412", "409"],
)
@pytest.mark.parametrize(
    "seen",
    [put_answer("x-amz-meta-write: another"), put_answer(), answer(404), answer(403)],
    ids=["another", "unmarked", "gone", "unseen"],
)
def test_what_another_wrote_is_never_taken_for_ours(refused: bytes, seen: bytes) -> None:
    with answering(refused, seen) as (store, script), pytest.raises(Refused) as caught:
        store.put("k", b"", if_absent=True)
    assert caught.value.instance_code == "exists"
    asked = [it.partition(" ")[0] for it in script.asked]
    assert asked[:2] == ["PUT", "HEAD"]


def test_what_is_written_over_needs_no_mark() -> None:
    with answering(put_answer()) as (store, script):
        store.put("k", b"")
    assert header(script.asked[0], "x-amz-meta-write") == ""


def ranged(start: int, body: bytes, size: int) -> bytes:
    span = f"bytes {start}-{start + len(body) - 1}/{size}"
    return answer(206, body, f"Content-Range: {span}", 'ETag: "e"')


def test_a_server_that_gives_less_than_was_asked_for_is_asked_on() -> None:
    with answering(ranged(0, b"abc", 7), ranged(3, b"de", 7), ranged(5, b"fg", 7)) as (
        store,
        script,
    ):
        assert b"".join(store.read("k")) == b"abcdefg"
    asked = [header(head, "Range") for head in script.asked]
    assert asked == [f"bytes=0-{8 * MIB - 1}", "bytes=3-6", "bytes=5-6"]
    assert [header(head, "If-Match") for head in script.asked] == ["", '"e"', '"e"']


def test_a_server_that_does_not_say_how_much_there_is_is_not_believed() -> None:
    whole = answer(206, b"abc", "Content-Range: bytes 0-2/*", 'ETag: "e"')
    with answering(whole) as (store, _), pytest.raises(LeewardError) as caught:
        b"".join(store.read("k"))
    assert caught.value.instance_code == "answer-unreadable"


def test_a_small_object_is_one_request() -> None:
    with answering(ranged(0, b"abc", 3)) as (store, script):
        assert b"".join(store.read("k")) == b"abc"
    assert len(script.asked) == 1


@contextmanager
def refusing_early() -> Iterator[str]:
    """Says no after the head of a request, and reads nothing of its body."""
    body = b"<Error><Code>AccessDenied</Code></Error>"
    said = answer(403, body, "Connection: close")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.recv(4096)
                        client.sendall(said)
                        # Closed with bytes unread, it resets the connection.

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_who_refuses_in_the_middle_of_a_body_is_heard() -> None:
    with refusing_early() as url, pytest.raises(Refused) as caught:
        store_at(url).put("k", bytes(8 * MIB))
    assert caught.value.instance_code == "access-denied"


def test_a_connection_that_was_closed_meanwhile_is_not_written_to() -> None:
    """A request that creates would be sent twice, and find what it had created itself."""
    with scripted_server([put_answer("Connection: close")]) as script:
        store = store_at(script.url)
        for _ in range(3):
            store.put("k", b"", if_absent=True)
        assert (len(script.asked), script.connections) == (3, 3)


def test_what_a_client_of_boto3_knows_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    # It keeps the credentials that it found first.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    access = access_of(connect_s3("eu-west-1", "http://127.0.0.1:9", attempts=2))
    assert (access.region, access.endpoint_url) == ("eu-west-1", "http://127.0.0.1:9")
    assert access.credentials() == Credentials("of-the-environment", "s")
    assert (access.patience.attempts, access.patience.read_seconds) == (2, 30)
    assert access_of(connect_s3("eu-west-1")).endpoint_url == ""


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, ""),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "https://s3-fips.us-west-2.amazonaws.com"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://s3.dualstack.us-west-2.amazonaws.com"),
    ],
)
def test_s3_is_where_boto3_finds_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], address: str
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"AWS_DEFAULT_REGION": "eu-west-1", **variables}.items():
        monkeypatch.setenv(name, value)
    found, told = reach_s3(), access_of(connect_s3())
    assert (found.region, found.endpoint_url) == (told.region, told.endpoint_url)
    there, elsewhere = reach_s3("us-west-2"), access_of(connect_s3("us-west-2"))
    assert (there.region, there.endpoint_url) == (elsewhere.region, elsewhere.endpoint_url)
    assert there.endpoint_url == address


class NoLonger:
    """As botocore's of a role whose session ended."""

    def get_frozen_credentials(self) -> None:
        raise CredentialRetrievalError(provider="container-role", error_msg="no answer")


@pytest.mark.parametrize(
    ("found", "code"), [(None, "no-credentials"), (NoLonger(), "not-ready")], ids=["none", "gone"]
)
def test_without_credentials_nothing_is_asked(found: NoLonger | None, code: str) -> None:
    with scripted_server([put_answer()]) as script, pytest.raises(NotReady) as caught:
        store_at(script.url, credentials_of(found)).put("k", b"")
    assert caught.value.instance_code == code
    assert not script.asked


def methods(heads: Sequence[str]) -> list[str]:
    return [head.partition(" ")[0] for head in heads]


def test_a_page_that_leads_nowhere_is_no_end_of_a_listing() -> None:
    body = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    whole = answer(200, LISTED.encode())
    with answering(answer(200, body), whole) as (store, script):
        assert list(store.list("x/")) == []
    assert methods(script.asked) == ["GET", "GET", "GET"]
