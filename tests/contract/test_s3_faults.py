"""What the S3 client makes of a server that fails, lies, or is not there."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import pytest
from botocore.session import get_session

from bench.lab import poll
from chalicelib.adapters.s3.bucket import S3Bucket, S3Buckets
from chalicelib.adapters.s3.copy import CopyLimits
from chalicelib.adapters.s3.place import Patience
from chalicelib.adapters.s3.signing import Credentials, ambient_credentials
from chalicelib.errors import (
    DigestMismatch,
    LeewardError,
    NotReady,
    Refused,
    Throttled,
    Unavailable,
)
from chalicelib.ports.buckets import CopySource
from tests.s3_answers import RESET, SILENCE, answer, error, scripted_server

T = TypeVar("T")
PATIENCE = Patience(attempts=3, first_pause_seconds=0.01, read_seconds=0.3, copy_seconds=0.3)
HEAD = answer(200, b"", 'ETag: "e"', "Last-Modified: Sun, 22 Nov 2026 08:30:00 GMT")
COPIED = answer(200, b'<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>')
SOURCE = CopySource("source", "k", size_bytes=1)
ROW = (
    b"<Contents><Key>k</Key><Size>1</Size>"
    b"<LastModified>2026-11-22T08:30:00Z</LastModified></Contents>"
)


def page(body: bytes, more: bytes = b"") -> bytes:
    truncated = b"true" if more else b"false"
    return answer(
        200,
        b"<ListBucketResult><IsTruncated>%s</IsTruncated>%s%s</ListBucketResult>"
        % (truncated, more, body),
    )


def use(url: str, work: Callable[[S3Bucket], Awaitable[T]], region: str = "us-east-1") -> T:
    async def opened() -> T:
        keys = Credentials("AKIA", "secret")
        async with S3Buckets(lambda: keys, patience=PATIENCE) as buckets:
            return await work(buckets.bucket("b", region, endpoint_url=url))

    return asyncio.run(opened())


async def names(bucket: S3Bucket) -> list[str]:
    return [row.key async for row in bucket.list()]


async def content(bucket: S3Bucket) -> bytes:
    async with aclosing(bucket.get("k")) as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize(
    "failure",
    [
        error(503, "SlowDown"), error(503, "SlowDown", "Connection: close"), error(429, ""),
        error(500, "InternalError"), error(400, "RequestTimeout"), RESET, SILENCE,
        error(200, "InternalError"), error(200, "SlowDown"), answer(200, b""),
        answer(200, b"<CopyObj"), answer(200, b"<CopyObjectResult/>"),
        answer(200, b"<CopyObjectResult>", length=500),
    ],
)  # fmt: skip
def test_what_passes_is_tried_again_and_what_stays_is_no_copy(failure: bytes) -> None:
    with scripted_server([failure, failure, COPIED]) as server:
        assert use(server.url, lambda bucket: bucket.copy_from(SOURCE)).etag == "e"
        assert len(server.asked) == 3
    with scripted_server([failure]) as server:
        with pytest.raises(Unavailable):
            use(server.url, lambda bucket: bucket.copy_from(SOURCE))
        assert len(server.asked) == 3


def test_slow_down_for_good_is_throttled() -> None:
    with scripted_server([error(503, "SlowDown")]) as server, pytest.raises(Throttled):
        use(server.url, names)


def test_connection_close_is_honoured() -> None:
    closing = answer(200, b"", "ETag: e", "Last-Modified: Sun, 22 Nov 2026 08:30:00 GMT",
                     "Connection: close")  # fmt: skip

    async def work(bucket: S3Bucket) -> None:
        for _ in range(3):
            await bucket.head("k")

    with scripted_server([closing]) as server:
        use(server.url, work)
        assert (server.connections, len(server.asked)) == (3, 3)
    with scripted_server([HEAD]) as server:
        use(server.url, work)
        assert (server.connections, len(server.asked)) == (1, 3)


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        (error(403, "RequestTimeTooSkewed", "Date: Sun, 22 Nov 2020 08:30:00 GMT"), NotReady,
         "clock-skewed"),
        (error(403, "RequestTimeTooSkewed", "Date: Sun, 22 Nov 2020 08:30:00 -0000"), NotReady,
         "clock-skewed"),
        (error(403, "RequestTimeTooSkewed", "Date: the day before"), NotReady, "clock-skewed"),
        (error(403, "RequestTimeTooSkewed"), NotReady, "clock-skewed"),
        (error(403, "AccessDenied"), Refused, "access-denied"),
        (error(200, "AccessDenied"), Refused, "access-denied"),
        (error(403, "ExpiredToken"), NotReady, "credentials-rejected"),
        (error(403, "SignatureDoesNotMatch"), NotReady, "credentials-rejected"),
        (error(403, "InvalidObjectState"), NotReady, "archived"),
        (error(404, "NoSuchBucket"), NotReady, "no-bucket"),
        (error(301, "PermanentRedirect"), NotReady, "wrong-region"),
        (error(400, "InvalidRequest"), NotReady, "s3-refused"),
    ],
)  # fmt: skip
def test_what_does_not_pass_is_one_clear_error_at_once(
    said: bytes, kind: type[LeewardError], code: str
) -> None:
    with scripted_server([said]) as server:
        with pytest.raises(kind) as caught:
            use(server.url, lambda bucket: bucket.copy_from(SOURCE))
        assert len(server.asked) == 1
    assert caught.value.instance_code == code
    assert caught.value.hint


def test_a_skewed_clock_says_by_how_much() -> None:
    skewed = error(403, "RequestTimeTooSkewed", "Date: Sun, 22 Nov 2020 08:30:00 GMT")
    with scripted_server([skewed]) as server, pytest.raises(NotReady) as caught:
        use(server.url, names)
    seconds = int(caught.value.message.split()[-3])
    assert seconds > 365 * 86400
    assert caught.value.message.endswith("s ahead")


@pytest.mark.parametrize(
    "elsewhere",
    [
        error(301, "PermanentRedirect", "x-amz-bucket-region: eu-west-1"),
        answer(307, b"", "x-amz-bucket-region: eu-west-1"),
        answer(400, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region>"
                    b"</Error>"),
    ],
)  # fmt: skip
def test_the_bucket_s_own_region_is_learnt(elsewhere: bytes) -> None:
    async def work(bucket: S3Bucket) -> str:
        assert await names(bucket) == ["k"]
        return bucket.region

    with scripted_server([elsewhere, page(ROW)]) as server:
        assert use(server.url, work) == "eu-west-1"
        assert "/us-east-1/s3/" in server.asked[0]
        assert "/eu-west-1/s3/" in server.asked[1]


def test_a_broken_body_is_resumed_where_it_broke() -> None:
    data = bytes(range(256)) * 40
    answers = [
        answer(200, data[:4000], 'ETag: "e"', length=len(data)),
        answer(206, data[4000:6000], f"Content-Range: bytes 4000-{len(data) - 1}/{len(data)}",
               length=len(data) - 4000),
        error(503, "SlowDown"),
        answer(206, data[6000:], f"Content-Range: bytes 6000-{len(data) - 1}/{len(data)}"),
    ]  # fmt: skip
    with scripted_server(answers) as server:
        assert use(server.url, content) == data
        assert "Range" not in server.asked[0]
        assert f"Range: bytes=4000-{len(data) - 1}" in server.asked[1]
        assert 'If-Match: "e"' in server.asked[1]


def test_an_object_replaced_while_it_is_read_is_refused() -> None:
    answers = [answer(200, b"1234", 'ETag: "e"', length=8), error(412, "PreconditionFailed")]
    with scripted_server(answers) as server, pytest.raises(DigestMismatch) as caught:
        use(server.url, content)
    assert caught.value.instance_code == "object-changed"


def test_a_server_that_starts_over_instead_of_resuming_is_not_believed() -> None:
    answers = [answer(200, b"1234", 'ETag: "e"', length=8), answer(200, b"12345678", 'ETag: "e"')]
    with scripted_server(answers) as server, pytest.raises(Unavailable):
        use(server.url, content)


@pytest.mark.parametrize(
    "broken",
    [
        answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated>" + ROW),
        page(ROW, b"<Marker>truncated, but not how to go on</Marker>"),
        page(ROW.replace(b"<Size>1</Size>", b"")),
        page(ROW.replace(b"2026-11-22T", b"yesterday ")),
        answer(200, b"<html></html>"),
        answer(200, b""),
    ],
)
def test_half_a_listing_is_never_a_whole_one(broken: bytes) -> None:
    with scripted_server([broken]) as server, pytest.raises(Unavailable):
        use(server.url, names)
    with scripted_server([broken, page(ROW)]) as server:
        assert use(server.url, names) == ["k"]


def test_facts_without_a_time_are_no_facts() -> None:
    with scripted_server([answer(200, b"", 'ETag: "e"')]) as server, pytest.raises(Unavailable):
        use(server.url, lambda bucket: bucket.head("k"))


def test_a_page_that_says_there_is_more_is_followed() -> None:
    more = b"<NextContinuationToken>a+b/c=</NextContinuationToken>"
    with scripted_server([page(ROW, more), page(ROW.replace(b">k<", b">l<"))]) as server:
        assert use(server.url, names) == ["k", "l"]
        assert "continuation-token=a%2Bb%2Fc%3D" in server.asked[1]


def test_the_next_page_is_asked_for_before_the_first_is_used() -> None:
    """Also by who lets nothing else run until it has used it up."""
    more = b"<NextContinuationToken>t</NextContinuationToken>"

    async def work(bucket: S3Bucket) -> None:
        async with aclosing(bucket.pages()) as pages:
            assert [row.key for row in await anext(pages)] == ["k"]
            poll(lambda: server.asked[1], 10)
            assert [row.key for row in await anext(pages)] == ["l"]

    with scripted_server([page(ROW, more), page(ROW.replace(b">k<", b">l<"))]) as server:
        use(server.url, work)
        assert len(server.asked) == 2


def test_a_server_that_repeats_a_page_does_not_hold_us_for_ever() -> None:
    more = b"<NextContinuationToken>same</NextContinuationToken>"
    with scripted_server([page(ROW, more)]) as server, pytest.raises(NotReady) as caught:
        use(server.url, names)
    assert caught.value.instance_code == "listing-unordered"


def test_a_deletion_that_the_server_does_not_mention_has_failed() -> None:
    body = (
        b"<DeleteResult><Deleted><Key>a</Key></Deleted>"
        b"<Error><Key>b</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    )
    with scripted_server([answer(200, body)]) as server:
        found = use(server.url, lambda bucket: bucket.delete([("a", ""), ("b", ""), ("c", "")]))
    assert found.done == (("a", ""),)
    assert [(one.key, one.code) for one in found.failed] == [
        ("b", "AccessDenied"),
        ("c", "no-answer"),
    ]


def test_a_copy_in_parts_that_fails_is_aborted() -> None:
    answers = [
        answer(200, b"", 'ETag: "e"', "Last-Modified: Sun, 22 Nov 2026 08:30:00 GMT", length=10),
        answer(200, b"<InitiateMultipartUploadResult><UploadId>u1</UploadId>"
                    b"</InitiateMultipartUploadResult>"),
        error(403, "AccessDenied"),
    ]  # fmt: skip

    async def work(url: str) -> None:
        keys = Credentials("AKIA", "secret")
        limits = CopyLimits(whole_bytes=5, part_bytes=5, parts_at_once=1)
        async with S3Buckets(lambda: keys, patience=PATIENCE, copy_limits=limits) as buckets:
            bucket = buckets.bucket("b", "us-east-1", endpoint_url=url)
            await bucket.copy_from(CopySource("source", "k", size_bytes=10))

    with scripted_server(answers) as server:
        with pytest.raises(Refused):
            asyncio.run(work(server.url))
        assert server.asked[-1].startswith("DELETE /b/k?uploadId=u1 ")


def test_what_is_put_carries_its_checksum() -> None:
    with scripted_server([answer(200, b"", 'ETag: "e"')]) as server:
        use(server.url, lambda bucket: bucket.put("k", b"data"))
    assert f"x-amz-content-sha256: {hashlib.sha256(b'data').hexdigest()}" in server.asked[0]
    assert "x-amz-checksum-sha256: " in server.asked[0]
    assert "Content-Type" not in server.asked[0]


def test_nobody_there_and_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    with pytest.raises(Unavailable):
        use("http://127.0.0.1:1", names)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{tmp_path}/none")
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/none")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(NotReady) as caught:
        ambient_credentials()()
    assert caught.value.instance_code == "no-credentials"


@pytest.mark.parametrize(
    "said",
    [
        {"ACCESS_KEY_ID": "AKIA", "SECRET_ACCESS_KEY": "s", "SESSION_TOKEN": "t"},
        {"ACCESS_KEY_ID": "AKIA", "SECRET_ACCESS_KEY": "s"},
        {"ACCESS_KEY_ID": "AKIA", "SECRET_ACCESS_KEY": "s", "SECURITY_TOKEN": "old"},
        {"ACCESS_KEY_ID": "AKIA", "SECRET_ACCESS_KEY": "s", "PROFILE": "other"},
        {"ACCESS_KEY_ID": "", "SECRET_ACCESS_KEY": "s", "PROFILE": "other"},
        {"PROFILE": "other"}, {},
        {"ACCESS_KEY_ID": "AKIA", "SECRET_ACCESS_KEY": "s", "SESSION_TOKEN": "t",
         "CREDENTIAL_EXPIRATION": "2126-11-22T08:30:00Z"},
    ],
)  # fmt: skip
def test_credentials_are_those_of_botocore(
    said: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = "aws_access_key_id = of-{0}\naws_secret_access_key = secret\n"
    profiles = (f"[{name}]\n{keys.format(name)}" for name in ("default", "other"))
    (tmp_path / "credentials").write_text("".join(profiles))
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name, value in said.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    theirs = get_session().get_credentials().get_frozen_credentials()
    expected = Credentials(theirs.access_key, theirs.secret_key, theirs.token or "")
    assert ambient_credentials()() == expected
